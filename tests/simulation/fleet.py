"""One run: traffic and workers take turns in an order that the seed draws, until all of the log is in final files."""

import random
from collections import Counter
from pathlib import Path

from schemas.log import Log
from tests.simulation.broker import SimBroker, Slice
from tests.simulation.clock import SimClock
from tests.simulation.disk import Image, SimDisk
from tests.simulation.traffic import Traffic, log_of
from tests.simulation.view import View
from tests.simulation.workers import Died, Worker, World

EVENTS = 30
"""What happens in one run: events for each partition."""


class Fleet:
    """The world of one seed. `happened` counts what did, so that a run can say what it tried."""

    def __init__(self, seed: int, disk: SimDisk) -> None:
        self.draw = random.Random(seed)
        self.log: Log = log_of(self.draw)
        dirt = self.draw.choice((0.0, 0.1, 0.3, 1.0))
        self.traffic = [
            Traffic(seed * 1_000 + partition, dirt, self.log, partition) for partition in range(self.log.partitions)
        ]
        self.broker = SimBroker(self.draw, self.traffic)
        self.clock = SimClock(self.draw)
        self.disk = disk
        self.happened: Counter[str] = Counter()
        self.world = World(
            self.draw, self.log, self.broker, disk, self.clock, lambda name: self.happened.update((name,))
        )
        self.workers = [Worker(self.world)]
        self.late: list[tuple[int, Slice]] = []
        self.snapshots: dict[int, Image] = {}
        self.reached: dict[int, int] = {}
        """How far each partition ever was: a checkpoint may go back, final files don't."""
        self.view = View(disk.root, self.log)
        self.is_watched = self.draw.random() < 0.2
        self.torn: set[int] = set()
        """The partitions that nobody has opened since the power was cut: their live files may be torn."""

    def run(self) -> None:
        """Everything that happens, then peace until the log is taken whole."""
        for traffic in self.traffic:
            traffic.begin()
        self._rebalance()
        for _ in range(EVENTS * self.log.partitions):
            chosen = self.draw.choice(self.traffic)
            others = [record for other in self.traffic if other is not chosen for record in other.log[-20:]]
            chosen.tick(self.clock, others)
            self._turn()
        for traffic in self.traffic:
            traffic.end(self.log)
        self._finish()

    def _turn(self) -> None:
        chance = self.draw.random()
        try:
            if chance < 0.16:
                self._work(self.draw.choice(self.workers))
            elif chance < 0.24:
                self._hand_in_late()
            elif chance < 0.27:
                self._change_group()
            elif chance < 0.33:
                self.draw.choice(self.workers).steps_left = self.draw.randrange(8)
            elif chance < 0.335:
                self._kill(self.draw.choice(self.workers))
            elif chance < 0.34:
                self._cut_power()
            elif chance < 0.345:
                self._go_back()
            elif chance < 0.36 and self.is_watched:
                self._look()
        except Died:
            self._bury()

    def _work(self, worker: Worker) -> None:
        """A zombie works on what it holds; it hasn't heard that the partition was taken from it."""
        partitions = sorted(worker.assigned | worker.held.keys())
        if partitions:
            partition = self.draw.choice(partitions)
            if partition in worker.assigned or self.draw.random() < 0.3:
                if self.draw.random() < 0.2 and partition in worker.held:
                    start = worker.held[partition].next_offset or 0
                    self.late.append((partition, self.broker.fetch(partition, start)))
                self._as(worker, lambda: worker.work(partition, self._others(worker)))
            else:
                worker.release({partition})
                self.happened["zombie gave up"] += 1

    def _hand_in_late(self) -> None:
        """A slice that was fetched earlier, maybe by another worker, comes to whoever holds the partition now."""
        if not self.late:
            return
        partition, slice = self.late.pop(self.draw.randrange(len(self.late)))
        for worker in self.workers:
            if partition in worker.held:
                self._as(worker, lambda worker=worker: self._late(worker, partition, slice))  # type: ignore[misc]

    def _late(self, worker: Worker, partition: int, slice: Slice) -> None:
        is_taken = worker.commit(partition, slice)
        self._reach(worker)
        self.happened["late slice taken" if is_taken else "late slice refused"] += 1

    def _as(self, worker: Worker, work: object) -> None:
        try:
            work()  # type: ignore[operator]
            self._reach(worker)
        except Died:
            worker.die()
            raise

    def _reach(self, worker: Worker) -> None:
        self.torn -= worker.held.keys()
        for partition, held in worker.held.items():
            self.reached[partition] = max(self.reached.get(partition, 0), held.next_offset or 0)

    def _change_group(self) -> None:
        if len(self.workers) < 3 and self.draw.random() < 0.6:
            self.workers.append(Worker(self.world))
            self.happened["joined"] += 1
        elif len(self.workers) > 1:
            leaver = self.workers.pop(self.draw.randrange(len(self.workers)))
            leaver.release(set(leaver.held))
            self.happened["left"] += 1
        self._rebalance()

    def _rebalance(self) -> None:
        """Each partition to one worker. Some hear of it at once, others go on as if nothing had happened."""
        for worker in self.workers:
            worker.assigned = set()
        for partition in range(self.log.partitions):
            self.draw.choice(self.workers).assigned.add(partition)
        for worker in self.workers:
            if self.draw.random() < 0.6:
                worker.release(set(worker.held) - worker.assigned)

    def _kill(self, worker: Worker) -> None:
        worker.die()
        self.happened["killed between slices"] += 1
        self._bury()

    def _bury(self) -> None:
        self._rebalance()

    def _cut_power(self) -> None:
        for worker in self.workers:
            worker.die()
        self.disk.cut_power()
        self.torn = set(range(self.log.partitions))
        self.happened["power cut"] += 1

    def _go_back(self) -> None:
        """A checkpoint is lost, or an older copy of it is put in its place."""
        partition = self.draw.randrange(self.log.partitions)
        if any(partition in worker.held for worker in self.workers):
            return
        image = self.disk.image(partition)
        older = self.snapshots.get(partition, {})
        live = {name: content for name, content in image.items() if name.startswith("live/")}
        self.disk.restore(partition, live | older)
        self.happened["older checkpoint" if older else "lost checkpoint"] += 1
        self.snapshots[partition] = {name: image[name] for name in image.keys() - live.keys()}

    def _look(self) -> None:
        if self.torn:
            return  # who opens a partition throws torn live files away; until then no query gets past them
        stands = {p: held.next_offset or 0 for worker in self.workers for p, held in worker.held.items()}
        self.view.look(stands, self.reached)
        if self.happened["power cut"]:
            self.happened["looks at the view after a power cut"] += 1
        self.happened["looks at the view"] += 1

    def _others(self, worker: Worker) -> list[Worker]:
        return [other for other in self.workers if other is not worker]

    def _finish(self) -> None:
        for worker in self.workers:
            worker.steps_left = None
            worker.release(set(worker.held))
        last = Worker(self.world)
        for partition in range(self.log.partitions):
            while last.held.get(partition) is None or last.held[partition].next_offset != self.broker.end(partition):
                last.work(partition, [])
        self._reach(last)
        self.workers = [last]
        if self.is_watched:
            self._look()
        last.release(set(last.held))


def run(seed: int, folder: Path) -> Fleet:
    """One run in an empty folder."""
    with SimDisk(random.Random(seed), folder) as disk:
        fleet = Fleet(seed, disk)
        fleet.run()
    return fleet
