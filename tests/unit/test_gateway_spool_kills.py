"""A process that ends at any step of the spool's work on the disk uses no number twice and forgets no reading."""

import os
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tallyroot_gateway import Reading
from tallyroot_gateway.spool import Spool
from tests.support.gateway_spools import NOW_MS, check_after_kill

STEPS: list[tuple[Any, str]] = [
    (os, "open"), (os, "write"), (os, "fsync"), (os, "ftruncate"), (os, "close"),
    (Path, "open"), (Path, "replace"), (Path, "unlink"),
]  # fmt: skip
"""What changes a disk; the work is cut right before each."""


class Killed(BaseException):
    """Nothing runs after it."""


class Work:
    """A gateway's work on one folder, and what it had done."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.returned: list[Reading] = []
        self.acknowledged = 0

    def run(self) -> None:
        for round in range(2):
            spool = Spool(self.folder, "log-1", "site-1", now_ms=NOW_MS + round, segment_bytes=400)
            for register in range(5):
                self.put(spool, "energy", 10 * round + register)
                self.put(spool, "import", 10 * round + register)
            found, place = spool.read(spool.acked, 7, 1 << 20)
            spool.sync()
            self.acknowledged += len(found)
            spool.forget(place, len(found))
            spool.begin_boot("m", "energy", NOW_MS + round)
            self.put(spool, "energy", 0)
            spool.close()

    def put(self, spool: Spool, meter: str, register: int) -> None:
        reading = Reading("m", meter, spool.boot, spool.next_seq("m", meter), NOW_MS, register=register)
        spool.append([reading])
        self.returned.append(reading)


def is_killed(work: Work, step: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the work was killed before its step of that number; the disk is left as it then was."""
    steps = count()
    opened: list[int] = []
    os_open = os.open

    def cut(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if next(steps) >= step:  # nothing after it runs either, in no `finally`
                raise Killed
            result = real(*arguments, **options)
            if real is os_open:
                opened.append(result)
            return result

        return call

    try:
        with monkeypatch.context() as patched:
            for owner, name in STEPS:
                patched.setattr(owner, name, cut(getattr(owner, name)))
            work.run()
    except Killed:
        for file in opened:  # the system closes what a dead process had open
            with suppress(OSError):
                os.close(file)
        return True
    return False


def test_wherever_it_is_killed_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in count():
        work = Work(tmp_path / str(step))
        work.folder.mkdir()
        was_killed = is_killed(work, step, monkeypatch)
        check_after_kill(work.folder, work.returned, work.acknowledged)
        if not was_killed:
            assert (step > 50, len(work.returned)) == (True, 22)
            return
