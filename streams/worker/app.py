"""The stream worker: Faust's wiring. It fetches, hands slices to the checkpoints' thread, and decides nothing.

Start more of them on one data folder and they share the partitions; a partition's result doesn't depend on it.
"""

import asyncio
import gc
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiokafka.errors import KafkaConnectionError

from schemas.errors import InvalidInput
from schemas.log import Log
from schemas.manifest import SkippedRange
from streams.kafka.consumer import RECORDS_MAX
from streams.kafka.failures import KafkaAway
from streams.kafka.heartbeats import Heartbeats
from streams.kafka.outbox_topic import orders_in_kafka, rejects_in_kafka
from streams.kafka.reader import KafkaLogReader
from streams.kafka.topics import check_group, check_topic, create_outbox_topics
from streams.storage.object_store import ObjectStore, StoreAway
from streams.storage.offset_mark import partitions_behind
from streams.storage.shared_marks import SharedMarks
from streams.storage.skipped_ranges_file import load_skipped_ranges, share_skipped_ranges
from streams.worker.coverage import LOOK_SECONDS, Coverage, OtherHosts
from streams.worker.faust_app import BatchApp, Fetched, PromptWorker, delivered, fetched, live_seek
from streams.worker.health import STALLED_SECONDS, Condition, StatusServer
from streams.worker.logs import RejectSummary, limited_logs, say
from streams.worker.metrics import WorkerMetrics
from streams.worker.partition_owner import Committed, PartitionOwner
from streams.worker.watchdog import CHECK_SECONDS, EXIT_TERMINATED, Ending, StallJudge, Watchdog, is_away

logger = logging.getLogger(__name__)

FAUST_FOLDER = "faust"
"""Faust asks for a folder. Without tables it keeps nothing there, so all workers of a data folder have the same one."""

OTHERS_CHECK_SECONDS = 0.2
HOSTS_CHECK_SECONDS = 1.0
OTHERS_SAY_SECONDS = 10.0
"""How often a worker with `until_caught_up` reads the commits of others here and, through a store, on other hosts, and
how often it logs what it waits for."""

GC_THRESHOLD = (100_000, 50, 50)
"""Objects that survive the start stay alive: lower thresholds would make the collector traverse them again."""


@dataclass(frozen=True, kw_only=True)
class WorkerProgress:
    """The result of one commit. `cut` is the number of the last epoch that it ended, if any."""

    partition: int
    next_offset: int
    records: int
    sealed: int
    rejected: int
    stream_time_ms: int | None
    cut: int | None


@dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    """The settings of a worker. `bootstrap_servers` is `host:port[,host:port...]`.

    `on_progress` is called after every commit, from another thread. A worker that has something to do and makes no
    progress for `stall_seconds` ends with exit code 75; choose it above the longest batch. `records_max` bounds one
    commit.
    In a live log (LogAppendTime), a partition gets a heartbeat after `heartbeat_seconds` of silence, and when one of
    its windows waits to be sealed. Every `topic_check_seconds` the topic is checked again: its retention may have been
    changed. With a `store`, ended epochs and snapshots are stored there, and partitions resume from those of other
    hosts. A worker that dies without leaving its group keeps its partitions from the others for `session_seconds`.
    With a `metrics_port` (0: any free one) `/health` and `/metrics` are served; `on_listening` is called with
    their URL. With `log_json` stderr holds one JSON object a line, of events and errors; else one line for each error.
    """

    bootstrap_servers: str
    data_dir: Path
    log: Log
    until_caught_up: bool = False
    on_progress: Callable[[WorkerProgress], None] | None = None
    stall_seconds: float = 60.0
    records_max: int = RECORDS_MAX
    heartbeat_seconds: float = 60.0
    topic_check_seconds: float = CHECK_SECONDS
    session_seconds: float = 6.0
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = None
    on_listening: Callable[[str], None] | None = None
    log_json: bool = False
    store: ObjectStore | None = None


def run_worker(settings: WorkerSettings) -> int:
    """Runs a worker in this process, in its main thread, until SIGTERM, SIGINT or (`until_caught_up`) the log's end.

    Returns the exit code 0. Ends the process itself, with a line on stderr: with 70 if it can't continue, with 75 if it
    makes no progress. Raises InvalidInput if the topic is missing or doesn't fit the log, the port is taken, or the
    skipped ranges of the folder and the store are not signed or contradict a manifest; StoreAway.
    """
    check_topic(settings.bootstrap_servers, settings.log)
    check_group(settings.bootstrap_servers, settings.log, group_of(settings.log))
    create_outbox_topics(settings.bootstrap_servers, settings.log)
    if settings.store is None:
        skipped_ranges = load_skipped_ranges(settings.data_dir, settings.log)
    else:
        skipped_ranges = share_skipped_ranges(settings.store, settings.data_dir, settings.log)
    reader, archive_reader = (
        KafkaLogReader(settings.bootstrap_servers, settings.log.topic, patience_seconds, skipped_ranges)
        for patience_seconds in (0, 60)
    )
    (settings.data_dir / FAUST_FOLDER).mkdir(parents=True, exist_ok=True)
    ending = Ending(as_json=settings.log_json)
    try:
        with limited_logs(as_json=settings.log_json):
            return _WorkerRun(settings, skipped_ranges, reader, archive_reader, ending).run()
    finally:
        reader.close()
        archive_reader.close()


def group_of(log: Log) -> str:
    """The consumer group of all workers of a log."""
    return f"tallyroot-{log.log_id}"


def build_app(
    settings: WorkerSettings,
    checkpoints: PartitionOwner,
    ending: Ending,
    loop: asyncio.AbstractEventLoop,
    skipped_ranges: Sequence[SkippedRange] = (),
) -> BatchApp:
    """The Faust app: one agent over the log's topic, no tables, no web, no leader, no commits to Kafka."""
    app = BatchApp(
        group_of(settings.log),
        servers=settings.bootstrap_servers,
        topic=settings.log.topic,
        checkpoints=checkpoints,
        fatal=ending.fatal,
        skipped_ranges=skipped_ranges,
        broker_max_poll_records=settings.records_max,
        broker=[f"kafka://{server}" for server in settings.bootstrap_servers.split(",")],
        broker_client_id="tallyroot",
        broker_session_timeout=settings.session_seconds,
        broker_heartbeat_interval=settings.session_seconds / 6,
        broker_rebalance_timeout=10.0,
        broker_request_timeout=30.0,
        broker_max_poll_interval=600.0,
        consumer_metadata_max_age_ms=5_000,
        datadir=settings.data_dir / FAUST_FOLDER,
        store="memory://",
        stream_buffer_maxsize=2,
        stream_wait_empty=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        worker_redirect_stdouts=False,
        loop=loop,
    )

    async def commit(stream: Any) -> None:
        try:
            async for event in stream.events():
                await checkpoints.commit(event.value)
        except Exception as error:
            ending.fatal(error)
            raise

    app.agent(app.topic(settings.log.topic, acks=False), name="commit")(commit)
    return app


class _WorkerRun:
    """One run: the app, its checkpoints and its watchdog."""

    def __init__(
        self,
        settings: WorkerSettings,
        skipped_ranges: Sequence[SkippedRange],
        reader: KafkaLogReader,
        archive_reader: KafkaLogReader,
        ending: Ending,
    ) -> None:
        self._settings = settings
        self._ending = ending
        self._reader = reader
        self._frozen = False
        self._draining = False
        self._assigned: Set[int] | None = None
        self._ends: dict[int, int] | None = None
        if settings.until_caught_up:
            ranges = reader.ranges(list(range(settings.log.partitions)))
            self._ends = {partition: end for partition, (_, end) in ranges.items()}
        self._stopped = threading.Event()
        self._others = threading.Thread(target=self._look_at_others, name="others", daemon=True)
        self._marks = None if settings.store is None else SharedMarks(settings.store, reader.topic_id())
        self._marks_lock = threading.Lock()
        self._on_other_hosts: dict[int, int] = {}
        self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)
        self._checkpoints = PartitionOwner(
            settings.data_dir, settings.log, reader, archive_reader, store=settings.store,
            rejected=rejects_in_kafka(settings.bootstrap_servers, settings.log.topic),
            orders=orders_in_kafka(settings.bootstrap_servers, settings.log.topic),
            fatal=ending.fatal, on_commit=self._committed, on_resumed=self._resumed,
        )  # fmt: skip
        self._app = build_app(settings, self._checkpoints, ending, self._loop, skipped_ranges)
        self._checkpoints.live_seek = lambda: live_seek(self._app)
        self._faust = PromptWorker(self._app, self._loop, lambda: ending.now(EXIT_TERMINATED))
        self._judge = StallJudge(settings.stall_seconds)
        self._watchdog = Watchdog(
            self._verdict, self._is_excused, ending, self._check_topic, settings.topic_check_seconds
        )
        self._rejects = RejectSummary()
        others = OtherHosts(self._read_marks, self._ends_in_kafka)
        self._coverage = Coverage(
            settings.data_dir / "partitions", settings.log.partitions, group_of(settings.log),
            lambda numbers: set() if self._marks is None else others.reading(numbers, time.monotonic()),
        )  # fmt: skip
        self._said: dict[str, tuple[int, ...]] = {}
        self._metrics = WorkerMetrics(
            settings.data_dir, self._condition, self._read, self._checkpoints.committed,
            lambda: self._coverage.uncovered(time.monotonic()), settings.store,
        )  # fmt: skip
        self._app.on_fetch = self._metrics.fetched
        self._status: StatusServer | None = None
        if settings.metrics_port is not None:
            self._status = StatusServer(
                settings.metrics_host, settings.metrics_port, self._condition, self._metrics.page
            )
        self._heartbeats: Heartbeats | None = None
        if settings.log.timestamp_type == "LogAppendTime" and not settings.until_caught_up:
            self._heartbeats = Heartbeats(
                settings.bootstrap_servers, settings.log, settings.heartbeat_seconds, lambda: self._assigned or set()
            )

    def run(self) -> int:
        """Runs until the worker stops, then closes all partitions. Returns the exit code."""
        threshold = gc.get_threshold()
        self._started()
        try:
            self._faust.execute_from_commandline()
        except SystemExit as left:
            if left.code:
                self._ending.fatal(self._crash(left))
        finally:
            self._watchdog.stop()
            self._stopped.set()
            if self._others.is_alive():
                self._others.join()
            if self._heartbeats is not None:
                self._heartbeats.stop()
            self._checkpoints.end()
            if self._status is not None:
                self._status.stop()
            self._faust.ended()
            gc.set_threshold(*threshold)
            gc.unfreeze()
            asyncio.set_event_loop(None)
        self._rejects.tell(time.monotonic())
        say("stopped", exit_code=0, reason="it has caught up" if self._has_caught_up() else "it was asked to stop")
        return 0

    def _started(self) -> None:
        self._watchdog.start()
        self._others.start()
        if self._heartbeats is not None:
            self._heartbeats.start()
        if self._status is not None:
            self._status.start()
            if self._settings.on_listening is not None:
                self._settings.on_listening(self._status.url)
        log, url = self._settings.log, None if self._status is None else self._status.url
        say("started", pid=os.getpid(), log=log.log_id, topic=log.topic, partitions=log.partitions, status=url)

    def _crash(self, left: SystemExit) -> BaseException:
        crash = self._faust.crash_reason or left.__context__ or left
        if isinstance(crash, KafkaConnectionError):
            return InvalidInput(
                f"Kafka at {self._settings.bootstrap_servers} stopped answering: start the worker again once it is up"
            )
        return crash

    def _verdict(self, now: float) -> str | None:
        return self._judge.verdict(now, fetched(self._app), delivered(self._app), dict(self._checkpoints.committed))

    def _check_topic(self) -> None:
        """Raises InvalidInput if the topic no longer fits the log. Kafka being away is the watchdog's to notice."""
        with suppress(KafkaAway):
            check_topic(self._settings.bootstrap_servers, self._settings.log)
            check_group(self._settings.bootstrap_servers, self._settings.log, group_of(self._settings.log))

    def _is_excused(self) -> bool:
        if not is_away(self._settings.bootstrap_servers):
            return False
        self._judge.forget()
        return True

    def _condition(self) -> Condition:
        """The content of /health, at any moment, from any thread."""
        return Condition.judge(
            is_draining=self._draining or self._app.should_stop,
            fetched=self._fetched(),
            standing=self._judge.standing(time.monotonic(), STALLED_SECONDS),
            uncovered=self._coverage.standing(time.monotonic()),
            is_away=lambda: is_away(self._settings.bootstrap_servers),
        )

    def _read(self) -> dict[int, Fetched]:
        """How far each partition is that is read, as of its last fetch."""
        states = self._fetched()
        if isinstance(states, str):
            return {}
        return {partition: state for partition, state in states.items() if state is not None}

    def _fetched(self) -> str | dict[int, Fetched | None]:
        # Any earlier, Faust would create its consumer in the wrong thread.
        return "it has only just started" if self._assigned is None else fetched(self._app)

    def _resumed(self, assigned: Set[int]) -> None:
        self._assigned = assigned
        if not self._frozen:
            self._frozen = True
            gc.collect()
            gc.freeze()
            gc.set_threshold(*GC_THRESHOLD)
        self._finish_if_caught_up()

    def _committed(self, done: Committed) -> None:
        piece, progress = done.piece, done.progress
        self._metrics.committed(done)
        self._rejects.add(progress.rejects_by_reason, time.monotonic())
        for epoch in progress.cuts:
            say("epoch_cut", partition=piece.partition, epoch=epoch, next_offset=piece.next)
        if self._heartbeats is not None and piece.records:
            self._heartbeats.heard(piece.partition, progress.stream_time_ms)
        if self._settings.on_progress is not None:
            self._settings.on_progress(
                WorkerProgress(
                    partition=piece.partition,
                    next_offset=piece.next,
                    records=len(piece.records),
                    sealed=progress.sealed,
                    rejected=progress.rejected,
                    stream_time_ms=progress.stream_time_ms,
                    cut=progress.cut,
                )
            )
        self._finish_if_caught_up()

    def _finish_if_caught_up(self) -> None:
        if self._has_caught_up() and not self._draining and not self._stopped.is_set():
            self._draining = True
            self._checkpoints.drain(self._drained)

    def _drained(self, drained: Set[int]) -> None:
        self._draining = False
        # Partitions that a rebalance has just revoked were not drained. If they come back, `_resumed` drains again.
        if self._has_caught_up() and self._assigned is not None and drained >= self._assigned:
            if not self._stopped.is_set():
                self._write_marks()  # other hosts wait for them, and this one leaves
                self._faust.finish()
            self._stopped.set()

    def _has_caught_up(self) -> bool:
        """Whether every partition of the log is at its end, by this worker's checkpoint or another's, in this folder or
        on a host with the same store.

        A worker without a partition, or between two assignments, knows it by the marks of the others alone.
        """
        return self._ends is not None and self._assigned is not None and not self._behind()

    def _behind(self) -> dict[int, int]:
        """The partitions that are not at their ends, each with how far it is. Of its own it believes no other host."""
        ends, own = self._ends or {}, self._assigned or set()
        behind = partitions_behind(ends, self._settings.data_dir / "partitions")
        known = {number: at if number in own else max(at, self._elsewhere(number)) for number, at in behind.items()}
        return {number: at for number, at in known.items() if at < ends[number]}

    def _elsewhere(self, partition: int) -> int:
        return self._on_other_hosts.get(partition, 0)

    def _look_at_others(self) -> None:
        """Polls the commits of other workers, since the last one of the log may be theirs. Logs what it waits for.

        With a store, shows them how far this one is.
        """
        said_at = asked_at = looked_at = time.monotonic()
        while not self._stopped.wait(OTHERS_CHECK_SECONDS):
            self._write_marks()
            if time.monotonic() - looked_at >= LOOK_SECONDS:
                looked_at = time.monotonic()
                self._look_at_coverage(looked_at)
            if self._ends is None:
                continue
            if time.monotonic() - asked_at >= HOSTS_CHECK_SECONDS:
                asked_at = time.monotonic()
                self._read_marks(self._behind().keys() - set(self._assigned or ()))
            self._finish_if_caught_up()
            if time.monotonic() - said_at < OTHERS_SAY_SECONDS:
                continue
            behind = {number: at for number, at in self._behind().items() if number not in (self._assigned or ())}
            if behind:
                said_at = time.monotonic()
                say(
                    "waiting",
                    partitions={str(number): f"{at} of {self._ends[number]}" for number, at in behind.items()},
                )

    def _look_at_coverage(self, now: float) -> None:
        """Says, once, which partitions nobody reads, and where an open transaction hides the log behind it.

        One that is to end once it has caught up never would: it can't continue.
        """
        if self._assigned is None or self._draining:
            return
        hidden = {number: state.hidden for number, state in self._read().items() if state.hidden}
        self._coverage.look(now, self._assigned, self._checkpoints.held().keys(), hidden)
        notices = self._coverage.notices(now)
        if self._ends is not None and "uncovered" in notices:
            self._ending.fatal(InvalidInput(notices["uncovered"][1]))
        for event, (numbers, text) in notices.items():
            if numbers != self._said.get(event):
                say(event, level=logging.WARNING, partitions=list(numbers), reason=text)
                if not self._settings.log_json:
                    logger.warning("%s", text)
        self._said = {event: numbers for event, (numbers, _) in notices.items()}

    def _ends_in_kafka(self, partitions: Set[int]) -> dict[int, int]:
        try:
            return {number: end for number, (_, end) in self._reader.ranges(sorted(partitions)).items()}
        except KafkaAway:
            return dict.fromkeys(partitions, 0)  # nobody can be behind now

    def _write_marks(self) -> None:
        if self._marks is not None:
            with self._marks_lock, _store_may_be_away():
                self._marks.write(self._checkpoints.held(), self._ends or {})

    def _read_marks(self, partitions: Set[int]) -> dict[int, int]:
        if self._marks is not None:
            with self._marks_lock, _store_may_be_away():
                self._on_other_hosts |= self._marks.read(partitions)
        return {number: at for number, at in self._on_other_hosts.items() if number in partitions}


@contextmanager
def _store_may_be_away() -> Iterator[None]:
    """Marks only say how far others are: without an answer they are older."""
    try:
        yield
    except StoreAway as away:
        logger.warning("%s. Retrying", away)
