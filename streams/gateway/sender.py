"""The thread that takes readings from a spool to Kafka: batches, signs, and begins again where Kafka's word ends."""

import threading
import time
from collections import deque
from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import TopicMetadata

from schemas.errors import InvalidInput, InvariantBroken
from schemas.reading import READING
from streams.core.encode import CONTENT_TYPES, Format, Headers, signed_headers, value_of
from streams.core.signature import sign_reading
from streams.gateway.spool import Place, Spool
from streams.kafka.producer import producer_config
from streams.kafka.reader import unreachable

BATCH_BYTES = 1 << 19
"""No value is larger than so many bytes of JSON: brokers take a million by default."""

BATCHES_IN_FLIGHT = 16
"""So many batches wait for Kafka's word at once."""

METADATA_SECONDS, METADATA_TRIES = 0.3, 20
"""Kafka is asked for the topic in short turns, so that a gateway ends soon with Kafka away, too."""

PAUSE_SECONDS, PAUSE_MAX_SECONDS = 0.5, 30.0
"""How long to wait after a refusal: twice as long each time."""

NOTE_SECONDS = 1.0
"""How often the spool is told to keep how far Kafka is."""


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
    """A batch leaves with so many rows, or when its first row has waited so long."""

    rows: int
    wait_ms: int


@dataclass
class _Batch:
    rows: int
    end: Place
    is_taken: bool = False


class Sender:
    """Sends one spool's readings in their order. `turn` guards the spool, and is told of every change."""

    def __init__(
        self, bootstrap_servers: str, spool: Spool, turn: threading.Condition, address: Address, limits: BatchLimits
    ) -> None:
        """Connects once it runs: a gateway starts with Kafka away, too."""
        self.problem: str | None = None
        """Why readings wait, as far as is known. None while Kafka takes them."""
        self.broken: InvariantBroken | None = None
        """Why nothing will be sent any more."""
        self.hurried = 0
        """Whoever waits for all to be sent counts here: then no batch waits for more rows."""
        self._servers, self._spool, self._turn = bootstrap_servers, spool, turn
        self._address, self._limits = address, limits
        self._stopping = False
        self._refused: KafkaError | None = None
        self._waiting_since: float | None = None
        self._noted_at = 0.0
        self._thread = threading.Thread(target=self._run, name="tallyroot-gateway", daemon=True)

    def start(self) -> None:
        """Begins to send."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread. What Kafka hasn't confirmed stays in the spool."""
        with self._turn:
            self._stopping = True
            self._turn.notify_all()
        self._thread.join()

    def _run(self) -> None:
        pause = PAUSE_SECONDS
        while not self._stopping:
            before = self._spool.acked
            try:
                self._send()
            except (InvalidInput, KafkaException, OSError) as error:
                self.problem = _said(error)
            except Exception as error:  # noqa: BLE001 - the last resort of a thread: its owner raises what it met
                self.broken = error if isinstance(error, InvariantBroken) else InvariantBroken(f"sending: {error!r}")
                self.problem = str(self.broken)
                with self._turn:
                    self._turn.notify_all()
                return
            pause = PAUSE_SECONDS if self._spool.acked != before else min(2 * pause, PAUSE_MAX_SECONDS)
            with self._turn:
                self._turn.wait_for(lambda: self._stopping, pause)

    def _send(self) -> None:
        """Sends from where Kafka's word ends, until it refuses something or the gateway stops."""
        self._refused = None
        producer = Producer(
            producer_config(self._servers)
            | {
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
            if not self._is_due(in_flight):
                producer.poll(0.02 if in_flight else 0)
                continue
            with self._turn:
                rows, place = self._spool.read(place, self._limits.rows, BATCH_BYTES)
                self._spool.sync()  # before the first byte leaves: no number is given again
            batch = _Batch(len(rows), place)
            in_flight.append(batch)
            self._produce(producer, rows, batch)

    def _is_due(self, in_flight: deque[_Batch]) -> bool:
        """Whether a batch shall leave now; waits a moment where it shan't."""
        with self._turn:
            waiting = self._spool.count - sum(batch.rows for batch in in_flight)
            if not waiting or len(in_flight) >= BATCHES_IN_FLIGHT:
                self._waiting_since = None
                if not in_flight:
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
            batch.is_taken = error is None
            if error is not None and self._refused is None:
                self._refused = error

        producer.produce(
            address.topic,
            value=value,
            key=address.key,
            partition=address.partition,
            headers=list(self._headers(value)),
            on_delivery=on_delivery,
        )

    def _headers(self, value: bytes) -> Headers:
        address = self._address
        content_type = CONTENT_TYPES[address.format]
        if address.key_id is None or address.private_key is None:
            return (("content-type", content_type.encode()),)
        signature = sign_reading(address.private_key, address.log_id, address.key, READING, content_type, value)
        return signed_headers(content_type, address.key_id, signature)

    def _settle(self, in_flight: deque[_Batch]) -> None:
        """Lets go of what Kafka has."""
        if not in_flight or not in_flight[0].is_taken:
            return
        with self._turn:
            while in_flight and in_flight[0].is_taken:
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
            raise unreachable(topic, KafkaException(found.error))
        if len(found.partitions) != wanted:
            raise InvalidInput(
                f"the topic {topic} has {len(found.partitions)} partitions, this gateway was told {wanted}:"
                " give it the log's number"
            )
        self.problem = None

    def _describe(self, producer: Producer, tries: int) -> TopicMetadata | None:
        """What Kafka says of the topic, None where the gateway stops first. Raises InvalidInput."""
        while not self._stopping:
            tries -= 1
            try:
                found = producer.list_topics(self._address.topic, timeout=METADATA_SECONDS)
            except KafkaException as error:
                if not tries:
                    raise unreachable(self._address.topic, error) from None
            else:
                topic: TopicMetadata = found.topics[self._address.topic]
                return topic
        return None

    def _note_problem(self, error: KafkaError) -> None:
        self.problem = f"Kafka: {error.str()}"


def _said(error: Exception) -> str:
    if isinstance(error, KafkaException):
        return f"Kafka: {error.args[0].str()}"
    return str(error)
