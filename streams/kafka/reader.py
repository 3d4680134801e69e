"""Exact ranges of one topic, read beside the group's consumer: for the archive and the audit.

Records are parsed by the worker's own client, so that both see the same bytes: librdkafka ends a header's name at its
first NUL, and a record could be one thing to the worker and another to an auditor. librdkafka serves what aiokafka
lacks: topic ids, and offsets without a group.
"""

import asyncio
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from functools import partial
from typing import Any, NamedTuple, TypeVar

import aiokafka
import aiokafka.errors
from confluent_kafka import (
    OFFSET_INVALID,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec

from schemas.errors import InvalidInput
from schemas.manifest import SkippedRange
from streams.core.records import LogRecord
from streams.core.skipped_ranges import SkippedBatches
from streams.kafka.failures import KafkaAway, naming_refusals, unreachable
from streams.kafka.security import aiokafka_config, client_config
from streams.kafka.whole_batches import Skipping, WholeBatchFetcher
from streams.storage.log_reader import SLICE_RECORDS

T = TypeVar("T")

REQUEST_SECONDS = 10.0
"""How long the broker may take for one answer about the topic."""

SILENCE_SECONDS = 30.0
"""How long a read waits for progress before it fails."""

FETCH_BYTES = 1 << 20
"""About how much a read holds in memory; bytes count compressed."""


LEADERLESS = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.UNKNOWN_LEADER_EPOCH,
)
LEADERLESS_SECONDS = 10.0
"""How long a partition may be without a leader before a call about it fails."""


class KafkaLogReader:
    """The LogReader of a Kafka topic. It joins no group and commits nothing."""

    def __init__(
        self,
        bootstrap_servers: str,
        topic: str,
        patience_seconds: float = 0,
        skipped_ranges: Sequence[SkippedRange] = (),
        *,
        is_auditing: bool = False,
    ) -> None:
        """Connects at the first call, not here. `bootstrap_servers` is `host:port[,host:port...]`.

        A call without an answer is retried for `patience_seconds`; then it raises KafkaAway.
        What `skipped_ranges` and `is_auditing` mean: see Skipping.
        """
        self._skipping = Skipping(skipped_ranges, is_auditing=is_auditing)
        self._topic = topic
        self._patience_seconds = patience_seconds
        self._servers = bootstrap_servers
        self._admin = AdminClient(client_config(bootstrap_servers))

    def read(self, partition: int, first: int, next: int) -> Iterator[LogRecord]:
        """The committed records with `first` <= offset < `next`, by ascending offset; offsets may have gaps.

        Any thread without an event loop of its own may call it, and several at once.
        Raises InvalidInput if the log doesn't hold the whole range, KafkaAway if the broker stops answering.
        """
        for records in self._slices(partition, first, next, self._skipping, in_arrays=False):
            yield from records

    def slices(
        self, partition: int, first: int, next: int, skipped: SkippedBatches | None = None
    ) -> Iterator[Sequence[LogRecord]]:
        """The same records, many at once and without an object each. Raises as `read`.

        Batches that are stepped over are added to `skipped`.
        """
        return self._slices(partition, first, next, self._skipping._replace(batches=skipped), in_arrays=True)

    def _slices(
        self, partition: int, first: int, next: int, skipping: Skipping, *, in_arrays: bool
    ) -> Iterator[Sequence[LogRecord]]:
        earliest, end = self.range(partition)
        if first < earliest or next > end:
            raise InvalidInput(
                f"partition {partition} of the topic {self._topic} holds the offsets {earliest} to {end}, not"
                f" {first} to {next}: the log has lost records, or it is another log; restore it before going on"
            )
        if first < next:
            with closing(self._patiently(lambda: self._range_from(partition, first, skipping, in_arrays))) as fetcher:
                while fetcher.position < next:
                    records = fetcher.fetch()
                    if records and records[-1].offset >= next:
                        yield records[: bisect_left(records, next, key=_offset)]
                        return
                    yield records

    def _range_from(self, partition: int, first: int, skipping: Skipping, in_arrays: bool) -> "_RangeFetcher":
        return _RangeFetcher(self._servers, self._topic, partition, first, skipping, in_arrays)

    def range(self, partition: int) -> tuple[int, int]:
        """(earliest, end): `end` is the last stable offset, below which every transaction has ended."""
        return self.ranges([partition])[partition]

    def ranges(self, partitions: list[int]) -> dict[int, tuple[int, int]]:
        """(earliest, end) of several partitions in two requests. Raises KafkaAway if the broker doesn't answer."""
        wanted = [TopicPartition(self._topic, partition) for partition in partitions]
        first, end = (
            self._patiently(partial(self._offsets, wanted, spec))
            for spec in (OffsetSpec.earliest(), OffsetSpec.latest())
        )
        return {partition: (first[partition], end[partition]) for partition in partitions}

    def topic_id(self) -> str:
        """The id that the broker assigned at the topic's creation. Raises InvalidInput if there is no such topic."""
        return self._patiently(lambda: describe(self._admin, self._topic)).topic_id

    def close(self) -> None:
        """Nothing is kept open between two calls but librdkafka's own threads, which end with the reader."""

    def _patiently(self, call: Callable[[], T]) -> T:
        deadline = time.monotonic() + self._patience_seconds
        with naming_refusals(self._servers):
            while True:
                try:
                    return call()
                except KafkaAway:
                    if time.monotonic() >= deadline:
                        raise
                time.sleep(0.2)

    def _offsets(self, partitions: list[TopicPartition], spec: OffsetSpec) -> dict[int, int]:
        return {partition: found.offset for partition, found in list_offsets(self._admin, partitions, spec).items()}


class _RangeFetcher:
    """aiokafka's consumer on one partition, in an event loop that runs only while a caller waits for records."""

    def __init__(
        self,
        bootstrap_servers: str,
        topic: str,
        partition: int,
        first: int,
        skipping: Skipping,
        in_arrays: bool,
    ) -> None:
        self._skipping, self._in_arrays = skipping, in_arrays
        self._topic_partition = aiokafka.TopicPartition(topic, partition)
        self._first = first
        self._moved_at = time.monotonic()
        self._loop = asyncio.new_event_loop()
        try:
            self._consumer = self._loop.run_until_complete(self._start(bootstrap_servers))
        except (aiokafka.errors.KafkaError, OSError) as error:
            self._loop.close()
            raise unreachable(topic, error) from None
        self.position = first

    def fetch(self) -> Sequence[LogRecord]:
        """The next records, maybe none; afterwards `position` is the offset after all that was read."""
        try:
            records: Sequence[LogRecord] = self._loop.run_until_complete(self._fetch())
        except aiokafka.errors.KafkaError as error:
            raise unreachable(self._topic_partition.topic, error) from None
        now = time.monotonic()
        position = self._loop.run_until_complete(self._consumer.position(self._topic_partition))
        if position > self.position:
            self.position, self._moved_at = position, now
        elif now - self._moved_at > SILENCE_SECONDS:
            raise KafkaAway(
                f"Kafka sent nothing of the topic {self._topic_partition.topic} for {SILENCE_SECONDS:.0f} s:"
                " check that it is up, and try again"
            )
        return records

    def close(self) -> None:
        """Ends the connection."""
        self._loop.run_until_complete(self._consumer.stop())
        self._loop.close()

    async def _start(self, bootstrap_servers: str) -> Any:
        consumer = aiokafka.AIOKafkaConsumer(
            **aiokafka_config(bootstrap_servers),
            client_id="tallyroot-reader",
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            fetch_max_wait_ms=50,
            max_partition_fetch_bytes=FETCH_BYTES,
            fetch_max_bytes=FETCH_BYTES,
        )
        await consumer.start()
        WholeBatchFetcher.adopt(consumer, self._skipping, in_arrays=self._in_arrays)
        consumer.assign([self._topic_partition])
        consumer.seek(self._topic_partition, self._first)
        return consumer

    async def _fetch(self) -> Any:
        fetched = await self._consumer.getmany(self._topic_partition, timeout_ms=200, max_records=SLICE_RECORDS)
        return fetched.get(self._topic_partition, [])


def _offset(record: LogRecord) -> int:
    return record.offset


class TopicDescription(NamedTuple):
    """The broker's description of a topic."""

    topic_id: str
    partitions: int


def describe(admin: AdminClient, topic: str) -> TopicDescription:
    """The topic's id and number of partitions. Raises InvalidInput if there is no such topic or no broker."""
    try:
        futures = admin.describe_topics(TopicCollection([topic]), request_timeout=REQUEST_SECONDS)
        found = futures[topic].result(REQUEST_SECONDS + 1)
    except (KafkaException, TimeoutError) as error:
        raise unreachable(topic, error) from None
    return TopicDescription(str(found.topic_id), len(found.partitions))


def list_offsets(admin: AdminClient, partitions: list[TopicPartition], spec: OffsetSpec) -> dict[int, Any]:
    """The result of `spec` over committed records by partition: each has `.offset` and `.timestamp`.

    A partition may be between two leaders for a moment (its topic is new, or its broker came back): then it retries.
    Raises InvalidInput if Kafka doesn't answer.
    """
    deadline = time.monotonic() + LEADERLESS_SECONDS
    while True:
        futures = admin.list_offsets(
            dict.fromkeys(partitions, spec),
            isolation_level=IsolationLevel.READ_COMMITTED,
            request_timeout=REQUEST_SECONDS,
        )
        error: Exception = TimeoutError("it is between two leaders")
        try:
            found = {key.partition: future.result(REQUEST_SECONDS + 1) for key, future in futures.items()}
            if all(each.offset != OFFSET_INVALID for each in found.values()):  # seen while a broker came back
                return found
        except (KafkaException, TimeoutError) as raised:
            error = raised
            if isinstance(error, TimeoutError) or error.args[0].code() not in LEADERLESS:
                raise unreachable(partitions[0].topic, error) from None
        if time.monotonic() > deadline:
            raise unreachable(partitions[0].topic, error)
        time.sleep(0.05)
        with suppress(KafkaException):  # otherwise librdkafka keeps asking with the leader epoch that it knew before
            admin.list_topics(partitions[0].topic, timeout=REQUEST_SECONDS)
