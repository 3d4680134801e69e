"""Small logs through `advance`: time, versions, corrections, windows and cuts (rules 1, 5, 6, 9, 10, 13, 21 to 26)."""

from typing import Any

import msgspec
import pytest

from schemas.errors import InvalidInput
from schemas.log import Log, Ruleset
from schemas.reading import READING, REGISTERED
from schemas.units import COUNT_MAX, DAY_MS, HOUR_MS, MINUTE_MS
from streams.core import records as definition
from streams.core.murmur2 import partition_of
from streams.core.recompute import recompute
from streams.core.records import Record
from streams.core.replay import advance_through
from streams.core.signature import operator_account, sign_control
from streams.reference.vectors import main
from tests.support.written_log import ONE, QUARTER_MS, START_MS, Partition, priced, registration


@pytest.fixture
def one() -> Partition:
    partition = Partition()
    assert not partition.register()
    return partition


# Entries and time


@pytest.mark.parametrize(
    ("value", "headers", "reasons"),
    [
        (b"{", (), ["undecodable"]),
        (b"[]", (), ["malformed"]),
        (b"7", (), ["malformed"]),
        (b"[7, null]", (), ["malformed", "malformed"]),
        (b"[" + b"{}," * 10_000 + b"{}]", (), ["too_many_entries"]),
        (b"[" + b"{}," * 9_999 + b"{}]", (), ["malformed"] * 10_000),
        (b"[]", (("ce_type", b"order"),), ["unknown_type"]),
        (b"{}", (("ce_type", None),), ["unknown_type"]),
        (b"{}", (("content-type", b"text/plain"),), ["undecodable"]),
        (b"{}", (("content-type", b"Application/JSON; charset=utf-8"),), ["malformed"]),
        (b"[" * 64 + b"]" * 64, (), ["malformed"]),
        (b"[" * 66 + b"]" * 66, (), ["undecodable"]),
    ],
)
def test_a_record_s_entries(one: Partition, value: bytes, headers: Any, reasons: list[str]) -> None:
    assert one.send(READING, value, 0, headers=headers) == reasons


def test_limits_are_inclusive(one: Partition) -> None:
    assert one.trips(1, 5 * MINUTE_MS, 0) == []
    assert one.trips(1, 5 * MINUTE_MS + 1, 0) == ["from_the_future"]
    one.seal(40 * DAY_MS)
    assert one.trips(1, 5 * DAY_MS, 40 * DAY_MS) == []
    assert one.trips(1, 5 * DAY_MS - 1, 40 * DAY_MS) == ["too_late"]


def test_a_window_seals_at_its_end_and_grace(one: Partition) -> None:
    one.trips(2, QUARTER_MS)  # What it shows was used before it was read.
    assert not one.seal(25 * MINUTE_MS - 1)
    assert one.trips(3, 1, 25 * MINUTE_MS - 1) == []
    assert [(window.start_ms, window.gross_micros) for window in one.seal(25 * MINUTE_MS)] == [(START_MS, 500)]
    assert one.trips(4, 1, 25 * MINUTE_MS) == []
    adjustment = one.seal()[-1]
    assert (adjustment.start_ms, adjustment.adjusts_ms) == (START_MS + QUARTER_MS, START_MS)
    assert adjustment.gross_micros == 400


def test_a_refused_row_has_used_its_number_up_only_after_identity(one: Partition) -> None:
    assert one.trips(100_000, 0, seq=1) == ["too_high"]
    assert one.trips(100_000, 0, seq=1) == []  # The same row again: a duplicate.
    assert one.trips(1, 0, seq=1) == ["equivocation"]
    assert one.trips(1, 6 * MINUTE_MS, 0, seq=2) == ["from_the_future"]
    assert one.trips(1, 0, seq=2) == []


def test_equivocation_marks_windows_until_the_next_version(one: Partition) -> None:
    one.trips(1, 0, seq=1)
    one.trips(2, 0, seq=1)
    assert not one.register(2, 1_000)
    one.trips(1, 0, 1_000, seq=2)
    one.trips(1, HOUR_MS, seq=3)
    assert one.trips(9, HOUR_MS, seq=3) == ["equivocation"]
    assert [window.flags for window in one.seal()] == [(), ("equivocation",)]


# Versions


def test_a_version_is_in_force_where_no_reading_can_lie_yet(one: Partition) -> None:
    """At :10 + 5 min the next start, :15, is not strictly after; so :30."""
    assert not one.register(2, 10 * MINUTE_MS, tariff=priced(700))
    assert one.register(3, 10 * MINUTE_MS, effective_from=START_MS + HOUR_MS + 1, tariff=priced(900)) == []
    for quarter in (1, 2, 4, 5):
        one.trips(1, quarter * QUARTER_MS + 1)
    found = [(window.registration_version, window.gross_micros) for window in one.seal()]
    assert found == [(1, 100), (2, 700), (2, 700), (3, 900)]


def test_a_session_keeps_the_version_in_force_when_it_started(one: Partition) -> None:
    visit = {"session": "s", "session_started_at": START_MS}
    assert not one.register(2, 0, tariff=priced(700), agreement={"payees": {"other": 10_000}})
    one.trips(0, 0, session_start=True, **visit)
    one.trips(1, 2 * QUARTER_MS + 1, **visit)
    one.trips(1, 2 * QUARTER_MS + 1, session="never-started", session_started_at=START_MS)
    window = one.seal()[1]
    assert [(line.version, line.amount_micros) for line in window.lines] == [(1, 100), (2, 700)]
    assert (window.registration_version, window.agreement.payees) == (2, {"other": 10_000})


def test_control_records_count_and_repeat(one: Partition) -> None:
    assert one.register(1) == []
    assert one.register(1, retired=False) == []
    assert one.register(1, kind="robot") == ["stale_version"]
    assert one.register(3) == ["stale_version"]
    assert one.send(REGISTERED, registration(2, surplus=1), 0) == ["malformed"]
    assert one.send(REGISTERED, registration(2, route="n"), 0, "n") == ["wrong_partition"]
    assert one.send(REGISTERED, registration(2), 0, "n") == ["wrong_partition"]
    assert one.send(REGISTERED, [registration(2)], 0) == ["malformed"]
    assert one.parts[1].counts.duplicate == one.parts[2].counts.duplicate == 1


def test_a_record_must_lie_where_murmur2_puts_its_route() -> None:
    log = Log(log_id="two", partitions=2)
    here = partition_of(b"m", 2)
    assert Partition(log, here).register() == []
    assert Partition(log, 1 - here).register() == ["wrong_partition"]


def test_a_locked_agreement_holds_until_its_moment(one: Partition) -> None:
    lock = START_MS + HOUR_MS
    assert not one.register(2, agreement={"payees": {"a": 6_000, "b": 4_000}, "locked_until": lock})
    for refused in (
        {"payees": {"a": 6_001, "b": 3_999}, "locked_until": lock},
        {"payees": {"a": 10_000}, "locked_until": lock},
        {"payees": {"a": 6_000, "b": 4_000}},
        {"payees": {"a": 6_000, "b": 4_000}, "locked_until": lock - 1},
        {"payees": {"a": 6_000, "b": 4_000}, "locked_until": lock, "pays_trust": 1},
    ):
        assert one.register(3, HOUR_MS - 1, agreement=refused) == ["agreement_locked"]
    assert one.register(3, HOUR_MS, agreement={"payees": {"a": 10_000}}) == []


def test_retired_machines_earn_nothing_but_are_corrected(one: Partition) -> None:
    assert not one.register(2, retired=True)
    assert one.trips(1, QUARTER_MS + 1) == ["retired"]
    assert one.correct(1, 5, QUARTER_MS + 1, QUARTER_MS + 1) == []
    assert not one.register(3, QUARTER_MS + 1)
    assert one.trips(1, 2 * QUARTER_MS + 1) == []
    assert [window.gross_micros for window in one.seal()] == [500, 100]


def test_a_registered_boot_forgets_and_an_opening_register_counts_with_it(one: Partition) -> None:
    meters = registration()["meters"]
    opened = [meters[0] | {"opening_register": 50}, meters[1]]
    one.trips(0, 0, boot=4)
    assert not one.register(2, MINUTE_MS, boot=2, meters=opened)
    assert one.trips(0, MINUTE_MS, boot=1) == ["stale_boot"]
    assert one.trips(0, MINUTE_MS, boot=2, seq=0) == []
    row = {"machine": "m", "meter": "energy", "boot": 2, "seq": 0, "observed_at": START_MS + HOUR_MS, "register": 80}
    assert one.send(READING, row, HOUR_MS) == []
    lines = [line for window in one.seal() for line in window.lines]
    assert [(line.meter, line.usage, line.price_micros, line.per) for line in lines] == [("energy", 30, 0, 1)]


def test_operators_sign_control_records_where_the_rules_name_them() -> None:
    key = bytes([7]) * 32
    log = Log(log_id="signed", partitions=1, rulesets=(Ruleset(operators=(operator_account(key),)),))
    partition = Partition(log)
    body = msgspec.json.encode(registration())
    good = sign_control(key, "signed", "m", REGISTERED, "application/json", body)
    other = sign_control(bytes([8]) * 32, "signed", "m", REGISTERED, "application/json", body)
    elsewhere = sign_control(key, "another", "m", REGISTERED, "application/json", body)
    for signature in ((), (other,), (good[:-1],), (elsewhere,), (good, good), (good, other), (None,)):
        headers = [("signature", part) for part in signature]
        assert partition.send(REGISTERED, body, 0, headers=headers) == ["bad_signature"]
    assert partition.send(REGISTERED, body, 0, "n", [("signature", good)]) == ["bad_signature"]
    assert partition.send(REGISTERED, b"{}", 0) == ["malformed"]
    assert partition.send(REGISTERED, body, 0, headers=(("signature", good),)) == []
    assert partition.correct(1, 1, 0) == ["bad_signature"]


# Corrections


def test_corrections_have_no_horizon_and_a_limit(one: Partition) -> None:
    most = 60 * 135 * 35 * 24 // 100
    assert one.correct(1, -most - 1, 0) == ["too_high"]
    assert one.correct(1, -most, -100 * DAY_MS) == []
    assert one.correct(1, -most, -100 * DAY_MS) == []
    assert one.correct(2, 1, 5 * MINUTE_MS + 1) == ["from_the_future"]
    assert one.correct(2, 1, 0, meter="no") == ["unknown_meter"]
    assert one.correct(2, 1, 0, machine="ghost") == ["unknown_machine"]
    assert one.correct(2, 7, 0) == []
    plain, adjustment = one.seal()  # The earliest open window is the one that ends as the log begins.
    assert (plain.adjusts_ms, plain.gross_micros, plain.readings) == (None, 700, 0)
    assert (adjustment.adjusts_ms, adjustment.gross_micros) == (START_MS - QUARTER_MS - 100 * DAY_MS, -100 * most)
    assert (adjustment.first_offset, adjustment.last_offset) == (2, 2)


def test_usage_that_comes_to_nothing_leaves_no_line(one: Partition) -> None:
    one.trips(5, 0)
    one.correct(1, -5, 0)
    assert one.seal()[0].lines == ()


def test_no_sum_in_a_line_leaves_2_to_the_53(one: Partition) -> None:
    """Neither usage nor worth: so nobody stops a partition with a sum."""
    meters = [meter | {"capacity_per_hour": COUNT_MAX} for meter in registration()["meters"]]
    assert not one.register(2, 0, meters=meters)
    at_ms = QUARTER_MS + 1
    assert one.correct(1, COUNT_MAX, at_ms, at_ms, meter="energy") == []
    assert one.correct(2, 1, at_ms, at_ms, meter="energy") == ["too_high"]
    assert one.correct(2, -1, at_ms, at_ms, meter="energy") == []
    assert one.correct(3, COUNT_MAX // 100, at_ms, at_ms) == []
    assert one.correct(4, 1, at_ms, at_ms) == ["too_high"]
    [window] = one.seal()
    assert [line.usage for line in window.lines] == [COUNT_MAX - 1, COUNT_MAX // 100]


def test_what_another_state_makes_of_a_machine_stays_there(one: Partition) -> None:
    """A plan is judged on a copy: the log has still to say what counts."""
    assert one.correct(1, 5, 0) == []
    other = Partition()
    other.seal(0)
    other.state.adopt(one.state.machines["m"])
    assert other.correct(2, 7, 0) == []
    assert one.correct(2, 7, 0) == []
    assert one.parts[-1].counts.accepted == 1


# Epochs


def test_a_cut_lies_inside_the_record_that_passes_the_epoch(one: Partition) -> None:
    one.trips(1, DAY_MS - 1)
    assert one.trips(0, DAY_MS) == []
    assert one.trips(3, DAY_MS + 10 * MINUTE_MS) == []
    before, at_cut = one.parts[-2:]
    assert (before.cut, before.consumed, at_cut.cut, at_cut.consumed) == (19_000, 0, None, 1)
    assert [window.start_ms for window in before.windows] == [START_MS + DAY_MS - QUARTER_MS]
    assert before.counts.entries == 0
    assert at_cut.counts.accepted == 1


def test_a_record_that_passes_epochs_cuts_for_each_and_again_changes_nothing(one: Partition) -> None:
    one.trips(1, 0)
    record = Record(50, START_MS + 3 * DAY_MS, b"", b"", [("ce_type", b"heartbeat")])
    parts = advance_through(one.state, [record])
    assert [part.cut for part in parts] == [18_999, 19_000, 19_001, None]
    digest = one.state.digest()
    assert [part.cut for part in advance_through(one.state, [record])] == [None]
    assert one.state.digest() == digest


def test_a_record_is_read_once_however_many_epochs_end_in_its_slice(
    one: Partition, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each cut read the rest of the slice again: a backlog of small epochs cost their number squared."""
    read, honest = list[bytes | None](), definition.decode_readings

    def counted(value: bytes | None, content_type: str) -> definition.Rows | str:
        read.append(value)
        return honest(value, content_type)

    monkeypatch.setattr(definition, "decode_readings", counted)
    odd = [Record(50 + day, START_MS + day * DAY_MS, b"", b"{odd", []) for day in range(1, 9)]
    parts = advance_through(one.state, odd)
    assert sum(part.cut is not None for part in parts) == 8
    assert read == [record.value for record in odd]


def test_the_first_epoch_is_that_of_the_earliest_open_window() -> None:
    for at_ms, epoch in ((0, 18_999), (10 * MINUTE_MS - 1, 18_999), (10 * MINUTE_MS, 19_000)):
        partition = Partition()
        partition.seal(at_ms)
        assert partition.state.epoch == epoch
    for timestamp in (-1, 2**63 - 1, -(2**63)):
        partition = Partition()
        partition.seal(timestamp - START_MS)
        assert partition.state.epoch == 0


def test_a_longer_grace_opens_no_sealed_window_again() -> None:
    rulesets = (Ruleset(grace_ms=MINUTE_MS), Ruleset(first_epoch=19_001, grace_ms=2 * HOUR_MS))
    partition = Partition(Log(log_id="grace", partitions=1, rulesets=rulesets))
    partition.register()
    partition.trips(1, DAY_MS - 1)
    partition.trips(0, DAY_MS - 1, DAY_MS + MINUTE_MS)
    assert partition.state.earliest_open_ms == START_MS + DAY_MS
    found = [(window.start_ms - START_MS, window.adjusts_ms) for window in partition.seal(2 * DAY_MS)]
    assert found == [(DAY_MS - QUARTER_MS, None), (DAY_MS, START_MS + DAY_MS - QUARTER_MS)]


def test_recompute_wants_the_log_in_order() -> None:
    record = Record(3, START_MS, b"", b"", [("ce_type", b"heartbeat")])
    with pytest.raises(InvalidInput, match="offset 3 follows 3"):
        list(recompute(ONE, 0, [[record, record]]))


def test_replay_says_what_is_wrong_with_a_file(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([])
    assert main([str(tmp_path / "none.json"), "--core"]) == 1
    (tmp_path / "odd.json").write_text('{"log": 1}')
    assert main([str(tmp_path / "odd.json")]) == 1
    assert "pass a JSON file" in capsys.readouterr().err
