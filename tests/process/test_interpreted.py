"""Commands that judge few entries do without numba, and answer what the compiled loops answer.

`python -m tests.process.test_interpreted FOLDER [compiled]` prints the answers of a data folder.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from deploy.explain.gateway_check import CheckOptions, CheckResult, _Check
from deploy.explain.reading_rows import ReadingName
from deploy.explain.receipt import find_reading
from deploy.explain.why_readings import window_readings
from schemas.log import Log
from streams.core.records import LogRecord, decode_readings, media_type
from streams.storage.archive import read_archive
from streams.storage.epoch_files import EpochPaths, read_windows

ROOT = Path(__file__).resolve().parents[2]
STEP = 12
"""Of the readings and windows of a log one in twelve is asked for: each is a replay."""

DECIDED_ONCE = """
import sys
from streams.core.kernel.compiled import INTERPRETED_ENTRIES_MAX, interpret_if_few
interpret_if_few(INTERPRETED_ENTRIES_MAX + 1)
import streams.core.kernel.columns
assert "numba" not in sys.modules
from streams.core.kernel.words import byte
interpret_if_few(0)
from streams.core.kernel.wide import plus
print(len(byte.signatures), len(plus.signatures))
"""


class Archived:
    """The archive as the topic that `check-gateway` reads."""

    def __init__(self, folder: Path, log: Log) -> None:
        self._records = [
            [record for path in sorted(folder.glob(f"log/*/{partition}.parquet")) for record in read_archive(path)]
            for partition in range(log.partitions)
        ]

    def ranges(self, partitions: list[int]) -> dict[int, tuple[int, int]]:
        return {partition: (0, len(self._records[partition])) for partition in partitions}

    def read(self, partition: int, first: int, next: int) -> Iterator[LogRecord]:
        return iter(self._records[partition][first:next])

    def names(self) -> list[ReadingName]:
        """Every reading that is well formed, once."""
        names = {}
        for record in (record for records in self._records for record in records):
            rows = decode_readings(record.value, media_type(record))
            for row in rows if isinstance(rows, list) else []:
                if row is not None:
                    names[ReadingName(row.machine, row.meter, row.boot, row.seq)] = None
        return list(names)


def receipts(folder: Path, log: Log) -> list[Any]:
    return [find_reading(folder, log, name) for name in Archived(folder, log).names()[::STEP]]


def whys(folder: Path, log: Log) -> list[Any]:
    paths = [EpochPaths(folder, path.parent.name, int(path.name.split(".")[0]))
             for path in sorted(folder.glob("epochs/*/*.manifest.json"))]  # fmt: skip
    places = sorted({(window.machine, window.start_ms) for path in paths for window in read_windows(path)})
    return [window_readings(folder, log, *place) for place in places[::STEP]]


def checks(folder: Path, log: Log) -> list[CheckResult]:
    check = _Check(log, Archived(folder, log), CheckOptions(), print, print)  # type: ignore[arg-type]
    check.read()
    return [check.result()]


ANSWERS = {"receipt": receipts, "why": whys, "check-gateway": checks}


@pytest.fixture(scope="module", params=["plain", "dirty"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive as workers leave it: two machines that behave, or a dirty log of all record types."""
    from streams.worker.partition import Partition
    from tests.support.archived_log import fill
    from tests.support.dirty_logs import dirty_log, small_log
    from tests.support.sim_log import SimLog

    data_dir = tmp_path_factory.mktemp("data")
    if request.param == "plain":
        fill(data_dir)
        return data_dir
    log, records = small_log(), SimLog(dirty_log(4, 0.2, 180))
    (data_dir / "log.json").write_bytes(msgspec.json.encode(log))
    opened = Partition.open(data_dir, log, 0, records.topic_id(), records)
    assert opened is not None
    opened.process(0, records.end, records.records)
    opened.close()
    return data_dir


@pytest.mark.parametrize("command", ANSWERS)
def test_both_ways_answer_the_same(folder: Path, command: str) -> None:
    found = answers(folder, command)
    assert len(found) > 50
    assert found == answers(folder, command, "compiled")


def test_it_is_decided_once_by_what_is_judged() -> None:
    """A loop that is compiled can't call one that isn't."""
    assert python("-c", DECIDED_ONCE) == "1 1\n"


def answers(folder: Path, command: str, *way: str) -> str:
    return python("-W", "error::RuntimeWarning", "-m", "tests.process.test_interpreted", str(folder), command, *way)


def python(*words: str) -> str:
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def main(folder: Path, command: str, *way: str) -> None:
    """Prints the answers of a command, and makes sure which way they were found."""
    if way:
        import numba  # noqa: F401 - so a loop may have been compiled, and all others are
    found = ANSWERS[command](folder, msgspec.json.decode((folder / "log.json").read_bytes(), type=Log))
    assert found
    assert ("streams.core.kernel.loop_cache" in sys.modules) == bool(way)
    assert ("numba" in sys.modules) == bool(way)
    print(json.dumps(msgspec.to_builtins(found), indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
