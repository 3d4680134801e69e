"""What analysts see: every sealed row once, at any moment, from any folder, explained."""

import random
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from itertools import count, product
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from msgspec import structs

from files.parquet import write_table
from files.write import Temporary
from schemas.arrow import orders_table, payments_table
from schemas.order import Order
from schemas.payment import PAID, AcceptedPayment, PaymentReceived
from schemas.payout import CLAIMS, PAYOUTS, SETTLEMENTS, Claim, Payout, rows_table
from schemas.registration import Agreement
from schemas.units import HOUR_MS, MINUTE_MS, SECOND_MS
from schemas.window import Due, Statement
from streams.core.murmur2 import partition_of
from streams.core.records import Record
from streams.storage.analytics import make_analytics
from streams.storage.epoch_files import epoch_paths
from streams.storage.live import Live
from streams.storage.view_comments import COLUMNS, VIEWS
from streams.worker.partition import Partition
from tests.support import partition_runs as runs
from tests.support.sealed_windows import random_window
from tests.support.sim_log import HOURLY, START_MS, SimLog, heartbeat, reading, registration, small_log
from tests.support.window_tables import window_tables

PUBLIC = sorted(name for name in VIEWS if "." not in name)


class Analyst:
    """Somebody with `analytics.duckdb` open, read-only, all the time."""

    def __init__(self, data_dir: Path) -> None:
        self.db = duckdb.connect(str(make_analytics(data_dir, HOURLY)), read_only=True)

    def rows(self, query: str) -> list[Any]:
        return self.db.execute(query).fetchall()


@pytest.fixture(params=["plain", "it's a späce [1] *"])
def data_dir(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    folder: Path = tmp_path / request.param
    folder.mkdir()
    return folder


def test_an_empty_folder_has_empty_views(data_dir: Path) -> None:
    analyst = Analyst(data_dir)
    for view in PUBLIC:
        assert analyst.rows(f"SELECT * FROM {view}") == []


def test_every_view_and_column_is_explained_and_nothing_else_is_there(tmp_path: Path) -> None:
    analyst = Analyst(tmp_path)
    views = analyst.rows("SELECT view_name, comment FROM duckdb_views() WHERE NOT internal")
    assert sorted(name for name, _ in views) == sorted(name.removeprefix("files.") for name in VIEWS)
    assert all(comment for _, comment in views)
    columns = analyst.rows("SELECT column_name, comment FROM duckdb_columns() WHERE NOT internal")
    assert all(comment for _, comment in columns)
    assert {name for name, _ in columns} == set(COLUMNS)
    assert analyst.rows("SELECT count(*) FROM duckdb_tables()") == [(0,)]


def test_views_say_what_was_published(data_dir: Path) -> None:
    analyst = Analyst(data_dir)
    runs.run(data_dir)
    windows = analyst.rows("SELECT count(*), sum(net_micros), sum(net) FROM windows")
    epochs = analyst.rows("SELECT sum(windows)::INT, sum(net) FROM epochs")
    assert windows[0][0] == epochs[0][0] > 8
    assert windows[0][2] == epochs[0][1] == windows[0][1] / Decimal(1_000_000)
    paid = "SELECT sum(amount) - (SELECT sum(expenses + uncollected) FROM windows) FROM lines"
    assert analyst.rows(paid) == [(windows[0][2],)]
    assert analyst.rows("SELECT sum(windows)::INT + sum(adjustments)::INT, sum(net) FROM machines") == [
        (windows[0][0], windows[0][2])
    ]
    assert analyst.rows("SELECT machine, adjusts, final FROM adjustments")[0][0] == "m0"
    assert analyst.rows('SELECT DISTINCT reason, "partition" FROM rejects') == [("undecodable", 0)]
    refused = "(SELECT count(*) FROM rejects), (SELECT sum(rejected)::INT FROM epochs)"
    assert analyst.rows(f"SELECT {refused}") == [(4, 4)]
    first = analyst.rows('SELECT machine, "start"::VARCHAR, gross, currency, kind, flags FROM windows ORDER BY ALL')[1]
    assert first == ("m0", "2019-04-14 00:00:00", Decimal("0.450000"), "USD", "charger", [])
    shared = "SELECT DISTINCT payee, points FROM windows JOIN agreements USING (agreement)"
    shared += " WHERE machine <> 'shop' ORDER BY ALL"
    assert analyst.rows(shared) == [("owner", 7_000), ("site", 3_000)]


def test_open_windows_show_what_is_not_sealed(tmp_path: Path) -> None:
    analyst = Analyst(tmp_path)
    log = runs.the_log()
    partition = Partition.open(tmp_path, HOURLY, 0, "topic-1", log)
    assert partition is not None
    partition.process(0, log.records[20].offset, log.records[:20])
    partition.close()
    rows = analyst.rows("SELECT machine, adjusts, readings, gross_so_far FROM open_windows ORDER BY ALL")
    assert {(row[0], row[1]) for row in rows} == {("m0", None), ("m1", None), ("shop", None)}
    assert sum(row[2] for row in rows) + analyst.rows("SELECT coalesce(sum(readings), 0) FROM windows")[0][0] == 12
    assert any(row[3] > 0 for row in rows)


def test_wherever_a_machine_is_shown_a_simulated_one_is_marked(tmp_path: Path) -> None:
    """In every view with a machine; `lines`, `adjustments` and `open_windows` had no mark."""
    machines, minutes = ("m0", "sim-robot-1"), range(0, 90, 5)
    records = [registration(machine, at) for at, machine in enumerate(machines)]
    for at, (minute, machine) in enumerate(product(minutes, machines), len(records)):
        records.append(reading(machine, at, START_MS + minute * MINUTE_MS, minute + 1, minute * 100))
    log = SimLog(records)
    partition = Partition.open(tmp_path, HOURLY, 0, "topic-1", log)
    assert partition is not None
    partition.process(0, log.end, log.records)
    partition.close()
    analyst = Analyst(tmp_path)
    found = analyst.rows("SELECT table_name FROM duckdb_columns() WHERE column_name = 'machine'")
    views = {name for (name,) in found} & set(PUBLIC)
    without_rows = {"adjustments", "statements", "sessions", "dues", "orders", "payments"}
    assert views == {"windows", "lines", "open_windows", "machines"} | without_rows
    for view in sorted(views):
        marks = set(analyst.rows(f"SELECT DISTINCT machine, simulated FROM {view}"))
        assert marks == (set() if view in without_rows else {("m0", False), ("sim-robot-1", True)}), view


def test_a_copy_of_the_final_files_alone_shows_them(tmp_path: Path) -> None:
    runs.run(tmp_path / "whole")
    expected = Analyst(tmp_path / "whole").rows("SELECT count(*) FROM windows")
    (tmp_path / "copy").mkdir()
    (tmp_path / "whole" / "epochs").rename(tmp_path / "copy" / "epochs")
    analyst = Analyst(tmp_path / "copy")
    assert analyst.rows("SELECT count(*) FROM windows") == expected
    manifest = max((tmp_path / "copy" / "epochs").glob("*/0.manifest.json"))
    windows = analyst.rows("SELECT windows FROM epochs ORDER BY epoch")
    manifest.unlink()
    assert analyst.rows("SELECT windows FROM epochs ORDER BY epoch") == windows[:-1]


def test_settlement_shows_what_its_files_hold(tmp_path: Path) -> None:
    folder = tmp_path / "settlement"
    folder.mkdir()
    analyst = Analyst(tmp_path)
    account = "0x" + "1" * 40
    pq.write_table(rows_table([Payout(1, account, 3_500_000, 1_500_000)], PAYOUTS), folder / "payouts.parquet")
    pq.write_table(rows_table([Claim(account, 1, 35, "0xabc", 9)], CLAIMS), folder / "claims.parquet")
    pq.write_table(SETTLEMENTS.empty_table(), folder / "settlements.parquet")
    assert analyst.rows("SELECT sequence, account, amount, cumulative FROM payouts") == [
        (1, account, Decimal("1.5"), Decimal("3.5"))
    ]
    assert analyst.rows("SELECT * FROM claims") == [(account, 1, Decimal(35), "0xabc", 9)]
    assert analyst.rows("SELECT * FROM settlements") == []


def test_nothing_final_is_missing_while_a_lost_checkpoint_is_made_again(tmp_path: Path) -> None:
    log = small_log(machines=2, minutes=240, step_minutes=12)
    analyst = Analyst(tmp_path)

    def final() -> int:
        rows = analyst.rows("SELECT count(*), count(DISTINCT (machine, start_ms, adjusts_ms)) FROM windows WHERE final")
        assert rows[0][0] == rows[0][1]
        return int(rows[0][0])

    moments_s = count(0.0, 11.0)
    for slice_size in (6, 7):
        least = final()
        partition = Partition.open(tmp_path, HOURLY, 0, "topic-1", log, seconds=partial(next, moments_s))
        assert partition is not None
        for start, end, part in log.pieces(slice_size):
            partition.process(start, end, part)
            assert final() >= least
        partition.close()
        (tmp_path / "partitions" / "0.duckdb").unlink()
    assert final() == least > 15


def test_each_partition_has_its_own_boundary(tmp_path: Path) -> None:
    log = structs.replace(HOURLY, partitions=2)
    moments_s = count(0.0, 15.0)
    expected = 0
    for number, hours in ((0, 1), (1, 6)):
        name = next(name for name in ("a", "b", "c", "d") if partition_of(name.encode(), 2) == number)
        moments = range(START_MS, START_MS + hours * HOUR_MS, 600_000)
        records = [registration(name, 0)]
        records += [reading(name, place, at, place, place * 100) for place, at in enumerate(moments, 1)]
        sim = SimLog(records)
        partition = Partition.open(tmp_path, log, number, "topic-1", sim, seconds=partial(next, moments_s))
        assert partition is not None
        for start, end, part in sim.pieces(3):
            expected += partition.process(start, end, part).sealed
        partition.close()
    analyst = Analyst(tmp_path)
    rows = analyst.rows('SELECT "partition", count(*), count(DISTINCT start_ms) FROM windows GROUP BY ALL ORDER BY ALL')
    assert [row[0] for row in rows] == [0, 1]
    assert sum(row[1] for row in rows) == sum(row[2] for row in rows) == expected
    assert {row[0] for row in analyst.rows('SELECT "partition" FROM machines')} == {0, 1}


def test_it_is_made_again_while_somebody_reads(tmp_path: Path) -> None:
    first = Analyst(tmp_path)
    second = Analyst(tmp_path)
    assert first.rows("FROM windows") == second.rows("FROM windows") == []


def test_a_row_is_seen_once_between_any_two_steps(tmp_path: Path) -> None:
    """The clock jumps, so that epochs leave live/ and files are used again while the log goes on."""
    now = 0.0
    seen: set[Any] = set()
    finals = 0
    analyst = Analyst(tmp_path)

    def look(_: str) -> None:
        nonlocal finals
        rows = analyst.rows("SELECT machine, start_ms, adjusts_ms, final, gross_micros FROM windows")
        lines = analyst.rows(
            "SELECT machine, start_ms, adjusts_ms, sum(amount_micros), count(*) FROM lines GROUP BY ALL"
        )
        keys = {row[:3] for row in rows}
        assert len(keys) == len(rows)
        assert keys >= seen
        assert {row[:4] for row in lines} == {(*row[:3], row[4]) for row in rows if row[4]}
        assert {row[4] for row in lines} <= {1}
        seen.update(keys)
        assert sum(row[3] for row in rows) >= finals
        finals = sum(row[3] for row in rows)

    log = small_log(machines=2, minutes=240, step_minutes=12)
    partition = Partition.open(tmp_path, HOURLY, 0, "topic-1", log, step=look, seconds=lambda: now)
    assert partition is not None
    sealed = 0
    boundaries = set()
    for start, next, records in log.pieces(6):
        sealed += partition.process(start, next, records).sealed
        look("")
        assert len(seen) == sealed
        now += 31.0
        boundaries.add(pq.read_table(tmp_path / "live" / "0" / "boundary.parquet")["from_ms"][0].as_py())
    partition.close()
    assert len(boundaries) > 3
    assert finals > 15
    live = pa.concat_tables(pq.read_table(path) for path in (tmp_path / "live" / "0").glob("*.windows.parquet"))
    assert live.num_rows < sealed


def test_reporting_counts_the_minutes_whose_windows_hold_a_reading(tmp_path: Path) -> None:
    minutes = {"steady": range(0, 240, 15), "silent": (0, 20, 50), "gone": (0, 15)}
    moments = sorted((minute, name) for name, times in minutes.items() for minute in times)
    records = [registration(name, offset) for offset, name in enumerate(minutes)]
    for offset, (minute, name) in enumerate(moments, len(records)):
        records.append(reading(name, offset, START_MS + minute * 60_000 + 1, minute + 1, minute * 100))
    end_ms = START_MS + 240 * 60_000
    late = reading("silent", len(records), START_MS + 140 * 60_000, 141, 9_000, lag_ms=100 * 60_000)
    other = reading("silent", len(records) + 1, START_MS + 140 * 60_000, 141, 9_999, lag_ms=100 * 60_000)
    ends = [heartbeat(len(records) + 2 + place, end_ms + place + 900_000) for place in range(2)]
    log = SimLog([*records, late, other, *ends])
    partition = Partition.open(tmp_path, HOURLY, 0, "topic-1", log)
    assert partition is not None
    partition.process(0, log.end, log.records)
    partition.close()
    rows = Analyst(tmp_path).rows(
        "SELECT machine, last_seen::VARCHAR, reporting_minutes, silent_minutes, reporting, equivocations, flags"
        " FROM machines ORDER BY 1"
    )
    assert rows == [
        ("gone", "2019-04-14 00:30:00", 240, 210, Decimal("12.500"), 0, []),
        ("silent", "2019-04-14 02:30:00", 240, 180, Decimal("25.000"), 1, ["equivocation"]),
        ("steady", "2019-04-14 04:00:00", 240, 0, Decimal("100.000"), 0, []),
    ]


SUPPLIER, CUSTOMER = "0x" + "c3" * 20, "0x" + "d4" * 20


def test_payments_are_shown_early_and_once_their_epoch_is_final(tmp_path: Path) -> None:
    analyst = Analyst(tmp_path)
    paid = PaymentReceived("m0", 1, "s1", CUSTOMER, 5_000_000, START_MS + HOUR_MS, 12, "0x" + "ab" * 32, 3)
    paths = epoch_paths(tmp_path, HOURLY, HOURLY.epoch_of(START_MS), 0)
    paths.manifest.parent.mkdir(parents=True)
    write_table(Temporary(paths.table("payments")), payments_table([AcceptedPayment(8, paid)])).publish(durable=False)
    paths.manifest.write_bytes(b"{}")
    live = Live(tmp_path / "live", 0, START_MS + HOUR_MS, set(), set(), lambda: 0.0, is_new=True)
    more = AcceptedPayment(9, structs.replace(paid, version=2, session="s2", block=13))
    live.write_rows(START_MS + HOUR_MS, "payments", payments_table([more]))
    shown = 'session, payer, amount, block, log_index, payment, valid_until, "offset", final'
    until = datetime.fromtimestamp((START_MS + HOUR_MS) // SECOND_MS, UTC).replace(tzinfo=None)
    assert analyst.rows(f"SELECT {shown} FROM payments ORDER BY ALL") == [
        ("s1", CUSTOMER, 5, 12, 3, 1, until, 8, True),
        ("s2", CUSTOMER, 5, 13, 3, 2, until, 9, False),
    ]


def test_orders_and_payments_are_shown_after_a_worker_has_taken_over(tmp_path: Path) -> None:
    """An epoch may have one without the other. It is ended, and still read from live/."""
    order = Order(
        machine="m0", item="nut", number=1, quantity=2, unit_price=1_000, supplier=SUPPLIER, placed_at=START_MS,
        offset=7, row=0,
    )  # fmt: skip
    paid = PaymentReceived("m0", 1, "s1", CUSTOMER, 5_000_000, START_MS + 3 * HOUR_MS, 12, "0x" + "ab" * 32, 3)
    first = Live(tmp_path / "live", 0, START_MS, set(), set(), lambda: 0.0, is_new=True)
    first.write_rows(START_MS, "orders", orders_table([order]))
    first.write_rows(START_MS + HOUR_MS, "payments", payments_table([AcceptedPayment(8, paid)]))
    Live(tmp_path / "live", 0, START_MS + 2 * HOUR_MS, set(), set(), lambda: 0.0, is_new=False)
    analyst = Analyst(tmp_path)
    assert analyst.rows('SELECT "offset" FROM orders') == [(7,)]
    assert analyst.rows('SELECT "offset" FROM payments') == [(8,)]


def test_payments_of_an_unfinished_epoch_are_shown_after_a_restart(tmp_path: Path) -> None:
    paid = PaymentReceived("m0", 1, "s1", CUSTOMER, 5_000_000, START_MS + HOUR_MS, 12, "0x" + "ab" * 32, 3)
    value = msgspec.json.encode(paid)
    log = SimLog([registration("m0", 0), Record(1, START_MS + 1, b"m0", value, [("ce_type", PAID.encode())])])
    analyst = Analyst(tmp_path)
    for records in (log.records, []):
        partition = Partition.open(tmp_path, HOURLY, 0, "topic-1", log)
        assert partition is not None
        partition.process(0 if records else log.end, log.end, records)
        partition.close()
        assert analyst.rows("SELECT session, final FROM payments") == [("s1", False)]


def test_prepaid_sessions_dues_and_orders_are_shown(tmp_path: Path) -> None:
    """Written as a worker would: two epochs that are final, orders and windows of a third that is not."""
    analyst = Analyst(tmp_path)
    terms = Agreement({"owner": 10_000}, locked_until=1_700_000_000_000)
    plain = random_window(random.Random(1), "m0", START_MS)
    window = structs.replace(
        plain,
        sessions=(Statement("s1", CUSTOMER, 5_000_000, 1_500_000, 3_500_000), Statement("s2", CUSTOMER, 1, 3, 0)),
        dues=(Due("expense", SUPPLIER, "nut/1", 2_000), Due("refund", CUSTOMER, "s1", 3_500_000)), agreement=terms,
        expenses_micros=2_000, uncollected_micros=2, collected_micros=1_500_001, flags=("clock", "fees"), lines=(),
    )  # fmt: skip
    order = Order(
        machine="m0", item="nut", number=1, quantity=2, unit_price=1_000, supplier=SUPPLIER, placed_at=START_MS,
        offset=7, row=0,
    )  # fmt: skip
    tables = window_tables([window], lambda machine, version: ("robot", "hall-1")) | {"orders": orders_table([order])}
    paths = epoch_paths(tmp_path, HOURLY, HOURLY.epoch_of(START_MS), 0)
    for name, table in tables.items():
        write_table(Temporary(paths.table(name)), table).publish(durable=False)
    assert analyst.rows("FROM orders") == analyst.rows("FROM dues") == []  # there is no manifest yet
    paths.manifest.write_bytes(b'{"manifest": {"deposits_micros": "7", "orders": 1}}')
    live = Live(tmp_path / "live", 0, START_MS + HOUR_MS, set(), set(), lambda: 0.0, is_new=True)
    later = structs.replace(window, start_ms=START_MS + HOUR_MS, dues=window.dues[1:], sessions=window.sessions[:1])
    live.write(later.start_ms, window_tables([later], lambda machine, version: ("robot", "m0")))
    live.write_rows(later.start_ms, "orders", orders_table([structs.replace(order, number=2, offset=9)]))
    assert analyst.rows("SELECT session, paid, used, refund, uncollected, final FROM statements ORDER BY ALL") == [
        ("s1", 5, Decimal("1.5"), Decimal("3.5"), 0, False),
        ("s1", 5, Decimal("1.5"), Decimal("3.5"), 0, True),
        ("s2", Decimal("0.000001"), Decimal("0.000003"), 0, Decimal("0.000002"), True),
    ]
    shown = "session, statements, paid, used, refund, uncollected, collected, collected_micros, final"
    assert analyst.rows(f"SELECT {shown} FROM sessions ORDER BY ALL") == [
        ("s1", 2, 10, 3, 7, 0, 3, 3_000_000, False),
        ("s2", 1, Decimal("0.000001"), Decimal("0.000003"), 0, Decimal("0.000002"), Decimal("0.000001"), 1, True),
    ]
    assert analyst.rows("SELECT kind, account, ref, amount_micros, final FROM dues ORDER BY ALL") == [
        ("expense", SUPPLIER, "nut/1", 2_000, True),
        ("refund", CUSTOMER, "s1", 3_500_000, False),
        ("refund", CUSTOMER, "s1", 3_500_000, True),
    ]
    assert analyst.rows('SELECT "number", unit_price, expense_micros, "offset", final FROM orders ORDER BY ALL') == [
        (1, Decimal("0.001"), 2_000, 7, True),
        (2, Decimal("0.001"), None, 9, False),
    ]
    assert analyst.rows("SELECT kind, route, site, flags FROM windows ORDER BY start") == [
        ("robot", "hall-1", "hall-1", ["clock", "fees"]),
        ("robot", "m0", None, ["clock", "fees"]),
    ]
    assert analyst.rows("SELECT kind, expenses, collected, flags FROM machines") == [
        ("robot", Decimal("0.004"), Decimal("3.000002"), ["clock", "fees"])
    ]
    assert analyst.rows("SELECT payee, points, locked_until::VARCHAR FROM agreements") == [
        ("owner", 10_000, "2023-11-14 22:13:20")
    ]
    assert analyst.rows("SELECT deposits, orders FROM epochs") == [(Decimal("0.000007"), 1)]


def test_partitions_of_a_process_share_the_time(tmp_path: Path) -> None:
    now_s = [0.0]

    def write(path: Path) -> None:
        path.write_bytes(b"")
        now_s[0] += 0.1

    live = Live(tmp_path / "live", 0, 0, set(), set(), lambda: now_s[0], is_new=True, partitions=lambda: 4)
    now_s[0] = 0.01
    assert live.is_rejects_due(1)
    assert not live.is_rejects_due(100_000), "writing many takes long, so a burst waits"
    live.write_rejects(START_MS, write)
    now_s[0] = 16.0
    assert not live.is_rejects_due(1)
    now_s[0] = 16.2
    assert live.is_rejects_due(1)
