"""Commands that check: the audit, the watcher, proofs, attesting and disputing, the attack, the report."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.cli.options import DataDir, Json, MetricsPort, data_folder, treasury_of
from deploy.cli.terminal import Terminal
from schemas.errors import InvalidInput

if TYPE_CHECKING:
    from deploy.attack.attack import Attacked
    from deploy.attack.cheat import Row
    from deploy.report.report import WrittenReport
    from schemas.log import Log
    from settlement.audit.audit import AuditReport
    from settlement.chain.watcher import Done, Look

ADVICE = re.compile(r" \([^)]*\)|: (restore|run|wait|withdraw|post fewer) .*")
ACCOUNT = re.compile("(0x[0-9a-f]{4})[0-9a-f]{36}")

app = typer.Typer()


@app.command()
def audit(
    from_archive: Annotated[bool, typer.Option("--from-archive", help="Read the archive instead of Kafka.")] = False,
    slow: Annotated[
        bool, typer.Option("--slow", help="Count every window a second time, by a naive loop in fractions.")
    ] = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Recompute every window, root and sum from the log, and name the first that differs."""
    from deploy.explain import audit as auditing

    treasury, terminal = treasury_of(data_dir, trusts_folder=False), Terminal(as_json=json)
    source = "the archive" if from_archive else "Kafka"
    terminal.step(f"recomputing {treasury.log.partitions} partitions from {source}")
    if slow:
        report = auditing.audit_slowly(treasury, terminal.step, from_archive=from_archive)
    else:
        report = auditing.audit(treasury, from_archive=from_archive)
    show_audit(terminal, treasury.log, report)
    if slow and not any(finding.kind == "slow" for finding in report.findings):
        terminal.say(f"the naive loop counts the same {report.windows:,} windows in fractions")
    terminal.result(report, treasury.decimals())
    if not report.ok:
        raise typer.Exit(1)


def show_audit(terminal: Terminal, log: "Log", report: "AuditReport") -> None:
    """The audit's verdict, its sums, and everything that it found."""
    from deploy.texts import money, units

    _show_findings(terminal, report)
    for skipped in report.skipped:
        terminal.say(f"by an operator's decision {skipped.text}")
    for paid in report.unrecorded:
        terminal.say(f"unrecorded money, a customer waits for what was paid: {paid.text}")
    for text in report.made_good:
        terminal.say(f"by an operator's mistake {text}")
    if report.payments:
        terminal.say(f"{report.payments:,} payments of customers held against what the ledger got")
    terminal.say(
        f"{report.posts} posts, {report.epochs} epochs, {report.windows:,} windows recomputed;"
        f" earned {money(report.nets_micros, log.currency)}{_dues(log, report)}"
        f" = paid {money(report.paid_micros, log.currency)}"
        f" + held {money(report.held_micros + report.outside_micros, log.currency)}"
        f" + carried {money(report.carry_micros, log.currency)}"
    )
    machines = len({sums.machine for sums in report.machines})
    conserved = all(s.nets_micros == s.paid_micros + s.held_micros + s.carry_micros for s in report.machines)
    terminal.say(
        f"earned = paid + held + carried {'also' if conserved else 'NOT'} for each of {machines:,} machines under each"
        f" of its agreements ({len(report.machines):,})"
    )
    ledger = report.money
    if ledger is not None:
        same = "=" if report.leaves_total == report.total_on_chain else "is NOT"
        leaves, total, *rest = (
            units(amount, ledger.decimals)
            for amount in (
                report.leaves_total, report.total_on_chain, ledger.earned, ledger.deposits, ledger.funded,
                ledger.claimed, ledger.shortfall,
            )
        )  # fmt: skip
        terminal.say(f"sum of all leaves {leaves} {same} the total on the chain {total}")
        terminal.say("earned {}, deposits {}, funded {}, claimed {}, shortfall {}".format(*rest))
    terminal.say(f"audit: {'ok' if report.ok else 'NOT ok'}")


def _dues(log: "Log", report: "AuditReport") -> str:
    from deploy.texts import money

    if not report.expenses_micros and not report.refunds_micros:
        return ""
    expenses, refunds = (money(micros, log.currency) for micros in (report.expenses_micros, report.refunds_micros))
    return f" + dues to suppliers {expenses} and customers {refunds}"


def _show_findings(terminal: Terminal, report: "AuditReport") -> None:
    for finding in report.findings:
        terminal.say(f"post {finding.sequence}: {finding.text}" if finding.sequence else finding.text)
        if finding.found or finding.expected:
            said, true = ("the log:  ", "the chain:") if finding.kind == "payment" else ("published:", "the log:  ")
            terminal.say(f"  {said} {finding.found or 'nothing'}")
            terminal.say(f"  {true} {finding.expected or 'nothing'}")


@app.command()
def watch(
    once: Annotated[bool, typer.Option("--once", help="Look once, for cron; exit 1 if you have to act.")] = False,
    from_archive: Annotated[bool, typer.Option("--from-archive", help="Read the archive instead of Kafka.")] = False,
    only_wrong: Annotated[
        bool, typer.Option("--only-wrong", help="Dispute what contradicts the log, not what is withheld.")
    ] = False,
    every: Annotated[float, typer.Option(min=0.1, metavar="SECONDS", help="How long to rest between looks.")] = 10.0,
    metrics_port: MetricsPort = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Audit every post as it comes: attest what is right, dispute what is wrong or withheld, with the keys set."""
    if metrics_port is not None and once:
        raise InvalidInput("--metrics-port serves for as long as it watches: leave --once out")
    from deploy.explain.watch import Watch, WatchOptions

    data, terminal = data_folder(data_dir), Terminal(as_json=json)
    options = WatchOptions(from_archive=from_archive, only_wrong=only_wrong, every_s=every)
    if once:
        if not Watch(data, lambda seen: show_watched(terminal, seen), options).once():
            raise typer.Exit(1)
        return
    from deploy.money.chain_metrics import WatchMetrics
    from deploy.stack.serving import serving
    from settlement.chain.rpc import RpcCounts

    counts = RpcCounts()
    metrics = WatchMetrics(data, counts)
    with serving(data.settings, metrics_port, metrics.health, metrics.page, terminal.step):
        Watch(data, lambda seen: show_watched(terminal, seen), options, metrics.heard, counts).follow()


def show_watched(terminal: Terminal, seen: "Done | Look") -> None:
    """One line for what the watcher did or could not do, or for a look that left nothing to do."""
    from settlement.chain.watcher import Look

    if isinstance(seen, Look):
        terminal.say(f"{seen.posts} posts follow from the log, {seen.sight.attested} are attested")
        return
    terminal.say(_done_line(seen))
    terminal.result(seen)


def _done_line(done: "Done") -> str:
    from deploy.texts import moment_text

    of_post = f"post {done.sequence}: " if done.sequence else ""
    match done.event:
        case "attested":
            return f"attested up to post {done.sequence}: all of it follows from the log; {done.transaction}"
        case "disputed":
            return f"DISPUTED {of_post}{done.text}; {done.transaction}"
        case "idle":
            return f"right up to post {done.sequence}; no auditor's key is set to attest it with"
        case "skipped":
            return f"by an operator's decision {done.text}"
        case "unrecorded":
            return f"unrecorded money, a customer waits for what was paid: {done.text}"
        case "amended":
            return f"by an operator's mistake {done.text}"
        case "wait":
            until = "" if done.until_s is None else f", waiting until {moment_text(done.until_s * 1_000)}"
            return f"{of_post}{done.text}{until}"
        case _:
            return f"ALARM {of_post}{done.text}"


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(help="A file that `proof --out` wrote.")],
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Check a proof against the chain."""
    from deploy.texts import units
    from settlement import service

    proof_file = service.read_proof(file)
    treasury, terminal = treasury_of(data_dir), Terminal(as_json=json)
    verified = service.verify(treasury.data_dir, treasury.chain, proof_file)
    if verified.valid:
        because = f": {verified.reason}" if verified.reason else ""
        terminal.say(f"valid; claimable now: {units(verified.claimable, treasury.decimals())}{because}")
    else:
        terminal.say(f"not valid: {verified.reason}")
    terminal.result(verified, treasury.decimals())


@app.command()
def proof(
    account: Annotated[str | None, typer.Argument(help="The account.")] = None,
    all_accounts: Annotated[bool, typer.Option("--all", help="Every account, one file each: needs --out.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write it to this file; with --all to this folder.")] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Print what `claim` needs for an account: leaf, proof and post."""
    if (account is None) != all_accounts or (all_accounts and out is None):
        raise InvalidInput("name one account, or all of them with --all --out FOLDER")
    from msgspec.json import encode, format

    from settlement import service

    treasury, terminal = treasury_of(data_dir), Terminal(as_json=json)
    if account is None and out is not None:
        from deploy.cli.results import ProofFolder

        written = treasury.write_proofs(out)
        terminal.say(f"{written:,} proofs written to {out}")
        terminal.result(ProofFolder(out, written))
        return
    found = service.proof(treasury.data_dir, treasury.chain, account or "")
    if out is not None:
        service.write_proof(out, found)
        terminal.say(f"written to {out}")
    else:
        terminal.say(format(encode(found), indent=2).decode())
    terminal.result(found)


@app.command()
def attest(data_dir: DataDir = None, json: Json = False) -> None:
    """Audit the log and, if all is right, attest the posts with the auditor's key."""
    from deploy.explain import audit as auditing

    treasury, terminal = treasury_of(data_dir, trusts_folder=False), Terminal(as_json=json)
    report = auditing.audit(treasury, from_archive=False)
    _show_findings(terminal, report)
    attested = auditing.attest(treasury, report)
    terminal.say(f"audit ok; attested up to post {attested.sequence}")
    terminal.result(attested)


@app.command()
def dispute(
    post: Annotated[int, typer.Argument(help="The post's sequence; later ones fall with it.")],
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Dispute a post that is not active yet, with the guardian's key: it will never pay."""
    from deploy.cli.results import Disputed
    from settlement import service

    treasury, terminal = treasury_of(data_dir, trusts_folder=False), Terminal(as_json=json)
    transaction = service.dispute(treasury.data_dir, treasury.chain, treasury.keys, post)
    terminal.say(f"post {post} and all after it are disputed: {transaction}")
    terminal.result(Disputed(post, transaction))


@app.command()
def attack(data_dir: DataDir = None, json: Json = False) -> None:
    """Run named cheats on a copy of this folder: what catches each, how fast, who would lose; and what nothing does."""
    from deploy.attack.attack import attack

    terminal = Terminal(as_json=json)
    attacked = attack(data_folder(data_dir), terminal.step)
    show_attack(terminal, attacked)
    terminal.result(attacked)
    if not attacked.ok:
        raise typer.Exit(1)


def show_attack(terminal: Terminal, report: "Attacked") -> None:
    """What was caught; what nothing here can catch, and what helps; the totals."""
    from deploy.attack.cheat import NOT_CAUGHT

    caught = [row for row in report.rows if row.caught_by != NOT_CAUGHT]
    terminal.table(
        "",
        ("cheat", "by the", "caught by", "its words", "ms", "who would lose"),
        ((row.cheat, row.who, row.caught_by, _short(row), f"{row.took_us / 1_000:.1f}", row.loses) for row in caught),
    )
    terminal.say("")
    terminal.table(
        NOT_CAUGHT.upper(),
        ("cheat", "by the", "what happened", "who loses", "what helps"),
        (
            (row.cheat, row.who, _short(row), row.loses, row.helps or "nothing: this is a fault, please report it")
            for row in report.rows
            if row.caught_by == NOT_CAUGHT
        ),
    )
    terminal.say("")
    terminal.say(f"{report.caught} cheats caught, {report.not_caught} that nothing here can catch")
    terminal.say("the rules are in streams/RULES.md; your folder and your ledger were not changed")
    if not report.ok:
        terminal.say("NOT all were caught that should be")


def _short(row: "Row") -> str:
    """What was said, without advice and what the table says beside it."""
    return ACCOUNT.sub(r"\1…", ADVICE.sub("", row.said.removeprefix(f"{row.caught_by}: ")))


@app.command()
def report(
    out: Annotated[Path | None, typer.Option(help="Write the page here [report.html in the data folder].")] = None,
    machine: Annotated[str | None, typer.Option(help="Show a day of this machine down to its readings.")] = None,
    day: Annotated[str | None, typer.Option(metavar="YYYY-MM-DD", help="Show this UTC day down to readings.")] = None,
    name: Annotated[
        list[str] | None, typer.Option(metavar="ACCOUNT=NAME", help="Who an account is; repeatable.")
    ] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Write report.html: one page that shows what was earned, needs no network, and checks itself."""
    from schemas.parsing import day_number

    names = dict(_named(text) for text in name or ())
    number = None if day is None else day_number(day)
    from deploy.report.figures import Wish
    from deploy.report.report import write_report

    terminal = Terminal(as_json=json)
    written = write_report(data_folder(data_dir), out, wish=Wish(machine, number), names=names)
    show_report(terminal, written)
    terminal.result(written)


def show_report(terminal: Terminal, written: "WrittenReport") -> None:
    """Where the page is, and what it shows down to readings."""
    terminal.say(f"{written.path}: open it in a browser, it needs no network ({written.bytes / 1e6:.1f} MB)")
    if written.chain is not None:
        terminal.step(f"warning: claims are those of an earlier block, as the page says: {written.chain}")
    terminal.say(f"  down to readings: {', '.join(written.machines) or 'no day, none is final yet'}")


def _named(text: str) -> tuple[str, str]:
    account, found, who = text.partition("=")
    if not found or not who:
        raise InvalidInput(f"'{text}' is not a name for an account: write --name 0x…=owner")
    return account, who
