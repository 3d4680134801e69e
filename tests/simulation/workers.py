"""Workers that share a data folder: they join, leave, die, come back late, and hand in slices of another time."""

import random
from collections.abc import Callable
from typing import NamedTuple

from schemas.errors import InvariantBroken
from schemas.log import Log
from streams.worker.partition import Partition
from tests.simulation.broker import SimBroker, Slice
from tests.simulation.clock import SimClock
from tests.simulation.disk import Image, SimDisk


class Died(BaseException):
    """The process is gone: no code of it runs any more."""


class World(NamedTuple):
    """What all workers share. `count` is told what happened, by name."""

    draw: random.Random
    log: Log
    broker: SimBroker
    disk: SimDisk
    clock: SimClock
    count: Callable[[str], None]


class Worker:
    """A process. It may hold partitions that are not its own any more, until it notices."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.assigned: set[int] = set()
        self.held: dict[int, Partition] = {}
        self.steps_left: int | None = None
        """So many more steps of commits until it dies."""
        self._at: tuple[int, Image] | None = None
        self._busy = -1

    def work(self, partition: int, others: list["Worker"]) -> None:
        """Takes a slice of a partition, if it can have it."""
        if partition not in self.held and not self._open(partition, others):
            return
        start = self.held[partition].next_offset or 0
        self.commit(partition, self.world.broker.fetch(partition, start))

    def commit(self, partition: int, slice: Slice) -> bool:
        """Hands a slice to the checkpoint, which refuses one that doesn't continue it."""
        held = self.held[partition]
        start, next, records = slice
        stands = held.next_offset or 0
        self._busy = partition
        self.world.disk.mark(partition)
        if start == stands:
            assert held.process(start, next, records).next_offset == next == held.next_offset
            return True
        try:
            held.process(start, next, records)
        except InvariantBroken:
            assert (held.next_offset or 0) == stands
            return False
        raise AssertionError(f"a slice from {start} was taken at {stands}")

    def release(self, partitions: set[int]) -> None:
        """Closes partitions, in peace."""
        for partition in partitions & self.held.keys():
            self.held.pop(partition).close()

    def _open(self, partition: int, others: list["Worker"]) -> bool:
        world = self.world
        self._busy = partition
        is_taken = any(partition in other.held for other in others)
        opened = Partition.open(
            world.disk.root, world.log, partition, world.broker.topic_id(), world.broker,
            step=lambda name: self._step(partition, name), seconds=world.clock.seconds,
        )  # fmt: skip
        assert (opened is None) == is_taken, "two workers hold one partition, or none can"
        if opened is not None:
            self.held[partition] = opened
        else:
            world.count("locked")
        return opened is not None

    def _step(self, partition: int, name: str) -> None:
        if self.steps_left is not None:
            self.steps_left -= 1
            if self.steps_left < 0:
                image = self.world.disk.image(partition)
                is_torn = name == "1 committed" and self.world.draw.random() < 0.5
                self._at = partition, self.world.disk.torn(partition, image) if is_torn else image
                self.world.count(f"died at {name}")
                raise Died(name)
        self.world.disk.mark(partition)

    def die(self) -> None:
        """Leaves the data folder as it is at this moment, or was at the step at which it died."""
        images = {partition: self.world.disk.image(partition) for partition in self.held}
        if self._at is not None:
            images[self._at[0]] = self._at[1]
        for held in self.held.values():
            held.close()
        for partition, image in images.items():
            self.world.disk.restore(partition, image)
        self.held.clear()
        self.steps_left = self._at = None
