"""The thread that brings readings from a spool to Kafka: batches, signs, retries from the last acknowledged one."""

import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from tallyroot_gateway.errors import InvalidInput, InvariantBroken
from tallyroot_gateway.receipts import GOODS_RECEIVED, Receipts
from tallyroot_gateway.spool import Place, Spool
from tallyroot_gateway.wire import READING, Format, Headers, headers_of, signed_headers, value_of

BATCH_BYTES = 1 << 19
"""No value is longer in JSON: brokers accept a million bytes by default."""

BATCHES_IN_FLIGHT = 16
"""How many batches may wait for Kafka's acknowledgement at once."""

METADATA_SECONDS, METADATA_TRIES = 0.3, 20
"""Kafka is asked for the topic in short turns, so that `close` is quick also while Kafka is away."""

PAUSE_SECONDS, PAUSE_MAX_SECONDS = 0.5, 30.0
"""How long to wait after a failure: twice as long each time."""

SYNC_SECONDS = 0.3
"""How often the spool is made to outlast a loss of power while nothing can leave."""

NOTE_SECONDS = 1.0
"""How often the spool writes down how far Kafka is."""


_AT_THE_DOOR = (KafkaError._AUTHENTICATION, KafkaError._SSL)
"""What librdkafka says of a password or a certificate before it calls the broker away."""


@dataclass(frozen=True)
class Address:
    """Where a gateway's records go, and how they are written. `key` is the route; a key signs where there is one."""

    log_id: str
    topic: str
    partitions: int
    partition: int
    key: bytes
    format: Format
    key_id: str | None
    private_key: bytes | None


@dataclass(frozen=True)
class BatchLimits:
    """A batch leaves once it has `rows` rows, or once its first row has waited `wait_ms`."""

    rows: int
    wait_ms: int


@dataclass
class _Batch:
    rows: int
    end: Place
    is_acknowledged: bool = False


class Sender:
    """Sends one spool's readings in their order. `turn` guards the spool, and is notified of every change."""

    def __init__(
        self, connection: Mapping[str, str], spool: Spool, receipts: Receipts, turn: threading.Condition,
        address: Address, limits: BatchLimits,
    ) -> None:  # fmt: skip
        """Connects once it runs, by these properties: a gateway starts with Kafka away, too."""
        self.problem: str | None = None
        """Why readings wait, as far as is known; None while Kafka acknowledges them."""
        self.broken: InvariantBroken | None = None
        """Why nothing more will be sent."""
        self.hurried = 0
        """How many callers wait for all to be sent: while any does, no batch waits for more rows."""
        self._connection, self._spool, self._turn = connection, spool, turn
        self._receipts = receipts
        self._receipts_in_flight: set[str] = set()
        self._address, self._limits = address, limits
        self._stopping = False
        self._refused: KafkaError | None = None
        self._refusal = ""
        self._waiting_since: float | None = None
        self._noted_at = 0.0
        self._thread = threading.Thread(target=self._run, name="tallyroot-gateway", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    @property
    def is_running(self) -> bool:
        """Whether it has started and not ended."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Ends the thread. What Kafka hasn't acknowledged stays in the spool."""
        with self._turn:
            self._stopping = True
            self._turn.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        pause = PAUSE_SECONDS
        while not self._stopping:
            before = self._spool.acked
            try:
                self._send()
            except (InvalidInput, KafkaException, OSError) as error:
                self.problem = f"Kafka refuses us: {self._refusal}" if self._refusal else _words_of(error)
            except Exception as error:  # noqa: BLE001 - the thread's last resort: its owner raises it
                self.broken = error if isinstance(error, InvariantBroken) else InvariantBroken(f"sending: {error!r}")
                self.problem = str(self.broken)
                with self._turn:
                    self._turn.notify_all()
                return
            pause = PAUSE_SECONDS if self._spool.acked != before else min(2 * pause, PAUSE_MAX_SECONDS)
            self._pause(pause)

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self._stopping and (left := end - time.monotonic()) > 0:
            self._sync()
            with self._turn:
                self._turn.wait_for(lambda: self._stopping, min(left, SYNC_SECONDS))

    def _sync(self) -> None:
        try:
            with self._turn:
                self._spool.sync()
        except OSError as error:
            self.problem = _words_of(error)

    def _send(self) -> None:
        """Sends from the last acknowledged reading on, until Kafka refuses something or the gateway stops."""
        self._refused, self._refusal = None, ""
        self._receipts_in_flight.clear()
        producer = Producer(
            {
                **self._connection,
                "enable.idempotence": True,  # nothing twice, nothing out of order
                "compression.type": "lz4",
                "log_level": 2,  # `problem` says what failed
                "socket.connection.setup.timeout.ms": 5_000,
                "message.timeout.ms": 0,  # the spool waits for as long as Kafka is away
                "message.max.bytes": 2 * BATCH_BYTES,
                "error_cb": self._note_problem,
            }
        )
        try:
            self._check_topic(producer)
            self._pump(producer)
        finally:
            producer.purge()
            producer.flush(1)

    def _pump(self, producer: Producer) -> None:
        in_flight: deque[_Batch] = deque()
        place = self._spool.acked
        while not self._stopping:
            producer.poll(0)
            self._settle(in_flight)
            if self._refused is not None:
                raise KafkaException(self._refused)
            self._produce_receipts(producer)
            if not self._is_due(in_flight):
                producer.poll(0.02 if in_flight or self._receipts_in_flight else 0)
                continue
            with self._turn:
                rows, place = self._spool.read(place, self._limits.rows, BATCH_BYTES)
                self._spool.sync()  # before the first byte leaves: no number is used again
            batch = _Batch(len(rows), place)
            in_flight.append(batch)
            self._produce(producer, rows, batch)

    def _is_due(self, in_flight: deque[_Batch]) -> bool:
        """Whether a batch should leave now; waits a moment if not."""
        with self._turn:
            waiting = self._spool.count - sum(batch.rows for batch in in_flight)
            if not waiting or len(in_flight) >= BATCHES_IN_FLIGHT:
                self._waiting_since = None
                self._spool.sync()
                if not in_flight and not self._receipts_in_flight:
                    self._turn.wait(0.2)
                return False
            if waiting >= self._limits.rows or self.hurried:
                return True
            now = time.monotonic()
            if self._waiting_since is None:
                self._waiting_since = now
            left = self._waiting_since + self._limits.wait_ms / 1000 - now
            if left > 0:
                self._turn.wait(min(left, 0.02) if in_flight else left)
                return False
            self._waiting_since = None
            return True

    def _produce(self, producer: Producer, rows: list[bytes], batch: _Batch) -> None:
        address = self._address
        value = value_of(rows, address.format)

        def on_delivery(error: KafkaError | None, message: Message) -> None:
            batch.is_acknowledged = error is None
            if error is not None and self._refused is None:
                self._refused = error

        producer.produce(
            address.topic,
            value=value,
            key=address.key,
            partition=address.partition,
            headers=list(self._headers(value, address.format, READING)),
            on_delivery=on_delivery,
        )

    def _produce_receipts(self, producer: Producer) -> None:
        """Sends the receipts that are not on their way: they are on disk for good already."""
        with self._turn:
            waiting = [each for each in self._receipts.waiting() if each[0] not in self._receipts_in_flight]
        address = self._address
        for name, value in waiting[:BATCHES_IN_FLIGHT]:
            self._receipts_in_flight.add(name)
            producer.produce(
                address.topic,
                value=value,
                key=address.key,
                partition=address.partition,
                headers=list(self._headers(value, "json", GOODS_RECEIVED)),
                on_delivery=partial(self._receipt_delivered, name),
            )

    def _receipt_delivered(self, name: str, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._refused = self._refused or error
            return
        with self._turn:
            self._receipts.forget(name)
            self._receipts_in_flight.discard(name)
            self.problem = None
            self._turn.notify_all()

    def _headers(self, value: bytes, format: Format, record_type: str) -> Headers:
        address = self._address
        if address.key_id is None or address.private_key is None:
            return headers_of(format, record_type)
        return signed_headers(
            address.key_id, address.private_key, address.log_id, address.key, format, value, record_type
        )

    def _settle(self, in_flight: deque[_Batch]) -> None:
        """Forgets the batches that Kafka has acknowledged."""
        if not in_flight or not in_flight[0].is_acknowledged:
            return
        with self._turn:
            while in_flight and in_flight[0].is_acknowledged:
                batch = in_flight.popleft()
                self._spool.forget(batch.end, batch.rows)
            now = time.monotonic()
            if now - self._noted_at > NOTE_SECONDS:
                self._spool.note_acked()
                self._noted_at = now
            self.problem = None
            self._turn.notify_all()

    def _check_topic(self, producer: Producer) -> None:
        topic, wanted = self._address.topic, self._address.partitions
        found = self._describe(producer, METADATA_TRIES)
        if found is None:
            return
        if found.error is not None:
            raise _unreachable(topic, found.error)
        if len(found.partitions) != wanted:
            raise InvalidInput(
                f"the topic {topic} has {len(found.partitions)} partitions, not {wanted}:"
                " make the gateway with the log's number of partitions"
            )
        self.problem = None

    def _describe(self, producer: Producer, tries: int) -> Any:
        """Kafka's metadata of the topic, None if the gateway stops first. Raises InvalidInput."""
        while not self._stopping:
            tries -= 1
            self._sync()
            try:
                found = producer.list_topics(self._address.topic, timeout=METADATA_SECONDS)
            except KafkaException as error:
                if not tries:
                    raise _unreachable(self._address.topic, error.args[0]) from None
            else:
                return found.topics[self._address.topic]
        return None

    def _note_problem(self, error: KafkaError) -> None:
        if error.code() in _AT_THE_DOOR:
            self._refusal = error.str()
        self.problem = f"Kafka: {error.str()}"


def _words_of(error: Exception) -> str:
    if isinstance(error, KafkaException):
        return f"Kafka: {error.args[0].str()}"
    return str(error)


def _unreachable(topic: str, error: KafkaError) -> InvalidInput:
    if error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC):
        return InvalidInput(f"there is no topic {topic} on this Kafka: create the log first, or name another topic")
    return InvalidInput(
        f"Kafka doesn't answer about the topic {topic} ({error.str()}): check its address, and that it is up"
    )
