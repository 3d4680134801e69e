"""Step 2b of a partition: sends refused records and orders from its checkpoint to their topics, beside the commits.

The checkpoint's rows are the outbox. They leave it only once the broker has acknowledged them, and a sender that
restarts asks the topic for its last offset: so each offset stands there once, wherever a crash occurred.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Generic, Protocol, TypeVar

from files.write import Step
from streams.kafka.failures import KafkaAway
from streams.kafka.outbox_topic import NONE_SENT, M, OutboxMessage, OutboxPartition, OutboxTopic

M_co = TypeVar("M_co", bound=OutboxMessage, covariant=True)

logger = logging.getLogger(__name__)

PAUSE_SECONDS = 1.0
"""How long a sender in the background waits after a batch, since each costs a transaction, however small it is."""

RETRY_SECONDS = 1.0
"""How long a sender waits before it retries while Kafka is away."""

PATIENCE_SECONDS = 60.0
"""How long `drain` retries while Kafka is away."""


class Stored(Protocol[M_co]):
    """The rows of an outbox, through a connection of their own."""

    def next_batch(self, after: int) -> Sequence[M_co]:
        """What lies after the offset `after`, by offset, bounded; of one offset all or nothing."""
        ...

    def close(self) -> None:
        """Closes the connection."""
        ...


class OutboxSender(Generic[M]):
    """Sends what a checkpoint holds and the topic lacks. In the background it has a thread, started at the
    first need.
    """

    def __init__(
        self,
        topic: OutboxTopic[M],
        partition: int,
        topic_id: str,
        stored: Callable[[], Stored[M]],
        step: Step,
        *,
        background: bool,
    ) -> None:
        """`stored` opens a connection of its own to the checkpoint. Without `background` all is done in `wake`."""
        self.sent = NONE_SENT
        """Messages up to this offset were acknowledged. Any thread may read it."""
        self._topic = topic
        self._partition = partition
        self._topic_id = topic_id
        self._stored = stored
        self._step = step
        self._background = background
        self._open: OutboxPartition[M] | None = None
        self._is_away = False
        self._error: BaseException | None = None
        self._wanted = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def check(self) -> None:
        """Raises the error that has stopped the sender, if any. Kafka being away doesn't stop it."""
        if self._error is not None:
            raise self._error

    def wake(self) -> None:
        """Starts sending what the checkpoint holds. With `background` it never waits for Kafka."""
        self.check()
        if not self._background:
            try:
                self._send_all()
            except KafkaAway as away:
                self._rest(away)
            return
        self._wanted.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"outbox-{self._partition}", daemon=True)
            self._thread.start()

    def drain(self) -> None:
        """Returns once all that was committed is acknowledged. Raises KafkaAway after a minute without Kafka."""
        self._stop_thread()
        self.check()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                self._send_all()
                break
            except KafkaAway as away:
                self._rest(away)
                if time.monotonic() > deadline:
                    raise
            time.sleep(RETRY_SECONDS)
        self._stopping.clear()

    def close(self) -> None:
        """Ends the thread after its current batch. Unsent messages are sent after the next opening."""
        self._stop_thread()
        self._let_go()

    def _stop_thread(self) -> None:
        self._stopping.set()
        self._wanted.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._wanted.wait()
                self._wanted.clear()
                try:
                    self._send_all(self._stopping.is_set)
                    self._stopping.wait(PAUSE_SECONDS)
                except KafkaAway as away:
                    self._rest(away)
                    self._wanted.set()
                    self._stopping.wait(RETRY_SECONDS)
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that commits
            self._error = error

    def _send_all(self, stopped: Callable[[], bool] = lambda: False) -> None:
        with closing(self._stored()) as stored:
            while not stopped() and (batch := stored.next_batch(self.sent)):
                if self._open is None:
                    self._open = self._topic.open(self._partition, self._topic_id)
                    self._is_away = False
                    if self._open.last_offset >= batch[0].offset:
                        self.sent = self._open.last_offset
                        continue
                self._open.send(batch)
                self.sent = batch[-1].offset
                self._step("2b acknowledged")

    def _rest(self, away: KafkaAway) -> None:
        if not self._is_away:
            self._is_away = True
            logger.warning("%s. Retrying", away)
        self._let_go()

    def _let_go(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None
