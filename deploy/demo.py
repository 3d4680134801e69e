"""`tallyroot demo`: real records end to end, with the same functions that the commands call.

Its data folder is its own: it is emptied at the start, so that every run gives the same roots.
"""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec

from deploy import audit_commands, log_commands, money_commands
from deploy.local_commands import query
from deploy.log_commands import ReplayOptions
from deploy.money_commands import Treasury
from deploy.stack import Stack
from deploy.terminal import Terminal, money, units
from deploy.workplace import DEMO_PAYEES, Workplace, demo_account
from schemas.errors import InvalidInput
from schemas.units import DAY_MS
from settlement import worker
from settlement.adapters.ledger import Ledger
from settlement.results import SettlementsReport
from streams.gateway.replay import rebased
from streams.gateway.source_log import SourceLog, SourceOptions
from streams.gateway.sources import SOURCES

DAYS = 14
SEED = "demo"
MARKER = "demo.txt"
POST_MS = 7 * DAY_MS
DATA = Path(__file__).resolve().parent.parent / "data"
FILES = (
    ("acn-sessions", "ev_sessions_acn_2019.parquet", SourceOptions()),
    ("pv-power", "pv_serf_east_15min.parquet", SourceOptions(unit="W")),
    ("pv-power", "pv_abb_5min.parquet", SourceOptions(unit="kW", zone="UTC")),
    ("chicago-taxi", "taxi_trips_chicago_a.parquet", SourceOptions()),
)
"""Chargers, inverters and taxis, as recorded: data/README.md has their sources and what is odd in them."""
CLAIM_DELAY_S = 61


def run(place: Workplace, terminal: Terminal, files: list[tuple[str, Path]] | None, options: ReplayOptions) -> bool:
    """The whole demo; whether its audit is ok."""
    _empty(place)
    terminal.step("1/6 starting Kafka and the EVM node")
    place.start_stack()
    terminal.step("2/6 replaying the records into a new log")
    payees = {demo_account(name): points for name, points in DEMO_PAYEES.items()}
    replayed = log_commands.replay(place, terminal, _sources(files, options), replace(options, payees=payees))
    terminal.step("3/6 a worker turns the log into earnings windows")
    _stream(place)
    figures = _figures(place)
    _show_figures(terminal, figures)
    terminal.step("4/6 posting on the chain, a week at a time")
    treasury = Treasury(place)
    _post(treasury)
    terminal.step("5/6 an auditor recomputes every root from the log, and attests what is right")
    audit = audit_commands.run_audit(treasury, from_archive=False)
    if audit.ok:
        worker.attest(treasury.data_dir, treasury.chain, treasury.keys, head=bytes.fromhex(audit.head))
        treasury.chain.pass_time(CLAIM_DELAY_S)
    terminal.step("6/6 the payees claim")
    claimed = _claim(treasury, terminal)
    report = worker.settlements(treasury.data_dir, treasury.chain, treasury.log)
    money_commands.show_settlements(terminal, treasury.log, report)
    terminal.say("")
    audit_commands.show_audit(terminal, treasury.log, audit)
    _farewell(place, terminal)
    verdict = {"claimed_micros": claimed, "audit": "ok" if audit.ok else audit.findings[0].text}
    terminal.result({"records": replayed.records} | msgspec.structs.asdict(figures) | _posts(report) | verdict)
    return audit.ok


def _sources(files: list[tuple[str, Path]] | None, options: ReplayOptions) -> list[SourceLog]:
    """The caller's files, else the demo's own, which are from different years and moved onto one calendar."""
    if files is not None:
        return log_commands.read_sources(files, options)
    return rebased([SOURCES[kind].read(DATA / name, replace(of, days=options.days)) for kind, name, of in FILES])


def _empty(place: Workplace) -> None:
    folder = place.data_dir
    if folder.exists() and any(folder.iterdir()) and not (folder / MARKER).exists():
        raise InvalidInput(f"{folder} holds something else than a demo: choose another --data-dir")
    stack = Stack.load(folder)
    if stack is not None:
        stack.stop()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).write_text("Made by `tallyroot demo`, which empties this folder at its next start.\n")


def _stream(place: Workplace) -> None:
    command = [sys.executable, "-m", "deploy.cli", "stream", "--until-caught-up", "--data-dir", str(place.data_dir)]
    done = subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
    if done.returncode:
        raise InvalidInput(f"the worker ended with exit code {done.returncode}: see its line above")


class Figures(msgspec.Struct, frozen=True):
    """What the log came to. `quantity` is usage by unit, `rejected` entries by reason."""

    entries: int
    accepted: int
    duplicates: int
    rejected: dict[str, int]
    machines: int
    windows: int
    adjustments: int
    earned_micros: int
    currency: str
    quantity: dict[str, int]


def _figures(place: Workplace) -> Figures:
    """Asked of the analysts' views, as anybody would."""
    ((entries, accepted, duplicates),) = query(
        place, "SELECT sum(entries), sum(accepted), sum(duplicate) FROM epochs"
    ).rows
    ((machines, windows, adjustments, earned),) = query(
        place,
        "SELECT count(DISTINCT machine), count(*) FILTER (mends IS NULL), count(*) FILTER (mends IS NOT NULL),"
        " sum(gross_micros) FROM windows",
    ).rows
    reasons = query(place, "SELECT reason, count(*) FROM rejects GROUP BY 1 ORDER BY 1").rows
    amounts = query(place, "SELECT unit, sum(usage) FROM lines GROUP BY 1 ORDER BY 1").rows
    return Figures(
        entries=_int(entries),
        accepted=_int(accepted),
        duplicates=_int(duplicates),
        rejected={str(reason): _int(count) for reason, count in reasons},
        machines=_int(machines),
        windows=_int(windows),
        adjustments=_int(adjustments),
        earned_micros=_int(earned),
        currency=place.log().currency,
        quantity={str(unit): _int(amount) for unit, amount in amounts},
    )


def _int(value: object) -> int:
    return int(str(value or 0))


def _show_figures(terminal: Terminal, figures: Figures) -> None:
    terminal.say("")
    for unit, amount in figures.quantity.items():
        terminal.say(f"{'energy' if unit == 'Wh' else 'usage':12}{amount:,} {unit}")
    terminal.say(
        f"{'income':12}{money(figures.earned_micros, figures.currency)} of {figures.machines} machines"
        f" in {figures.windows:,} windows, {figures.adjustments:,} adjustments"
    )
    refused = "".join(f"; {reason} {count:,}" for reason, count in figures.rejected.items())
    terminal.say(
        f"{'entries':12}{figures.entries:,} = {figures.accepted:,} accepted + {figures.duplicates:,} duplicate"
        f" + {sum(figures.rejected.values()):,} rejected{refused}"
    )


def _post(treasury: Treasury) -> None:
    """Posts a week at a time, funded, until nothing is left to post."""
    folder, chain, log, keys = treasury.data_dir, treasury.chain, treasury.log, treasury.keys
    worker.deploy_contracts(folder, chain, log, keys)
    worker.fund(folder, chain, log, keys)
    worker.settle(folder, chain, log, keys, worker.SettleOptions(max_epochs=max(1, POST_MS // log.epoch_ms)))


def _claim(treasury: Treasury, terminal: Terminal) -> int:
    """Every payee claims; micros paid in all."""
    decimals = Ledger.open(treasury.data_dir, treasury.chain).deployment.decimals
    rows = {row.account: row for row in worker.payouts(treasury.data_dir, treasury.chain)}
    paid = 0
    shown = []
    for name in DEMO_PAYEES:
        row = rows.get(demo_account(name))
        if row is None or not row.claimable:
            continue
        claimed = worker.claim(treasury.data_dir, treasury.chain, treasury.keys, row.account)
        before, after = claimed.balance - claimed.amount, claimed.balance
        shown.append((name, row.account, units(before, decimals), units(after, decimals)))
        paid += claimed.amount
    terminal.say("")
    terminal.table("balances", ["payee", "account", "before", "after its claim"], shown)
    return paid // int(10 ** (decimals - 6))


def _posts(report: SettlementsReport) -> dict[str, object]:
    posts = []
    for row in report.posts:
        post = row.settlement
        posts.append(
            {
                "sequence": post.sequence,
                "epochs": [post.first_epoch, post.last_epoch],
                "windows_root": post.windows_root,
                "payouts_root": post.payouts_root,
                "transaction": post.transaction,
                "state": post.state,
            }
        )
    return {"posts": posts}


def _farewell(place: Workplace, terminal: Terminal) -> None:
    folder = f"--data-dir '{place.data_dir}'"
    terminal.say("")
    terminal.say("Kafka and the EVM node still run. Try, or end them with `down`:")
    terminal.say(f"  .venv/bin/tallyroot sql {folder} 'FROM machines LIMIT 5'")
    terminal.say(f"  .venv/bin/tallyroot payouts {folder}")
    terminal.say(f"  .venv/bin/tallyroot down {folder}")
