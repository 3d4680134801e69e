"""The topic of orders as a supplier reads it: committed records, from where its journal is."""

import time
from collections.abc import Mapping
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from schemas.errors import InvalidInput
from schemas.log import Log
from streams.kafka.reader import REQUEST_SECONDS
from streams.kafka.security import client_config
from streams.kafka.topics import orders_topic

BATCH = 500
OLDEST = 0


class OrderRecord(NamedTuple):
    """A record of the topic."""

    partition: int
    offset: int
    key: bytes
    value: bytes


class OrdersReader:
    """Reads all partitions; it is in no group, and commits nothing."""

    def __init__(self, bootstrap_servers: str, log: Log, positions: Mapping[int, int]) -> None:
        """Raises InvalidInput if Kafka doesn't answer, or the topic isn't there, or not as far as `positions`."""
        self.topic = orders_topic(log.topic)
        self._waiting = set(range(log.partitions))
        """Partitions that were not read to their end yet."""
        self._consumer = Consumer(
            client_config(bootstrap_servers)
            | {
                "group.id": "tallyroot-supplier",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
                "auto.offset.reset": "error",
                "fetch.wait.max.ms": 50,
            }
        )
        wanted = [TopicPartition(self.topic, number, positions.get(number, OLDEST)) for number in range(log.partitions)]
        try:
            for each in wanted:
                low, high = self._consumer.get_watermark_offsets(each, REQUEST_SECONDS)
                if not low <= each.offset <= high:
                    raise InvalidInput(
                        f"partition {each.partition} of the topic {self.topic} holds the offsets {low} to {high}, and"
                        f" the journal is at {each.offset}: the topic was made again; move the journal away to start"
                        " over"
                    )
        except KafkaException as error:
            self.close()
            raise self._failed(error.args[0]) from None
        except InvalidInput:
            self.close()
            raise
        self._consumer.assign(wanted)
        self._heard = time.monotonic()

    @property
    def is_at_end(self) -> bool:
        """Whether every partition was read to what was its end then."""
        return not self._waiting

    def read(self, seconds: float) -> list[OrderRecord]:
        """What has come, perhaps nothing, after at most that long. Raises InvalidInput."""
        found = []
        for message in self._consumer.consume(BATCH, seconds):
            error = message.error()
            if error is None:
                place = message.partition() or 0, message.offset() or 0
                found.append(OrderRecord(*place, message.key() or b"", message.value() or b""))
            elif error.code() == KafkaError._PARTITION_EOF:
                self._waiting.discard(message.partition() or 0)
            elif error.code() != KafkaError.GROUP_AUTHORIZATION_FAILED and not error.retriable():
                raise self._failed(error)
            self._heard = time.monotonic()
        if self._waiting and time.monotonic() > self._heard + REQUEST_SECONDS:
            raise InvalidInput(f"Kafka sent nothing of the topic {self.topic} for {REQUEST_SECONDS:.0f} s: is it up?")
        return found

    def close(self) -> None:
        """Closes the connection."""
        self._consumer.close()

    def _failed(self, error: KafkaError) -> InvalidInput:
        return InvalidInput(
            f"the topic {self.topic} can't be read ({error.str()}): check that Kafka is up, that a worker has made the"
            " topic, and that this user may read it"
        )
