"""The demo cheats: one byte of one reading is changed in a copy of the log, and somebody claims on a false root."""

import re
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import Struct
from msgspec.structs import replace

from deploy.cli.terminal import Terminal
from deploy.data_folder import DataFolder
from deploy.explain.audit import audit
from deploy.money.treasury import Treasury
from deploy.texts import units
from schemas.errors import InvalidInput
from settlement import service
from settlement.audit.audit import AuditReport
from settlement.audit.verdict import Finding
from settlement.chain.ledger import Ledger
from settlement.leaf import payout_leaf
from settlement.merkle import MerkleTree

COPY = "forged"
"""The copy's folder, inside the demo's own: if a killed demo leaves it, the next one empties it with the rest."""

COUNT = re.compile(rb'"(?:register|quantity)":\d*?([0-8])\d{0,2}[,}]')


class CheatResult(Struct, frozen=True):
    """The result: what the audit named, what the copy would have paid more, and how the chain refused."""

    machine: str
    window_start_ms: int | None
    more_micros: int
    refusal: str


def cheat(data: DataFolder, terminal: Terminal, machine: str, honest: AuditReport, thief: str) -> CheatResult:
    """Changes a byte of the machine's last reading in a copy, audits the copy, and claims on a false root."""
    copy = data.data_dir / COPY
    try:
        left_out = shutil.ignore_patterns(COPY, "kafka", "evm", "partitions", "faust")
        shutil.copytree(data.data_dir, copy, ignore=left_out)
        before, after = change_a_byte(copy, machine)
        terminal.say(f"in a copy of the log, one byte of {machine}'s last reading is changed:")
        terminal.say(f"  {before} becomes {after}")
        settings = replace(data.settings, chain_rpc_url=data.chain_rpc_url())  # a copy has no servers of its own
        treasury = Treasury(DataFolder(copy, settings))
        forged = audit(treasury, from_archive=True)
    finally:
        shutil.rmtree(copy, ignore_errors=True)
    found = _first_window(forged)
    more = forged.nets_micros - honest.nets_micros
    if found is not None:
        terminal.say(f"the audit of the copy: {found.text}")
        terminal.say(f"  on the chain: {_short(found.found)}")
        terminal.say(f"  the copy:     {_short(found.expected)}")
    terminal.say(f"it would have paid {units(more, 6)} {treasury.log.currency} more")
    refusal = _claim_on_a_false_root(data, thief)
    terminal.say(f"a claim on a root of one's own: {refusal}")
    return CheatResult(machine, None if found is None else found.window_start_ms, more, refusal)


def change_a_byte(data_dir: Path, machine: str) -> tuple[str, str]:
    """Raises one digit of the machine's last archived reading, one byte. Returns the number before and after."""
    for path in sorted((data_dir / "log").glob("*/*.parquet"), reverse=True):
        table = pq.read_table(path)
        keys, values = table.column("key").to_pylist(), table.column("value").to_pylist()
        for row in reversed(range(len(values))):
            found = COUNT.search(values[row] or b"") if keys[row] == machine.encode() else None
            if found is None:
                continue
            data = found.start(1)
            changed = values[row][:data] + bytes([values[row][data] + 1]) + values[row][data + 1 :]
            before, after = found[0], changed[found.start() : found.end()]
            values[row] = changed
            column = table.schema.get_field_index("value")
            kind = table.schema.field(column).type
            pq.write_table(table.set_column(column, "value", pa.array(values, kind)), path)
            return before[:-1].decode(), after[:-1].decode()
    raise InvalidInput(f"the archive has no reading of {machine} that could be changed")


def _short(window: str) -> str:
    """A window without what the line above says of it, and with as much of its digest as the eye compares."""
    said, _, digest = window.rpartition(": ")[2].partition("digest ")
    return f"{said}digest {digest[:16]}…" if digest else window or "nothing"


def _first_window(report: AuditReport) -> Finding | None:
    windows = [finding for finding in report.findings if finding.kind == "window"]
    return windows[0] if windows else next(iter(report.findings), None)


def _claim_on_a_false_root(data: DataFolder, thief: str) -> str:
    """Claims the thousand tokens that a tree of the thief's own grants it. Returns how that was refused."""
    treasury = Treasury(data)
    ledger = Ledger.open(data.data_dir, treasury.chain)
    rows = service.payouts(data.data_dir, treasury.chain)
    decimals = ledger.deployment.decimals
    amount = 1_000 * 10**decimals
    false = payout_leaf(thief, amount)
    tree = MerkleTree([false, *(payout_leaf(row.account, row.cumulative) for row in rows if row.account != thief)])
    sequence = ledger.history().next_sequence - 1
    try:
        treasury.chain.transact(treasury.keys.of("operator"), ledger.claim(thief, sequence, amount, tree.proof(false)))
    except InvalidInput as error:
        said = str(error).replace(thief, "you").replace(f"{amount} token units", units(amount, decimals))
        return f"refused ({said})"
    return f"PAID {units(amount, decimals)}"
