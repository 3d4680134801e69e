"""Faust's app and worker, without codecs, waits, output and control of the logs: a checkpointed log needs none of them.

The private parts of Faust used here were tested with the versions in consumer.PROVED.
"""

import asyncio
import signal
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import faust
import faust.tables.manager
import faust.topics

from schemas.manifest import SkippedRange
from streams.kafka.consumer import BatchConsumer, BatchTransport, Checkpoints, partition_state

STOP_SECONDS = 8.0
"""Faust can't always stop on SIGTERM (while it starts, for one): after this time the process ends without it."""


class BatchTopic(faust.topics.Topic):
    """A topic whose values are Slices, passed on without a codec."""

    def _compile_decode(self) -> None:
        async def decode(message: Any, *, propagate: bool = False) -> Any:
            return self.app.create_event(None, message.value, [], message)

        self.decode = decode  # type: ignore[method-assign]


class PromptTables(faust.tables.manager.TableManager):
    """Faust would wait a second here for tables to register. There are none."""

    async def on_start(self) -> None:
        """Starts at once."""
        if not self.should_stop:
            await self._update_channels()
            await self.recovery.start()


class BatchApp(faust.App):
    """A Faust app over one log topic. `fatal` ends the process and doesn't return."""

    def __init__(
        self,
        group: str,
        *,
        servers: str,
        topic: str,
        checkpoints: Checkpoints,
        fatal: Callable[[BaseException], None],
        skipped_ranges: Sequence[SkippedRange] = (),
        **settings: Any,
    ) -> None:
        self.servers, self.log_topic = servers, topic
        self.checkpoints = checkpoints
        self.fatal = fatal
        self.skipped_ranges = skipped_ranges
        self.on_fetch: Callable[[float], None] | None = None
        """Is called with what each fetch took that brought records, from the consumer's thread."""
        super().__init__(group, Topic=BatchTopic, TableManager=PromptTables, **settings)

    def _new_transport(self) -> Any:
        return BatchTransport(self.conf.broker_consumer, self)


class PromptWorker(faust.Worker):
    """Faust's worker without its last second, its process title, its output and its control of the logs."""

    def __init__(self, app: BatchApp, loop: asyncio.AbstractEventLoop, on_hang: Callable[[], None]) -> None:
        super().__init__(app, quiet=True, redirect_stdouts=False, override_logging=False, loop=loop)
        self.spinner = None
        self._hang = threading.Timer(STOP_SECONDS, on_hang)
        self._hang.daemon = True

    def finish(self) -> None:
        """Stops the worker as a SIGTERM would. Any thread may call it, any number of times."""
        self.loop.call_soon_threadsafe(self._on_sigterm)

    def ended(self) -> None:
        """Cancels the timer: the worker did stop, and the process may continue with something else."""
        self._hang.cancel()
        if self._hang.is_alive():
            self._hang.join()  # a thread that outlives Python makes DuckDB's binding complain on stderr

    def _schedule_shutdown(self, signal: signal.Signals) -> None:
        if not self._signal_stop_time:
            self._hang.start()
        super()._schedule_shutdown(signal)

    async def _sentinel_task(self) -> None:
        await asyncio.sleep(0)

    def _setproctitle(self, info: str, *, ident: str = "") -> None:
        pass


class Fetched(NamedTuple):
    """How far a partition is read, as of its last fetch: offsets, and `answered`, a number that changes with each
    fetch. From `stable_end` to `end` the log is hidden behind an open transaction.
    """

    position: int
    stable_end: int
    answered: int
    end: int = 0

    @property
    def hidden(self) -> int:
        """How many offsets an open transaction hides."""
        return max(0, self.end - self.stable_end)


def fetched(app: BatchApp) -> str | dict[int, Fetched | None]:
    """The state of each partition that the consumer should read, or why it reads none. Never blocks or waits."""
    consumer: BatchConsumer = app.consumer  # type: ignore[assignment]
    kafka = consumer._thread._consumer
    if kafka is None or kafka._subscription.subscription is None:
        return "it is not subscribed"
    assignment = kafka._subscription.subscription.assignment
    if assignment is None:
        return "no partitions were assigned to it"
    if app.rebalancing:
        return "the group is rebalancing"
    paused = {tp.partition for tp in consumer._paused_partitions}
    return {tp.partition: _fetched(kafka, tp) for tp in assignment.tps if tp.partition not in paused}


def live_seek(app: BatchApp) -> int:
    """The number of the seek whose slices may be committed, STALE during a rebalance."""
    consumer: BatchConsumer = app.consumer  # type: ignore[assignment]
    return consumer.live_seek


def delivered(app: BatchApp) -> dict[int, int]:
    """The end of the last slice of each partition that left the consumer's thread."""
    consumer: BatchConsumer = app.consumer  # type: ignore[assignment]
    return dict(consumer._thread.cursor)


def _fetched(kafka: Any, topic_partition: Any) -> Fetched | None:
    state = partition_state(kafka, topic_partition)
    if state is None or not state.has_valid_position or state.highwater is None:
        return None
    # Beyond the last stable offset are open transactions: they are not our lag.
    end = state.highwater if state.lso in (None, -1) else min(state.lso, state.highwater)
    return Fetched(state.position, end, state.timestamp or 0, state.highwater)
