"""A file of a watched party costs whoever looks at it at most 300 MB and a minute, and never its life."""

import hashlib
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deploy.attack.hostile_files import Make, bomb_of, endless, fifo, link_outside, sparse
from files.confined import ConfinedFiles, Overrun
from files.foreign import ForeignFiles, PlainFiles
from files.read import FileMissing
from schemas.errors import InvalidInput
from streams.core.log_root import RECORDS

FEW = pa.schema([("offset", pa.int64()), ("value", pa.binary())])


@pytest.fixture
def files(tmp_path: Path) -> Iterator[ConfinedFiles]:
    with ConfinedFiles(tmp_path) as confined:
        yield confined


def written(folder: Path, rows: int, size: int = 10) -> Path:
    path = folder / "some.parquet"
    values = [number.to_bytes(size) for number in range(rows)]
    pq.write_table(pa.table([range(rows), values], schema=FEW), path, write_batch_size=16)
    return path


@pytest.mark.parametrize("where", [ConfinedFiles, PlainFiles])
def test_a_child_gives_the_answers_of_this_process(tmp_path: Path, where: type[ConfinedFiles | PlainFiles]) -> None:
    files: ForeignFiles = where(tmp_path)
    (tmp_path / "text").write_bytes(b"x" * 20_000_000)
    assert b"".join(files.chunks(tmp_path / "text", 20_000_000)) == b"x" * 20_000_000
    with pytest.raises(InvalidInput, match=r"larger than 19,999,999 bytes"):
        list(files.chunks(tmp_path / "text", 19_999_999))
    assert files.sha256(tmp_path / "text") == hashlib.sha256(b"x" * 20_000_000).hexdigest()
    path = written(tmp_path, 40_000)
    assert pa.Table.from_batches(files.batches(path, FEW, 40_000)).equals(pq.read_table(path))
    assert files.rows(path, FEW, 40_000) == 40_000
    with pytest.raises(InvalidInput, match=r"holds more than 39,999 rows"):
        list(files.batches(path, FEW, 39_999))
    with pytest.raises(InvalidInput, match="has no column timestamp_ms"):
        files.rows(path, RECORDS, 40_000)
    last = pa.Table.from_batches(files.batches(path, FEW, 40_000, 39_990))
    assert last.equals(pq.read_table(path).slice(39_990))
    assert list(files.batches(path, FEW, 40_000, 40_000)) == []
    with pytest.raises(FileMissing, match="is missing"):
        files.sha256(tmp_path / "none")
    if isinstance(files, ConfinedFiles):
        files.close()


@pytest.mark.parametrize(
    ("make", "text"),
    [(fifo, "not a regular file"), (endless, "not a regular file"), (link_outside, "a link that leads out of")],
)
def test_only_regular_files_of_the_folder_are_opened(files: ConfinedFiles, make: Make, text: str) -> None:
    make(files.folder / "some")
    for ask in (files.sha256, lambda path: list(files.chunks(path, 1 << 20)), lambda path: files.rows(path, FEW, 9)):
        with pytest.raises(InvalidInput, match=text):
            ask(files.folder / "some")


def test_a_link_within_the_folder_is_followed(files: ConfinedFiles) -> None:
    (files.folder / "there").write_bytes(b"it")
    (files.folder / "some").symlink_to(files.folder / "there")
    assert list(files.chunks(files.folder / "some", 2)) == [b"it"]


def test_a_bomb_ends_at_the_child_s_bound(files: ConfinedFiles) -> None:
    """It costs a gigabyte where nothing bounds it."""
    path = files.folder / "bomb.parquet"
    bomb_of(RECORDS, "value")(path)
    assert path.stat().st_size < 100_000
    script = (
        "import resource as r, sys; from pathlib import Path; from files.foreign import PlainFiles;"
        "from streams.core.log_root import RECORDS; path = Path(sys.argv[1]);"
        "print(PlainFiles(path.parent).rows(path, RECORDS, 1 << 20), r.getrusage(r.RUSAGE_SELF).ru_maxrss)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    rows, peak_kib = map(int, done.stdout.split())
    assert rows == 16_384 and peak_kib > 900_000
    with pytest.raises(InvalidInput, match=r"can be read \(malloc"):
        files.rows(path, RECORDS, 1 << 20)
    assert peak_bytes(files) < 300_000_000
    assert files.rows(written(files.folder, 10), FEW, 10) == 10, "whoever asks on is answered"


def test_what_an_honest_archive_may_hold_fits(files: ConfinedFiles) -> None:
    """A row group of 64 records of a mebibyte, which no compression makes smaller."""
    path = files.folder / "large.parquet"
    values = [random.Random(number).randbytes(1 << 20) for number in range(64)]
    pq.write_table(
        pa.table([range(64), values], schema=FEW), path, compression="none", use_dictionary=False, write_batch_size=16
    )
    assert [value.as_py() for batch in files.batches(path, FEW, 64) for value in batch.column(1)] == values
    assert peak_bytes(files) < 300_000_000


def test_what_takes_too_long_is_told_and_the_next_is_answered(tmp_path: Path) -> None:
    sparse(tmp_path / "long")
    with ConfinedFiles(tmp_path, answer_s=1.0) as files:
        started = time.monotonic()
        with pytest.raises(InvalidInput, match=r"larger than|took more than 1 s"):
            files.sha256(tmp_path / "long")
        (tmp_path / "long").unlink()
        with (tmp_path / "long").open("wb") as file:
            file.truncate(40 << 30)
        with pytest.raises(Overrun, match="took more than 1 s"):
            files.sha256(tmp_path / "long")
        assert time.monotonic() - started < 60
        (tmp_path / "short").write_bytes(b"")
        assert files.sha256(tmp_path / "short").startswith("e3b0c442")


def test_who_stops_in_the_middle_is_answered_again(files: ConfinedFiles) -> None:
    path = written(files.folder, 100_000)
    assert next(files.batches(path, FEW, 100_000)).num_rows > 0
    assert files.rows(path, FEW, 100_000) == 100_000


def test_two_tables_are_read_in_turns(files: ConfinedFiles) -> None:
    """An audit reads all partitions at once: each goes on where it was."""
    path = written(files.folder, 50_000)
    one, two = (files.batches(path, FEW, 50_000) for _ in range(2))
    turns = list(zip(one, two, strict=True))
    assert len(turns) > 2
    for place in range(2):
        assert pa.Table.from_batches([turn[place] for turn in turns]).equals(pq.read_table(path))


def test_a_child_that_is_killed_is_told_and_replaced(files: ConfinedFiles) -> None:
    path = written(files.folder, 10)
    assert files.rows(path, FEW, 10) == 10
    child = files._child
    assert child is not None
    child.kill()
    child.wait()
    with pytest.raises(Overrun, match="has ended"):
        files.rows(path, FEW, 10)
    assert files.rows(path, FEW, 10) == 10


def peak_bytes(files: ConfinedFiles) -> int:
    """The most memory that the child had, where the system says so."""
    if sys.platform != "linux" or files._child is None:
        return 0
    status = Path(f"/proc/{files._child.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM:"))
