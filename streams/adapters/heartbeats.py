"""Time for quiet partitions of a live log: without a record, no window would seal and no epoch would end.

A heartbeat says nothing. The broker's timestamp on it moves stream time, as any record's does, so the log alone still
decides; a worker only sees to it that there is a record. Backfills get theirs from the replay tool.
"""

import logging
import threading
import time
from collections.abc import Callable, Set

from confluent_kafka import KafkaError, Message, Producer

from schemas.log import Log
from schemas.reading import HEARTBEAT
from streams.adapters.kafka_reader import client_config

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.5


class Quiet:
    """Tells which partitions have been without a record for too long. Times are monotonic seconds, given."""

    def __init__(self, limit_seconds: float) -> None:
        self._limit_seconds = limit_seconds
        self._since: dict[int, float] = {}

    def heard(self, partition: int, now: float) -> None:
        """A record of the partition was committed, or a heartbeat sent."""
        self._since[partition] = now

    def due(self, assigned: Set[int], now: float) -> list[int]:
        """The partitions to send a heartbeat to. One that was just assigned is given the whole time."""
        self._since = {partition: self._since.get(partition, now) for partition in assigned}
        return sorted(partition for partition, since in self._since.items() if now - since >= self._limit_seconds)


class Heartbeats:
    """Sends a heartbeat to each partition of a live log that this worker reads and nothing came to for a while."""

    def __init__(
        self, bootstrap_servers: str, log: Log, every_seconds: float, assigned: Callable[[], Set[int]]
    ) -> None:
        """`assigned` gives the partitions that this worker reads now; any thread may call it."""
        self._topic = log.topic
        self._assigned = assigned
        self._quiet = Quiet(every_seconds)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._send, name="heartbeats", daemon=True)
        self._producer = Producer(
            client_config(bootstrap_servers)
            | {"message.timeout.ms": int(every_seconds * 1_000), "on_delivery": _delivered}
        )

    def start(self) -> None:
        """Starts to send."""
        self._thread.start()

    def heard(self, partition: int) -> None:
        """Records of this partition were committed."""
        self._quiet.heard(partition, time.monotonic())

    def stop(self) -> None:
        """Ends the thread. What is not sent yet is not missed."""
        self._stopped.set()
        self._thread.join()
        self._producer.purge()
        self._producer.flush(1)

    def _send(self) -> None:
        while not self._stopped.wait(LOOK_SECONDS):
            now = time.monotonic()
            for partition in self._quiet.due(self._assigned(), now):
                self._quiet.heard(partition, now)
                headers: list[tuple[str, str | bytes | None]] = [("ce_type", HEARTBEAT.encode())]
                self._producer.produce(self._topic, b"{}", partition=partition, headers=headers)
            self._producer.poll(0)


def _delivered(error: KafkaError | None, message: Message) -> None:
    if error is not None and error.code() != KafkaError._PURGE_QUEUE:
        logger.warning("a heartbeat for partition %s was not sent (%s)", message.partition(), error.str())
