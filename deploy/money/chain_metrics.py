"""/health and /metrics of `settle --follow` and of `watch`: rounds and looks, posts, what nodes answered."""

import time
from decimal import Decimal
from typing import get_args

import duckdb

from deploy.data_folder import DataFolder
from deploy.explain.query import open_views
from deploy.explain.watch import Turn
from deploy.money.treasury import Round
from schemas.errors import InvalidInput
from settlement.audit.verdict import VerdictKind
from settlement.chain.rpc import RpcCounts
from settlement.chain.watcher import Look
from streams.worker.health import Health
from streams.worker.metrics_page import Families, MetricsPage, Seldom

LONG_SECONDS = (0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0)
"""Bounds of what asks a chain and reads a log."""

OF_NODES = {
    "rpc_requests_total": ("Calls of EVM nodes, by scheme, host and port.", "node"),
    "rpc_failures_total": ("Those of them without a sensible answer: each is asked again.", "node"),
}
"""Of each page of this module. Described as `Described` says, as the others."""

OF_SETTLE = {
    "settle_rounds_total": ("Rounds by outcome: posted, nothing or waiting.", "outcome"),
    "settle_round_duration_seconds": ("What a round takes.",),
    "settle_last_round_timestamp_seconds": ("When a round last ended with nothing left to post.",),
    "ledger_collected_tokens": (
        "What customers really paid for what was used, in units of the log's currency. At most a minute old.",
    ),
}
OF_WATCH = {
    "watch_looks_total": ("Looks by outcome: unchanged, calm, alarm or failed.", "outcome"),
    "watch_actions_total": ("What it has done: attested or disputed.", "action"),
    "watch_look_duration_seconds": ("What a look takes.",),
    "watch_last_look_timestamp_seconds": ("When a look last ended, or found that nothing has happened since.",),
    "watch_calm": ("1 if the last look found nothing that somebody must look at, else 0.",),
    "watch_posts": (
        "Live posts by what the audit says: right, wrong, unpublished, withheld or unknown.", "verdict",
    ),
    "ledger_delay_seconds": ("From a post to its first claim.",),
    "ledger_quorum": ("How many auditors must attest a post.",),
    "ledger_attested_posts": ("The last post that as many have attested.",),
    "ledger_disputes": ("Disputes, ever.",),
    "ledger_disputed": ("1 from a dispute to the post that follows it, else 0.",),
    "ledger_role_changes": ("How often a role was granted or revoked, the grants of the deployment among these.",),
    "ledger_announced_steps": ("What the admin has announced and not yet done.",),
    "post_attestations": ("Auditors who have attested a post. Of posts that can still be disputed.", "post"),
    "post_delay_end_timestamp_seconds": ("The end of its delay. Of posts that can still be disputed.", "post"),
}  # fmt: skip
VERDICTS: tuple[VerdictKind, ...] = get_args(VerdictKind)


class SettleMetrics:
    """The pages of a follower, by its rounds."""

    def __init__(self, data: DataFolder, counts: RpcCounts) -> None:
        self._counts = counts
        self._why: str | None = "it has not come through a round yet"
        self._done_s: float | None = None
        self._collected = Seldom[float | None](lambda: _collected(data), None)
        page = self._page = MetricsPage(data.data_dir, self.health, OF_SETTLE | OF_NODES, self._set)
        self._rounds = page.counter("settle_rounds_total")
        self._seconds = page.histogram("settle_round_duration_seconds", LONG_SECONDS)

    def heard(self, done: Round) -> None:
        """Counts a round."""
        self._rounds.labels(done.outcome).inc()
        self._seconds.observe(done.seconds)
        self._why = done.why or None
        if self._why is None:
            self._done_s = time.time()

    def health(self) -> Health:
        """Unhealthy while it waits: for funds, for a node, for cheaper gas."""
        return Health(reason=self._why)

    def page(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return self._page.page()

    def _set(self, found: Families) -> None:
        _set_nodes(found, self._counts)
        found.set("settle_last_round_timestamp_seconds", self._done_s)
        found.set("ledger_collected_tokens", self._collected.now())


class WatchMetrics:
    """The pages of a watcher, by its turns."""

    def __init__(self, data: DataFolder, counts: RpcCounts) -> None:
        self._counts = counts
        self._last: Turn | None = None
        self._look: Look | None = None
        self._done_s: float | None = None
        page = self._page = MetricsPage(data.data_dir, self.health, OF_WATCH | OF_NODES, self._set, trusts_folder=False)
        self._looks, self._did = page.counter("watch_looks_total"), page.counter("watch_actions_total")
        self._seconds = page.histogram("watch_look_duration_seconds", LONG_SECONDS)

    def heard(self, done: Turn) -> None:
        """Counts a turn."""
        self._looks.labels(done.outcome).inc()
        self._seconds.observe(done.seconds)
        for action in done.actions:
            self._did.labels(action).inc()
        if done.look is not None:
            self._look, self._done_s = done.look, time.time()
        self._last = done

    def health(self) -> Health:
        """Unhealthy while it can't look. An alarm is no fault of the watcher."""
        return Health(reason="it has not looked yet" if self._last is None else self._last.fault or None)

    def page(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return self._page.page()

    def _set(self, found: Families) -> None:
        last, look = self._last, self._look
        _set_nodes(found, self._counts)
        found.set("watch_last_look_timestamp_seconds", self._done_s)
        if last is not None:
            found.set("watch_calm", last.outcome in ("unchanged", "calm"))
        if look is not None:  # also while it can't look: a post's delay goes on
            said = [verdict.verdict for verdict in look.verdicts]
            for verdict in VERDICTS:
                found.set("watch_posts", said.count(verdict), verdict)
            sight = look.sight
            found.set("ledger_delay_seconds", look.delay_s)
            found.set("ledger_quorum", sight.quorum)
            found.set("ledger_attested_posts", sight.attested)
            found.set("ledger_disputes", sight.disputes)
            found.set("ledger_disputed", sight.is_disputed)
            found.set("ledger_role_changes", sight.role_changes)
            found.set("ledger_announced_steps", sight.announced)
            for post in sight.unfinished:
                found.set("post_attestations", post.attestations, post.sequence)
                found.set("post_delay_end_timestamp_seconds", post.delay_end_s, post.sequence)


def _collected(data: DataFolder) -> float | None:
    """The sum of what windows collected, in units of the currency; None where it can't be known now."""
    try:
        with open_views(data) as views:
            found = views.execute("SELECT sum(collected) FROM windows").fetchall()[0][0]
        return float(Decimal(found or 0))
    except (duckdb.Error, InvalidInput, OSError):
        return None


def _set_nodes(found: Families, counts: RpcCounts) -> None:
    for node, requests in tuple(counts.requests.items()):
        found.set("rpc_requests_total", requests, node)
        found.set("rpc_failures_total", counts.failures[node], node)
