"""Runs of a Partition over a small log, in processes that die where they are told to."""

import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Generic

import duckdb
import msgspec

from files.write import no_step
from streams.core.records import LogRecord
from streams.kafka.failures import KafkaAway
from streams.kafka.outbox_topic import NONE_SENT, M, OrderMessage, RejectedMessage
from streams.worker.partition import Partition
from tests.support.sim_log import HOURLY, SimLog, small_log, with_shop

SLICE = 11
DIED = 9


class GatedLog(SimLog):
    """A log that lets nobody read until its gate is open."""

    gate: threading.Event

    def read(self, partition: int, first: int, next: int) -> Iterator[LogRecord]:
        self.gate.wait()
        return super().read(partition, first, next)


class FileTopic(Generic[M]):
    """Implements OutboxTopic and OutboxPartition in a file, which outlives a process that dies.

    `step` is told when a batch stands there and nobody has heard of it. While it `is_away`, nothing is taken.
    """

    def __init__(self, path: Path, kind: type[M], step: Callable[[str], None] = no_step) -> None:
        self.path = path
        self._kind = kind
        self.is_away = False
        self.last_offset = NONE_SENT
        self._step = step

    def open(self, partition: int, topic_id: str) -> "FileTopic[M]":
        self._answer()
        self.last_offset = max((message.offset for message in self.messages()), default=NONE_SENT)
        return self

    def send(self, messages: Sequence[M]) -> None:
        self._answer()
        with self.path.open("ab") as file:
            file.write(b"".join(msgspec.json.encode(message) + b"\n" for message in messages))
        self._step("2b sent")

    def close(self) -> None:
        pass

    def messages(self) -> list[M]:
        lines = self.path.read_bytes().splitlines() if self.path.exists() else []
        return [msgspec.json.decode(line, type=self._kind) for line in lines]

    def _answer(self) -> None:
        if self.is_away:
            raise KafkaAway("no answer.")


def topics(data_dir: Path, step: Callable[[str], None] = no_step) -> dict[str, Any]:
    """What a partition sends, in files of its data folder: its two destinations by their names in `open`."""
    return {
        "rejected": FileTopic(data_dir / "rejected", RejectedMessage, step),
        "orders": FileTopic(data_dir / "orders", OrderMessage, step),
    }


def the_log() -> SimLog:
    """The log of all crash tests."""
    return with_shop(small_log(machines=2, minutes=70, silent_hours=2), 20)


def run(data_dir: Path, step: Callable[[str], None] = no_step, *, slice_size: int = SLICE) -> None:
    """Opens the partition, takes the rest of the log, closes."""
    log = the_log()
    partition = Partition.open(data_dir, HOURLY, 0, log.topic_id(), log, step=step, **topics(data_dir, step))
    assert partition is not None
    feed(partition, log, slice_size)
    partition.close()


def feed(partition: Partition, log: SimLog, slice_size: int = SLICE) -> None:
    """The rest of the log, in slices that begin where the checkpoint stands."""
    start = partition.next_offset or 0
    rest = [record for record in log.records if record.offset >= start]
    while start < log.end:
        records, rest = rest[:slice_size], rest[slice_size:]
        next = records[-1].offset + 1 if rest else log.end
        assert partition.process(start, next, records).next_offset == next
        start = next


def die_after(data_dir: Path, count: int) -> None:
    """Dies right after the step of that number."""
    left = iter(range(count))

    def step(_: str) -> None:
        if next(left, None) is None:
            os._exit(DIED)

    run(data_dir, step)


def die_at_new_step(data_dir: Path, seen: Path) -> None:
    """Dies at the first step, by name and how far the log was, at which no run before has died."""
    done = set(seen.read_text().splitlines()) if seen.exists() else set()
    log = the_log()
    opened: list[Partition] = []

    def step(name: str) -> None:
        at = f"{name} {opened[0].next_offset if opened else 'open'}"
        if at not in done:
            with seen.open("a") as file:
                file.write(at + "\n")
            os._exit(DIED)

    partition = Partition.open(data_dir, HOURLY, 0, log.topic_id(), log, step=step, **topics(data_dir, step))
    assert partition is not None
    opened.append(partition)
    feed(partition, log)
    partition.close()


def die_before_draining(data_dir: Path) -> None:
    """Commits the whole log while no archive can be read, then dies: every epoch has later commits on top."""
    sim = the_log()
    log = GatedLog(sim.records, end=sim.end)
    log.gate = threading.Event()
    partition = Partition.open(data_dir, HOURLY, 0, log.topic_id(), log, background=True, **topics(data_dir))
    assert partition is not None
    feed(partition, log)
    assert len(partition.pending) > 3
    os._exit(DIED)


def hold(data_dir: Path, held: Path) -> None:
    """Holds the partition until it is killed."""
    log = the_log()
    partition = Partition.open(data_dir, HOURLY, 0, log.topic_id(), log)
    assert partition is not None
    held.touch()
    threading.Event().wait()


def read_checkpoint(data_dir: Path, opened: Path) -> None:
    """Somebody who opens a worker's file until killed."""
    db = duckdb.connect(str(data_dir / "partitions" / "0.duckdb"), read_only=True)
    opened.touch()
    threading.Event().wait()
    db.close()


def run_slowly(data_dir: Path) -> None:
    """Takes the log in slices of one record, so that a kill at any time falls somewhere else."""
    run(data_dir, slice_size=1)


def final_files(data_dir: Path) -> dict[str, str]:
    """All that settles and proves, by name: SHA-256 of every file under epochs/ and log/."""
    return {
        path.relative_to(data_dir).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in ("epochs", "log")
        for path in sorted((data_dir / folder).rglob("*"))
        if path.is_file() and path.suffix != ".tmp"
    }
