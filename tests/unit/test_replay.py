"""What a replay would produce is decided by its input alone, ascends in every partition, and is signed."""

import csv
from collections import defaultdict
from pathlib import Path

import msgspec
import pytest

from deploy.importers.replay import Outgoing, planned, rebased
from deploy.importers.source_log import SourceLog, SourceMachine, SourceOptions
from deploy.importers.sources import SOURCES
from schemas.errors import InvalidInput
from schemas.log import Log, Ruleset
from schemas.registration import Agreement, Registration
from schemas.units import DAY_MS, HOUR_MS, MINUTE_MS
from streams.core.murmur2 import partition_of
from streams.core.signature import operator_account, operator_of

DATA = Path(__file__).parents[2] / "data"
KEY = bytes(range(1, 33))
LOG = Log(
    log_id="replay-1",
    timestamp_type="CreateTime",
    partitions=4,
    rulesets=(Ruleset(operators=(operator_account(KEY),)),),
)


def agreement(machine: SourceMachine) -> Agreement:
    return Agreement({operator_account(KEY): 10_000})


@pytest.fixture(scope="module")
def sources() -> list[SourceLog]:
    days = SourceOptions(days=7, zone="UTC")
    return [
        SOURCES["acn-sessions"].read(DATA / "ev_sessions_acn_2019.parquet", days),
        SOURCES["pv-power"].read(DATA / "pv_abb_5min.parquet", days),
        SOURCES["chicago-taxi"].read(DATA / "taxi_trips_chicago_a.parquet", days),
    ]


@pytest.fixture(scope="module")
def plan(sources: list[SourceLog]) -> list[Outgoing]:
    return list(planned(LOG, rebased(sources), KEY, agreement, seed="1"))


def test_the_same_input_gives_the_same_records(sources: list[SourceLog], plan: list[Outgoing]) -> None:
    assert list(planned(LOG, rebased(sources), KEY, agreement, seed="1")) == plan
    salts = [
        {
            msgspec.json.decode(outgoing.value, type=Registration).salt
            for outgoing in planned(LOG, sources[1:2], KEY, agreement, seed=seed)
            if ("ce_type", b"machine.registered") in outgoing.headers
        }
        for seed in ("1", "1", "2", None, None)
    ]
    assert salts[0] == salts[1]
    assert len({salt for some in salts for salt in some}) == 4


def test_each_partition_ascends_from_one_heartbeat_to_the_next(plan: list[Outgoing]) -> None:
    partitions: dict[int, list[Outgoing]] = defaultdict(list)
    for outgoing in plan:
        partitions[outgoing.partition].append(outgoing)
    assert sorted(partitions) == [0, 1, 2, 3]
    last_ms = max(outgoing.timestamp_ms for outgoing in plan if outgoing.key is not None)
    for found in partitions.values():
        times = [outgoing.timestamp_ms for outgoing in found]
        assert times == sorted(times)
        assert times[0] == min(outgoing.timestamp_ms for outgoing in plan)
        assert times[-1] == (last_ms // DAY_MS + 1) * DAY_MS + 10 * MINUTE_MS
        assert [outgoing.key is None for outgoing in found] == [True] + [False] * (len(found) - 2) + [True]
    for outgoing in plan:
        if outgoing.key is not None:
            assert outgoing.partition == partition_of(outgoing.key, 4)


def test_registrations_come_first_and_are_signed(sources: list[SourceLog], plan: list[Outgoing]) -> None:
    registered: set[str] = set()
    for outgoing in plan:
        headers, key = dict(outgoing.headers), outgoing.key
        if key is None:
            continue
        if not headers:
            assert key.decode() in registered
            continue
        registration = msgspec.json.decode(outgoing.value, type=Registration)
        assert registration.is_valid()
        assert registration.route == registration.machine == key.decode()
        assert len(registration.salt) == 32
        record = (key, headers["ce_type"], headers["content-type"], outgoing.value)
        assert operator_of(headers["signature"], LOG.log_id, *record) == operator_account(KEY)
        assert headers["key-id"] == operator_account(KEY).encode()
        registered.add(registration.machine)
    assert registered == {machine.machine for source in sources for machine in source.machines}


def test_rebased_sources_begin_in_one_week_at_their_own_hour(sources: list[SourceLog]) -> None:
    moved = rebased(sources)
    assert moved[0].records is not None
    assert moved[0].start_ms == sources[0].start_ms
    weeks = {(source.start_ms - 4 * DAY_MS) // (7 * DAY_MS) for source in moved}
    assert len(weeks) == 1
    for before, after in zip(sources, moved, strict=True):
        assert (after.start_ms - before.start_ms) % (7 * DAY_MS) == 0
        assert after.totals == before.totals
        first = next(after.records())
        assert first.timestamp_ms == after.start_ms
        assert f'"observed_at":{after.start_ms}'.encode() in first.value


def test_a_machine_comes_from_one_source(sources: list[SourceLog]) -> None:
    with pytest.raises(InvalidInput, match="two sources have the machine pv_abb_5min"):
        list(planned(LOG, [sources[1], sources[1]], KEY, agreement))
    with pytest.raises(InvalidInput, match="at least one source"):
        list(planned(LOG, [], KEY, agreement))
    with pytest.raises(InvalidInput, match="CreateTime"):
        list(planned(Log(log_id="live"), sources, KEY, agreement))


def test_the_last_reading_may_end_an_epoch(tmp_path: Path) -> None:
    """A reading exactly at midnight belongs to the day that begins there, so that day is cut as well."""
    with (path := tmp_path / "p.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("ts", "meas_val_f"), ("2020-01-01 23:00:00", "1"), ("2020-01-01 23:30:00", "1")])
    source = SOURCES["pv-power"].read(path, SourceOptions(zone="UTC"))
    *_, last = planned(LOG, [source], KEY, agreement)
    assert last.timestamp_ms == source.end_ms + 24 * HOUR_MS + 10 * MINUTE_MS
