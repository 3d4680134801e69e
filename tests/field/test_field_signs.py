"""What is not cured is named: meters that earn less than they could, from the logs of the field cases and others."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from deploy.explain.gateway_check import PartitionCheck
from deploy.explain.meter_signs import MeterSign
from deploy.explain.refused_signs import REASONS, signs_of
from schemas.units import HOUR_MS, MINUTE_MS
from streams.reference.vectors import Document, log_of, read_document, records_of, replay

HERE = Path(__file__).parent
LOGS = sorted(path.parent.name for path in HERE.glob("*/log.json"))

NAMED: dict[str, list[tuple[str, str | None, str, int, str | None, int | None]]] = {
    "clock-of-local-time": [("home-1", None, "clock", 12, None, None)],
    "newest-first": [("hut-1", None, "newest_first", 11, None, None)],
    "numbers-that-began-again": [("cp3", "energy", "numbers_again", 8, "boot", 1)],
    "register-of-one-transaction": [("cp8", "energy", "begins_again", 2, None, None)],
    "sixteen-bits": [("roof-2", "energy", "rolls_over", 2, "modulus", 65_536)],
    "whole-kwh-display": [("bay-5", "energy", "steps", 4, "burst", 1_000)],
}
"""What each folder's log shows of whom; all others show nothing."""

DAY_AT_MS = 1_741_000_000_000 // (24 * HOUR_MS) * 24 * HOUR_MS


def checked(document: Document) -> list[MeterSign]:
    """What `check-gateway` says of a log."""
    check = PartitionCheck(log_of(document), 0, lambda _: None, None)
    check.judge(records_of(document))
    check.reports()
    return check.signs()


def facts(signs: list[MeterSign]) -> list[Any]:
    return [(sign.machine, sign.meter, sign.sign, sign.count, sign.field, sign.value) for sign in signs]


@pytest.mark.parametrize("folder", LOGS)
def test_what_a_log_shows(folder: str) -> None:
    assert facts(checked(read_document(HERE / folder / "log.json"))) == NAMED.get(folder, [])


@pytest.mark.parametrize("folder", LOGS)
def test_refused_rows_and_flags_alone_name_the_same_meters(folder: str) -> None:
    """But for a register that rolls over, where the rows before each fall were accepted."""
    document = read_document(HERE / folder / "log.json")
    result, values = replay(document), {record.offset: record.value or b"" for record in records_of(document)}
    refused = [(row, reason, values[offset]) for offset, row, reason in result["rejects"] if reason in REASONS]
    flags: Counter[tuple[str, Any]] = Counter()
    for window in result["windows"]:
        flags.update((window["machine"], flag) for flag in window["flags"])
    found = signs_of(refused, [(machine, flag, count) for (machine, flag), count in flags.items()])
    assert facts(found) == [sign for sign in NAMED.get(folder, []) if sign[2] != "rolls_over"]


def document_of(meter: dict[str, Any], rows: list[dict[str, Any]], components: list[dict[str, Any]]) -> Document:
    """A log of one machine `m` with one meter `e`, its rows by their moments."""
    registration = {
        "machine": "m", "route": "m", "version": 1, "kind": "x", "effective_from": DAY_AT_MS,
        "meters": [{"meter": "e", "unit": "Wh", "kind": "register"} | meter],
        "tariff": {"elements": [{"components": components}], "offsets": [[0, 0]]},
        "agreement": {"payees": {"owner": 10_000}},
    }  # fmt: skip
    log = [{"offset": 0, "timestamp": DAY_AT_MS, "type": "machine.registered", "value": registration}]
    for number, row in enumerate(rows, 1):
        value = {"machine": "m", "meter": "e", "boot": 1, "seq": number} | row
        log.append({"offset": number, "timestamp": row["observed_at"] + 1_000, "type": "reading", "value": value})
    return {"ruleset": json.loads((HERE / "newest-first" / "log.json").read_text())["ruleset"], "log": log}


USAGE = [{"meter": "e", "price": 300_000, "per": 1_000}]


def test_a_capacity_that_is_always_hit_is_named_with_the_true_one() -> None:
    """A charger of 22 kW, registered with 11: 20.5 kW are more than 135 % of that."""
    rows = [{"observed_at": DAY_AT_MS + 5 * MINUTE_MS * n, "register": 1_708 * n} for n in range(30)]
    (sign,) = checked(document_of({"capacity_per_hour": 11_000}, rows, USAGE))
    assert (sign.sign, sign.field, sign.value, sign.form) == (
        "capacity", "capacity_per_hour", 21_000, 'capacity = "21 kW"',
    )  # fmt: skip
    assert sign.count == sum(reason == "too_high" for *_, reason in replay(document_of(
        {"capacity_per_hour": 11_000}, rows, USAGE))["rejects"])  # fmt: skip
    assert checked(document_of({"capacity_per_hour": 21_000}, rows, USAGE)) == []


def test_a_glitch_is_no_sign() -> None:
    """One absurd register among good ones is refused, and says nothing of the registration."""
    shown = [100 * n if n != 7 else 4_294_967_295 for n in range(20)]
    rows = [{"observed_at": DAY_AT_MS + 5 * MINUTE_MS * n, "register": value} for n, value in enumerate(shown)]
    document = document_of({"capacity_per_hour": 11_000}, rows, USAGE)
    assert [reason for *_, reason in replay(document)["rejects"]] == ["too_high"]
    assert checked(document) == []


def test_more_starts_than_registered_are_named_with_how_many_an_hour_are_true() -> None:
    rows = [
        {
            "observed_at": DAY_AT_MS + 2 * MINUTE_MS * n, "register": 0, "session": f"s{n}",
            "session_started_at": DAY_AT_MS + 2 * MINUTE_MS * n, "session_start": True,
        }
        for n in range(40)
    ]  # fmt: skip
    fee = [{"meter": "e", "price": 1_000_000, "per_session": True}]
    meter = {"capacity_per_hour": 11_000, "starts_per_hour": 6}
    (sign,) = checked(document_of(meter, rows, fee))
    assert (sign.sign, sign.field, sign.value, sign.form) == (
        "starts", "starts_per_hour", 30, 'moves = ["at most 30 starts an hour"]',
    )  # fmt: skip
    assert checked(document_of(meter | {"starts_per_hour": 30}, rows, fee)) == []


def test_a_sign_is_one_line() -> None:
    (sign,) = checked(read_document(HERE / "whole-kwh-display" / "log.json"))
    assert sign.line == (
        "bay-5 energy: steps, 4 readings; burst = 1000 mends it: write"
        ' moves = ["moves in steps of 1 kWh"] into its form'
    )
