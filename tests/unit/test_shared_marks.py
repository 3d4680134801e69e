"""Marks in a store: how far checkpoints on other hosts are, never further."""

from pathlib import Path

from streams.storage.object_store import ObjectStore
from streams.storage.shared_marks import EVERY_SECONDS, SharedMarks


class Clock:
    """Seconds that a test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_mark_is_written_at_once_at_the_end_and_else_now_and_then(tmp_path: Path) -> None:
    clock, store = Clock(), ObjectStore(str(tmp_path))
    here, there = SharedMarks(store, "topic", clock), SharedMarks(store, "topic", clock)
    here.write({0: 5, 1: 7}, {0: 20, 1: 7})
    assert there.read([0, 1, 2]) == {0: 5, 1: 7}
    here.write({0: 6, 1: 7}, {0: 20, 1: 7})
    assert there.read([0]) == {0: 5}
    here.write({0: 20, 1: 7}, {0: 20, 1: 7})
    assert there.read([0]) == {0: 20}
    here.write({0: 21}, {})
    assert there.read([0]) == {0: 20}
    clock.now += EVERY_SECONDS
    here.write({0: 21}, {})
    assert there.read([0]) == {0: 21}


def test_who_opens_a_partition_says_so_also_where_it_is_further_behind(tmp_path: Path) -> None:
    """The host that was ahead is lost with its disk, or comes back to a partition that another had meanwhile."""
    store = ObjectStore(str(tmp_path))
    lost, other = SharedMarks(store, "topic"), SharedMarks(store, "topic")
    lost.write({0: 20}, {0: 20})
    other.write({0: 3}, {0: 20})
    assert lost.read([0]) == {0: 3}
    lost.write({}, {0: 20})
    lost.write({0: 20}, {0: 20})
    assert other.read([0]) == {0: 20}


def test_marks_of_another_topic_and_damaged_ones_are_none(tmp_path: Path) -> None:
    store = ObjectStore(str(tmp_path))
    SharedMarks(store, "before").write({0: 20}, {})
    store.put("marks/topic/1", [b"x"])
    assert SharedMarks(store, "topic").read([0, 1]) == {}
