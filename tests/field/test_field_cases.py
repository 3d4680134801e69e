"""What went wrong in the field, in other people's systems: a folder each, with what must come out here, and why.

A folder with a `log.json` is a log in the form of the vectors (streams.reference), each record with a note of what it
stands for; `expected.json` follows from the rules by the arithmetic in the folder's README. A folder with a `case.json`
is about settlement, and has a test of its own.
"""

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from schemas.manifest import Counts
from schemas.registration import Agreement
from schemas.window import Window
from settlement.accrual import Balances, Earning, terms_of
from settlement.keccak import keccak
from settlement.merkle import MerkleTree, proves
from settlement.split import split
from streams.core.advance import Advanced, Tally, advance, advance_in_runs, advance_plainly
from streams.core.records import Record
from streams.core.replay import advance_through, open_windows
from streams.core.state import State
from streams.reference.vectors import log_of, records_of

HERE = Path(__file__).parent
FOLDERS = sorted(path.parent for path in HERE.glob("*/README.md"))
LOGS = sorted(path.parent for path in HERE.glob("*/log.json"))
STEPS: dict[str, Callable[[State, Sequence[Record]], Advanced]] = {
    "advance": advance,
    "in-columns": lambda state, records: advance_in_runs(state, records, Tally(), 1),
    "plainly": advance_plainly,
}


def test_every_folder_is_whole() -> None:
    for folder in HERE.iterdir():
        if folder.is_dir() and folder.name != "__pycache__":
            names = {path.name for path in folder.iterdir()}
            assert names in ({"README.md", "log.json", "expected.json"}, {"README.md", "case.json"}), folder.name


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("folder", LOGS, ids=lambda folder: folder.name)
def test_what_came_in_comes_out_as_it_must(folder: Path, step: str) -> None:
    document = read(folder / "log.json")
    state = State.new(log_of(document), 0)
    parts = advance_through(state, records_of(document), STEPS[step])
    assert reduced(parts) == read(folder / "expected.json")
    assert not open_windows(state)


@pytest.mark.parametrize("folder", LOGS, ids=lambda folder: folder.name)
def test_a_crash_at_every_record_changes_nothing(folder: Path) -> None:
    """What a step did before it was committed is forgotten with it: the record comes again, and counts once."""
    document = read(folder / "log.json")
    state = State.new(log_of(document), 0)
    parts: list[Advanced] = []
    for record in records_of(document):
        kept = state.tables()
        advance_through(state, [record], advance)
        state = State.load(state.log, 0, kept)
        parts += advance_through(state, [record], advance)
    assert reduced(parts) == read(folder / "expected.json")


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


def reduced(parts: Sequence[Advanced]) -> dict[str, Any]:
    """What a run came to, in the form of `expected.json`."""
    return {
        "counts": msgspec.to_builtins(sum((part.counts for part in parts), Counts())),
        "windows": [reduced_window(window) for part in parts for window in part.windows],
        "rejects": [[reject.offset, reject.row, reject.reason] for part in parts for reject in part.rejects],
    }


def reduced_window(window: Window) -> dict[str, Any]:
    usage: dict[str, int] = {}
    for line in window.lines:
        usage[line.meter] = usage.get(line.meter, 0) + line.usage
    return {
        "machine": window.machine,
        "start": window.start_ms,
        "mends": window.adjusts_ms,
        "earned": window.gross_micros,
        "usage": usage,
        "flags": list(window.flags),
    }


def pair(one: bytes, other: bytes) -> bytes:
    """A node over two children, as OpenZeppelin's contract hashes them: the lower first."""
    return keccak(min(one, other) + max(one, other))
