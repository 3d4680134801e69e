"""Heartbeats for silent partitions of a live log: without a record, no window would seal and no epoch would end.

A heartbeat has no content. The broker's timestamp on it moves stream time, as any record's does, so the log alone still
decides; a worker only makes sure that there is a record. Backfills get theirs from the replay tool.

One is sent after a minute of silence, and as soon as a window could seal and no record has come to seal it: so windows
of a silent partition seal as promptly as those of a busy one, at one heartbeat a window.
"""

import logging
import threading
import time
from collections.abc import Callable, Set

from confluent_kafka import KafkaError, Message, Producer

from schemas.log import Log
from schemas.reading import HEARTBEAT
from streams.kafka.security import client_config

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.25

AHEAD_MS = 100
"""How far our clock may be ahead of the broker's: a heartbeat that is sent too early seals nothing."""


class SilentPartitions:
    """Finds the partitions that have been without a record for too long. Times are monotonic seconds, passed in.

    `sealable_ms` is a window's end (epoch ms): by now, or by the last record's time, windows up to it can be sealed.
    """

    def __init__(self, limit_seconds: float) -> None:
        self._limit_seconds = limit_seconds
        self._since: dict[int, float] = {}
        self._sealable_ms: dict[int, int] = {}

    def heard(self, partition: int, now: float, sealable_ms: int = 0) -> None:
        """A record of the partition was committed, or a heartbeat sent."""
        self._since[partition] = now
        # A worker that catches up sees old records: a heartbeat that was due once is not due again.
        self._sealable_ms[partition] = max(sealable_ms, self._sealable_ms.get(partition, 0))

    def due(self, assigned: Set[int], now: float, sealable_ms: int = 0) -> list[int]:
        """The partitions to send a heartbeat to. A newly assigned partition counts as heard now."""
        self._since = {partition: self._since.get(partition, now) for partition in assigned}
        self._sealable_ms = {partition: self._sealable_ms.get(partition, sealable_ms) for partition in assigned}
        return [
            partition
            for partition in sorted(assigned)
            if now - self._since[partition] >= self._limit_seconds or sealable_ms > self._sealable_ms[partition]
        ]


class Heartbeats:
    """Sends heartbeats to the silent ones of the partitions of a live log that this worker reads."""

    def __init__(
        self, bootstrap_servers: str, log: Log, every_seconds: float, assigned: Callable[[], Set[int]]
    ) -> None:
        """`assigned` returns the partitions that this worker reads now; it is called from another thread."""
        self._log = log
        self._assigned = assigned
        self._silent = SilentPartitions(every_seconds)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._send, name="heartbeats", daemon=True)
        self._producer = Producer(
            client_config(bootstrap_servers)
            | {"message.timeout.ms": int(every_seconds * 1_000), "on_delivery": _delivered}
        )

    def start(self) -> None:
        """Starts to send."""
        self._thread.start()

    def heard(self, partition: int, stream_time_ms: int | None) -> None:
        """Notes that records of a partition were committed, and its stream time (epoch ms) after them."""
        self._silent.heard(partition, time.monotonic(), self._sealable_ms(stream_time_ms or 0))

    def stop(self) -> None:
        """Ends the thread. Unsent heartbeats are dropped."""
        self._stopped.set()
        self._thread.join()
        self._producer.purge()
        self._producer.flush(1)

    def _send(self) -> None:
        while not self._stopped.wait(LOOK_SECONDS):
            now, sealable_ms = time.monotonic(), self._sealable_ms(time.time_ns() // 1_000_000 - AHEAD_MS)
            for partition in self._silent.due(self._assigned(), now, sealable_ms):
                self._silent.heard(partition, now, sealable_ms)
                headers: list[tuple[str, str | bytes | None]] = [("ce_type", HEARTBEAT.encode())]
                self._producer.produce(self._log.topic, b"{}", partition=partition, headers=headers)
            self._producer.poll(0)

    def _sealable_ms(self, moment_ms: int) -> int:
        grace_ms = self._log.ruleset_at(self._log.epoch_of(moment_ms)).grace_ms
        return self._log.window_start(max(0, moment_ms - grace_ms))


def _delivered(error: KafkaError | None, message: Message) -> None:
    if error is not None and error.code() != KafkaError._PURGE_QUEUE:
        logger.warning("a heartbeat for partition %s was not sent (%s)", message.partition(), error.str())
