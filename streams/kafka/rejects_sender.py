"""Step 2b of a partition: refused records go from its checkpoint to the rejected topic, beside the commits.

The checkpoint's rows are the outbox. They leave it only once the broker has acknowledged them, and a sender that
begins anew asks the topic how far it is: so each offset stands there once, whatever died in between.
"""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import closing

from files.write import Step
from streams.kafka.reader import KafkaAway
from streams.kafka.rejects_topic import NONE_SENT, RejectsPartition, RejectsTopic
from streams.storage.checkpoint_rejects import CheckpointRejects

logger = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
"""How long a sender rests whose Kafka is away."""

PATIENCE_SECONDS = 60.0
"""How long `drain` waits for a Kafka that is away."""


class RejectsSender:
    """Sends what a checkpoint holds and the topic doesn't. Beside the commits it has a thread, once there is a need."""

    def __init__(
        self,
        topic: RejectsTopic,
        partition: int,
        topic_id: str,
        stored: Callable[[], CheckpointRejects],
        step: Step,
        *,
        background: bool,
    ) -> None:
        """`stored` gives a connection of its own to the checkpoint. Without `background` all is done in `wake`."""
        self.sent = NONE_SENT
        """Refused records up to this offset were acknowledged. Any thread may read it."""
        self._topic = topic
        self._partition = partition
        self._topic_id = topic_id
        self._stored = stored
        self._step = step
        self._background = background
        self._open: RejectsPartition | None = None
        self._is_away = False
        self._error: BaseException | None = None
        self._wanted = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def check(self) -> None:
        """Raises what has stopped the sender, if anything. Kafka being away doesn't."""
        if self._error is not None:
            raise self._error

    def wake(self) -> None:
        """There is something to send. Never waits for Kafka, with `background`."""
        self.check()
        if not self._background:
            try:
                self._send_all()
            except KafkaAway as away:
                self._rest(away)
            return
        self._wanted.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"rejects-{self._partition}", daemon=True)
            self._thread.start()

    def drain(self) -> None:
        """Returns once all that was committed is acknowledged. Raises KafkaAway if Kafka is, for a minute."""
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
        """Ends the thread after the batch that it is at. What is not sent is so after the next opening."""
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
                    if self._open.last_offset >= batch[0].record.offset:
                        self.sent = self._open.last_offset
                        continue
                self._open.send(batch)
                self.sent = batch[-1].record.offset
                self._step("2b acknowledged")

    def _rest(self, away: KafkaAway) -> None:
        if not self._is_away:
            self._is_away = True
            logger.warning("%s Trying again", away)
        self._let_go()

    def _let_go(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None
