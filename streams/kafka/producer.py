"""The producer of a log: idempotent, partitioned as Kafka's Java client does it, with the caller's timestamps."""

from collections.abc import Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from schemas.errors import InvalidInput
from schemas.log import Log
from streams.kafka.failures import naming_refusals
from streams.kafka.reader import describe, list_offsets
from streams.kafka.security import client_config

DELIVERY_SECONDS = 60
"""How long a record may wait for the broker before it counts as failed."""

QUEUE_RECORDS = 100_000
"""How many records wait in memory at once; with more, sending waits for the broker."""


def producer_config(bootstrap_servers: str) -> dict[str, Any]:
    """The settings of every producer of a log: nothing twice or out of order, partitions as in Java's client."""
    return client_config(bootstrap_servers) | {
        "enable.idempotence": True,
        "partitioner": "murmur2_random",
        "compression.type": "lz4",
    }


FAILURES = (KafkaException, SystemError)
"""What a producer's methods raise: of a fatal error in the midst of a callback Python makes a SystemError."""


def words_of(failure: BaseException) -> str:
    """What Kafka said, from one of FAILURES."""
    told = failure.__cause__ if isinstance(failure, SystemError) else failure
    if not isinstance(told, KafkaException):
        raise failure
    return str(told.args[0].str())


class LogProducer:
    """Writes records to one log's topic. Records that `flush` has not confirmed may be missing."""

    def __init__(self, bootstrap_servers: str, log: Log) -> None:
        """Connects. Raises InvalidInput if no broker answers, or the topic is missing or has another number of
        partitions.
        """
        self._admin = AdminClient(client_config(bootstrap_servers))
        self._log = log
        with naming_refusals(bootstrap_servers):
            found = describe(self._admin, log.topic)
        if found.partitions != log.partitions:
            raise InvalidInput(
                f"the topic {log.topic} has {found.partitions} partitions, its log {log.partitions}: name another topic"
            )
        self._refused: KafkaError | None = None
        self._producer = Producer(
            producer_config(bootstrap_servers)
            | {
                "linger.ms": 20,
                "queue.buffering.max.messages": QUEUE_RECORDS,
                "message.timeout.ms": DELIVERY_SECONDS * 1000,
                "delivery.report.only.error": True,
                "on_delivery": self._delivered,
            }
        )

    def stream_times(self) -> list[int | None]:
        """The largest record timestamp (epoch ms) in each partition, None for an empty one. Raises InvalidInput."""
        partitions = [TopicPartition(self._log.topic, partition) for partition in range(self._log.partitions)]
        found = list_offsets(self._admin, partitions, OffsetSpec.max_timestamp())
        times = [found[partition].timestamp for partition in range(self._log.partitions)]
        return [None if time_ms < 0 else time_ms for time_ms in times]

    def send(
        self,
        timestamp_ms: int,
        key: bytes | None,
        value: bytes,
        headers: Sequence[tuple[str, bytes]] = (),
        partition: int | None = None,
    ) -> None:
        """Queues one record; without `partition` the key decides. Raises InvalidInput once a record has failed."""
        target: dict[str, Any] = {} if partition is None else {"partition": partition}
        while True:
            self._check()
            try:
                self._producer.produce(
                    self._log.topic, value=value, key=key, timestamp=timestamp_ms, headers=list(headers), **target
                )
            except BufferError:
                self._producer.poll(0.1)
            except KafkaException as error:
                raise self._failed(words_of(error)) from None
            else:
                self._poll()
                return

    def _poll(self) -> None:
        try:
            self._producer.poll(0)
        except FAILURES as error:
            raise self._failed(words_of(error)) from None

    def flush(self) -> None:
        """Returns once the broker has acknowledged all records. Raises InvalidInput if it did not."""
        try:
            left = self._producer.flush(DELIVERY_SECONDS + 5)
        except FAILURES as error:
            raise self._failed(words_of(error)) from None
        self._check()
        if left:
            raise InvalidInput(
                f"Kafka has not acknowledged {left} records of the topic {self._log.topic}: check that it is up"
            )

    def close(self) -> None:
        """Drops what is still queued and closes the connections."""
        self._producer.purge()
        self._producer.flush(1)

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None and self._refused is None:
            self._refused = error

    def _check(self) -> None:
        if self._refused is not None:
            raise self._failed(self._refused.str())

    def _failed(self, said: str) -> InvalidInput:
        return InvalidInput(f"Kafka did not take a record of the topic {self._log.topic} ({said}): check that it is up")
