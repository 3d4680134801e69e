"""The pages of metrics: of a worker, of `settle --follow`, of `watch`."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from deploy.config import load_settings
from deploy.data_folder import DataFolder
from deploy.explain.watch import Turn
from deploy.money.chain_metrics import SettleMetrics, WatchMetrics
from deploy.money.treasury import Round
from schemas.manifest import Counts
from schemas.payout import Funding
from settlement.audit.verdict import PostVerdict
from settlement.chain.rpc import RpcCounts
from settlement.chain.sight import LedgerSight, UnfinishedPost
from settlement.chain.watcher import Look
from streams.core.records import Record
from streams.kafka.consumer import Slice
from streams.storage.object_store import ObjectStore, StoreAway
from streams.worker.faust_app import Fetched
from streams.worker.health import Health
from streams.worker.metrics import WorkerMetrics
from streams.worker.partition import Progress
from streams.worker.partition_owner import Committed

WELL = Health(reason=None)


def lines(page: Callable[[], bytes]) -> dict[str, float]:
    """Value by series, of a page."""
    said = (line.rsplit(" ", 1) for line in page().decode().splitlines() if not line.startswith("#"))
    return {series: float(value) for series, value in said}


def shows(found: dict[str, float], expected: dict[str, float]) -> None:
    """Each expected series, named without `tallyroot_`, is on the page with its value."""
    for series, value in expected.items():
        assert found[f"tallyroot_{series}"] == value, series


def commit() -> Committed:
    progress = Progress(
        next_offset=12, records=2, counts=Counts(5, 3, 1, 1), sealed=7, rejected=1, rejects_by_reason={"too_late": 1},
        stream_time_ms=1_555_200_000_000, cuts=(17_999,),
    )  # fmt: skip
    records = [Record(offset, 0, None, b"") for offset in (10, 11)]
    return Committed(Slice(0, 10, 12, 1, records, time.monotonic() - 0.2), progress, 0.03, 2, 17)


def test_a_worker_counts_commits_and_looks_up_the_rest(tmp_path: Path) -> None:
    positions, read = {0: 12}, {0: Fetched(12, 20, 1, 23), 5: Fetched(3, 3, 1, 3)}
    metrics = WorkerMetrics(tmp_path, lambda: WELL, lambda: read, positions, lambda: (3, 7))
    metrics.committed(commit())
    metrics.fetched(0.004)
    found = lines(metrics.page)
    shows(
        found,
        {
            'records_total{partition="0"}': 2,
            'windows_sealed_total{partition="0"}': 7,
            'epochs_cut_total{partition="0"}': 1,
            'entries_total{outcome="accepted",partition="0"}': 3,
            'entries_total{outcome="duplicate",partition="0"}': 1,
            'entries_total{outcome="rejected",partition="0"}': 1,
            'rejects_total{partition="0",reason="too_late"}': 1,
            'commit_duration_seconds_bucket{le="0.025"}': 0,
            'commit_duration_seconds_bucket{le="0.05"}': 1,
            'fetch_duration_seconds_bucket{le="0.005"}': 1,
            'seal_to_query_duration_seconds_bucket{le="0.1"}': 0,
            "seal_to_query_duration_seconds_count": 1,
            'partition_lag_records{partition="0"}': 8,
            'partition_hidden_records{partition="0"}': 3,
            'partition_hidden_records{partition="5"}': 0,
            "uncovered_partitions": 2,
            'partition_next_offset{partition="0"}': 12,
            'partition_stream_time_seconds{partition="0"}': 1_555_200_000,
            'partition_epochs_pending{partition="0"}': 2,
            'partition_machines{partition="0"}': 17,
            "healthy": 1,
        },
    )
    assert time.time() - found['tallyroot_partition_last_commit_timestamp_seconds{partition="0"}'] < 60
    assert not any("store" in series for series in found), "it has none"
    read.clear()
    assert 'tallyroot_partition_lag_records{partition="0"}' not in lines(metrics.page), (
        "what it no longer reads is gone"
    )


def test_a_page_shows_health_disk_store_and_what_a_settlement_noted(tmp_path: Path) -> None:
    store, health = ObjectStore(str(tmp_path / "store")), [WELL]
    (tmp_path / "partitions").mkdir()
    (tmp_path / "partitions" / "0.20190901T000000Z.snapshot").write_bytes(b"1234")
    metrics = WorkerMetrics(tmp_path, lambda: health[0], dict, {}, tuple, store)
    assert "tallyroot_ledger_shortfall_tokens" not in lines(metrics.page), "nobody has settled"
    funding = Funding(
        earned="9000000", funded="6500000", claimed="4000000", deposits="0", shortfall="2500000", decimals=6,
        at_ms=1_000, posts=3, last_post_s=900, runway_days=9,
    )  # fmt: skip
    (tmp_path / "settlement").mkdir()
    (tmp_path / "settlement" / "funding.json").write_bytes(msgspec.json.encode(funding))
    store.put("a", [b"b"])
    found = lines(metrics.page)
    shows(
        found,
        {
            "ledger_earned_tokens": 9.0,
            "ledger_funded_tokens": 6.5,
            "ledger_claimed_tokens": 4.0,
            "ledger_deposits_tokens": 0.0,
            "ledger_shortfall_tokens": 2.5,
            "ledger_runway_seconds": 777_600,
            "ledger_posts": 3,
            "ledger_last_post_timestamp_seconds": 900,
            "ledger_noted_timestamp_seconds": 1,
            "store_up": 1,
            "store_failures_total": 0,
            "store_uploads_waiting": 1,
            'data_folder_bytes{part="partitions"}': 4,
            "disk_size_bytes": shutil.disk_usage(tmp_path).total,
        },
    )
    health[0] = Health(reason="stalled")
    with pytest.raises(StoreAway):
        store.put("a/b", [b"a folder is wanted where a file stands"])
    found = lines(metrics.page)
    assert (found["tallyroot_healthy"], found["tallyroot_store_up"], found["tallyroot_store_failures_total"]) == (
        0,
        0,
        1,
    )


def test_a_follower_is_unhealthy_while_it_waits(tmp_path: Path) -> None:
    counts = RpcCounts()
    metrics = SettleMetrics(DataFolder(tmp_path, load_settings()), counts)
    assert metrics.health().reason == "it has not come through a round yet"
    metrics.heard(Round("posted", "", 3.0))
    metrics.heard(Round("waiting", "the ledger lacks 5", 0.1))
    counts.requests["http://node"] += 7
    counts.failures["http://node"] += 1
    found = lines(metrics.page)
    assert metrics.health().reason == "the ledger lacks 5"
    shows(
        found,
        {
            'settle_rounds_total{outcome="posted"}': 1,
            'settle_rounds_total{outcome="waiting"}': 1,
            "settle_round_duration_seconds_sum": 3.1,
            'rpc_requests_total{node="http://node"}': 7,
            'rpc_failures_total{node="http://node"}': 1,
            "healthy": 0,
        },
    )
    assert time.time() - found["tallyroot_settle_last_round_timestamp_seconds"] < 60
    metrics.heard(Round("nothing", "", 0.1))
    assert metrics.health().reason is None


def test_a_watcher_shows_posts_their_attestations_and_the_ledger(tmp_path: Path) -> None:
    metrics = WatchMetrics(DataFolder(tmp_path, load_settings()), RpcCounts())
    assert metrics.health().reason == "it has not looked yet"
    sight = LedgerSight(
        posts=3, attested=2, quorum=2, disputes=4, is_disputed=True, role_changes=5, announced=1,
        unfinished=(UnfinishedPost(2, 2, 5_000), UnfinishedPost(3, 1, 6_000)),
    )  # fmt: skip
    verdicts = (PostVerdict(1, "right", ""), PostVerdict(2, "right", ""), PostVerdict(3, "withheld", "no archive"))
    look = Look(head="", posts=3, sight=sight, delay_s=8_000, verdicts=verdicts, done=(), again=False, is_calm=False)
    metrics.heard(Turn("alarm", look, "", ("attested", "disputed"), 2.0))
    found = lines(metrics.page)
    shows(
        found,
        {
            'watch_looks_total{outcome="alarm"}': 1,
            'watch_actions_total{action="disputed"}': 1,
            'watch_posts{verdict="right"}': 2,
            'watch_posts{verdict="withheld"}': 1,
            'watch_posts{verdict="wrong"}': 0,
            "watch_calm": 0,
            "watch_look_duration_seconds_count": 1,
            "ledger_delay_seconds": 8_000,
            "ledger_quorum": 2,
            "ledger_attested_posts": 2,
            "ledger_disputes": 4,
            "ledger_disputed": 1,
            "ledger_role_changes": 5,
            "ledger_announced_steps": 1,
            'post_attestations{post="2"}': 2,
            'post_attestations{post="3"}': 1,
            'post_delay_end_timestamp_seconds{post="3"}': 6_000,
            "healthy": 1,
        },
    )
    before = found["tallyroot_watch_last_look_timestamp_seconds"]
    metrics.heard(Turn("failed", None, "can't look: no EVM node answers", (), 0.1))
    found = lines(metrics.page)
    assert metrics.health().reason == "can't look: no EVM node answers"
    assert found["tallyroot_watch_last_look_timestamp_seconds"] == before, "its age grows"
    assert found['tallyroot_post_attestations{post="3"}'] == 1, "a post's delay goes on"
    assert (found["tallyroot_healthy"], found["tallyroot_watch_calm"]) == (0, 0)
