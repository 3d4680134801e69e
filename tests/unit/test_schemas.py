"""The wire's definition is strict, its published forms follow from it, and canonical bytes have one shape."""

import msgspec
import pytest
from msgspec import UNSET

from schemas.canonical import canonical_json
from schemas.errors import InvalidInput, InvariantBroken
from schemas.json_schemas import FOLDER, SCHEMAS, json_schema
from schemas.log import Log, Ruleset
from schemas.reading import Reading
from schemas.registration import Agreement, Component, Registration, Restrictions
from schemas.reject import REASONS
from schemas.units import COUNT_MAX, DAY_MS
from schemas.window import Due, Line, Statement, Window

READING = {"machine": "m", "meter": "energy", "boot": 1, "seq": 1, "observed_at": 40 * DAY_MS, "register": 5}


@pytest.mark.parametrize("name", SCHEMAS)
def test_json_schema_files_follow_from_the_structs(name: str) -> None:
    assert (FOLDER / f"{name}.schema.json").read_bytes() == json_schema(SCHEMAS[name])


@pytest.mark.parametrize(
    "change",
    [
        {"seq": 1.0},
        {"seq": True},
        {"seq": None},
        {"seq": "1"},
        {"seq": -1},
        {"seq": COUNT_MAX + 1},
        {"machine": ""},
        {"machine": "a" * 65},
        {"machine": "a b"},
        {"machine": "a\n"},
        {"machine": "é"},
        {"session_start": 1},
    ],
)
def test_a_wrong_field_is_no_reading(change: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(msgspec.json.encode(READING | change), type=Reading)


@pytest.mark.parametrize(
    "change, whole",
    [
        ({}, True),
        ({"extra": {"x": [1.5]}}, True),
        ({"quantity": 1}, False),
        ({"session": "s"}, False),
        ({"session_started_at": 1}, False),
        ({"session_start": True}, False),
        ({"session_start": False}, True),
        ({"session": "s", "session_started_at": 40 * DAY_MS, "session_start": True}, True),
        ({"session": "s", "session_started_at": 40 * DAY_MS + 1}, False),
        ({"session": "s", "session_started_at": 0}, True),
        ({"session_end": True}, False),
        ({"session": "s", "session_started_at": 1, "session_end": True}, True),
    ],
)
def test_a_reading_is_whole(change: dict[str, object], whole: bool) -> None:
    assert msgspec.json.decode(msgspec.json.encode(READING | change), type=Reading).is_valid() is whole


def test_components_and_dates() -> None:
    assert Component("m", 1, per=3_600_000).is_valid() and Component("m", 1, per_session=True).is_valid()
    assert not Component("m", 1, per=7).is_valid()
    assert not Component("m", 1).is_valid() and not Component("m", 1, per=1, per_session=True).is_valid()
    assert Restrictions(start_date="2024-02-29").is_valid() and not Restrictions(end_date="2023-02-29").is_valid()


def test_control_records_refuse_unknown_fields_at_every_level() -> None:
    document = {
        "machine": "m", "route": "m", "version": 1, "kind": "k", "effective_from": 0,
        "meters": [{"meter": "e", "unit": "Wh", "kind": "register", "capacity_per_hour": 1}],
        "tariff": {"elements": [{"components": [{"meter": "e", "price": 1, "per": 1}], "restrictions": {}}],
                   "offsets": [[0, 0]]},
        "agreement": {"payees": {"a": 10_000}},
    }  # fmt: skip
    assert msgspec.convert(document, Registration).is_valid()
    for path in ([], ["tariff"], ["agreement"], ["meters", 0], ["tariff", "elements", 0, "restrictions"]):
        spoilt = msgspec.json.decode(msgspec.json.encode(document))
        level = spoilt
        for step in path:
            level = level[step]
        level["surprise"] = 1
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(spoilt, Registration)


def test_canonical_bytes_have_one_shape() -> None:
    assert canonical_json({"b": [1, None, True], "a": "x"}) == b'{"a":"x","b":[1,null,true]}'
    for wrong in (1.5, COUNT_MAX + 1, {"é": 1}, {1: 1}, b"x"):
        with pytest.raises(InvariantBroken):
            canonical_json(wrong)


def test_a_window_s_digest_covers_everything() -> None:
    line = Line("energy", "Wh", 1, 5, 10, 1000, 2**60)
    statement, due = Statement("s", "0x" + "a" * 40, 9, 2, 7), Due("refund", "0x" + "a" * 40, "s", 7)
    window = Window(
        machine="m", start_ms=0, end_ms=900_000, adjusts_ms=None, utc_offset_s=-3_600, gross_micros=2**60,
        expenses_micros=0, uncollected_micros=0, net_micros=2**60, collected_micros=2, lines=(line,),
        sessions=(statement,), dues=(due,), carry_in=0, carry_out=3, registration_version=1,
        agreement=Agreement({"a": 9_000, "b": 1_000}, locked_until=7, pays_trust=1), readings=1, first_offset=0,
        last_offset=2, skipped=0, flags=("reset",), trust=0,
    ).sealed("00" * 16)  # fmt: skip
    mended = msgspec.structs.replace(window, adjusts_ms=5, agreement=Agreement({"a": 10_000}), flags=(), lines=())
    assert mended.agreement.locked_until is UNSET
    others = {
        "machine": "n",
        "adjusts_ms": 1,
        "net_micros": 1,
        "lines": (),
        "carry_in": 1,
        "dues": (),
        "skipped": 9,
        "trust": 1,
    }
    others |= {"utc_offset_s": 3_600, "sessions": (), "collected_micros": 3, "uncollected_micros": 1}
    digests = {msgspec.structs.replace(window, **{k: v}).sealed("00" * 16).digest for k, v in others.items()}
    assert len(digests | {window.digest, window.sealed("01" * 16).digest}) == len(others) + 2


def test_a_log_refuses_what_contradicts_itself() -> None:
    with pytest.raises(InvalidInput):
        Log(log_id="x", epoch_ms=DAY_MS + 1)
    with pytest.raises(InvalidInput):
        Log(log_id="x", rulesets=(Ruleset(first_epoch=1),))
    log = Log(log_id="x", rulesets=(Ruleset(), Ruleset(first_epoch=9, grace_ms=1)))
    assert log.ruleset_at(8).grace_ms == 600_000 and log.ruleset_at(9).grace_ms == 1
    assert log.ruleset_digest(8) != log.ruleset_digest(9) == log.ruleset_digest(10)


def test_no_two_reasons_have_one_name() -> None:
    assert len(set(REASONS)) == len(REASONS) == 28
