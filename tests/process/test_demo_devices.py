"""What the demo's devices say over their protocols is what the records said, to the last Wh and session."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from deploy.demo.demo import DATA, FILES
from deploy.demo.devices import COUNTER_MODULUS, through_modbus, through_ocpp
from deploy.importers.source_log import SourceLog
from deploy.importers.sources import SOURCES
from schemas.errors import InvariantBroken

DAYS = 2


def source(number: int) -> SourceLog:
    kind, name, options = FILES[number]
    return SOURCES[kind].read(DATA / name, replace(options, days=DAYS))


def rows(log: SourceLog) -> list[dict[str, Any]]:
    found = [msgspec.json.decode(record.value) for record in log.records()]
    return [row for rows in found for row in (rows if isinstance(rows, list) else [rows])]


def test_the_recorded_sessions_are_what_the_chargers_gateway_took(tmp_path: Path) -> None:
    recorded = source(0)
    taken = through_ocpp(recorded, "demo", tmp_path)
    shown = ("machine", "meter", "observed_at", "register", "session", "session_started_at", "session_start")
    assert sorted(_only(rows(taken), shown), key=repr) == sorted(_only(rows(recorded), shown), key=repr)
    sessions = {(row["machine"], row["session"]) for row in rows(recorded)}
    assert sum(row.get("session_end", False) for row in rows(taken)) == len(sessions) > 20
    assert all(before <= after for before, after in pairwise(_times(taken)))
    again = through_ocpp(recorded, "demo", tmp_path / "again")
    assert list(again.records()) == list(taken.records())  # so the roots are the same each time


def test_the_inverter_s_register_adds_up_to_its_record(tmp_path: Path) -> None:
    recorded = source(2)
    taken = through_modbus(recorded, "demo", tmp_path)
    [meter] = taken.machines[0].meters
    assert (meter.kind, meter.modulus, meter.opening_register) == ("register", COUNTER_MODULUS, 0)
    produced = [row for row in rows(recorded) if row["meter"] == "energy"]
    assert [row["observed_at"] for row in rows(taken)] == [row["observed_at"] for row in produced]
    sums = [sum(row["quantity"] for row in produced[: count + 1]) for count in range(len(produced))]
    assert [row["register"] for row in rows(taken)] == sums


def test_what_a_gateway_took_is_not_moved_afterwards(tmp_path: Path) -> None:
    taken = through_modbus(source(2), "demo", tmp_path)
    with pytest.raises(InvariantBroken, match="before it was moved"):
        list(taken.moved(1_000).records())


def _only(found: list[dict[str, Any]], names: tuple[str, ...]) -> list[tuple[Any, ...]]:
    return [tuple(row.get(name) for name in names) for row in found]


def _times(log: SourceLog) -> list[int]:
    return [record.timestamp_ms for record in log.records()]
