"""Faust's consumer as a checkpointed log needs it: one event per (partition, fetch), offsets from the checkpoint alone.

Three threads: Faust's loop; the consumer's loop, which owns aiokafka; the checkpoints' thread, which commits. Every
private part of Faust and aiokafka that we touch stands here, in faust_app.py or in whole_batches.py. They were proved
with the versions in PROVED, and a test fails as soon as others are installed.

Offsets need not be contiguous (transactions, compaction), so a slice starts where the one before it ended and ends at
the position that the fetch reached, even if the last offsets before that hold no record.

A slice carries the number of the seek after which it was fetched. A revocation makes every number stale, and so a
slice fetched before a rebalance can't be committed after it.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, NamedTuple, Protocol

import aiokafka
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import ConsumerStoppedError, NoOffsetForPartitionError, OffsetOutOfRangeError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

from schemas.errors import InvalidInput
from streams.core.records import LogRecord
from streams.kafka.failures import FORBIDDEN, forbidden
from streams.kafka.security import aiokafka_config, security_of
from streams.kafka.whole_batches import Skipping, WholeBatchFetcher

PROVED = {"faust-streaming": "0.15.3", "aiokafka": "0.14.0"}

RECORDS_MAX = 160_000
PARTITION_FETCH_BYTES = 8 << 20
FETCH_BYTES = 32 << 20
"""Bounds of a slice and of a fetch; bytes count compressed. Large slices share the cost of one commit: from 3 MiB to 8
it takes a quarter less a reading, beyond that little.
"""

FETCH_WAIT_MS = 50
LOCKED_RETRY_SECONDS = 0.2
METADATA_PAUSE_SECONDS = 0.25

STALE = -1
"""The seek number while partitions change hands: no slice carries it, so every slice is stale."""


class Slice(NamedTuple):
    """The result of one fetch of a partition: the records with `start` <= offset < `next`, maybe none.

    `fetched_s` is when it left the consumer, monotonic seconds.
    """

    partition: int
    start: int
    next: int
    seek: int
    records: Sequence[LogRecord]
    fetched_s: float | None = None


class Checkpoints(Protocol):
    """The transport's view of the checkpoints that this process may hold."""

    async def open(self, partitions: Set[int], *, only: bool) -> dict[int, int]:
        """Acquires those whose lock is free, without waiting; returns the offset to resume at by partition.

        With `only`, releases all others first.
        """
        ...

    async def close(self) -> None:
        """Releases all of them, after the running commit."""
        ...

    def resumed(self, offsets: Mapping[int, int], assigned: Set[int]) -> None:
        """The consumer now reads these partitions from these offsets; all of `assigned` are or will be read."""
        ...


def _ask_with_pauses(client: Any) -> None:
    """Lets aiokafka's client rest between two requests for the cluster's metadata.

    While a partition has no leader its fetcher asks again at once: thousands of requests a second, of brokers that are
    in trouble, or of names that are gone.
    """
    ask, due_s = client._metadata_update, 0.0

    async def ask_when_due(*args: Any) -> Any:
        nonlocal due_s
        await asyncio.sleep(max(0.0, due_s - time.monotonic()))
        found = await ask(*args)
        due_s = time.monotonic() + METADATA_PAUSE_SECONDS
        return found

    client._metadata_update = ask_when_due


class BatchThread(driver.AIOKafkaConsumerThread):
    """Owns aiokafka's consumer, its settings and the read positions. Its attributes belong to the consumer's loop."""

    app: Any  # a BatchApp
    seek_number = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cursor: dict[int, int] = {}

    async def on_start(self) -> None:
        """Starts aiokafka's consumer."""
        await super().on_start()
        _ask_with_pauses(self._ensure_consumer()._client)
        skipping = Skipping(self.app.skipped_ranges)
        WholeBatchFetcher.adopt(self._consumer, skipping, in_arrays=True, on_fetch=self.app.on_fetch)

    def _create_worker_consumer(self, transport: Any) -> Any:
        conf = self.app.conf
        self._assignor = RangePartitionAssignor
        return aiokafka.AIOKafkaConsumer(
            client_id=conf.broker_client_id,
            group_id=conf.id,
            **aiokafka_config(self.app.servers),
            partition_assignment_strategy=[RangePartitionAssignor],
            enable_auto_commit=False,
            auto_offset_reset="none",  # anything else skips or rewinds in silence
            isolation_level="read_committed",
            max_poll_records=conf.broker_max_poll_records,
            max_poll_interval_ms=int((conf.broker_max_poll_interval or 0) * 1_000),
            max_partition_fetch_bytes=PARTITION_FETCH_BYTES,
            fetch_max_bytes=FETCH_BYTES,
            fetch_max_wait_ms=FETCH_WAIT_MS,
            request_timeout_ms=int(conf.broker_request_timeout * 1_000),
            session_timeout_ms=int(conf.broker_session_timeout * 1_000),
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1_000),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1_000),
            metadata_max_age_ms=conf.consumer_metadata_max_age_ms,
        )

    async def seek_all(self, offsets: Mapping[int, int], *, late: bool) -> tuple[int, dict[int, int]]:
        """Seeks what is still assigned; returns the seek's number and the offsets sought. A late seek keeps the
        number.
        """
        number, sought = await self.call_thread(self._seek_all, offsets, late)
        return number, sought

    async def _seek_all(self, offsets: Mapping[int, int], late: bool) -> tuple[int, dict[int, int]]:
        consumer = self._ensure_consumer()
        topic = self.app.log_topic
        assigned = {tp.partition for tp in self.assignment()}
        sought = {partition: offset for partition, offset in offsets.items() if partition in assigned}
        for partition, offset in sought.items():
            consumer.seek(driver.TopicPartition(topic, partition), offset)
        if late:
            self.cursor.update(sought)
        else:
            self.cursor = sought
            self.seek_number += 1
        return self.seek_number, sought

    async def _fetch_records(  # type: ignore[override]
        self,
        consumer: Any,
        active_partitions: Any,
        timeout: float | None = None,  # noqa: ASYNC109 - Faust's own signature
        max_records: int | None = None,
    ) -> list[Slice]:
        try:
            fetched: Any = await super()._fetch_records(consumer, active_partitions, timeout, max_records)
        except NoOffsetForPartitionError:  # assigned and not sought yet: our seek is on its way
            await asyncio.sleep(0.02)
            fetched = {}
        except OffsetOutOfRangeError as error:
            (((topic, partition), offset),) = list(error.args[0].items())[:1]
            raise InvalidInput(
                f"partition {partition} of the topic {topic} no longer holds the offset {offset} that is"
                " next: records were deleted, or an older copy of the log was put in its place; restore the topic"
            ) from None
        except FORBIDDEN as error:
            raise forbidden(self.app.log_topic, str(error)) from None
        # Nothing is awaited from here on, so that positions, cursor and seek number agree.
        slices, now_s = [], time.monotonic()
        for partition, start in list(self.cursor.items()):
            topic_partition = driver.TopicPartition(self.app.log_topic, partition)
            state = partition_state(consumer, topic_partition)
            if state is None or not state.has_valid_position:
                continue
            records = fetched.get(topic_partition, ())
            # A position may also have moved past what could not be read: then its error is next in the queue.
            if records or (state.position > start and topic_partition not in consumer._fetcher._records):
                self.cursor[partition] = state.position
                slices.append(Slice(partition, start, state.position, self.seek_number, records, now_s))
        return slices

    def on_crash(self, msg: str, *fmt: Any, **kwargs: Any) -> None:
        """Logs nothing: `fatal` reports the crash once."""


class BatchConsumer(driver.Consumer):
    """Hands slices to the agent, and lets nothing but the checkpoints decide where to read."""

    app: Any  # a BatchApp
    _thread: BatchThread
    live_seek = STALE
    rebalances = 0
    holds_assignment = False
    _paused_partitions: set[TP]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sought = asyncio.Event()

    def _new_consumer_thread(self) -> BatchThread:
        return BatchThread(self, loop=self.loop, beacon=self.beacon)

    def on_buffer_full(self, tp: TP) -> None:
        """Does nothing: delivery waits for room by itself, and Faust would sleep a second with no partition left."""

    def on_buffer_drop(self, tp: TP) -> None:
        """Does nothing, as `on_buffer_full`."""

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Makes every slice in flight stale, then closes the checkpoints."""
        self._forget_seek()
        self.rebalances += 1
        self.holds_assignment = False
        await super().on_partitions_revoked(revoked)
        try:
            await self.app.checkpoints.close()
        except Exception as error:
            self.app.fatal(error)
            raise

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Faust seeks after this, except for an empty assignment, which is complete at once."""
        self.holds_assignment = True
        await super().on_partitions_assigned(assigned, generation_id)
        if not assigned:
            self.app.checkpoints.resumed({}, set())

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Every seek of Faust comes through here. A partition that another process still holds is paused and
        retried.
        """
        self._forget_seek()
        if not self.holds_assignment:
            return {}  # Faust is late: these partitions are being revoked
        try:
            await self._seek_from_checkpoints(self.rebalances)
        except Exception as error:
            self.app.fatal(error)
            raise
        return {}

    async def _seek_from_checkpoints(self, rebalance: int) -> None:
        assigned = {tp.partition for tp in self.assignment()}
        offsets = await self.app.checkpoints.open(assigned, only=True)
        if rebalance != self.rebalances:
            return  # another assignment follows, and its own seek
        number, sought = await self._thread.seek_all(offsets, late=False)
        if rebalance != self.rebalances:
            return
        self.live_seek = number
        self.app.checkpoints.resumed(sought, assigned)
        locked = assigned - set(sought)
        if locked:
            self.pause_partitions(self._topic_partitions(locked))
            self.add_future(self._seek_later(locked, assigned, rebalance))
        self._sought.set()

    async def _seek_later(self, locked: set[int], assigned: set[int], rebalance: int) -> None:
        try:
            while locked and rebalance == self.rebalances and not self.should_stop:
                await asyncio.sleep(LOCKED_RETRY_SECONDS)
                if rebalance != self.rebalances:
                    return
                offsets = await self.app.checkpoints.open(locked, only=False)
                if not offsets or rebalance != self.rebalances:
                    continue
                _, sought = await self._thread.seek_all(offsets, late=True)
                if rebalance != self.rebalances:
                    return
                self.app.checkpoints.resumed(sought, assigned)
                self.resume_partitions(self._topic_partitions(sought))
                locked = locked - set(sought)
        except Exception as error:
            self.app.fatal(error)
            raise

    async def _drain_messages(self, fetcher: Any) -> None:
        try:
            while not (self._stopped.is_set() or fetcher._stopped.is_set()):
                slices, _ = await self._wait_next_records(1.0)
                await asyncio.sleep(0)
                for piece in slices or ():
                    await self._deliver(piece)  # type: ignore[arg-type]
        except (ConsumerStoppedError, asyncio.CancelledError):
            if not self.app.should_stop:
                raise
        except Exception as error:
            self.app.fatal(error)
            raise

    async def _deliver(self, piece: Slice) -> None:
        # A slice may arrive before its seek is known here. Only an older slice is stale: it is dropped once the seek
        # is known.
        while not (self.should_stop or (self._sought.is_set() and self.flow_active)):
            await self.wait(self.can_resume_flow if self._sought.is_set() else self._sought)  # type: ignore[arg-type]
        if self.should_stop or piece.seek != self.live_seek:
            return
        topic_partition = TP(self.app.log_topic, piece.partition)
        content: Any = piece
        message = ConsumerMessage(
            *topic_partition, piece.next - 1, 0.0, 0, [], b"", content, None, 0, 0, topic_partition,
            generation_id=self.app.consumer_generation_id,
        )  # fmt: skip
        await self.wait_first(self.callback(message), self.suspend_flow.wait())

    def _forget_seek(self) -> None:
        self.live_seek = STALE
        self._sought.clear()

    def _topic_partitions(self, partitions: Iterable[int]) -> set[TP]:
        return {TP(self.app.log_topic, partition) for partition in partitions}


class BatchProducer(driver.Producer):
    """Faust starts one, and we send nothing with it."""

    app: Any  # a BatchApp

    def _settings_auth(self) -> Mapping[str, Any]:
        return security_of(self.app.servers).aiokafka()


class BatchTransport(driver.Transport):
    """The driver with our consumer."""

    Consumer = BatchConsumer
    Producer = BatchProducer


def partition_state(kafka: Any, topic_partition: Any) -> Any:
    """aiokafka's state of an assigned partition, or None."""
    subscription = kafka._subscription.subscription
    if subscription is None or subscription.assignment is None:
        return None
    return subscription.assignment.state_value(topic_partition)
