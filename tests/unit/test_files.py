"""A file is whole or as it was, and a stranger's file is opened within bounds, with a message that says what to do."""

import inspect
import os
import re
import stat
import sys
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import files.lock
import files.read
import files.write
from files.lock import FileLock
from files.parquet import publish_table, read_table, write_table
from files.read import FileMissing, open_regular, read_bytes, read_json
from files.write import OtherDigest, Temporary, write_bytes, write_chunks, write_json, write_secret
from schemas.errors import InvalidInput

SCHEMA = pa.schema([("name", pa.string()), ("count", pa.int64())])
TABLE = pa.table([["a", "b"], [1, 2]], schema=SCHEMA)


class Shown(msgspec.Struct):
    name: str


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_a_write_replaces_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_bytes(path, b"long enough")
    write_json(path, Shown("x"))
    assert path.read_bytes() == b'{\n  "format": 1,\n  "name": "x"\n}\n'
    assert names(tmp_path) == ["file"]


def test_a_secret_is_nobody_else_s_from_its_first_byte_on(tmp_path: Path) -> None:
    path = tmp_path / "key"
    modes = []

    def chunks() -> object:
        modes.extend(stat.S_IMODE(each.stat().st_mode) for each in tmp_path.iterdir())
        yield b"secret"

    write_chunks(path, chunks(), mode=0o600)  # type: ignore[arg-type]
    assert modes == [0o600] and stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_secret_is_never_written_over_another(tmp_path: Path) -> None:
    path = tmp_path / "key"
    write_secret(path, b"secret")
    with pytest.raises(FileExistsError):
        write_secret(path, b"another")
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode), names(tmp_path)) == (b"secret", 0o600, ["key"])


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_bytes(path, b"before")

    def torn() -> object:
        yield b"af"
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        write_chunks(path, torn())  # type: ignore[arg-type]
    with pytest.raises(OtherDigest):
        write_chunks(path, [b"after"], sha256="00" * 32)
    assert path.read_bytes() == b"before" and names(tmp_path) == ["file"]


def test_a_device_is_written_and_stays_one() -> None:
    write_bytes(Path(os.devnull), b"x")
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)


def test_a_file_on_its_way_is_published_or_dropped(tmp_path: Path) -> None:
    path = tmp_path / "made" / "file"
    Temporary(path).write(b"1").drop()
    assert names(path.parent) == []
    Temporary(path, ".mark").write(b"2").publish()
    assert path.read_bytes() == b"2" and names(path.parent) == ["file"]


def test_only_a_regular_file_of_bounded_size_is_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    os.mkfifo(tmp_path / "pipe")
    assert read_bytes(path, remedy="do so", max_bytes=5) == b"12345"
    with pytest.raises(InvalidInput, match=r"file is larger than 4 bytes: do so"):
        read_bytes(path, remedy="do so", max_bytes=4)
    with pytest.raises(FileMissing, match="nowhere is missing: do so"):
        read_bytes(tmp_path / "nowhere", remedy="do so")
    for strange in (tmp_path, tmp_path / "pipe", Path(os.devnull)):
        with pytest.raises(InvalidInput, match=r"is not a regular file: do so|can't read"):
            open_regular(strange, remedy="do so")


@pytest.mark.parametrize("content", [b"", b"{", b'{"name": 1}', b'{"name": "\xff"}', b"[" * 100_000])
def test_json_of_another_type_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match=r"file is not a thing shown \(.*\): do so"):
        read_json(path, Shown, what="a thing shown", remedy="do so")


def test_equal_rows_make_equal_bytes(tmp_path: Path) -> None:
    publish_table(Temporary(tmp_path / "one"), TABLE)
    halves = pa.concat_tables([TABLE.slice(0, 1), TABLE.slice(1)])
    write_table(Temporary(tmp_path / "other"), halves).publish(durable=False)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_parquet_is_read_by_its_schema_and_within_bounds(tmp_path: Path) -> None:
    path = tmp_path / "file"
    pq.write_table(TABLE.append_column("more", pa.array([1, 2])).select(["more", "count", "name"]), path)
    assert read_table(path, SCHEMA, remedy="do so").equals(TABLE)
    with pytest.raises(InvalidInput, match="more than 1 rows"):
        read_table(path, SCHEMA, remedy="do so", max_rows=1)
    for other in (pa.schema([("nothing", pa.int64())]), pa.schema([("name", pa.int64())])):
        with pytest.raises(InvalidInput, match=r"has no column \w+ of the type int64: do so"):
            read_table(path, other, remedy="do so")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InvalidInput, match=r"is not a Parquet file that can be read \(.*\): do so"):
        read_table(path, SCHEMA, remedy="do so")


def test_a_lock_is_one_holder_s(tmp_path: Path) -> None:
    held = FileLock.acquire(tmp_path / "lock")
    assert held is not None and FileLock.acquire(tmp_path / "lock") is None
    assert (tmp_path / "lock").read_text() == str(os.getpid())
    held.release()
    again = FileLock.acquire(tmp_path / "lock")
    assert again is not None
    again.release()


def test_writing_and_reading_stay_light() -> None:
    """The command line imports them at its start."""
    for module in (files.write, files.read, files.lock):
        imported = set(re.findall(r"(?m)^(?:import|from) (\w+)", inspect.getsource(module)))
        assert imported <= {*sys.stdlib_module_names, "msgspec", "schemas", "files"}, module
