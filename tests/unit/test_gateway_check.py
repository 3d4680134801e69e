"""What a gateway's author is told of a log: every record that is wrong, why, and what the machine would have earned."""

from collections import Counter
from typing import Any

import msgspec

from deploy.explain.advice import ADVICE, NOTICE_ADVICE
from deploy.explain.gateway_check import PartitionCheck, Problem
from schemas.log import Log
from schemas.units import HOUR_MS
from streams.core.encode import arrow_value
from streams.core.murmur2 import partition_of
from streams.core.records import Record
from tests.support.sim_log import START_MS, heartbeat, reading, registration

LOG = Log(log_id="check", partitions=2, timestamp_type="CreateTime", epoch_ms=HOUR_MS)
NAME = next(name for name in ("m0", "m1", "m2", "m3") if partition_of(name.encode(), 2) == 0)
ELSEWHERE = next(name for name in ("x0", "x1", "x2", "x3") if partition_of(name.encode(), 2) == 1)


def row(**given: Any) -> dict[str, Any]:
    return {"machine": NAME, "meter": "energy", "boot": 1, "seq": 50, "observed_at": START_MS + 5_000} | given


def record(offset: int, value: Any, key: str | None = NAME, headers: Any = ()) -> Record:
    data = value if isinstance(value, bytes) else msgspec.json.encode(value)
    return Record(offset, START_MS + 10_000, None if key is None else key.encode(), data, headers)


def checked(records: list[Record], machine: str | None = None) -> tuple[list[Problem], Any]:
    problems: list[Problem] = []
    check = PartitionCheck(LOG, 0, problems.append, machine)
    for place in range(0, len(records), 7):
        check.judge(records[place : place + 7])
    return problems, check.reports()


def test_a_good_gateway_has_no_problem_and_has_earned() -> None:
    records = [registration(NAME, 0)]
    records += [reading(NAME, 1 + n, START_MS + n * 300_000, 1 + n + (n > 5), n * 1_000) for n in range(10)]
    problems, (report,) = checked([*records, records[-1], heartbeat(12, START_MS + 45 * 60_000)])
    assert problems == []
    assert (report.accepted, report.duplicate, report.problems, report.skipped) == (10, 1, {}, 1)
    assert (report.trust, report.earned_micros) == (0, 2_700_000)


def test_what_is_wrong_is_named_with_what_to_do() -> None:
    bad = [
        record(2, row(register=1.5)),
        record(3, [row(register=1), row(register=5, level=6)]),
        record(4, b"{"),
        record(5, arrow_value([msgspec.json.encode(row(register=2, seq=51))])),
        record(6, row(register=3, machine=ELSEWHERE), key=ELSEWHERE),
        record(7, row(register=4, seq=52), key=None),
        record(8, row(register=5, seq=53), key="another" if partition_of(b"another", 2) == 0 else "other"),
        record(9, row(quantity=5, seq=54)),
        record(10, row(register=6, seq=53)),
        record(11, row(register=7, meter="power")),
        record(12, {"machine": NAME}, headers=[("ce_type", b"machine.registered")]),
    ]
    problems, reports = checked([registration(NAME, 0), *bad])
    assert [(p.offset, p.row, p.reason) for p in problems] == [
        (2, 0, "malformed"), (3, 1, "malformed"), (4, -1, "undecodable"), (5, -1, "undecodable"),
        (6, 0, "unknown_machine"), (6, -1, "misplaced_key"), (7, -1, "no_key"), (8, -1, "not_the_route"),
        (9, 0, "wrong_kind"), (10, 0, "equivocation"), (11, 0, "unknown_meter"), (12, -1, "malformed"),
    ]  # fmt: skip
    assert all(problem.advice in {**ADVICE, **NOTICE_ADVICE}.values() for problem in problems)
    details = {(p.offset, p.reason): p.detail or "" for p in problems}
    assert details[2, "malformed"] == "register: expected int, got float"
    assert details[3, "malformed"].startswith("exactly one of register, quantity and level")
    assert "looks like Arrow" in details[5, "undecodable"]
    assert f"the key {ELSEWHERE} belongs in partition 1" in details[6, "unknown_machine"]
    assert details[8, "not_the_route"].endswith(f"the route {NAME}")
    assert details[9, "wrong_kind"] == "energy is registered as a register, this is a quantity"
    assert details[10, "equivocation"] == "boot 1 seq 53, where the log is at boot 1 seq 53"
    assert details[11, "unknown_meter"] == "power is not one of its meters energy"
    found = {report.machine: report for report in reports}
    assert found[ELSEWHERE].problems == {"misplaced_key": 1, "unknown_machine": 1}
    assert sum(found[NAME].problems.values()) == 10
    assert (found[NAME].accepted, found[NAME].duplicate) == (3, 0)


def test_one_machine_alone() -> None:
    records = [
        registration(NAME, 0), record(1, b"{"), record(2, row(register=True)), record(3, b"{", key=ELSEWHERE),
        record(4, row(machine=ELSEWHERE, register=1), key=ELSEWHERE),
    ]  # fmt: skip
    problems, (report,) = checked(records, NAME)
    assert [problem.offset for problem in problems] == [1, 2]
    assert (report.machine, Counter(report.problems)) == (NAME, Counter(malformed=1, undecodable=1))


def test_what_came_before_is_no_part_of_the_report() -> None:
    records = [reading(NAME, 1 + n, START_MS + n * 300_000, 1 + n, n * 1_000) for n in range(10)]
    problems: list[Problem] = []
    check = PartitionCheck(LOG, 0, problems.append, None)
    check.skip([registration(NAME, 0), record(0, b"{"), *records[:5]])
    check.judge(records[5:])
    (report,) = check.reports()
    assert problems == []
    assert (report.accepted, report.earned_micros) == (5, 1_500_000)


def test_the_log_says_what_it_held_a_reading_against() -> None:
    first = row(register=1_000, seq=1)
    later = row(register=2_000, seq=2, observed_at=START_MS + 9_000)
    bad = [
        record(3, later | {"seq": 3, "register": 999_999, "observed_at": START_MS + 9_500}),
        record(4, later | {"seq": 4, "register": 900, "observed_at": START_MS + 9_600}),
        record(5, later | {"seq": 2**22}),
        record(6, later | {"boot": 2**22}),
        record(7, later | {"observed_at": START_MS + 10_000 + HOUR_MS}),
        record(8, later, headers=[("signature", b"s"), ("key-id", b"k")]),
        record(9, later, headers=[("signature", b"s")]),
    ]
    problems, _ = checked([registration(NAME, 0), record(1, first), record(2, later | {"register": 1_001}), *bad])
    assert [(p.reason, p.detail) for p in problems] == [
        ("too_high", "energy shows 999999, and can do 22000 Wh an hour and 1 at once"),
        ("too_low", "energy shows 900 after 1001"),
        ("seq_jump", f"boot 1 seq {2**22}, where the log is at boot 1 seq 4"),
        ("boot_jump", f"boot {2**22} seq 2, where the log is at boot 1 seq 4"),
        ("from_the_future", "observed 3,600 s after the log's time"),
        ("bad_signature", "the key-id k is not registered (none)"),
        ("bad_signature", "it has 1 headers signature and 0 key-id, not one each"),
    ]
