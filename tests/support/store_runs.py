"""Hosts that share a store and nothing else: each has a data folder of its own, which may be lost."""

import os
from collections.abc import Callable
from pathlib import Path

from files.write import no_step
from streams.storage.object_store import ObjectStore
from streams.worker.partition import Partition
from tests.support.partition_runs import DIED, feed, the_log
from tests.support.sim_log import HOURLY


class Died(BaseException):
    """A host dies, as far as a process can say so of itself."""


def opened(data_dir: Path, store: str | None, step: Callable[[str], None] = no_step, **options: bool) -> Partition:
    """The partition on a host."""
    log = the_log()
    shared = None if store is None else ObjectStore(store)
    partition = Partition.open(data_dir, HOURLY, 0, log.topic_id(), log, step=step, store=shared, **options)
    assert partition is not None
    return partition


def run(data_dir: Path, store: str | None, step: Callable[[str], None] = no_step) -> None:
    """Takes the rest of the log and closes."""
    partition = opened(data_dir, store, step)
    try:
        feed(partition, the_log())
    finally:
        partition.close()


def run_until(data_dir: Path, store: str, count: int) -> bool:
    """Takes the rest of the log, but dies after so many steps; whether it did."""
    left = iter(range(count))

    def step(_: str) -> None:
        if next(left, None) is None:
            raise Died

    partition = None
    try:
        partition = opened(data_dir, store, step)
        feed(partition, the_log())
    except Died:
        if partition is not None:
            partition._checkpoint.close()
            partition._lock.release()
        return True
    partition.close()
    return False


def die_at_new_step(hosts: Path, store: str, seen: Path) -> None:
    """A new host dies at the first step at which no host before has died twice, each time further in the log."""
    done = seen.read_text().splitlines() if seen.exists() else []
    log = the_log()
    held: list[Partition] = []

    def step(name: str) -> None:
        at = f"{name} {held[0].next_offset if held else 'open'}"
        if at not in done and sum(name == line.rpartition(" ")[0] for line in done) < 2:
            with seen.open("a") as file:
                file.write(at + "\n")
            os._exit(DIED)

    held.append(opened(hosts / str(len(done)), store, step))
    feed(held[0], log)
    held[0].close()
