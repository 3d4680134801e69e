"""A page in Prometheus' text format: what a process counts, what is read at each scrape, its health, its data folder.

Names follow Prometheus: base units, `_total` for what only grows, `_timestamp_seconds` for a moment (Unix seconds),
never an age, which would stand still with the process. Counters begin at 0 with the process.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Generic, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from files.read import read_json
from schemas.errors import InvalidInput
from schemas.payout import Funding
from streams.worker.health import Health

T = TypeVar("T")

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Bounds of what takes moments."""

DAY_SECONDS = 86_400

SELDOM_SECONDS, SELDOM_REST = 60.0, 50
"""What takes long is measured at most once a minute, and takes at most a fiftieth of the time."""

OF_EVERY_PAGE = {
    "healthy": ("1 where /health answers 200, else 0: /health says why.",),
    "disk_free_bytes": ("What is free, for this user, on the disk of the data folder.",),
    "disk_size_bytes": ("The size of that disk.",),
}
OF_A_FOLDER = {
    "data_folder_bytes": ("The files in a part of the data folder: its folder's name. At most a minute old.", "part"),
    "ledger_earned_tokens": ("All that was ever earned, posted or not, in whole tokens.",),
    "ledger_funded_tokens": ("All that the ledger was ever sent: what it holds and what was claimed.",),
    "ledger_claimed_tokens": ("What payees have claimed.",),
    "ledger_deposits_tokens": ("What customers paid for sessions that are still open.",),
    "ledger_shortfall_tokens": ("What is earned, and deposits beside it, but not funded. Posts wait for it.",),
    "ledger_runway_seconds": ("How long free funds last at the pace of the last posts. From the first post on.",),
    "ledger_posts": ("Posts that are not disputed.",),
    "ledger_last_post_timestamp_seconds": ("When the last of them was mined.",),
    "ledger_noted_timestamp_seconds": ("When `settle` noted these figures of the ledger in settlement/funding.json.",),
}
"""Of every page, and of those of processes that trust their folder. Described as `Described` says. Those of the ledger
have a value where a settlement has run.
"""


Described = Mapping[str, tuple[str, ...]]
"""Metrics by name, without `tallyroot_`: what each means, and its labels. The name says the kind: with `_total` it is a
counter, with `_duration_seconds` a histogram, else a gauge.
"""


class Families:
    """What is read at one scrape. A metric that isn't set is on the page without a series."""

    def __init__(self, described: Described) -> None:
        self._families: dict[str, GaugeMetricFamily | CounterMetricFamily] = {}
        for name, (meaning, *labels) in described.items():
            kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            self._families[name] = kind(f"tallyroot_{name}", meaning, labels=labels)

    def set(self, name: str, value: float | None, *labels: object) -> None:
        """Sets one series, unless the value is None."""
        if value is not None:
            self._families[name].add_metric([str(label) for label in labels], value)

    def __iter__(self) -> Iterator[Metric]:
        return iter(self._families.values())


class MetricsPage(Collector):
    """The page of one process on a data folder. Any thread may count and ask for it."""

    def __init__(
        self,
        data_dir: Path,
        health: Callable[[], Health],
        described: Described,
        read: Callable[[Families], None],
        *,
        trusts_folder: bool = True,
    ) -> None:
        """`described` are the metrics of this kind of process. At each scrape `health` is called, and `read`, which
        sets those that aren't counted by `counter` or `histogram`. Who judges a folder (`trusts_folder` is false) shows
        nothing that stands in it.
        """
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter
        self._registry = CollectorRegistry()
        self._data_dir = data_dir
        self._health = health
        self._described = {**OF_EVERY_PAGE, **(OF_A_FOLDER if trusts_folder else {}), **described}
        self._trusts_folder = trusts_folder
        self._read = read
        self._sizes = Seldom[dict[str, int]](lambda: _folder_sizes(data_dir), {})
        ProcessCollector(registry=self._registry)
        self._registry.register(self)

    def counter(self, name: str) -> Counter:
        """A counter that this process counts."""
        meaning, *labels = self._described.pop(name)
        return Counter(f"tallyroot_{name}", meaning, labels, registry=self._registry)

    def histogram(self, name: str, bounds: tuple[float, ...] = SECONDS) -> Histogram:
        """A histogram of durations that this process takes."""
        meaning, *labels = self._described.pop(name)
        return Histogram(f"tallyroot_{name}", meaning, labels, registry=self._registry, buckets=bounds)

    def page(self) -> bytes:
        """All of it."""
        return generate_latest(self._registry)

    def describe(self) -> list[Any]:
        """Returns nothing, so that registering reads nothing."""
        return []

    def collect(self) -> Iterable[Metric]:
        """What is read at a scrape."""
        found = Families(self._described)
        found.set("healthy", self._health().reason is None)
        with suppress(OSError):
            disk = shutil.disk_usage(self._data_dir)
            found.set("disk_free_bytes", disk.free)
            found.set("disk_size_bytes", disk.total)
        if self._trusts_folder:
            for part, size in self._sizes.now().items():
                found.set("data_folder_bytes", size, part)
            _set_money(found, self._data_dir)
        self._read(found)
        return found


class Seldom(Generic[T]):
    """What takes long to measure, as of the last measurement."""

    def __init__(self, measure: Callable[[], T], first: T) -> None:
        """`first` is what is known before; where `measure` raises OSError, it stays what it was."""
        self._measure = measure
        self._due_s = 0.0
        self._found = first

    def now(self) -> T:
        """Measured again where it is due."""
        begun_s = time.monotonic()
        if begun_s >= self._due_s:
            with suppress(OSError):
                self._found = self._measure()
            took_s = time.monotonic() - begun_s
            self._due_s = begun_s + max(SELDOM_SECONDS, SELDOM_REST * took_s)
        return self._found


def _folder_sizes(data_dir: Path) -> dict[str, int]:
    """The bytes of each folder in a data folder, by name. Raises OSError."""
    found = [entry for entry in os.scandir(data_dir) if entry.is_dir(follow_symlinks=False)]
    return {entry.name: _bytes_in(entry.path) for entry in sorted(found, key=lambda one: one.name)}


def _bytes_in(folder: str) -> int:
    """The bytes of all files under a folder. Files come and go while it looks."""
    size = 0
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):
                is_folder = entry.is_dir(follow_symlinks=False)
                size += _bytes_in(entry.path) if is_folder else entry.stat(follow_symlinks=False).st_size
    return size


def _set_money(found: Families, data_dir: Path) -> None:
    path = data_dir / "settlement" / "funding.json"
    try:
        funding = read_json(path, Funding, what="a settlement's figures", remedy="run `tallyroot settle`")
    except InvalidInput:
        return
    for name in ("earned", "funded", "claimed", "deposits", "shortfall"):
        found.set(f"ledger_{name}_tokens", int(getattr(funding, name)) / 10**funding.decimals)
    days = funding.runway_days
    found.set("ledger_runway_seconds", None if days is None else days * DAY_SECONDS)
    found.set("ledger_posts", funding.posts)
    found.set("ledger_last_post_timestamp_seconds", funding.last_post_s)
    found.set("ledger_noted_timestamp_seconds", funding.at_ms / 1_000)
