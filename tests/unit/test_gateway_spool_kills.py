"""A process that ends at any step of the spool's work, on the disk, uses no number twice and forgets no reading."""

import os
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tallyroot_gateway import Reading
from tallyroot_gateway.spool import BOOT_UNIT_MS, BOOTS_BEGIN_MS, Spool

NOW_MS = BOOTS_BEGIN_MS + 1_000 * BOOT_UNIT_MS + 777
STEPS: list[tuple[Any, str]] = [
    (os, "open"), (os, "write"), (os, "fsync"), (os, "ftruncate"), (Path, "open"), (Path, "replace"), (Path, "unlink"),
]  # fmt: skip
"""What changes a disk, and how it may be cut: right before each."""


class Killed(BaseException):
    """Nothing runs after it."""


class Work:
    """A gateway's work on one folder, and what it has said of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.returned: list[Reading] = []
        self.forgotten = 0
        self.spool: Spool | None = None

    def put(self, spool: Spool, meter: str, register: int) -> None:
        reading = Reading("m", meter, spool.boot, spool.next_seq("m", meter), NOW_MS, register=register)
        spool.append(reading)
        self.returned.append(reading)

    def run(self) -> None:
        for round in range(2):
            spool = self.spool = Spool(self.folder, "log-1", "site-1", now_ms=NOW_MS + round, segment_bytes=400)
            for register in range(5):
                self.put(spool, "energy", 10 * round + register)
                self.put(spool, "import", 10 * round + register)
            found, place = spool.read(spool.acked, 7, 1 << 20)
            spool.sync()
            self.forgotten += len(found)
            spool.forget(place, len(found))
            spool.begin_boot("m", "energy", NOW_MS + round)
            self.put(spool, "energy", 0)
            spool.close()
            self.spool = None


def kill_at(step: int, monkeypatch: pytest.MonkeyPatch, work: Work) -> bool:
    """Whether the work was killed before its step of that number; the disk is left as it then was."""
    steps = count()

    def cut(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if next(steps) >= step:  # nothing after it runs either, in no `finally`
                raise Killed
            return real(*arguments, **options)

        return call

    with monkeypatch.context() as patched:
        for owner, name in STEPS:
            patched.setattr(owner, name, cut(getattr(owner, name)))
        try:
            work.run()
        except Killed:
            if work.spool is not None and work.spool._lock >= 0:
                os.close(work.spool._lock)  # the system lets go of a dead process's lock
            return True
    return False


def test_wherever_it_is_killed_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in count():
        work = Work(tmp_path / str(step))
        was_killed = kill_at(step, monkeypatch, work)
        again = Spool(work.folder, "log-1", "site-1", now_ms=NOW_MS + 5)
        rows, _ = again.read(again.acked, 10_000, 1 << 20)
        found = [msgspec.json.decode(row, type=Reading) for row in rows]
        assert again.warnings == []
        # Sent again is what was acknowledged, never less; one more may be there whose `append` had not returned.
        kept = work.returned[work.forgotten :]
        assert [reading for reading in found if reading in kept] == kept, step
        for meter in ("energy", "import"):
            number = (again.boot, again.next_seq("m", meter))
            assert all((each.boot, each.seq) < number for each in found + work.returned if each.meter == meter), step
            last = [each.register for each in work.returned if (each.meter, each.boot) == (meter, again.boot)]
            if last:
                assert again.last_register("m", meter) == last[-1], step
        again.close()
        if not was_killed:
            assert step > 50
            return
