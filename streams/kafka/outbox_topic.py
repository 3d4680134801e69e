"""The topics that a log's workers send: each refused record once, for gateways and alerts; each order once, for
suppliers' systems.

Partition n of the log goes to partition n, by ascending offset. Each batch is a Kafka transaction, so a reader with
`isolation.level=read_committed` (confluent's and librdkafka's default) sees each offset exactly once, also when a
worker dies in the middle or its last messages arrive late: opening a partition fences all earlier senders, and only
then reads how far the topic is.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Generic, NamedTuple, Protocol, TypeVar

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from schemas.errors import InvalidInput
from schemas.order import PLACED, Order
from schemas.reject import KEPT_BYTES
from streams.kafka.failures import KafkaAway, forbidden, is_forbidden
from streams.kafka.reader import REQUEST_SECONDS
from streams.kafka.security import client_config
from streams.kafka.topics import orders_topic, rejected_topic

Headers = list[tuple[str, str | bytes | None]]

ENTRY_REJECTED = "entry.rejected"

NONE_SENT = -1
"""The `last_offset` of an empty partition."""

SEND_SECONDS = 10.0
"""How long a batch may wait for its acknowledgement before it is aborted and retried."""

QUEUE_MESSAGES = 1_000_000
"""How many messages wait for the broker at once: what one record of the log placed is one transaction."""

SPAN = 2
"""How many offsets before its end a partition's last record lies: a transaction's end has an offset too."""


class OutboxMessage(msgspec.Struct, frozen=True, gc=False):
    """A message, and the offset of the log that it comes from."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes

    def headers(self) -> Headers:
        """What it says beside its kind and its log."""
        return []


class RejectedMessage(OutboxMessage, frozen=True, gc=False):
    """A refused record as a message: its key, the kept part of its value, and the header `rejected`.

    That is JSON: `offset`, `timestamp`, `epoch`, `value_size`, `value_sha256` and `reasons`, [[row, reason], ...]. It
    holds the timestamp too: Kafka replaces one of 0 or less by "now".
    """

    rejected: str

    def headers(self) -> Headers:
        """The reasons."""
        return [("rejected", self.rejected)]


class OrderMessage(OutboxMessage, frozen=True, gc=False):
    """An order as a message: the route of its machine, and a schemas.order.Order as JSON."""


M = TypeVar("M", bound=OutboxMessage)
M_contra = TypeVar("M_contra", bound=OutboxMessage, contravariant=True)


class OutboxPartition(Protocol[M_contra]):
    """One partition of such a topic, open for one sender."""

    @property
    def last_offset(self) -> int:
        """The last offset of the log in it when it was opened; NONE_SENT if there was none."""
        ...

    def send(self, messages: Sequence[M_contra]) -> None:
        """Returns once all of them are committed. After an error they may or may not be: open the partition again."""
        ...

    def close(self) -> None:
        """Closes the connection. It may be called after an error."""
        ...


class OutboxTopic(Protocol[M_contra]):
    """The destination of what a partition sends."""

    def open(self, partition: int, topic_id: str) -> OutboxPartition[M_contra]:
        """Opens a partition and fences its earlier senders. `topic_id` is that of the log's topic.

        Raises KafkaAway if Kafka doesn't answer, InvalidInput if the partition holds another log's records.
        """
        ...


class Kind(NamedTuple):
    """What such a topic holds: `what` in words, the `ce_type` of its messages, where a message says its offset."""

    what: str
    ce_type: str
    offset_of: Callable[[Message], int]


def _rejected_offset(message: Message) -> int:
    headers: dict[str, bytes] = dict(message.headers() or [])  # type: ignore[arg-type]
    return int(msgspec.json.decode(headers["rejected"])["offset"])


def _placed_offset(message: Message) -> int:
    return msgspec.json.decode(message.value() or b"", type=Order).offset


REJECTS = Kind("refused records", ENTRY_REJECTED, _rejected_offset)
ORDERS = Kind("orders", PLACED, _placed_offset)


class KafkaOutboxTopic(Generic[M]):
    """An OutboxTopic in Kafka. It connects only when there is something to send."""

    def __init__(self, bootstrap_servers: str, topic: str, kind: Kind) -> None:
        """`bootstrap_servers` is `host:port[,host:port...]`."""
        self._servers = bootstrap_servers
        self._topic = topic
        self._kind = kind

    def open(self, partition: int, topic_id: str) -> "KafkaOutboxPartition[M]":
        """See OutboxTopic."""
        return KafkaOutboxPartition(self._servers, self._topic, partition, topic_id, self._kind)


def rejects_in_kafka(bootstrap_servers: str, log_topic: str) -> KafkaOutboxTopic[RejectedMessage]:
    """The topic of a log's refused records."""
    return KafkaOutboxTopic(bootstrap_servers, rejected_topic(log_topic), REJECTS)


def orders_in_kafka(bootstrap_servers: str, log_topic: str) -> KafkaOutboxTopic[OrderMessage]:
    """The topic of a log's orders."""
    return KafkaOutboxTopic(bootstrap_servers, orders_topic(log_topic), ORDERS)


class KafkaOutboxPartition(Generic[M]):
    """An OutboxPartition in Kafka: a transactional producer."""

    def __init__(self, bootstrap_servers: str, topic: str, partition: int, topic_id: str, kind: Kind) -> None:
        """See OutboxTopic.open."""
        self._topic = topic
        self._partition = partition
        self._topic_id = topic_id
        self._kind = kind
        self._producer = Producer(
            client_config(bootstrap_servers)
            | {
                "transactional.id": f"tallyroot-{topic}-{partition}",
                "transaction.timeout.ms": 60_000,
                "compression.type": "zstd",
                "linger.ms": 5,
                "queue.buffering.max.messages": QUEUE_MESSAGES,
            }
        )
        try:
            self._producer.init_transactions(SEND_SECONDS)
            last = last_record(bootstrap_servers, topic, partition)
        except KafkaException as error:
            self.close()
            raise self._away(error) from None
        except BaseException:
            self.close()
            raise
        headers: dict[str, bytes] = {} if last is None else dict(last.headers() or [])  # type: ignore[arg-type]
        if last is not None and headers.get("topic-id") != topic_id.encode():
            self.close()
            raise InvalidInput(
                f"the topic {topic} holds {kind.what} of another log, whose topic had the same name:"
                " delete the topic, a worker creates it again"
            )
        self.last_offset = NONE_SENT if last is None else kind.offset_of(last)

    def send(self, messages: Sequence[M]) -> None:
        """See OutboxPartition."""
        constant: Headers = [("ce_type", self._kind.ce_type), ("topic-id", self._topic_id)]
        try:
            self._producer.begin_transaction()
            for message in messages:
                self._producer.produce(
                    self._topic,
                    message.value,
                    None if message.key is None else message.key[:KEPT_BYTES],
                    self._partition,
                    timestamp=max(0, message.timestamp_ms),
                    headers=[*constant, *message.headers()],
                )
            self._producer.commit_transaction(SEND_SECONDS)
        except (KafkaException, BufferError) as error:
            raise self._away(error) from None

    def close(self) -> None:
        """See OutboxPartition."""
        self._producer.purge()

    def _away(self, error: Exception) -> InvalidInput:
        if is_forbidden(error):
            return forbidden(self._topic, str(error))
        said = error.args[0].str() if isinstance(error, KafkaException) else str(error)
        return KafkaAway(
            f"{self._kind.what} can't be sent to the topic {self._topic} now ({said}): check that Kafka is up"
        )


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
