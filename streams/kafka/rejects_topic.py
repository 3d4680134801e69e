"""The topic `<log's topic>.rejected`: each refused record of the log once, for gateways and alerts.

Partition n of the log goes to partition n, by ascending offset. Each batch is a Kafka transaction, so a reader with
`isolation.level=read_committed` (confluent's and librdkafka's default) sees each offset exactly once, also when a
worker dies in the middle or its last messages arrive late: opening a partition fences all earlier senders, and only
then reads how far the topic is.
"""

import time
from collections.abc import Sequence
from contextlib import closing
from typing import Protocol

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from schemas.errors import InvalidInput
from schemas.reject import KEPT_BYTES
from streams.kafka.failures import KafkaAway, forbidden, is_forbidden
from streams.kafka.reader import REQUEST_SECONDS
from streams.kafka.security import client_config
from streams.kafka.topics import rejected_topic

Headers = list[tuple[str, str | bytes | None]]

ENTRY_REJECTED = "entry.rejected"

NONE_SENT = -1
"""The `last_offset` of an empty partition."""

SEND_SECONDS = 10.0
"""How long a batch may wait for its acknowledgement before it is aborted and retried."""

SPAN = 2
"""How many offsets before its end a partition's last record lies: a transaction's end has an offset too."""


class RejectedMessage(msgspec.Struct, frozen=True, gc=False):
    """A refused record as a message: its key, the kept part of its value, and the header `rejected`.

    That is JSON: `offset`, `timestamp`, `epoch`, `value_size`, `value_sha256` and `reasons`, [[row, reason], ...]. It
    holds the timestamp too: Kafka replaces one of 0 or less by "now".
    """

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes
    rejected: str


class RejectsPartition(Protocol):
    """One partition of the topic, open for one sender."""

    @property
    def last_offset(self) -> int:
        """The last offset of the log in it when it was opened; NONE_SENT if there was none."""
        ...

    def send(self, messages: Sequence[RejectedMessage]) -> None:
        """Returns once all of them are committed. After an error they may or may not be: open the partition again."""
        ...

    def close(self) -> None:
        """Closes the connection. It may be called after an error."""
        ...


class RejectsTopic(Protocol):
    """The destination of refused records."""

    def open(self, partition: int, topic_id: str) -> RejectsPartition:
        """Opens a partition and fences its earlier senders. `topic_id` is that of the log's topic.

        Raises KafkaAway if Kafka doesn't answer, InvalidInput if the partition holds another log's records.
        """
        ...


class KafkaRejectsTopic:
    """The RejectsTopic in Kafka. It connects only when there is something to send."""

    def __init__(self, bootstrap_servers: str, log_topic: str) -> None:
        """`bootstrap_servers` is `host:port[,host:port...]`."""
        self._servers = bootstrap_servers
        self._topic = rejected_topic(log_topic)

    def open(self, partition: int, topic_id: str) -> "KafkaRejectsPartition":
        """See RejectsTopic."""
        return KafkaRejectsPartition(self._servers, self._topic, partition, topic_id)


class KafkaRejectsPartition:
    """The RejectsPartition in Kafka: a transactional producer."""

    def __init__(self, bootstrap_servers: str, topic: str, partition: int, topic_id: str) -> None:
        """See RejectsTopic.open."""
        self._topic = topic
        self._partition = partition
        self._topic_id = topic_id
        self._producer = Producer(
            client_config(bootstrap_servers)
            | {
                "transactional.id": f"tallyroot-{topic}-{partition}",
                "transaction.timeout.ms": 60_000,
                "compression.type": "zstd",
                "linger.ms": 5,
            }
        )
        try:
            self._producer.init_transactions(SEND_SECONDS)
            last = last_record(bootstrap_servers, topic, partition)
        except KafkaException as error:
            self.close()
            raise _away(topic, error) from None
        except BaseException:
            self.close()
            raise
        headers: dict[str, bytes] = {} if last is None else dict(last.headers() or [])  # type: ignore[arg-type]
        if last is not None and headers.get("topic-id") != topic_id.encode():
            self.close()
            raise InvalidInput(
                f"the topic {topic} holds refused records of another log, whose topic had the same name:"
                " delete the topic, a worker creates it again"
            )
        self.last_offset = int(msgspec.json.decode(headers["rejected"])["offset"]) if headers else NONE_SENT

    def send(self, messages: Sequence[RejectedMessage]) -> None:
        """See RejectsPartition."""
        constant: Headers = [("ce_type", ENTRY_REJECTED), ("topic-id", self._topic_id)]
        try:
            self._producer.begin_transaction()
            for message in messages:
                headers: Headers = [*constant, ("rejected", message.rejected)]
                self._producer.produce(
                    self._topic,
                    message.value,
                    None if message.key is None else message.key[:KEPT_BYTES],
                    self._partition,
                    timestamp=max(0, message.timestamp_ms),
                    headers=headers,
                )
            self._producer.commit_transaction(SEND_SECONDS)
        except (KafkaException, BufferError) as error:
            raise _away(self._topic, error) from None

    def close(self) -> None:
        """See RejectsPartition."""
        self._producer.purge()


def last_record(bootstrap_servers: str, topic: str, partition: int) -> Message | None:
    """The last committed record of a partition, None if there is none. Raises KafkaAway or KafkaException."""
    settings = {
        "group.id": "tallyroot-rejected",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "enable.partition.eof": True,
        "isolation.level": "read_committed",
        "auto.offset.reset": "error",
        "fetch.wait.max.ms": 50,
    }
    with closing(Consumer(client_config(bootstrap_servers) | settings)) as consumer:
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), REQUEST_SECONDS)
        span = SPAN
        while high > low:
            first = max(low, high - span)
            last = _last_from(consumer, topic, partition, first)
            if last is not None or first == low:
                return last
            span *= 8  # all of these were aborted, or end transactions
        return None


def _last_from(consumer: Consumer, topic: str, partition: int, first: int) -> Message | None:
    consumer.assign([TopicPartition(topic, partition, first)])
    last = None
    deadline = time.monotonic() + REQUEST_SECONDS
    while time.monotonic() < deadline:
        for message in consumer.consume(64, 0.5):
            error = message.error()
            if error is None:
                last = message
                deadline = time.monotonic() + REQUEST_SECONDS
            elif error.code() == KafkaError._PARTITION_EOF:
                return last
            elif error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
                continue  # a consumer has to name a group; this one isn't in it
            elif not error.retriable():
                raise KafkaException(error)
    raise KafkaAway(f"Kafka sent nothing of the topic {topic} for {REQUEST_SECONDS:.0f} s: check that it is up")


def _away(topic: str, error: Exception) -> InvalidInput:
    if is_forbidden(error):
        return forbidden(topic, str(error))
    said = error.args[0].str() if isinstance(error, KafkaException) else str(error)
    return KafkaAway(f"refused records can't be sent to the topic {topic} now ({said}): check that Kafka is up")
