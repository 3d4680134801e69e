"""A cycle that holds what was fetched is gone soon after, whatever Python's collector waits for."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from streams.worker import freed_memory
from streams.worker.app import GC_THRESHOLD
from streams.worker.freed_memory import FreedMemory


class Fetched(dict[str, "Fetched"]):
    """What a consumer's loop leaves: it holds itself."""

    def __init__(self) -> None:
        self["itself"] = self


@pytest.fixture(autouse=True)
def as_in_a_worker() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(*GC_THRESHOLD)
    yield
    gc.set_threshold(*before)


def test_a_cycle_is_freed_and_no_more_often_than_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(freed_memory.time, "monotonic", lambda: now[0])
    freed = FreedMemory()
    left = weakref.ref(Fetched())
    freed.give_back()
    assert left() is not None, "it is not looked for at every commit"
    now[0] += freed_memory.EVERY_S
    freed.give_back()
    assert left() is None
    left = weakref.ref(Fetched())
    now[0] += freed_memory.EVERY_S / 2
    freed.give_back()
    assert left() is not None
