"""What a file says is what its windows hold, less what the rejects name: every Wh, metre, second and cent."""

import csv
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from deploy.importers.acn_sessions import COLUMNS
from deploy.importers.replay import planned, rebased
from deploy.importers.source_log import SourceLog, SourceMachine, SourceOptions
from deploy.importers.sources import SOURCES
from schemas.log import Log, Ruleset
from schemas.registration import Agreement
from schemas.reject import Reject
from schemas.window import Window
from streams.core.records import Record
from streams.core.replay import advance_through
from streams.core.signature import operator_account
from streams.core.state import State

DATA = Path(__file__).parents[2] / "data"
KEY = bytes(range(1, 33))
LOG = Log(
    log_id="windows-1",
    timestamp_type="CreateTime",
    rulesets=(Ruleset(operators=(operator_account(KEY),)),),
)


@dataclass
class Outcome:
    """All that the partitions of a log came to; a refused row is kept as it was sent."""

    windows: list[Window] = field(default_factory=list)
    rejects: list[tuple[Reject, dict[str, object]]] = field(default_factory=list)
    entries: int = 0
    accepted: int = 0

    def usage(self) -> Counter[str]:
        """Usage by meter and unit; lanes of one station count together."""
        found: Counter[str] = Counter()
        for window in self.windows:
            for line in window.lines:
                found[f"{line.meter.partition('.')[0]} {line.unit}"] += line.usage
        return found

    def gross_micros(self) -> int:
        return sum(window.gross_micros for window in self.windows)


def agreement(machine: SourceMachine) -> Agreement:
    return Agreement({operator_account(KEY): 10_000})


def run(sources: Sequence[SourceLog]) -> Outcome:
    """The sources as a log, each partition advanced from its first record to its last cut."""
    partitions: dict[int, list[Record]] = defaultdict(list)
    for out in planned(LOG, sources, KEY, agreement, seed="1"):
        records = partitions[out.partition]
        records.append(Record(len(records), out.timestamp_ms, out.key, out.value, out.headers))
    outcome = Outcome()
    last_epoch = LOG.epoch_of(max(source.end_ms for source in sources))
    for partition, records in partitions.items():
        state = State.new(LOG, partition)
        for done in advance_through(state, records):
            outcome.windows += done.windows
            outcome.entries += done.counts.entries
            outcome.accepted += done.counts.accepted
            for reject in done.rejects:
                value = msgspec.json.decode(records[reject.offset].value or b"null")
                outcome.rejects.append((reject, value[reject.row] if isinstance(value, list) else value))
        assert state.epoch == last_epoch + 1
        assert not len(state.window_numbers())
    return outcome


def write_csv(folder: Path, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Path:
    path = folder / "rows.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def test_every_real_pv_sample_and_taxi_trip_counts() -> None:
    sources = [
        SOURCES["pv-power"].read(DATA / "pv_serf_east_15min.parquet", SourceOptions(days=20)),
        SOURCES["pv-power"].read(DATA / "pv_abb_5min.parquet", SourceOptions(days=10, zone="UTC")),
        SOURCES["chicago-taxi"].read(DATA / "taxi_trips_chicago_a.parquet", SourceOptions(days=120)),
    ]
    totals: Counter[str] = Counter()
    for source in sources:
        totals.update(source.totals)
    outcome = run(rebased(sources))
    assert outcome.rejects == []
    assert outcome.usage() == +totals
    carried = sum(window.carry_in - window.carry_out for window in outcome.windows)
    fed_in = sum(source.totals["energy Wh"] for source in sources[:2])
    assert outcome.gross_micros() * 3_600_000 - carried == (
        (fed_in * 90 + sources[2].totals["fare cents"] * 10_000) * 3_600_000
    )


def test_sessions_of_22_kw_and_dc_are_paid_whole(tmp_path: Path) -> None:
    """Found by a user: stations were 7.4 kW by a constant, and 21 of 247 kWh were paid."""
    rows = [
        ("dc", "hpc1", "1", "2024-05-01T08:00:00+02:00", "2024-05-01T08:25:00+02:00", "50.0"),
        ("dc", "hpc1", "2", "2024-05-01T09:00:00+02:00", "2024-05-01T09:25:00+02:00", "55.0"),
        ("dc", "hpc1", "3", "2024-05-01T10:00:00+02:00", "2024-05-01T10:25:00+02:00", "45.0"),
        ("ac", "ac22", "4", "2024-05-01T08:00:00+02:00", "2024-05-01T10:00:00+02:00", "40.0"),
        ("ac", "ac22", "5", "2024-05-01T12:00:00+02:00", "2024-05-01T14:00:00+02:00", "36.0"),
        ("ac", "ac22", "6", "2024-05-01T15:00:00+02:00", "2024-05-01T18:00:00+02:00", "21.0"),
        ("ac", "home", "7", "2024-05-01T15:00:00+02:00", "2024-05-01T18:00:00+02:00", "3.0"),
    ]
    source = SOURCES["acn-sessions"].read(write_csv(tmp_path, COLUMNS, rows), SourceOptions())
    outcome = run([source])
    assert outcome.rejects == []
    assert outcome.usage() == source.totals == {"energy Wh": 250_000}
    classes = {machine.machine: machine.meters[0].capacity_per_hour for machine in source.machines}
    assert classes == {"dc.hpc1": 150_000, "ac.ac22": 22_000, "ac.home": 7_400}


def test_only_the_implausible_session_is_lost(tmp_path: Path) -> None:
    """809 kW for an hour: refused at its departure; the next session continues behind it and bills its own."""
    rows = [
        ("s", "1", "before", "2019-09-01 06:07:00Z", "2019-09-01 07:07:00Z", "5.001"),
        ("s", "1", "wild", "2019-09-01 08:07:00Z", "2019-09-01 09:07:00Z", "809"),
        ("s", "1", "after", "2019-09-01 10:07:00Z", "2019-09-01 11:22:00Z", "6.002"),
        ("s", "1", "later", "2019-09-09 10:07:00Z", "2019-09-09 11:22:00Z", "6.002"),
        ("s", "2", "tie-before", "2019-09-01 08:00:00Z", "2019-09-01 08:10:00Z", "700"),
        ("s", "2", "tie-after", "2019-09-01 08:10:00Z", "2019-09-01 09:40:00Z", "3"),
        ("s", "3", "wild-1", "2019-09-01 08:00:00Z", "2019-09-01 08:10:00Z", "700"),
        ("s", "3", "wild-2", "2019-09-03 08:00:00Z", "2019-09-03 08:10:00Z", "900"),
        ("s", "3", "tame", "2019-09-05 08:00:00Z", "2019-09-05 09:00:00Z", "1"),
        ("s", "4", "fair-1", "2019-09-01 08:00:00Z", "2019-09-01 10:00:00Z", "12"),
        ("s", "4", "fair-2", "2019-09-01 09:00:00Z", "2019-09-01 10:30:00Z", "9"),
    ]
    source = SOURCES["acn-sessions"].read(write_csv(tmp_path, COLUMNS, rows), SourceOptions())
    outcome = run([source])
    lost = ("wild", "tie-before", "wild-1", "wild-2")
    assert {reject.reason for reject, _ in outcome.rejects} == {"too_high"}
    assert {value["session"] for _, value in outcome.rejects} - {"tie-after"} == set(lost)
    lost_wh = sum(int(row[5]) * 1_000 for row in rows if row[2] in lost)
    assert outcome.usage() == {"energy Wh": source.totals["energy Wh"] - lost_wh}
    by_machine: Counter[str] = Counter()
    for window in outcome.windows:
        by_machine[window.machine] += sum(line.usage for line in window.lines)
    assert by_machine == {"s.1": 5_001 + 2 * 6_002, "s.2": 3_000, "s.3": 1_000, "s.4": 21_000}
    assert {window.machine for window in outcome.windows if "rebaselined" in window.flags} == {"s.1", "s.2", "s.3"}


def test_a_sentinel_is_refused_alone(tmp_path: Path) -> None:
    rows = [
        (f"2020-01-01 {hour:02}:{minute:02}:00", "-1000000" if (hour, minute) in {(0, 0), (9, 30)} else "5")
        for hour in range(10)
        for minute in range(0, 60, 5)
    ]
    source = SOURCES["pv-power"].read(write_csv(tmp_path, ("ts", "meas_val_f"), rows), SourceOptions(zone="UTC"))
    outcome = run([source])
    assert [(reject.reason, value["meter"]) for reject, value in outcome.rejects] == [("too_high", "import")] * 2
    refused = sum(value["quantity"] for _, value in outcome.rejects if isinstance(value["quantity"], int))
    assert refused == source.totals["import Wh"]
    assert outcome.usage() == {"energy Wh": source.totals["energy Wh"]}


def test_digits_gone_wrong_in_a_trip_are_refused_alone(tmp_path: Path) -> None:
    columns = ("trip_start_timestamp", "trip_seconds", "trip_miles", "fare", "payment_type", "company")
    rows = [(str(1_400_000_000 + 900 * (n // 4)), "600", "3.5", "12.45", "Cash", "A") for n in range(40)]
    rows[21] = (*rows[21][:3], "124500000000", *rows[21][4:])
    source = SOURCES["chicago-taxi"].read(write_csv(tmp_path, columns, rows), SourceOptions())
    outcome = run([source])
    assert [(reject.reason, value["meter"]) for reject, value in outcome.rejects] == [("too_high", "fare")]
    assert outcome.usage()["fare cents"] == 39 * 1_245
    assert outcome.usage()["distance m"] == source.totals["distance m"]
