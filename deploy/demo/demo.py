"""`tallyroot demo`: real records, and a street of simulated machines, by the same functions that the commands call.

Its data folder is its own and emptied at the start (`ends`), so that every run has the same roots.
"""

import shlex
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from deploy.cli.check import show_audit
from deploy.cli.terminal import Terminal
from deploy.data_folder import DEMO_PAYEES, DataFolder, demo_account
from deploy.demo.cheat import CheatResult, cheat
from deploy.demo.ends import demo_folder
from deploy.demo.street import Street, live
from deploy.demo.street_check import StreetFigures, checked
from deploy.demo.street_check import show as show_street
from deploy.demo.street_machines import TAXIS, account_of
from deploy.demo.workers import Kill, stream_with_a_kill
from deploy.explain import audit as auditing
from deploy.explain.machine_facts import agreement_of
from deploy.explain.query import query
from deploy.importers.recording import ReplayOptions, make_log, read_sources, replay_into
from deploy.importers.replay import ReplayReport, rebased
from deploy.importers.source_log import SourceLog, SourceOptions
from deploy.importers.sources import SOURCES
from deploy.money.treasury import Treasury
from deploy.report.figures import Wish
from deploy.report.report import write_report
from deploy.texts import moment_text, money, units
from schemas.parsing import duration_ms
from schemas.payout import Settlement
from schemas.registration import Agreement
from schemas.units import DAY_MS, SECOND_MS, TokenUnits
from settlement import service
from settlement.chain.ledger import Ledger
from settlement.chain.shares import Shares, buy_shares, issue_shares, open_offering
from settlement.chain.signer import development_signer
from settlement.results import SettlementsReport
from settlement.shares import share_terms

DAYS = 14
SEED = "demo"
POST_MS = 7 * DAY_MS
DATA = Path(__file__).resolve().parents[2] / "data"
FILES = (
    ("acn-sessions", "ev_sessions_acn_2019.parquet", SourceOptions()),
    ("pv-power", "pv_serf_east_15min.parquet", SourceOptions(unit="W")),
    ("pv-power", "pv_abb_5min.parquet", SourceOptions(unit="kW", zone="UTC")),
    ("chicago-taxi", "taxi_trips_chicago_a.parquet", SourceOptions()),
)
"""Chargers, inverters and taxis, as recorded: data/README.md has their sources and what is odd in them."""

CLAIM_DELAY_S = 61
RELEASE_S = 7 * DAY_MS // SECOND_MS

SHARED_MACHINE = "jpl.AG-1F10"
"""The charger whose income is shared; for files without it, their first machine."""

SHARES, SHARE_PRICE = 1_000, 10_000
"""How many, and what one costs in token units: a cent."""

PAYEES_WITH_SHARES = {"owner": 6_000, "site": 2_000, "investor": 1_000}
YOUR_POINTS = 1_000
TERM_END = datetime(2036, 1, 1, tzinfo=UTC)
YOU = 7
"""Number of the development node's account that stands for you, who watch."""


def run(data: DataFolder, terminal: Terminal, files: list[tuple[str, Path]] | None, options: ReplayOptions) -> bool:
    """Runs the whole demo, in its own folder. Returns whether its audit is ok.

    The files are read before the folder is emptied and before a server starts: a mistake in them costs nothing.
    """
    began_s = time.monotonic()
    duration_ms(options.epoch)
    sources = _sources(files, options)
    with demo_folder(data.data_dir):
        return _run(data, terminal, sources, options, began_s, has_devices=files is None)


def _run(
    data: DataFolder, terminal: Terminal, sources: list[SourceLog], options: ReplayOptions, began_s: float,
    *, has_devices: bool,
) -> bool:  # fmt: skip
    terminal.step("1/8 starting Kafka and the EVM node")
    data.start_stack()
    machine = _shared_machine(sources)
    terminal.step(f"2/8 a ledger on the chain, and {SHARES:,} shares of the charger {machine}")
    make_log(data, options)
    treasury = Treasury(data)
    service.deploy_contracts(data.data_dir, treasury.chain, treasury.log, treasury.keys)
    issue_shares(
        data.data_dir, treasury.chain, treasury.keys.of("operator"), machine=machine, symbol="YOU10", supply=SHARES
    )
    shares = Shares.open(data.data_dir, treasury.chain, "YOU10")
    terminal.step("3/8 replaying the records into a new log")
    sources = _through_devices(data, terminal, sources) if has_devices else sources
    street = _street(data, treasury, terminal, sources[0].start_ms, options) if has_devices else None
    payees = {demo_account(name): points for name, points in DEMO_PAYEES.items()}
    own = {machine: _agreement(shares.address)} | (street.agreements if street else {})
    sources = [*sources, street.source] if street else sources
    replayed = replay_into(data, terminal.progress, sources, replace(options, payees=payees), own)
    _show_replay(terminal, replayed)
    terminal.step("4/8 two workers turn the log into earnings windows; one is killed")
    kill = stream_with_a_kill(data.data_dir, terminal, replayed.records)
    figures = msgspec.structs.replace(_figures(data), street=checked(data, street) if street else None)
    _show_figures(terminal, figures)
    terminal.step(f"5/8 you buy {YOUR_POINTS // 100} % of {machine}'s income, locked in the log until {TERM_END:%Y}")
    _buy(treasury, terminal, shares)
    terminal.step("6/8 posting on the chain, a week at a time; an auditor recomputes every root")
    _post(treasury)
    audit = auditing.audit(treasury, from_archive=False)
    show_audit(terminal, treasury.log, audit)
    if audit.ok:
        auditing.attest(treasury, audit)
        treasury.chain.pass_time(CLAIM_DELAY_S)
    terminal.step("7/8 the payees claim, and so do you")
    claimed, yours = _claim(data, treasury, terminal, shares)
    report = service.settlements(treasury.data_dir, treasury.chain, treasury.log)
    terminal.step("8/8 and now it cheats")
    cheated = cheat(data, terminal, machine, audit, development_signer(YOU).address)
    names = {demo_account(name): name for name in DEMO_PAYEES} | {shares.address: "you, through shares"}
    names |= street.names if street else {}
    written = write_report(data, wish=Wish(first=machine), names=names)
    terminal.say(f"{written.path}: a page that checks itself")
    _farewell(data, terminal, report, time.monotonic() - began_s)
    done = DemoResult(
        records=replayed.records, figures=figures, posts=tuple(row.settlement for row in report.posts),
        claimed=claimed, yours=yours, decimals=report.decimals, kill=kill, cheat=cheated,
        audit="ok" if audit.ok else audit.findings[0].text,
    )  # fmt: skip
    terminal.result(done)
    return audit.ok


def _sources(files: list[tuple[str, Path]] | None, options: ReplayOptions) -> list[SourceLog]:
    """The caller's files, else the demo's own, which are from different years and moved onto one calendar."""
    if files is not None:
        return read_sources(files, options)
    return rebased([SOURCES[kind].read(DATA / name, replace(of, days=options.days)) for kind, name, of in FILES])


def _street(data: DataFolder, treasury: Treasury, terminal: Terminal, start_ms: int, options: ReplayOptions) -> Street:
    """Lets a street of simulated machines live through the days of the records, paid on the chain."""
    street = live(data, treasury, SEED, start_ms, options.days or DAYS, terminal.progress)
    sold = street.sessions.total()
    terminal.say(f"  {len(street.agreements)} simulated machines of a street: a real till sold {sold} sessions")
    return street


def _through_devices(data: DataFolder, terminal: Terminal, sources: list[SourceLog]) -> list[SourceLog]:
    """The sources, those of the chargers and of an inverter with what gateways took from these as devices."""
    from deploy.demo.devices import through_modbus, through_ocpp

    log_id = data.log().log_id
    ways = {"ev_sessions_acn_2019.parquet": through_ocpp, "pv_abb_5min.parquet": through_modbus}
    terminal.say("  sessions over OCPP, an inverter over Modbus: simulated devices, real gateways")
    return [
        ways[source.name](source, log_id, data.data_dir / "gateways" / source.name) if source.name in ways else source
        for source in sources
    ]


def _shared_machine(sources: list[SourceLog]) -> str:
    names = [machine.machine for source in sources for machine in source.machines]
    return SHARED_MACHINE if SHARED_MACHINE in names else names[0]


def _agreement(shares: str) -> Agreement:
    payees = {demo_account(name): points for name, points in PAYEES_WITH_SHARES.items()}
    return Agreement(payees | {shares: YOUR_POINTS}, locked_until=int(TERM_END.timestamp()) * SECOND_MS)


QUERY = "SELECT machine, windows, net, reporting FROM machines ORDER BY net DESC LIMIT 5"
"""What the demo suggests to ask: it fits 80 columns."""


class DemoFigures(msgspec.Struct, frozen=True):
    """Sums of the log. `quantity` is usage by unit, `rejected` entries by reason."""

    entries: int
    accepted: int
    duplicates: int
    rejected: dict[str, int]
    machines: int
    windows: int
    adjustments: int
    earned_micros: int
    simulated_micros: int
    currency: str
    quantity: dict[str, int]
    street: StreetFigures | None = None


class DemoResult(msgspec.Struct, frozen=True, kw_only=True):
    """What the demo came to. `claimed` is what all payees got, `yours` of it; `audit` is "ok" or its first finding.

    `kill` is None where the log was so short that no worker was killed.
    """

    records: int
    figures: DemoFigures
    posts: tuple[Settlement, ...]
    claimed: TokenUnits
    yours: TokenUnits
    decimals: int
    kill: Kill | None
    cheat: CheatResult
    audit: str


def _figures(data: DataFolder) -> DemoFigures:
    """Read from the analysts' views, as anybody would."""
    ((entries, accepted, duplicates),) = query(
        data, "SELECT sum(entries), sum(accepted), sum(duplicate) FROM epochs"
    ).rows
    ((machines, windows, adjustments, earned, simulated),) = query(
        data,
        "SELECT count(DISTINCT machine), count(*) FILTER (adjusts IS NULL), count(*) FILTER (adjusts IS NOT NULL),"
        " sum(gross_micros), sum(gross_micros) FILTER (simulated) FROM windows",
    ).rows
    reasons = query(data, "SELECT reason, count(*) FROM rejects GROUP BY 1 ORDER BY 1").rows
    amounts = query(data, "SELECT unit, sum(usage) FROM lines GROUP BY 1 ORDER BY 1").rows
    return DemoFigures(
        entries=_int(entries),
        accepted=_int(accepted),
        duplicates=_int(duplicates),
        rejected={str(reason): _int(count) for reason, count in reasons},
        machines=_int(machines),
        windows=_int(windows),
        adjustments=_int(adjustments),
        earned_micros=_int(earned),
        simulated_micros=_int(simulated),
        currency=data.log().currency,
        quantity={str(unit): _int(amount) for unit, amount in amounts},
    )


def _int(value: object) -> int:
    return int(str(value or 0))


def _show_replay(terminal: Terminal, report: ReplayReport) -> None:
    terminal.say(
        f"{report.records:,} records of {report.machines} machines,"
        f" {moment_text(report.first_ms)} to {moment_text(report.last_ms)}"
    )
    for name, skipped in report.skipped.items():
        terminal.say(f"  left out of {name}: {len(skipped):,} rows that can't be true")
    if report.moved_weeks:
        weeks = ", ".join(f"{weeks}" for weeks in report.moved_weeks.values())
        terminal.say(f"  moved onto one calendar by whole weeks: {len(report.moved_weeks)} files, by {weeks}")


def _show_figures(terminal: Terminal, figures: DemoFigures) -> None:
    for name, wanted in (("energy", {"Wh"}), ("usage", figures.quantity.keys() - {"Wh"})):
        amounts = [f"{amount:,} {unit}" for unit, amount in figures.quantity.items() if unit in wanted]
        if amounts:
            terminal.say(f"{name:12}{', '.join(amounts)}")
    terminal.say(
        f"{'income':12}{money(figures.earned_micros, figures.currency)} of {figures.machines} machines,"
        f" {money(figures.simulated_micros, figures.currency)} of it simulated"
    )
    if figures.street is not None:
        show_street(terminal, figures.street)
    terminal.say(f"{'windows':12}{figures.windows:,}, {figures.adjustments:,} adjustments")
    refused = "".join(f"; {reason} {count:,}" for reason, count in figures.rejected.items())
    terminal.say(
        f"{'entries':12}{figures.entries:,} = {figures.accepted:,} accepted + {figures.duplicates:,} duplicate"
        f" + {sum(figures.rejected.values()):,} rejected{refused}"
    )


def _buy(treasury: Treasury, terminal: Terminal, shares: Shares) -> None:
    """The operator offers all shares on terms that the log carries, and you buy them."""
    folder, chain, you = treasury.data_dir, treasury.chain, development_signer(YOU)
    ledger = Ledger.open(folder, chain)
    terms = share_terms(
        shares.machine, agreement_of(treasury.data, shares.machine), shares.address, int(TERM_END.timestamp())
    )
    offering = open_offering(
        folder, shares, treasury.keys.of("operator"), price=SHARE_PRICE, cap=SHARES, terms=terms,
        closes_at_s=chain.time_s() + DAY_MS // SECOND_MS,
    )  # fmt: skip
    chain.transact(treasury.keys.of("operator"), ledger.mint(you.address, SHARES * SHARE_PRICE))
    cost, _ = buy_shares(ledger, offering, you, SHARES)
    decimals = ledger.deployment.decimals
    terminal.say(f"{SHARES:,} shares for {units(cost, decimals)}: {YOUR_POINTS // 100} % of its income are yours")


def _post(treasury: Treasury) -> None:
    """Posts a week at a time, funded, until nothing is left to post."""
    folder, chain, log, keys = treasury.data_dir, treasury.chain, treasury.log, treasury.keys
    service.fund(folder, chain, log, keys)
    service.settle(folder, chain, log, keys, service.SettleOptions(max_epochs=max(1, POST_MS // log.epoch_ms)))


def _claim(data: DataFolder, treasury: Treasury, terminal: Terminal, shares: Shares) -> tuple[int, int]:
    """Every payee claims, the shares for their holder. Returns token units: of all, and yours."""
    ledger = Ledger.open(treasury.data_dir, treasury.chain)
    decimals = ledger.deployment.decimals
    rows = {row.account: row for row in service.payouts(treasury.data_dir, treasury.chain) if row.claimable}
    names = {demo_account(name): name for name in (*DEMO_PAYEES, "supplier")} | {account_of(TAXIS[0]): "a taxi"}
    paid = others = 0
    shown = []
    first = [account for account in names if account in rows]
    for account in (*first, *sorted(rows.keys() - names.keys() - {shares.address})):
        claimed = service.claim(treasury.data_dir, treasury.chain, treasury.keys, account)
        paid += claimed.amount
        if account in names:
            held = (units(amount, decimals) for amount in (claimed.balance - claimed.amount, claimed.balance))
            shown.append((names[account], account, *held))
        else:
            others += 1
    you, arrived = development_signer(YOU), 0
    if shares.address in rows:
        arrived, _ = service.collect(treasury.data_dir, treasury.chain, shares, you)
        treasury.chain.pass_time(RELEASE_S)
        before = ledger.balance_of(you.address)
        shares.withdraw(you, you.address)
        shown.append(("you", you.address, units(before, decimals), units(ledger.balance_of(you.address), decimals)))
    terminal.table("", ["payee", "account", "before", "after its claim"], shown)
    if others:
        terminal.say(f"{others} more claimed: two taxis, and customers what they had not used")
    return paid + arrived, arrived


def _farewell(data: DataFolder, terminal: Terminal, report: SettlementsReport, took_s: float) -> None:
    is_default = data.data_dir == data.settings.data_dir.expanduser().absolute()
    folder = "" if is_default else f" --data-dir {shlex.quote(str(data.data_dir))}"
    terminal.say("Everyone who runs this gets these roots of windows:")
    for row in report.posts:
        terminal.say(f"post {row.settlement.sequence}  0x{row.settlement.windows_root}")
    terminal.say(f"It took {took_s:.0f} s. Kafka and the EVM node still run. Try, or end them with `down`:")
    terminal.say(f"  .venv/bin/tallyroot sql{folder} '{QUERY}'")
    terminal.say(f"  .venv/bin/tallyroot why {demo_account('owner')}{folder}")
    terminal.say(f"  .venv/bin/tallyroot down{folder}")
