"""Commands about money: the ledger, posts, claims, and why an account is owed what it is."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.cli.options import DataDir, Json, MetricsPort, data_folder, treasury_of
from deploy.cli.terminal import Terminal
from schemas.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from deploy.explain.why import Explained, ExplainedWindow, MonthSum
    from deploy.money.treasury import Treasury
    from schemas.log import Log
    from settlement.chain.job import Settled
    from settlement.chain.signer import Role
    from settlement.chain.treasury import LedgerSettings
    from settlement.results import DryRun, SettlementsReport, SkippedInPost, UnsettledSum
    from settlement.statement import DueRow, StatementRow

MONTH = re.compile(r"\d{4}-(0[1-9]|1[0-2])")
RUNWAY_DAYS = 7
PAYEES_SHOWN = 20
"""Accounts, and dues, that a dry run shows; --json has them all."""
DUE_NAMES = {"expense": "invoice", "refund": "refund"}
"""What a due is to who gets it."""

app = typer.Typer()

Holder = Annotated[str | None, typer.Option(metavar="0x…", help="This role's account; else that of its key.")]
SeveralHolders = Annotated[
    list[str] | None, typer.Option(metavar="0x…", help="An account of this role; repeatable; else that of its key.")
]
Token = Annotated[str | None, typer.Option(metavar="0x…", help="What is paid: an ERC-20 of 6 to 18 decimals.")]
Admin = Annotated[str | None, typer.Option(metavar="0x…", help="A timelock, or who may propose to the one deployed.")]
Quorum = Annotated[int | None, typer.Option(min=1, help="How many auditors must attest; else most.")]
Delay = Annotated[str | None, typer.Option(help="From a post to its first claim, such as 2d; fixed.")]
MaxRate = Annotated[int | None, typer.Option(min=1, help="The most whole tokens that a day may add.")]
RunwayDays = Annotated[int, typer.Option(min=0, metavar="DAYS", help="Warn when free funds last for fewer days.")]
Without = Annotated[list[int] | None, typer.Option(metavar="PARTITION", help="A dead partition; repeatable.")]


@app.command("deploy-contracts")
def deploy_contracts(
    token: Token = None,
    admin: Admin = None,
    poster: Holder = None,
    auditor: SeveralHolders = None,
    guardian: SeveralHolders = None,
    quorum: Quorum = None,
    delay: Delay = None,
    max_rate: MaxRate = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Deploy the ledger (and on a development chain a token) and remember where it is."""
    from settlement import service
    from settlement.chain.signer import DEVELOPMENT_CHAIN_ID

    settings = _ledger_settings(token, admin, poster, auditor, guardian, quorum, delay, max_rate)
    treasury, terminal = treasury_of(data_dir), Terminal(as_json=json)
    deployment = service.deploy_contracts(treasury.data_dir, treasury.chain, treasury.log, treasury.keys, **settings)
    terminal.say(f"ledger {deployment.ledger} pays in token {deployment.token} on chain {deployment.chain_id}")
    if deployment.chain_id != DEVELOPMENT_CHAIN_ID:
        for holder in service.roles(treasury.data_dir, treasury.chain):
            if holder.role == "admin":
                terminal.say(
                    f"its admin is the timelock {holder.account}: what it does is announced for the delay first"
                )
    terminal.result(deployment)


@app.command("move-ledger")
def move_ledger(
    token: Token = None,
    admin: Admin = None,
    poster: Holder = None,
    auditor: SeveralHolders = None,
    guardian: SeveralHolders = None,
    quorum: Quorum = None,
    delay: Delay = None,
    max_rate: MaxRate = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Deploy a ledger that follows this folder's; what the old one owes is claimed from it. Safe to repeat."""
    from settlement import service

    settings = _ledger_settings(token, admin, poster, auditor, guardian, quorum, delay, max_rate)
    treasury, terminal = treasury_of(data_dir), Terminal(as_json=json)
    moved = service.move_ledger(treasury.data_dir, treasury.chain, treasury.log, treasury.keys, **settings)
    terminal.say(f"ledger {moved.new} follows {moved.old}, which ended with post {moved.sequence}")
    terminal.say(f"claim what that one owes: tallyroot claim --all --data-dir {moved.folder}")
    terminal.say("then: `tallyroot fund`, and let the old one's admin take the poster's role from its holder")
    terminal.result(moved)


def _ledger_settings(
    token: str | None,
    admin: str | None,
    poster: str | None,
    auditor: list[str] | None,
    guardian: list[str] | None,
    quorum: int | None,
    delay: str | None,
    max_rate: int | None,
) -> "LedgerSettings":
    """What a ledger is deployed with. Raises InvalidInput for what is no account or duration."""
    from schemas.parsing import duration_ms
    from schemas.units import SECOND_MS
    from settlement.chain.claims import account_name

    if token is not None:
        account_name(token)
    accounts: dict[Role, list[str]] = {
        "admin": [admin] if admin else [],
        "poster": [poster] if poster else [],
        "auditor": auditor or [],
        "guardian": guardian or [],
    }
    for held in accounts.values():
        for account in held:
            account_name(account)
    delay_s = None if delay is None else duration_ms(delay) // SECOND_MS
    return {"token": token, "accounts": accounts, "quorum": quorum, "delay_s": delay_s, "max_rate_whole": max_rate}


@app.command()
def fund(
    amount: Annotated[str | None, typer.Argument(help="Such as 12.50; without it, what is missing.")] = None,
    makes_good: Annotated[
        str | None, typer.Option(metavar="MACHINE/PAYMENT", help="Pay in the place of a payment that the chain lacks.")
    ] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Send tokens to the ledger, so that posts are covered."""
    from deploy.texts import units

    treasury, terminal = treasury_of(data_dir), Terminal(as_json=json)
    if makes_good is None:
        funded = treasury.fund(amount)
    elif amount is None and (named := re.fullmatch(r"(.+)/(\d{1,15})", makes_good)):
        from deploy.money.make_good import make_good

        funded = make_good(treasury, named[1], int(named[2]))
    else:
        raise InvalidInput("--makes-good takes MACHINE/PAYMENT, such as taxi-7/3, and no amount: the payment has it")
    decimals = treasury.decimals()
    terminal.say(
        f"sent {units(funded.amount, decimals)}; the ledger holds {units(funded.balance, decimals)}"
        if funded.transaction
        else "nothing is missing"
    )
    terminal.result(funded, decimals)


@app.command()
def settle(
    epochs: Annotated[int | None, typer.Option(min=1, help="The most epochs in one post.")] = None,
    without: Without = None,
    restate: Annotated[
        bool, typer.Option("--restate", help="Post again what was disputed and has been corrected.")
    ] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Continue as epochs end.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be posted; send and write nothing.")
    ] = False,
    runway_days: RunwayDays = RUNWAY_DAYS,
    metrics_port: MetricsPort = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Post what can be posted; run it as often as you like."""
    if dry_run and follow:
        raise InvalidInput("--dry-run looks once: leave --follow out")
    if metrics_port is not None and not follow:
        raise InvalidInput("--metrics-port goes with --follow: workers' metrics show what one settlement noted")
    from settlement import service
    from settlement.chain.job import Settled, SettleOptions

    options = SettleOptions(max_epochs=epochs, without=frozenset(without or ()), restate=restate)
    treasury, terminal = treasury_of(data_dir), Terminal(as_json=json)
    if dry_run:
        treasury.data.fetch_epochs()
        found = service.dry_run(treasury.data_dir, treasury.chain, treasury.log, treasury.keys, options)
        _show_dry_run(terminal, treasury.log, found)
        terminal.result(found)
        return
    # On the folder's own chain settle funds the ledger by itself.
    runway_days = 0 if treasury.data.has_own_chain() else runway_days
    if not follow:
        _show_settled(terminal, treasury, treasury.settle(options), runway_days)
        return
    from deploy.money.chain_metrics import SettleMetrics
    from deploy.stack.serving import serving

    metrics = SettleMetrics(treasury.data, treasury.chain.counts)
    with serving(treasury.data.settings, metrics_port, metrics.health, metrics.page, terminal.step):
        for done in treasury.follow(options, metrics.heard):
            if isinstance(done, Settled):
                _show_settled(terminal, treasury, done, runway_days)
            else:
                terminal.step(str(done))


def _show_settled(terminal: Terminal, treasury: "Treasury", settled: "Settled", runway_days: int) -> None:
    from deploy.money.treasury import noted_funding
    from deploy.texts import moment_text

    posted = ", ".join(str(sequence) for sequence in settled.posts)
    if posted:
        terminal.say(f"posted {posted}")
    if settled.owes_nobody_until is not None:
        _, end_ms = treasury.log.epoch_span(settled.owes_nobody_until)
        terminal.say(f"what ended until {moment_text(end_ms)} owes nobody, and goes into a later post")
    elif not posted:
        terminal.say("nothing to post")
    if settled.waiting_for and (posted or settled.owes_nobody_until is None):
        terminal.say(f"waiting for {settled.waiting_for}")
    noted = noted_funding(treasury.data_dir)
    _warn_of_runway(terminal, None if noted is None else noted.runway_days, runway_days)
    terminal.result(settled)


def _warn_of_runway(terminal: Terminal, days: int | None, runway_days: int) -> None:
    """One line on stderr when the ledger's free funds last for fewer days than they should."""
    if days is not None and days < runway_days:
        lasts = f"{days} day" if days == 1 else f"{days} days"
        terminal.step(f"warning: the ledger's free funds last {lasts}, fewer than {runway_days}: `tallyroot fund`")


def _show_dry_run(terminal: Terminal, log: "Log", found: "DryRun") -> None:
    """The posts, who is paid what, gas, funds, and why it would be refused."""
    from deploy.texts import day_text, units

    for post in found.posts:
        first, last = (day_text(log.epoch_span(epoch)[0]) for epoch in (post.first_epoch, post.last_epoch))
        terminal.say(f"post {post.sequence} would settle {first} to {last}: {post.windows:,} windows")
        terminal.say(f"  windows root 0x{post.windows_root}")
        terminal.say(f"  payouts root 0x{post.payouts_root}")
        added, expenses, refunds, total, deposits = (
            units(amount, found.decimals)
            for amount in (post.added, post.expenses, post.refunds, post.total, post.deposits)
        )
        of_it = f" ({expenses} of it to suppliers, {refunds} refunds)" if post.expenses or post.refunds else ""
        terminal.say(f"  adds {added}{of_it}, owed in all {total}")
        if post.deposits:
            terminal.say(f"  {deposits} beside it are deposits of customers, for sessions still open")
    if found.unfinished:
        numbers = ", ".join(str(sequence) for sequence in found.unfinished)
        terminal.say(f"post {numbers} comes first: it was begun and is not mined")
    if found.posts:
        _show_payees(terminal, found)
        _show_costs(terminal, found)
    else:
        terminal.say("nothing to post")
    _show_unsettled(terminal, log, found.unsettled)
    if found.waiting_for:
        terminal.say(f"then it waits for {found.waiting_for}")
    terminal.say("nothing was sent, nothing was written")


def _show_payees(terminal: Terminal, found: "DryRun") -> None:
    from deploy.texts import units

    new = sum(not change.before for change in found.changes)
    terminal.say(
        f"{len(found.changes):,} accounts get more, {new:,} of them for the first time;"
        f" {len(found.gone):,} that the last post paid get nothing"
    )
    columns = ["account", "so far", "would get", "last post"]
    for title, changes in (("would be paid", found.changes), ("paid last time, and not now", found.gone)):
        if changes:
            amounts = [(each.before, each.after - each.before, each.last_amount) for each in changes[:PAYEES_SHOWN]]
            rows = [
                (each.account, *(units(amount, found.decimals) for amount in line))
                for each, line in zip(changes, amounts, strict=False)
            ]
            terminal.table(title, columns, rows)
        if len(changes) > PAYEES_SHOWN:
            terminal.say(f"and {len(changes) - PAYEES_SHOWN:,} more: see --json")
    if found.dues:
        dues = [
            (due.sequence, due.machine, DUE_NAMES[due.kind], due.ref, due.account, units(due.amount, found.decimals))
            for due in found.dues[:PAYEES_SHOWN]
        ]
        terminal.table("dues, paid whole", ["post", "machine", "kind", "for", "to", "amount"], dues)
        if len(found.dues) > PAYEES_SHOWN:
            terminal.say(f"and {len(found.dues) - PAYEES_SHOWN:,} more dues: see --json")


def _show_costs(terminal: Terminal, found: "DryRun") -> None:
    from deploy.texts import units
    from settlement.chain.paying import ether_text

    short = " (too little)" if found.poster_wei < found.most_wei else ""
    terminal.say(
        f"gas {found.gas:,} a post: {ether_text(found.cost_wei)} ether now, {ether_text(found.most_wei)} at most;"
        f" the poster {found.poster} holds {ether_text(found.poster_wei)}{short}"
    )
    terminal.say(
        f"the ledger lacks {units(found.shortfall, found.decimals)}: run `tallyroot fund` first"
        if found.shortfall
        else "the ledger holds enough"
    )
    if found.refusal:
        terminal.say(f"it would be refused now: {found.refusal}")


@app.command()
def settlements(runway_days: RunwayDays = RUNWAY_DAYS, data_dir: DataDir = None, json: Json = False) -> None:
    """The posts: epochs, roots, states, shortfall, and how long the funds last."""
    from deploy.texts import units
    from settlement.chain.contract import moment

    treasury, terminal = treasury_of(data_dir), Terminal(as_json=json)
    report = treasury.settlements()
    show_settlements(terminal, treasury.log, report)
    lasts, decimals = report.runway, report.decimals
    if lasts.days is not None:
        terminal.say(
            f"free {units(lasts.free, decimals)}; a day of the last posts added {units(lasts.per_day, decimals)}:"
            f" the funds last {lasts.days:,} days"
        )
    if report.paused_until_s:
        terminal.say(f"claims are paused until {moment(report.paused_until_s)}")
    if report.posting_paused_until_s:
        terminal.say(f"posting is paused until {moment(report.posting_paused_until_s)}")
    _warn_of_runway(terminal, lasts.days, runway_days)
    terminal.result(report)


@app.command("peaq-events")
def peaq_events(
    out: Annotated[Path, typer.Option(help="Write the events to this file, one JSON object a line.")],
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Export what machines earned in active posts as events of peaqOS; the same posts make the same lines."""
    from deploy.money.peaq_events import write_peaq_events

    treasury, terminal = treasury_of(data_dir), Terminal(as_json=json)
    treasury.fetch_posts()
    done = write_peaq_events(treasury.data_dir, treasury.chain, treasury.log.currency, out)
    terminal.say(f"{done.events:,} events of {done.value:,} minor units of {done.currency} in all written to {out}")
    terminal.result(done)


def show_settlements(terminal: Terminal, log: "Log", report: "SettlementsReport") -> None:
    """The posts as a table, and the ledger in one line."""
    from deploy.texts import day_text, money, units

    rows = [
        (
            post.settlement.sequence,
            " to ".join(
                day_text(log.epoch_span(epoch)[0])
                for epoch in (post.settlement.first_epoch, post.settlement.last_epoch)
            ),
            post.settlement.state,
            money(post.settlement.total_micros, log.currency),
        )
        for post in report.posts
    ]
    terminal.table("posts", ["post", "epochs", "state", "owed in all"], rows)
    for post in report.posts:
        terminal.say(f"post {post.settlement.sequence} windows root 0x{post.settlement.windows_root}")
        terminal.say(f"       payouts root 0x{post.settlement.payouts_root}")
    decimals = report.decimals
    terminal.say(
        f"owed {units(report.total, decimals)}, claimed {units(report.claimed, decimals)}, the ledger holds"
        f" {units(report.balance, decimals)}; earned and not posted {units(report.unposted, decimals)},"
        f" shortfall {units(report.shortfall, decimals)}"
    )
    earned, funded = report.total + report.unposted, report.balance + report.claimed
    collected = "" if report.collected_micros is None else f", collected {money(report.collected_micros, log.currency)}"
    terminal.say(
        f"earned {units(earned, decimals)}{collected} of what is settled, funded {units(funded, decimals)}, owed"
        f" {units(report.total - report.claimed, decimals)}, claimed {units(report.claimed, decimals)}"
    )
    if report.deposits or report.expenses_micros or report.refunds_micros:
        expenses, refunds = (money(micros, log.currency) for micros in (report.expenses_micros, report.refunds_micros))
        terminal.say(
            f"to suppliers {expenses}, refunded {refunds}; deposits of customers for open sessions"
            f" {units(report.deposits, decimals)}"
        )
    _show_unsettled(terminal, log, report.unsettled)
    show_skipped(terminal, report.skipped)


def show_skipped(terminal: Terminal, skipped: "Iterable[SkippedInPost]") -> None:
    """What posts leave out by an operator's decision, a line each."""
    for each in skipped:
        terminal.say(f"post {each.sequence}: by an operator's decision {each.range.text}")


def _show_unsettled(terminal: Terminal, log: "Log", unsettled: "Iterable[UnsettledSum]") -> None:
    """A line for each payee that can't be paid."""
    from deploy.texts import money
    from settlement.accrual import ACCOUNT, account_of

    for row in unsettled:
        amount = money(row.micros, log.currency)
        if row.reason == "trust":
            terminal.say(f"unsettled: {amount} held back, the agreements pay for more trust than the readings have")
        else:
            why = "not an account"
            if account_of(row.payee) is not None:
                why = "the ledger itself"
            elif ACCOUNT.fullmatch(row.payee):
                why = "the zero address" if int(row.payee, 16) == 0 else "mistyped, no such account"
            terminal.say(f"unsettled: {amount} to '{row.payee}' ({why})")


@app.command()
def payouts(
    account: Annotated[str | None, typer.Argument(help="Only this account.")] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """What each account was ever owed, has claimed, and can claim."""
    from deploy.texts import units
    from settlement import service
    from settlement.results import Payouts

    treasury, terminal = treasury_of(data_dir), Terminal(as_json=json)
    rows, decimals = service.payouts(treasury.data_dir, treasury.chain, account), treasury.decimals()
    columns = ["account", "ever owed", "claimed", "claimable", "not active yet"]
    amounts: list[tuple[int, ...]] = [(row.cumulative, row.claimed, row.claimable, row.waiting) for row in rows]
    if any(row.expenses or row.refunds for row in rows):
        columns += ["of it invoices", "of it refunds"]
        amounts = [(*line, row.expenses, row.refunds) for row, line in zip(rows, amounts, strict=True)]
    terminal.table(
        "payouts",
        columns,
        [(row.account, *(units(amount, decimals) for amount in line)) for row, line in zip(rows, amounts, strict=True)],
    )
    terminal.result(Payouts(decimals, rows))


@app.command()
def claim(
    accounts: Annotated[list[str] | None, typer.Argument(help="The accounts that the money goes to.")] = None,
    all_accounts: Annotated[bool, typer.Option("--all", help="Every account that can claim.")] = False,
    batch: Annotated[int, typer.Option(min=1, max=1_000, help="Accounts in one transaction.")] = 100,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the last post's delay has passed.")] = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Claim all that accounts can; anyone may pay the gas."""
    if bool(accounts) == all_accounts:
        raise InvalidInput("name the accounts, or all of them with --all")
    from deploy.texts import units
    from settlement import service

    treasury, terminal = treasury_of(data_dir), Terminal(as_json=json)
    decimals, step = treasury.decimals(), terminal.step if wait else None
    if accounts and len(accounts) == 1:
        account = accounts[0]
        claimed = treasury.when_active(
            lambda: service.claim(treasury.data_dir, treasury.chain, treasury.keys, account), step
        )
        terminal.say(f"{claimed.account} got {units(claimed.amount, decimals)} under post {claimed.sequence}")
        terminal.say(f"transaction {claimed.transaction}")
        terminal.result(claimed, decimals)
        return
    found = treasury.when_active(
        lambda: service.claim_many(treasury.data_dir, treasury.chain, treasury.keys, accounts or None, batch), step
    )
    terminal.say(
        f"{len(found.paid):,} accounts got {units(found.amount, decimals)} under post {found.sequence} in"
        f" {len(found.transactions):,} transaction(s); {len(found.already):,} had nothing to claim"
    )
    for row in found.returned:
        terminal.say(f"the token refuses to pay {row.account} its {units(row.amount, decimals)}: it can claim later")
    terminal.result(found, decimals)


@app.command("restore-posts")
def restore_posts(
    without: Annotated[
        list[int] | None, typer.Option(metavar="PARTITION", help="Posts may have left it out; repeatable.")
    ] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Lead a folder whose posts are lost, or behind the chain, to where the chain is: from log and epochs."""
    from deploy.cli.results import Restored

    treasury, terminal = treasury_of(data_dir), Terminal(as_json=json)
    restored = treasury.restore_posts(without or [], terminal.step)
    numbers = ", ".join(str(sequence) for sequence in restored)
    terminal.say(f"rebuilt, as on the chain: {numbers}" if restored else "every post on the chain is here")
    terminal.result(Restored(list(restored)))


@app.command()
def why(
    account: Annotated[str, typer.Argument(help="The account.")],
    windows: Annotated[bool, typer.Option("--windows", help="Every window that it has a part in.")] = False,
    window: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="MACHINE START", help="The readings of one window, such as cp-7 2019-09-01T17:00Z."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Also write a Parquet file.")] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Why an account is owed what it is: sums by machine and month, every window, and down to the readings of one."""
    from deploy.explain import why as explaining

    treasury, terminal = treasury_of(data_dir), Terminal(as_json=json)
    explained = explaining.why(treasury, account, window)
    show_skipped(terminal, explained.skipped)
    if window is None:
        _show_sums(terminal, treasury.log.currency, explained)
    if windows:
        _show_windows(terminal, explained)
    for row, readings in zip(explained.rows, explained.windows, strict=False):
        _show_readings(terminal, row, readings)
    if window is not None and explained.dues:
        _table_of_dues(terminal, f"dues to {explained.account}, paid whole", explained.dues)
    if out is not None:
        explaining.write_parquet(explained, out)
        terminal.say(f"written to {out}")
    terminal.result(explained)


def _show_sums(terminal: Terminal, currency: str, found: "Explained") -> None:
    from deploy.texts import machine_text, units
    from schemas.units import MICROS_DECIMALS

    owed = units(found.cumulative_micros, MICROS_DECIMALS)
    title = f"why {found.account} is owed {owed} {currency}"
    if found.sums:
        _table_of_sums(terminal, title, found.sums)
    if found.dues:
        _table_of_dues(terminal, f"{title}: dues, paid whole" if not found.sums else "and dues, paid whole", found.dues)
    for holding in found.holdings:
        terminal.say(
            f"{found.account} holds {holding.held:,} of {holding.supply:,} shares {holding.symbol} of"
            f" {machine_text(holding.machine)}, and can withdraw"
            f" {units(holding.withdrawable, holding.decimals)} from them now"
        )
        _table_of_sums(terminal, f"their contract {holding.shares} was paid", holding.sums)
    terminal.say("every window: --windows; the readings of one: --window MACHINE 'YYYY-MM-DD HH:MM'")


def _table_of_sums(terminal: Terminal, title: str, sums: "Sequence[MonthSum]") -> None:
    from deploy.explain.statement_page import percent
    from deploy.texts import machine_text, units
    from schemas.units import MICROS_DECIMALS

    rows = [
        (machine_text(one.machine), one.month, one.agreement[:8], f"{one.windows:,}",
         units(one.net_micros, MICROS_DECIMALS), percent(one.points), units(one.amount_micros, MICROS_DECIMALS))
        for one in sums
    ]  # fmt: skip
    terminal.table(title, ["machine", "month", "agreement", "windows", "earned", "part", "amount"], rows)


def _table_of_dues(terminal: Terminal, title: str, dues: "Sequence[DueRow]") -> None:
    from deploy.texts import moment_text, units
    from schemas.units import MICROS_DECIMALS

    rows = [
        (due.sequence, due.machine, moment_text(due.start_ms), DUE_NAMES[due.kind], due.ref,
         units(due.amount_micros, MICROS_DECIMALS))
        for due in dues
    ]  # fmt: skip
    terminal.table(title, ["post", "machine", "window", "kind", "for", "amount"], rows)


def _show_windows(terminal: Terminal, found: "Explained") -> None:
    from deploy.texts import machine_text, moment_text, units
    from schemas.units import MICROS_DECIMALS

    rows = [
        (row.sequence, machine_text(row.machine), moment_text(row.start_ms), units(row.net_micros, MICROS_DECIMALS),
         units(row.payable_micros, MICROS_DECIMALS), row.points, units(row.amount_micros, MICROS_DECIMALS))
        for row in found.rows
    ]  # fmt: skip
    terminal.table("", ["post", "machine", "window", "net", "payable", "basis points", "amount"], rows)


def _show_readings(terminal: Terminal, row: "StatementRow", found: "ExplainedWindow") -> None:
    from deploy.texts import machine_text, moment_text

    adjusts = f", an adjustment of the window of {moment_text(row.adjusts_ms)}" if row.adjusts_ms else ""
    rows = [
        (one.offset, one.row, one.meter, one.boot, one.seq, moment_text(one.observed_at_ms), one.value, one.usage,
         f"{one.price_micros} / {one.per}" if one.per else f"{one.price_micros} / session", one.micros,
         "its meter" if one.proven else "")
        for one in found.readings
    ]  # fmt: skip
    columns = [
        "offset",
        "row",
        "meter",
        "boot",
        "seq",
        "observed",
        "value",
        "usage",
        "price micros",
        "micros",
        "proven by",
    ]
    terminal.table(f"{machine_text(row.machine)}, window of {moment_text(row.start_ms)}{adjusts}", columns, rows)
    terminal.say(f"net {row.net_micros} micros = the sum of these; digest 0x{row.window_digest}, post {row.sequence}")
    terminal.say(
        f"payable {row.payable_micros} = carry before {row.carry_before_micros} + net {row.net_micros}"
        f" - carry after {row.carry_after_micros}; {row.points} of 10,000 of it: {row.amount_micros}"
    )


@app.command()
def statement(
    account: Annotated[str, typer.Argument(help="The account.")],
    month: Annotated[str, typer.Option(metavar="YYYY-MM", help="Only windows that start in this month (UTC).")] = "",
    csv: Annotated[Path | None, typer.Option(help="Write a line for each window to this file.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page to print to this file.")] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """An account's statement: what each machine paid it, as a table, CSV or a page to print."""
    if month and not MONTH.fullmatch(month):
        raise InvalidInput(f"'{month}' is not a month: write it as 2026-11")
    from deploy.explain.statement_page import payee_statement, statement_csv, statement_html
    from deploy.texts import units
    from files.write import write_bytes
    from schemas.units import MICROS_DECIMALS
    from settlement import service

    treasury, terminal = treasury_of(data_dir), Terminal(as_json=json)
    log = treasury.log
    found = payee_statement(
        service.why(treasury.data_dir, treasury.chain, account), month, log_id=log.log_id, currency=log.currency,
        ledger=service.Ledger.open(treasury.data_dir, treasury.chain).deployment.ledger,
    )  # fmt: skip
    owed = f"{units(found.amount_micros, MICROS_DECIMALS)} {found.currency}"
    for path, write in ((csv, statement_csv), (html, statement_html)):
        if path is not None:
            write_bytes(path, write(found).encode())
            terminal.step(f"written to {path}")
    _table_of_sums(terminal, f"{found.account} was paid {owed}{f' for {month}' if month else ''}", found.sums)
    if found.dues:
        _table_of_dues(terminal, "of it dues, paid whole", found.dues)
    terminal.result(found)


@app.command()
def receipt(
    machine: Annotated[str, typer.Argument(help="The machine.")],
    meter: Annotated[str, typer.Argument(help="Its meter.")],
    boot: Annotated[int, typer.Argument(min=0, help="The reading's boot.")],
    seq: Annotated[int, typer.Argument(min=0, help="The reading's number in it.")],
    out: Annotated[Path | None, typer.Option(help="Write all of it with its proofs to this file.")] = None,
    ocmf: Annotated[
        Path | None, typer.Option(help="Write what the meter signed of its session, for the transparency software.")
    ] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """What became of one reading, at what price, and the proof that the log held it."""
    from deploy.explain.reading_rows import ReadingName
    from deploy.explain.receipt import receipt as show_receipt

    show_receipt(data_folder(data_dir), Terminal(as_json=json), ReadingName(machine, meter, boot, seq), out, ocmf)
