"""A worker's Prometheus metrics. Counters begin at 0 with the process; nothing here influences a result."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from files.read import read_json
from schemas.errors import InvalidInput
from schemas.payout import Funding
from streams.worker.faust_app import Fetched
from streams.worker.partition_owner import Committed

COMMIT_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

GAUGES = {
    "lag_records": "Offsets that wait in the log behind the last commit.",
    "hidden_records": "Offsets that an open transaction hides: from the last stable offset to the log's end.",
    "next_offset": "The offset that the checkpoint continues from.",
    "stream_time_seconds": "Stream time, in seconds since 1970. From the first commit of this process on.",
    "stream_time_behind_seconds": "How far stream time is behind this host's clock.",
    "epochs_pending": "Epochs that have ended and whose files are not final yet.",
    "last_commit_age_seconds": "Seconds since the last commit. From the first commit of this process on.",
}
"""By name, each labelled by partition. Missing for partitions that the worker doesn't read."""


class WorkerMetrics:
    """Counts commits, from the checkpoints' thread; any thread may call `page`.

    `read` returns how far each partition that the worker reads is, `uncovered` those that nobody reads.
    """

    def __init__(
        self,
        data_dir: Path,
        read: Callable[[], Mapping[int, Fetched]],
        positions: Mapping[int, int],
        uncovered: Callable[[], Sequence[int]],
    ) -> None:
        # They would be a second series for each counter, with the time of the process' start.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._last: dict[int, _Last] = {}
        self._read = read
        self._uncovered = uncovered
        self._positions = positions
        self._funding = data_dir / "settlement" / "funding.json"
        self._sealed = self._counter("windows_sealed", "Windows and adjustments sealed.")
        self._cuts = self._counter("epochs_cut", "Epochs that ended.")
        self._records = self._counter("records", "Records committed.")
        self._entries = self._counter("entries", "Entries by outcome.", "outcome")
        self._rejects = self._counter("rejects", "Refused entries by reason.", "reason")
        self._seconds = Histogram(
            "tallyroot_commit_seconds", "Seconds that a slice takes from its first record to its commit.",
            registry=self._registry, buckets=COMMIT_BUCKETS_S,
        )  # fmt: skip
        ProcessCollector(registry=self._registry)
        self._registry.register(_Gauges(self._gauges))

    def _counter(self, name: str, help_text: str, *labels: str) -> Counter:
        return Counter(f"tallyroot_{name}", help_text, ["partition", *labels], registry=self._registry)

    def committed(self, done: Committed) -> None:
        """Counts one commit."""
        partition, progress = str(done.piece.partition), done.progress
        self._last[done.piece.partition] = _Last(time.monotonic(), done.pending, progress.stream_time_ms)
        self._seconds.observe(done.seconds)
        self._records.labels(partition).inc(len(done.piece.records))
        self._sealed.labels(partition).inc(progress.sealed)
        self._cuts.labels(partition).inc(len(progress.cuts))
        for outcome in ("accepted", "duplicate", "rejected"):
            self._entries.labels(partition, outcome).inc(getattr(progress.counts, outcome))
        for reason, count in progress.rejects_by_reason.items():
            self._rejects.labels(partition, reason).inc(count)

    def page(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def _gauges(self) -> Iterator[Metric]:
        gauges = {
            name: GaugeMetricFamily(f"tallyroot_partition_{name}", help_text, labels=["partition"])
            for name, help_text in GAUGES.items()
        }
        for partition, state in sorted(self._read().items()):
            for name, value in self._of(partition, state).items():
                gauges[name].add_metric([str(partition)], value)
        yield from gauges.values()
        yield GaugeMetricFamily(
            "tallyroot_uncovered_partitions",
            "Partitions that no worker of this data folder or its store reads.",
            value=len(self._uncovered()),
        )
        funding = _funding(self._funding)
        if funding is not None:
            yield GaugeMetricFamily(
                "tallyroot_settlement_shortfall_tokens",
                "What is earned but not funded, in whole tokens, as of the last settlement.",
                value=int(funding.shortfall) / 10**funding.decimals,
            )
            if funding.runway_days is not None:
                yield GaugeMetricFamily(
                    "tallyroot_settlement_runway_days",
                    "Days that the ledger's free funds last at the pace of the last posts, as of the last settlement.",
                    value=funding.runway_days,
                )
            yield GaugeMetricFamily(
                "tallyroot_settlement_time_seconds",
                "When the last settlement measured it, in seconds since 1970.",
                value=funding.at_ms / 1_000,
            )

    def _of(self, partition: int, state: Fetched) -> dict[str, float]:
        values: dict[str, float] = {"hidden_records": state.hidden}
        position = self._positions.get(partition)
        if position is not None:
            values |= {"next_offset": position, "lag_records": max(0, state.stable_end - position)}
        last = self._last.get(partition)
        if last is not None:
            values |= {"last_commit_age_seconds": time.monotonic() - last.moment_s, "epochs_pending": last.pending}
            if last.stream_time_ms is not None:
                seconds = last.stream_time_ms / 1_000
                values |= {"stream_time_seconds": seconds, "stream_time_behind_seconds": time.time() - seconds}
        return values


class _Last(NamedTuple):
    """Facts of a partition's last commit, without its records."""

    moment_s: float
    pending: int
    stream_time_ms: int | None


class _Gauges(Collector):
    """Gauges that are computed at each scrape."""

    def __init__(self, look: Callable[[], Iterator[Metric]]) -> None:
        self._look = look

    def collect(self) -> Iterator[Metric]:
        return self._look()

    def describe(self) -> list[Any]:
        """Returns nothing, so that registering computes nothing."""
        return []


def _funding(path: Path) -> Funding | None:
    try:
        return read_json(path, Funding, what="a settlement's figures", remedy="run `tallyroot settle`")
    except InvalidInput:
        return None
