"""What a meter signed is worth the same by the core, by the slow text, and wherever a log is cut (rules 41 and 42)."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.units import MINUTE_MS
from streams.core.replay import advance_through
from streams.reference.vectors import Document, new_state, records_of, recounted, replay, result_of
from tests.support.ocmf import meter_key, register, signed
from tests.support.signing_meters import START_MS, SigningMeter, signing_log


def test_the_slow_text_equals_the_core_on_signing_meters() -> None:
    happened: Counter[str] = Counter()
    for seed in range(6):
        document = signing_log(seed, 40)
        found = recounted(document)
        assert found == replay(document), seed
        happened.update(flag for window in found["windows"] for flag in window["flags"])
        happened.update(f"trust {window['trust']}" for window in found["windows"] if window["lines"])
        happened.update(reason for _, _, reason in found["rejects"])
    assert {"proven", "evidence", "trust 0", "trust 1", "trust 2", "malformed", "bad_signature"} <= happened.keys()


@settings(max_examples=4)
@given(st.integers(1_000, 10**9))
def test_it_equals_the_core_on_others(seed: int) -> None:
    document = signing_log(seed, 25)
    assert recounted(document) == replay(document)


@settings(max_examples=4)
@given(st.integers(0, 10**9))
def test_no_cut_and_no_restart_shows(seed: int) -> None:
    document = signing_log(seed, 25)
    state, parts = new_state(document), []
    for record in records_of(document):  # one by one, each time from the dumped state
        parts += advance_through(state, [record])
        state = type(state).load(state.log, 0, state.tables(), state.signatures)
    assert result_of(state, parts) == replay(document)


def session(begin: str | None, end: str | None, between: bool = False, trust: int = 1) -> Document:
    """A session of 2 kWh within a window, by a charger whose gateway signs; with the meter's word or without."""
    meter = SigningMeter(1)
    meter.unit, meter.curve, meter.obis = "Wh", "secp256r1", None
    key = meter_key("secp256r1")
    meter.register_machine()
    meter.log[0]["value"]["meters"][0]["meter_key"] = {"curve": key.curve, "public_key": key.public_key}
    meter.log[0]["value"]["tariff"]["elements"][0]["components"] = [{"meter": "energy", "price": 350_000, "per": 1_000}]
    started_at = START_MS + MINUTE_MS
    of_session = {"machine": "evse", "meter": "energy", "boot": 1, "session": "s", "session_started_at": started_at}
    rows = [
        {"seq": 1, "observed_at": started_at, "register": 5_000, "session_start": True, "evidence": begin},
        {"seq": 2, "observed_at": started_at + MINUTE_MS, "register": 6_000} if between else None,
        {"seq": 3, "observed_at": started_at + 2 * MINUTE_MS, "register": 7_000, "session_end": True, "evidence": end},
    ]  # fmt: skip
    for row in rows:
        if row is not None:
            meter.now_ms = row["observed_at"]
            whole = {name: part for name, part in (of_session | row).items() if part is not None}
            meter.send("reading", whole, trust=trust)
    return meter.ended()


def trust_and_flags(document: Document) -> tuple[int, list[str]]:
    found = replay(document)
    assert found == recounted(document)
    [window] = [window for window in found["windows"] if window["lines"]]
    return window["trust"], window["flags"]


BEGIN_AT, END_AT = START_MS + MINUTE_MS, START_MS + 3 * MINUTE_MS
BEGIN, END = register(BEGIN_AT, "B", 5_000), register(END_AT, "E", "7.0004", RU="kWh")


def test_a_session_whose_two_registers_the_meter_signed_is_proven() -> None:
    """Each with its row, or both with the last."""
    assert trust_and_flags(session(signed("secp256r1", BEGIN), signed("secp256r1", END))) == (2, ["proven"])
    assert trust_and_flags(session(None, signed("secp256r1", BEGIN, END))) == (2, ["proven"])
    assert trust_and_flags(session(None, signed("secp256r1", BEGIN, END), trust=0)) == (2, ["proven"])


def test_what_only_one_end_says_is_not() -> None:
    assert trust_and_flags(session(None, signed("secp256r1", END))) == (1, [])
    assert trust_and_flags(session(signed("secp256r1", BEGIN), None)) == (1, [])


def test_an_unsigned_register_between_them_breaks_the_proof() -> None:
    between = session(signed("secp256r1", BEGIN), signed("secp256r1", END), between=True)
    assert trust_and_flags(between) == (1, [])


def test_a_thief_gains_nothing() -> None:
    """Another meter's key, a register that the meter never showed, a time that suits a cheaper price, a session of
    yesterday played again: each is named, and counts as what the gateway's signature is worth.
    """
    of_another = signed("secp256r1", BEGIN, END, number=8)
    too_much = signed("secp256r1", BEGIN, END | {"RV": "9.0"})
    at_night = signed("secp256r1", BEGIN, register(END_AT - 60 * MINUTE_MS, "E", 7_000))
    yesterday = signed("secp256r1", register(BEGIN_AT, "B", 3_000), register(BEGIN_AT, "E", 5_000))
    for evidence in (of_another, too_much, at_night, yesterday):
        assert trust_and_flags(session(None, evidence)) == (1, ["evidence"])


def test_evidence_is_not_compared_where_a_reading_is_sent_again() -> None:
    document = session(None, signed("secp256r1", BEGIN, END))
    last = document["log"][-2]
    again = {**last, "offset": len(document["log"]), "value": {**last["value"], "evidence": "another"}}
    document["log"].append(again | {"timestamp": document["log"][-1]["timestamp"]})
    found = replay(document)
    assert (found, found["counts"]["duplicate"]) == (recounted(document), 1)


def test_a_key_alone_changes_nothing() -> None:
    assert trust_and_flags(session(None, None)) == (1, [])
