"""Exact ranges of one topic, read with librdkafka beside the group's consumer: for the archive and the audit."""

import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, Message, TopicCollection
from confluent_kafka import TopicPartition as Place
from confluent_kafka.admin import AdminClient, OffsetSpec

from schemas.errors import InvalidInput
from streams.records import LogRecord, Record

REQUEST_SECONDS = 10.0
"""How long the broker may take for one answer about the topic."""

SILENCE_SECONDS = 30.0
"""How long a read waits for its next record or for the end of the partition."""

SLICE_RECORDS = 5_000
"""So many records are taken from librdkafka's queue at once."""


class KafkaLogReader:
    """The LogReader of a Kafka topic. It joins no group and commits nothing; one thread at a time may read."""

    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        """Connects at the first call, not here. `bootstrap_servers` is `host:port[,host:port...]`."""
        self._topic = topic
        self._servers = bootstrap_servers
        self._admin = AdminClient(client_config(bootstrap_servers))
        self._consumer: Consumer | None = None
        self._reading = threading.Lock()

    def read(self, partition: int, first: int, next: int) -> Iterator[LogRecord]:
        """The committed records with `first` <= offset < `next`, by ascending offset; offsets may have gaps.

        Raises InvalidInput if the log doesn't hold the whole range, or the broker falls silent.
        """
        earliest, end = self.range(partition)
        if first < earliest or next > end:
            raise InvalidInput(
                f"partition {partition} of the topic {self._topic} holds the offsets {earliest} to {end}, not"
                f" {first} to {next}: the log has lost records, or it is another log; restore it before going on"
            )
        if first >= next:
            return
        with self._reading:
            consumer = self._connect()
            consumer.assign([Place(self._topic, partition, first)])
            try:
                yield from self._records(consumer, partition, next)
            finally:
                consumer.unassign()

    def range(self, partition: int) -> tuple[int, int]:
        """(earliest, end): `end` is the last stable offset, below which every transaction has ended."""
        return self.ranges([partition])[partition]

    def ranges(self, partitions: list[int]) -> dict[int, tuple[int, int]]:
        """(earliest, end) of several partitions in two requests. Raises InvalidInput if the broker has no answer."""
        places = [Place(self._topic, partition) for partition in partitions]
        first, end = (self._offsets(places, spec) for spec in (OffsetSpec.earliest(), OffsetSpec.latest()))
        return {partition: (first[partition], end[partition]) for partition in partitions}

    def topic_id(self) -> str:
        """The id that the broker gave the topic when it was made. Raises InvalidInput if there is no such topic."""
        return describe(self._admin, self._topic).topic_id

    def close(self) -> None:
        """Lets go of the connections."""
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None

    def _connect(self) -> Consumer:
        if self._consumer is None:
            self._consumer = Consumer(
                client_config(self._servers)
                | {
                    "group.id": "tallyroot-reader",  # librdkafka wants a name; assign() joins no group
                    "isolation.level": "read_committed",
                    "enable.auto.commit": False,
                    "enable.auto.offset.store": False,
                    "auto.offset.reset": "error",
                    "enable.partition.eof": True,
                    "fetch.wait.max.ms": 50,
                    "queued.max.messages.kbytes": 16_384,
                }
            )
        return self._consumer

    def _records(self, consumer: Consumer, partition: int, next: int) -> Iterator[LogRecord]:
        while True:
            messages = consumer.consume(SLICE_RECORDS, SILENCE_SECONDS)
            if not messages:
                raise _silent(self._topic)
            for message in messages:
                error = message.error()
                offset = message.offset()
                if error is not None and error.code() != KafkaError._PARTITION_EOF:
                    raise InvalidInput(f"reading partition {partition} of {self._topic} failed: {error.str()}")
                if offset is not None and offset >= next:
                    return
                if error is None:
                    yield _record(message)

    def _offsets(self, places: list[Place], spec: OffsetSpec) -> dict[int, int]:
        futures = self._admin.list_offsets(
            dict.fromkeys(places, spec),
            isolation_level=IsolationLevel.READ_COMMITTED,
            request_timeout=REQUEST_SECONDS,
        )
        try:
            return {place.partition: future.result(REQUEST_SECONDS + 1).offset for place, future in futures.items()}
        except (KafkaException, TimeoutError) as error:
            raise unreachable(self._topic, error) from None


class TopicDescription(NamedTuple):
    """What the broker says of a topic."""

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


def client_config(bootstrap_servers: str) -> dict[str, str | int | float | bool]:
    """What every librdkafka client of ours is told; quiet, because each failed call already says what failed."""
    return {"bootstrap.servers": bootstrap_servers, "log_level": 2, "socket.connection.setup.timeout.ms": 5_000}


def is_unknown_topic(error: Exception) -> bool:
    """Whether a failed call says that there is no such topic."""
    unknown = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC)
    return isinstance(error, KafkaException) and error.args[0].code() in unknown


def unreachable(topic: str, error: Exception) -> InvalidInput:
    """The one line for a call about a topic that failed."""
    if is_unknown_topic(error):
        return InvalidInput(f"there is no topic {topic} on this Kafka: create the log first, or name another")
    said = error.args[0].str() if isinstance(error, KafkaException) else "no answer"
    return InvalidInput(f"Kafka doesn't answer about the topic {topic} ({said}): is it up, and is its address right?")


def _record(message: Message) -> Record:
    headers: Any = message.headers() or ()
    return Record(message.offset() or 0, message.timestamp()[1], message.key(), message.value(), tuple(headers))


def _silent(topic: str) -> InvalidInput:
    return InvalidInput(f"Kafka sent nothing of the topic {topic} for {SILENCE_SECONDS:.0f} s: is it up? Try again")
