"""What went wrong in the field, in other people's systems: a folder each, with what must come out here, and why.

A folder with a `log.json` is a log in the form of the vectors (streams.reference), each record with a note of what it
stands for; `expected.json` follows from the rules by the arithmetic in the folder's README, which core and slow text
both reach. A folder with a `case.json` is about files or settlement, and has a test of its own.
"""

import csv
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from deploy.importers.acn_sessions import COLUMNS
from deploy.importers.source_log import SourceLog, SourceOptions
from deploy.importers.sources import SOURCES
from deploy.machines.form import MachineForm, MeterForm, PayeeForm
from deploy.machines.register import planned
from deploy.machines.registry import Registry
from schemas.keccak import keccak
from schemas.registration import Agreement
from schemas.units import DAY_MS
from settlement.accrual import Balances, Earning, terms_of
from settlement.merkle import MerkleTree, proves
from settlement.split import split
from streams.core.advance import Advanced
from streams.core.records import LogRecord, Record
from streams.core.replay import advance_through
from streams.core.state import State
from streams.reference.vectors import log_of, new_state, records_of, recounted, replay, result_of

HERE = Path(__file__).parent
LOGS = sorted(path.parent for path in HERE.glob("*/log.json"))
TEXTS = {"core": replay, "slow text": recounted}


def test_every_folder_is_whole() -> None:
    for folder in HERE.iterdir():
        if folder.is_dir() and folder.name != "__pycache__":
            names = {path.name for path in folder.iterdir()}
            assert names in ({"README.md", "log.json", "expected.json"}, {"README.md", "case.json"}), folder.name


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("folder", LOGS, ids=lambda folder: folder.name)
def test_what_came_in_comes_out_as_it_must(folder: Path, text: str) -> None:
    result = TEXTS[text](read(folder / "log.json"))
    assert reduced(result) == read(folder / "expected.json")
    assert not result["open"]


@pytest.mark.parametrize("folder", LOGS, ids=lambda folder: folder.name)
def test_a_crash_at_every_record_changes_nothing(folder: Path) -> None:
    """What a step did before it was committed is forgotten with it: the record comes again, and counts once."""
    document = read(folder / "log.json")
    state = new_state(document)
    parts: list[Advanced] = []
    for record in records_of(document):
        kept = state.tables()
        advance_through(state, [record])
        state = State.load(state.log, 0, kept)
        parts += advance_through(state, [record])
    assert reduced(result_of(state, parts)) == read(folder / "expected.json")


class _Told:
    """The records of a field log, as a registry reads them."""

    def __init__(self, records: list[Record]) -> None:
        self._records = records

    def read(self, partition: int, first: int, next: int) -> Iterator[LogRecord]:
        return iter(self._records[first:next])

    def range(self, partition: int) -> tuple[int, int]:
        return 0, len(self._records)

    def topic_id(self) -> str:
        return "topic"

    def close(self) -> None:
        pass


def test_a_sale_told_late_says_from_when_it_counts() -> None:
    document = read(HERE / "a-sale-told-late" / "log.json")
    records = records_of(document)
    told = next(record for record, given in zip(records, document["log"], strict=True) if "sold" in given["note"])
    sale = document["log"][told.offset]["value"]
    registry = Registry(log_of(document), _Told(records[: told.offset]))
    registry.read(lambda _: None)
    form = MachineForm(
        id="cp4", kind="charger", effective_from=str(sale["effective_from"]), tariff=("USD 0.30 per kWh",),
        payees=(PayeeForm("0x" + "b" * 40, "100 %"),), meters={"energy": MeterForm("register", "Wh", "22 kW")},
    )  # fmt: skip
    (plan,) = planned(log_of(document), registry, [form], zone=None, now_ms=told.timestamp)
    (warning,) = plan.warnings
    assert warning == (
        "effective_from 2025-03-19 00:00 UTC lies in the past: sealed windows never change, so it counts from"
        " 2025-03-21 18:15 UTC; the 2 d 18 h before that stay with version 1"
    )


def sessions_of(folder: Path, rows: list[list[str]], **options: Any) -> SourceLog:
    """Rows as the importer of sessions reads them from a CSV file."""
    path = folder / "sessions.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    return SOURCES["acn-sessions"].read(path, SourceOptions(**options))


def test_stations_keep_their_names_apart(tmp_path: Path) -> None:
    case = read(HERE / "stations-in-any-script" / "case.json")
    source = sessions_of(tmp_path, case["rows"])
    assert (len(source.machines), source.skipped) == (case["machines"], ())
    assert source.totals == {"energy Wh": case["energy_wh"]}


def test_fast_stations_have_the_class_of_their_sessions_unless_a_capacity_is_named(tmp_path: Path) -> None:
    case = read(HERE / "fast-stations" / "case.json")
    named = sessions_of(tmp_path, case["rows"], capacity_w=case["capacity_w"])
    assert named.notes == (case["note"],)
    assert {machine.meters[0].capacity_per_hour for machine in named.machines} == {case["capacity_w"]}
    source = sessions_of(tmp_path, case["rows"])
    assert source.notes == ()
    assert {machine.machine: machine.meters[0].capacity_per_hour for machine in source.machines} == case["classes_w"]
    result = replay(
        {
            "ruleset": read(HERE / "newest-first" / "log.json")["ruleset"],
            "log": [
                {"offset": place, "timestamp": at_ms, "type": kind, "value": value}
                for place, (at_ms, kind, value) in enumerate(told_of(source))
            ],
        }
    )
    assert (result["rejects"], result["open"]) == ([], [])
    assert sum(line["usage"] for window in result["windows"] for line in window["lines"]) == case["energy_wh"]


def told_of(source: SourceLog) -> Iterator[tuple[int, str, Any]]:
    """A source's registrations and readings as (timestamp, type, value), and two days of nothing."""
    for machine in source.machines:
        registration = machine.registration(Agreement({"owner": 10_000}), "", source.start_ms)
        yield source.start_ms, "machine.registered", msgspec.to_builtins(registration)
    for record in source.records():
        yield record.timestamp_ms, record.type, json.loads(record.value)
    yield source.end_ms + 2 * DAY_MS, "heartbeat", {}


def test_the_order_of_leaves_has_no_say() -> None:
    case = read(HERE / "lido-oracle-955" / "case.json")
    leaves = [bytes.fromhex(leaf) for leaf in case["leaves"]]
    low, middle, high = sorted(leaves)
    assert pair(pair(low, middle), high).hex() == case["root"]
    for seed in range(6):
        shuffled = random.Random(seed).sample(leaves, len(leaves))
        tree = MerkleTree(shuffled)
        assert tree.root.hex() == case["root"]
        assert all(proves(tree.root, leaf, tree.proof(leaf)) for leaf in leaves)


def test_parts_add_up_to_the_whole() -> None:
    case = read(HERE / "helium-oracles-1112" / "case.json")
    parts = split(case["amount"], case["points"])
    assert parts == case["parts"]
    assert sum(parts.values()) == case["amount"]


def test_what_is_paid_over_many_windows_adds_up_to_what_was_earned() -> None:
    case = read(HERE / "helium-oracles-1112" / "case.json")
    accounts = {payee: "0x" + f"{place:040x}" for place, payee in enumerate(case["points"], 1)}
    terms = terms_of(Agreement({accounts[payee]: points for payee, points in case["points"].items()}))
    nets = [case["amount"] // 1_000 + place for place in range(100)]
    balances = Balances()
    for place, net in enumerate(nets):
        balances.accrue(Earning("network", place * 900_000, (place + 1) * 900_000, 0, net, 0, bytes(32), terms))
    assert sum(balances.payouts().values()) == sum(nets)


def read(path: Path) -> Any:
    return json.loads(path.read_bytes())


def reduced(result: Any) -> dict[str, Any]:
    """What a log came to, in the form of `expected.json`."""
    return {
        "counts": result["counts"],
        "windows": [reduced_window(window) for window in result["windows"]],
        "rejects": result["rejects"],
    }


def reduced_window(window: Any) -> dict[str, Any]:
    """Usage by meter; fees, dues and a later version only where there are any."""
    usage: dict[str, int] = {}
    for line in window["lines"]:
        if line["per"]:
            usage[line["meter"]] = usage.get(line["meter"], 0) + line["usage"]
    fees = sum(line["usage"] for line in window["lines"] if not line["per"])
    return {
        "machine": window["machine"],
        "start": window["start"],
        "mends": window["mends"],
        "earned": window["gross"],
        "usage": usage,
        "flags": window["flags"],
        **({"fees": fees} if fees else {}),
        **({"dues": window["dues"]} if window["dues"] else {}),
        **({"version": window["registration_version"]} if window["registration_version"] > 1 else {}),
    }


def pair(one: bytes, other: bytes) -> bytes:
    """A node over two children, as OpenZeppelin's contract hashes them: the lower first."""
    return keccak(min(one, other) + max(one, other))
