"""A worker's Prometheus metrics: what it commits, how far each partition is, its store. They influence no result."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from streams.storage.object_store import ObjectStore
from streams.storage.snapshot import waiting_snapshots
from streams.worker.faust_app import Fetched
from streams.worker.health import Health
from streams.worker.metrics_page import Families, MetricsPage
from streams.worker.partition_owner import Committed

OF_A_WORKER = {
    "records_total": ("Records committed.", "partition"),
    "entries_total": ("Entries by outcome: accepted, duplicate or rejected.", "partition", "outcome"),
    "rejects_total": ("Refused entries by reason.", "partition", "reason"),
    "windows_sealed_total": ("Windows and adjustments sealed.", "partition"),
    "epochs_cut_total": ("Epochs that ended.", "partition"),
    "fetch_duration_seconds": ("From a request to Kafka to an answer with records. Kafka waits up to 50 ms for some.",),
    "commit_duration_seconds": ("From a slice's first record to its commit and its files.",),
    "seal_to_query_duration_seconds": (
        "From the fetch of the record that seals a window to the file that queries find it in.",
    ),
    "partition_lag_records": ("Offsets that wait in the log behind the last commit.", "partition"),
    "partition_hidden_records": (
        "Offsets that an open transaction hides: from the last stable offset to the log's end.", "partition",
    ),
    "partition_next_offset": ("The offset that the checkpoint continues from.", "partition"),
    "partition_machines": ("Machines that are registered. From the first commit of this process on.", "partition"),
    "partition_stream_time_seconds": (
        "Stream time, in seconds since 1970. From the first commit of this process on.", "partition",
    ),
    "partition_epochs_pending": ("Epochs that have ended and whose files are not final yet.", "partition"),
    "partition_last_commit_timestamp_seconds": ("When this process last committed.", "partition"),
    "uncovered_partitions": ("Partitions that no worker of this data folder or its store reads.",),
    "store_up": ("1 if the store answered the last call, else 0. Those of the store only where there is one.",),
    "store_last_success_timestamp_seconds": ("When the store last answered this process.",),
    "store_failures_total": ("Calls that the store left unanswered.",),
    "store_uploads_waiting": ("Ended epochs of this data folder that are not in the store yet.",),
}  # fmt: skip
"""Described as `Described` says. Those of a partition have a value where the worker reads it."""


class WorkerMetrics:
    """Counts commits, from the checkpoints' thread; any thread may call `page`.

    `read` returns how far each partition that the worker reads is, `uncovered` those that nobody reads.
    """

    def __init__(
        self,
        data_dir: Path,
        health: Callable[[], Health],
        read: Callable[[], Mapping[int, Fetched]],
        positions: Mapping[int, int],
        uncovered: Callable[[], Sequence[int]],
        store: ObjectStore | None = None,
    ) -> None:
        self._data_dir = data_dir
        self._last: dict[int, _Last] = {}
        self._read = read
        self._uncovered = uncovered
        self._positions = positions
        self._store = store
        page = self._page = MetricsPage(data_dir, health, OF_A_WORKER, self._set)
        self._records, self._entries = page.counter("records_total"), page.counter("entries_total")
        self._rejects, self._sealed = page.counter("rejects_total"), page.counter("windows_sealed_total")
        self._cuts = page.counter("epochs_cut_total")
        self._fetch = page.histogram("fetch_duration_seconds")
        self._commit = page.histogram("commit_duration_seconds")
        self._seal_to_query = page.histogram("seal_to_query_duration_seconds")

    def fetched(self, seconds: float) -> None:
        """Counts one fetch that brought records, and what it took. From the consumer's thread."""
        self._fetch.observe(seconds)

    def committed(self, done: Committed) -> None:
        """Counts one commit."""
        partition, progress, now_s = str(done.piece.partition), done.progress, time.monotonic()
        self._last[done.piece.partition] = _Last(time.time(), done.pending, done.machines, progress.stream_time_ms)
        self._commit.observe(done.seconds)
        if progress.sealed and done.piece.fetched_s is not None:
            self._seal_to_query.observe(now_s - done.piece.fetched_s)
        self._records.labels(partition).inc(len(done.piece.records))
        self._sealed.labels(partition).inc(progress.sealed)
        self._cuts.labels(partition).inc(len(progress.cuts))
        for outcome in ("accepted", "duplicate", "rejected"):
            self._entries.labels(partition, outcome).inc(getattr(progress.counts, outcome))
        for reason, count in progress.rejects_by_reason.items():
            self._rejects.labels(partition, reason).inc(count)

    def page(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return self._page.page()

    def _set(self, found: Families) -> None:
        for partition, state in sorted(self._read().items()):
            for name, value in self._of(partition, state).items():
                found.set(f"partition_{name}", value, partition)
        found.set("uncovered_partitions", len(self._uncovered()))
        if self._store is not None:
            found.set("store_up", self._store.is_up)
            found.set("store_last_success_timestamp_seconds", self._store.answered_s)
            found.set("store_failures_total", self._store.failures)
            found.set("store_uploads_waiting", waiting_snapshots(self._data_dir))

    def _of(self, partition: int, state: Fetched) -> dict[str, float | None]:
        values: dict[str, float | None] = {"hidden_records": state.hidden}
        position = self._positions.get(partition)
        if position is not None:
            values |= {"next_offset": position, "lag_records": max(0, state.stable_end - position)}
        last = self._last.get(partition)
        if last is not None:
            stream_time_ms = last.stream_time_ms
            values |= {
                "last_commit_timestamp_seconds": last.moment_s,
                "epochs_pending": last.pending,
                "machines": last.machines,
                "stream_time_seconds": None if stream_time_ms is None else stream_time_ms / 1_000,
            }
        return values


class _Last(NamedTuple):
    """Facts of a partition's last commit, without its records."""

    moment_s: float
    pending: int
    machines: int
    stream_time_ms: int | None
