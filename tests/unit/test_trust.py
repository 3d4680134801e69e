"""What signatures make of readings, row by row, and of windows (rule 27)."""

from hashlib import sha256
from typing import Any

import msgspec
import pytest

from schemas.reading import READING
from schemas.units import DAY_MS, HOUR_MS, MINUTE_MS
from schemas.window import HARDWARE_BACKED, SELF_REPORTED, SIGNED, Window
from settlement.accrual import Balances, earning_of
from settlement.audit.recount import Recount
from streams.core.records import Record
from streams.core.signature import reading_message
from streams.core.trust import RecordSignature, trust_of
from tests.support.signed_logs import key_of, signature_headers, signed
from tests.support.written_log import ONE, QUARTER_MS, START_MS, Partition

KEYS = [key_of("gateway", 1), key_of("device", 2, hardware=True)]
ACCOUNT = "0x" + "1" * 40
Plain = dict[str, Any]


def trips(seq: int, at_ms: int, **changes: Any) -> Plain:
    row = {"machine": "m", "meter": "trips", "boot": 1, "seq": seq, "observed_at": START_MS + at_ms, "quantity": 1}
    return row | changes


def send(
    partition: Partition, rows: Plain | list[Plain], at_ms: int, key_id: str | None = None, number: int = 1
) -> list[str]:
    """Sends rows as one record, signed by a key; gives the reasons for which some are refused."""
    body = msgspec.json.encode(rows)
    record = Record(0, 0, b"m", body, [("ce_type", READING.encode())])
    headers = () if key_id is None else signature_headers(ONE.log_id, record, key_id, number)
    return partition.send(READING, body, at_ms, headers=headers)


@pytest.fixture
def one() -> Partition:
    partition = Partition()
    assert not partition.register(keys=KEYS)
    return partition


def test_a_window_has_the_lowest_trust_of_its_readings(one: Partition) -> None:
    assert send(one, trips(1, 0), 0, "device", 2) == []
    assert send(one, trips(2, QUARTER_MS), QUARTER_MS, "device", 2) == []
    assert send(one, trips(3, QUARTER_MS), QUARTER_MS, "gateway", 1) == []
    assert send(one, trips(4, QUARTER_MS + MINUTE_MS), QUARTER_MS + MINUTE_MS, "device", 2) == []
    assert send(one, trips(5, 2 * QUARTER_MS), 2 * QUARTER_MS) == []
    assert send(one, trips(5, 0), 2 * QUARTER_MS) == ["equivocation"]
    assert [window.trust for window in one.seal()] == [HARDWARE_BACKED, SIGNED, SELF_REPORTED]


def test_what_was_not_accepted_lowers_no_trust(one: Partition) -> None:
    assert send(one, [trips(1, 0), trips(2, MINUTE_MS)], MINUTE_MS, "device", 2) == []
    assert send(one, trips(2, MINUTE_MS), MINUTE_MS) == []
    assert send(one, trips(3, MINUTE_MS, quantity=10**9), MINUTE_MS) == ["too_high"]
    assert {window.trust for window in one.seal()} == {HARDWARE_BACKED}


def test_corrections_are_nobody_s_self_report(one: Partition) -> None:
    assert not one.correct(1, 7, 0)
    assert not one.correct(2, 7, QUARTER_MS, QUARTER_MS)
    assert send(one, trips(1, QUARTER_MS), QUARTER_MS, "gateway", 1) == []
    assert [(window.readings, window.trust) for window in one.seal()] == [(0, HARDWARE_BACKED), (1, SIGNED)]


def test_a_signature_must_be_right_where_there_is_one(one: Partition) -> None:
    assert send(one, trips(1, 0), 0, "gateway", 2) == ["bad_signature"]
    assert send(one, trips(1, 0), 0, "nobody", 1) == ["bad_signature"]
    assert send(one, trips(1, 0), 0, "gateway", 1) == []
    body = msgspec.json.encode(trips(2, 0))
    record = Record(0, 0, b"m", body)
    signature, key_id = signature_headers(ONE.log_id, record, "gateway", 1)
    wrong: list[list[tuple[str, bytes | None]]] = [
        [signature], [key_id], [signature, signature, key_id], [signature, key_id, key_id],
        [("signature", None), key_id],
        [("signature", (signature[1] or b"") + b"\0"), key_id], [("signature", bytes(64)), key_id],
        list(signature_headers("another", record, "gateway", 1)),
        list(signature_headers(ONE.log_id, record._replace(key=b"n"), "gateway", 1)),
        [signature, key_id, ("content-type", b"application/json; charset=utf-8")],
    ]  # fmt: skip
    for headers in wrong:
        assert one.send(READING, body, 0, headers=headers) == ["bad_signature"]
    assert one.send(READING, body + b" ", 0, headers=[signature, key_id]) == ["bad_signature"]
    # The header says what is the default, so the message is the same.
    headers = [key_id, ("other", b"x"), signature, ("content-type", b"application/json")]
    assert one.send(READING, body, 0, headers=headers) == []


def test_rows_of_one_record_are_judged_by_the_keys_of_their_machines(one: Partition) -> None:
    assert not one.send("machine.registered", other_machine("n", []), 0, "n")
    assert not one.send("machine.registered", other_machine("o", [key_of("gateway", 3)]), 0, "o")
    rows = [trips(1, 0, machine=name) for name in ("m", "n", "ghost", "o", "m")]
    rows[-1] |= {"seq": 2}
    assert send(one, rows, 0, "gateway", 1) == ["bad_signature", "unknown_machine", "bad_signature"]


def other_machine(name: str, keys: list[Plain]) -> Plain:
    return {
        "machine": name, "route": name, "version": 1, "kind": "charger", "effective_from": 0,
        "meters": [{"meter": "trips", "unit": "count", "kind": "quantity", "capacity_per_hour": 60}],
        "tariff": {"elements": [], "offsets": [[0, 0]]}, "agreement": {"payees": {"owner": 10_000}}, "keys": keys,
    }  # fmt: skip


def test_the_version_in_force_at_the_row_has_the_keys(one: Partition) -> None:
    """The first version is in force until :15, the second with another key from there on."""
    assert not one.register(2, 0, keys=[key_of("gateway", 3)], require_signature=True)
    assert send(one, trips(1, 0), MINUTE_MS) == []
    assert send(one, trips(2, 0), MINUTE_MS, "gateway", 3) == ["bad_signature"]
    now_ms = QUARTER_MS + MINUTE_MS
    assert send(one, trips(2, QUARTER_MS + 1), now_ms, "gateway", 1) == ["bad_signature"]
    assert send(one, trips(2, QUARTER_MS + 1), now_ms) == ["bad_signature"]
    rows = [trips(2, 1), trips(3, QUARTER_MS + 1)]
    assert send(one, rows, now_ms, "gateway", 3) == ["bad_signature"]
    assert send(one, trips(2, 1), now_ms, "gateway", 1) == []


def test_bad_signature_stands_between_unknown_machine_and_from_the_future(one: Partition) -> None:
    assert not one.register(2, 0, keys=KEYS, require_signature=True)
    assert send(one, trips(1, 0, machine="ghost"), HOUR_MS, "nobody") == ["unknown_machine"]
    future = 2 * HOUR_MS
    for row in (trips(1, future), trips(1, HOUR_MS, meter="no"), trips(1, HOUR_MS, meter="energy")):
        assert send(one, row, HOUR_MS) == ["bad_signature"]
        assert send(one, row, HOUR_MS, "gateway", 2) == ["bad_signature"]
    assert send(one, trips(1, future), HOUR_MS, "gateway", 1) == ["from_the_future"]
    assert send(one, {"machine": "m"}, HOUR_MS, "nobody") == ["malformed"]
    assert one.send(READING, b"{", HOUR_MS, headers=[("signature", b"")]) == ["undecodable"]


def test_a_record_is_verified_once_for_each_public_key(one: Partition) -> None:
    signature = RecordSignature(ONE.log_id, signed(ONE.log_id, Record(0, 0, b"m", b"{}"), "gateway", 1))
    version = one.state.machines["m"].last
    assert [trust_of(signature, version) for _ in range(9)] == [SIGNED] * 9
    assert not one.register(2, 0, keys=[key_of("gateway", 4)])
    assert [trust_of(signature, one.state.machines["m"].last) for _ in range(9)] == [None] * 9
    assert len(signature._known) == 2


def test_the_message_is_what_gateways_are_told() -> None:
    message = reading_message("log-1", "site-a", "reading", "application/json", b'{"machine":"m"}')
    assert message == (
        b"tallyroot reading 1\n"
        b"\0\0\0\0\0\0\0\5log-1"
        b"\0\0\0\0\0\0\0\6site-a"
        b"\0\0\0\0\0\0\0\7reading"
        b"\0\0\0\0\0\0\0\x10application/json"
        b"\0\0\0\0\0\0\0\x20" + sha256(b'{"machine":"m"}').digest()
    )


def test_an_agreement_pays_only_for_the_trust_that_it_names() -> None:
    one = Partition()
    agreement = {"payees": {ACCOUNT: 10_000}, "pays_trust": 1}
    assert not one.register(keys=KEYS, agreement=agreement)
    for place, signer in enumerate((("gateway", 1), None, ("device", 2), ("gateway", 1), None)):
        at_ms = place * QUARTER_MS
        assert send(one, trips(2 * place + 1, at_ms), at_ms, *(signer or ())) == []
        assert send(one, trips(2 * place + 2, at_ms), at_ms, *(("device", 2) if place < 3 else ())) == []
    windows: list[Window] = one.seal(DAY_MS)
    assert [(window.net_micros, window.trust) for window in windows] == [
        (200, 1),
        (200, 0),
        (200, 2),
        (200, 0),
        (200, 0),
    ]
    before, balances, recount = Balances(), Balances(), Recount()
    for window in windows:
        balances.accrue(earning_of(window))
        recount.take(window)
    assert balances.payouts() == recount.owed == {ACCOUNT: 400}
    assert [(held.reason, held.micros) for held in balances.unsettled_since(before)] == [("trust", "600")]
    assert recount.unsettled() == {("trust", "m", ""): 600}
