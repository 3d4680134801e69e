"""The partitions that this process owns, opened, written and closed by one thread of their own.

One thread makes one order: a commit that has begun ends before a revocation closes its partition, even if its caller no
longer waits for it, and a slice that comes after the revocation finds its seek stale.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple, ParamSpec, TypeVar

import numpy as np

from schemas.errors import InvalidInput
from schemas.log import Log
from schemas.units import MINUTE_MS
from streams.core.kernel.columns import Ints
from streams.core.kernel.entries import EntryRecords
from streams.core.records import LogRecord
from streams.kafka.consumer import Slice
from streams.kafka.failures import KafkaAway
from streams.kafka.outbox_topic import OrderMessage, OutboxTopic, RejectedMessage
from streams.kafka.topics import AHEAD_MAX_MS
from streams.storage.log_reader import LogReader
from streams.storage.object_store import ObjectStore, StoreAway
from streams.worker.freed_memory import FreedMemory
from streams.worker.logs import say
from streams.worker.partition import Partition, Progress, first_offset

logger = logging.getLogger(__name__)

STAMPED_AHEAD = {
    "CreateTime": "whoever sent it had a wrong clock, and the topic's message.timestamp.after.max.ms let it in",
    "LogAppendTime": "the broker's clock is ahead of this host's; set the one that is wrong",
}
"""Who stamped a record, by the topic's message.timestamp.type."""

P = ParamSpec("P")
T = TypeVar("T")


class Committed(NamedTuple):
    """One commit of a slice: its result, its duration, and after it, how many ended epochs wait for their files and how
    many machines are registered.
    """

    piece: Slice
    progress: Progress
    seconds: float
    pending: int
    machines: int


class PartitionOwner:
    """The Checkpoints of a worker. An error in a commit goes to `fatal`, which ends the process."""

    def __init__(
        self,
        data_dir: Path,
        log: Log,
        reader: LogReader,
        archive_reader: LogReader,
        *,
        rejected: OutboxTopic[RejectedMessage] | None = None,
        orders: OutboxTopic[OrderMessage] | None = None,
        store: ObjectStore | None = None,
        fatal: Callable[[BaseException], None],
        on_commit: Callable[[Committed], None],
        on_resumed: Callable[[Set[int]], None],
    ) -> None:
        self.committed: dict[int, int] = {}
        """The next offset of each partition's checkpoint. Any thread may read it."""
        self.live_seek: Callable[[], int] = lambda: -1
        self._data_dir = data_dir
        self._log = log
        self._reader = reader
        self._archive_reader = archive_reader
        self._rejected = rejected
        self._orders = orders
        self._store = store
        self._fatal = fatal
        self._on_commit = on_commit
        self._on_resumed = on_resumed
        self._held: dict[int, Partition] = {}
        self._reported_locked: set[int] = set()
        self._freed = FreedMemory()
        self._thread = ThreadPoolExecutor(1, "checkpoints")

    async def open(self, partitions: Set[int], *, only: bool) -> dict[int, int]:
        """Acquires the partitions whose lock is free; returns the offset to resume at by partition. Never waits for a
        lock.

        Acquires none while Kafka or the store doesn't answer. `archive_reader` may be patient, `reader` must not: a
        seek waits for it.
        Raises InvalidInput if the log is not the one that a checkpoint was made from.
        """
        return await self._run(self._open, partitions, only)

    def resumed(self, offsets: Mapping[int, int], assigned: Set[int]) -> None:
        """Notes that the consumer reads these partitions from these offsets; all of `assigned` are or will be read."""
        self.committed.update(offsets)
        say("assigned", partitions=sorted(assigned), offsets={str(number): at for number, at in offsets.items()})
        self._on_resumed(assigned)

    async def commit(self, piece: Slice) -> None:
        """Commits a slice, or drops it if it was fetched before the last seek. Errors go to `fatal`."""
        await self._run(self._commit, piece)

    async def close(self) -> None:
        """Closes all partitions and releases their locks, after the running commit."""
        await self._run(lambda: self._close(set(self._held)))

    def held(self) -> dict[int, int]:
        """The next offset of each partition's checkpoint that is open here. Any thread may call it."""
        committed = dict(self.committed)
        return {number: committed[number] for number in tuple(self._held) if number in committed}

    def drain(self, then: Callable[[Set[int]], None]) -> None:
        """Waits, on the checkpoints' thread, until the files of all ended epochs are final; then calls `then` there.

        Its argument is the set of partitions held then, perhaps none if a rebalance has just revoked them.
        """
        self._thread.submit(self._drain, then)

    def end(self) -> None:
        """Closes all partitions, after the running commit; nothing can be opened afterwards. Any thread may call it."""
        self._thread.submit(lambda: self._close(set(self._held))).result()
        self._thread.shutdown()

    async def _run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        job = asyncio.get_running_loop().run_in_executor(self._thread, partial(work, *args, **kwargs))
        return await asyncio.shield(job)

    def _open(self, partitions: Set[int], only: bool) -> dict[int, int]:
        if max(partitions, default=0) >= self._log.partitions:
            raise InvalidInput(
                f"the topic {self._log.topic} has a new partition {max(partitions)}, the log has"
                f" {self._log.partitions} for"
                " life: its keys now belong elsewhere; name the topic made for this log"
            )
        if only:
            self._close(set(self._held) - partitions)
        try:
            topic_id = self._reader.topic_id()
            ranges = {number: self._reader.range(number) for number in sorted(partitions)}
        except KafkaAway as away:
            logger.warning("%s. Retrying", away)  # a broker that just came back: not yet, then
            return {}
        offsets = {}
        is_away = False
        for number, within in ranges.items():
            held = self._held.get(number)
            if held is None and not is_away:
                try:
                    held = self._opened(number, topic_id)
                except (StoreAway, KafkaAway) as away:
                    logger.warning("%s. Retrying", away)
                    is_away = True  # for all of them: each would wait for an answer as long again
            if held is None:
                if not is_away:
                    self._report_locked(number)
                continue
            self._held[number] = held
            offsets[number] = first_offset(self._log.topic, number, held.next_offset, within)
        return offsets

    def _opened(self, number: int, topic_id: str) -> Partition | None:
        return Partition.open(
            self._data_dir,
            self._log,
            number,
            topic_id,
            self._archive_reader,
            tail_reader=self._reader,
            rejected=self._rejected,
            orders=self._orders,
            store=self._store,
            background=True,
            partitions=lambda: max(1, len(self._held)),
        )

    def _report_locked(self, number: int) -> None:
        if number not in self._reported_locked:
            self._reported_locked.add(number)
            logger.warning("partition %d is held by another process on this data folder; waiting for it", number)

    def _commit(self, piece: Slice) -> None:
        partition = self._held.get(piece.partition)
        if piece.seek != self.live_seek() or partition is None:
            return
        try:
            sound, refused = sound_part(self._log, piece, time.time_ns() // 1_000_000)
            if sound.next > sound.start:
                begun = time.monotonic()
                before = partition.pending
                # A backlog of small epochs has hundreds of commits in a slice: each is progress.
                committed = partial(self.committed.__setitem__, sound.partition)
                progress = partition.process(sound.start, sound.next, sound.records, committed)
                seconds = time.monotonic() - begun
                self._on_commit(Committed(sound, progress, seconds, len(partition.pending), partition.machines))
                self._say_final(sound.partition, partition, before + progress.cuts)
                self._freed.give_back()
            if refused is not None:
                raise refused
        except BaseException as error:
            self._fatal(error)
            raise

    def _drain(self, then: Callable[[Set[int]], None]) -> None:
        try:
            for number, partition in self._held.items():
                before = partition.pending
                partition.drain()
                self._say_final(number, partition, before)
            then(set(self._held))
        except BaseException as error:
            self._fatal(error)
            raise

    def _close(self, partitions: Set[int]) -> None:
        for number in partitions:
            partition = self._held.pop(number)
            before = partition.pending
            partition.close()
            self._say_final(number, partition, before)
            self._reported_locked.discard(number)
        if partitions:
            say("revoked", partitions=sorted(partitions))

    def _say_final(self, number: int, partition: Partition, before: Sequence[int]) -> None:
        for epoch in before:
            if epoch not in partition.pending:
                say("epoch_final", partition=number, epoch=epoch)


def timestamps_of(records: Sequence[LogRecord]) -> Ints:
    """The timestamps of records (epoch ms)."""
    if isinstance(records, EntryRecords):
        return records.timestamps
    return np.array([record.timestamp for record in records], np.int64)


def sound_part(log: Log, piece: Slice, now_ms: int) -> tuple[Slice, InvalidInput | None]:
    """The slice up to the first record whose timestamp is too far ahead of `now_ms` (epoch ms), and the error for it.

    The wall clock only ever stops a worker: nothing committed depends on it.
    """
    latest_ms = now_ms + AHEAD_MAX_MS
    ahead = np.flatnonzero(timestamps_of(piece.records) > latest_ms)
    if not len(ahead):
        return piece, None
    index = int(ahead[0])
    record = piece.records[index]
    minutes = (record.timestamp - now_ms) // MINUTE_MS
    refused = InvalidInput(
        f"the record at offset {record.offset} of partition {piece.partition} is stamped {minutes:,} minutes ahead:"
        f" {STAMPED_AHEAD[log.timestamp_type]}; nothing before it is lost, and the worker goes on once that moment has"
        " come"
    )
    return piece._replace(next=record.offset, records=piece.records[:index]), refused
