"""Commands about machines and the records that they send."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.cli.options import (
    Capacity,
    DataDir,
    Epoch,
    Json,
    Partitions,
    Payees,
    Rebase,
    Sources,
    Unit,
    Zone,
    data_folder,
    named_files,
    payees_of,
    power_unit,
    rated_w,
)
from deploy.cli.terminal import Terminal
from schemas.errors import InvalidInput

if TYPE_CHECKING:
    from deploy.data_folder import DataFolder
    from deploy.explain.gateway_check import CheckOptions, CheckResult, Problem
    from deploy.explain.meter_signs import MeterSign
    from deploy.importers.replay import ReplayReport
    from deploy.machines.apply import Registered
    from deploy.simulate.run import SimulateReport
    from schemas.reading import Correction

PLANS_SHOWN = 20
"""Plans and signs that a terminal shows one by one."""

TRUST = ("self-reported", "signed", "hardware-backed")
"""A window's trust in words."""

app = typer.Typer()


DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would change; send nothing.")]


@app.command()
def register(
    files: Annotated[list[Path] | None, typer.Argument(help="Forms in TOML or YAML.")] = None,
    example: Annotated[str | None, typer.Option(metavar="KIND", help="Print a form to start from.")] = None,
    dry_run: DryRun = False,
    print_payload: Annotated[
        bool, typer.Option("--print-payload", help="Print what a wallet is to sign (EIP-712), as JSON; send nothing.")
    ] = False,
    payloads: Annotated[
        Path | None, typer.Option("--signed", metavar="FILE", help="Send what --print-payload printed, now signed.")
    ] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Bring machines into the log, or change them: shows what changes and from when, then sends it."""
    if example is not None:
        from deploy.machines.form import example as form

        sys.stdout.write(form(example))
        return
    if files and payloads is not None:
        raise InvalidInput("name forms, or --signed with a file of --print-payload: not both")
    if not files and payloads is None:
        raise InvalidInput("name the forms: tallyroot register machines.toml (--example ev_charger prints one)")
    from deploy.machines import apply

    data, terminal = data_folder(data_dir), Terminal(as_json=json)
    if payloads is not None:
        from deploy.cli.results import Accepted

        accepted = apply.send_payloads(data, payloads, terminal.step)
        terminal.say(f"accepted: {', '.join(accepted)}")
        terminal.result(Accepted(accepted))
        return
    found = apply.register(data, files or [], terminal.step, dry_run=dry_run, print_payload=print_payload)
    if print_payload:
        import msgspec

        sys.stdout.write(msgspec.json.format(msgspec.json.encode(found.payloads), indent=2).decode() + "\n")
        return
    _show_registered(terminal, found)


@app.command()
def retire(
    names: Annotated[list[str], typer.Argument(metavar="MACHINE...", help="The machines.")],
    dry_run: DryRun = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Retire machines: their readings count no more; a later `register` brings them back."""
    from deploy.machines.apply import retire as retire_machines

    terminal = Terminal(as_json=json)
    _show_registered(terminal, retire_machines(data_folder(data_dir), names, terminal.step, dry_run=dry_run))


def _show_registered(terminal: Terminal, found: "Registered") -> None:
    """Each machine with what changes and from when; many alike are summed up."""
    from deploy.texts import moment_text

    for plan in found.plans[:PLANS_SHOWN]:
        if plan.registration is None:
            terminal.say(f"{plan.machine}: unchanged")
            continue
        since = "always" if not plan.in_force_from_ms else f"from {moment_text(plan.in_force_from_ms)}"
        refused = "" if plan.verdict is None else f": WOULD BE REFUSED ({plan.verdict})"
        when = f", counts {since}" if plan.verdict is None else refused
        terminal.say(f"{plan.machine}: {plan.action}, version {plan.registration.version}{when}")
        for change in plan.differences:
            before = "" if plan.action == "register" else f"{change.before or '-'}  ->  "
            terminal.say(f"  {change.what}: {before}{change.after or '-'}")
        for warning in plan.warnings:
            terminal.step(f"  warning: {warning}")
    if len(found.plans) > PLANS_SHOWN:
        terminal.say(f"... and {len(found.plans) - PLANS_SHOWN:,} more (--json has all)")
    changed = sum(plan.registration is not None for plan in found.plans)
    if found.sent:
        terminal.say(f"accepted: {changed} of {len(found.plans)} machines sent, the log took them")
    elif not changed:
        terminal.say("nothing to send: the log says the same")
    else:
        terminal.say(f"dry run: {changed} of {len(found.plans)} machines would be sent")
    terminal.result(found)


@app.command()
def correct(
    machine: Annotated[str, typer.Argument(help="The machine.")],
    meter: Annotated[str, typer.Argument(help="Its meter.")],
    at: Annotated[str, typer.Option(metavar="TIME", help="When it was used, such as 2026-11-28T17:00Z.")],
    reason: Annotated[str, typer.Option(help="Why, for auditors.")],
    usage: Annotated[
        str | None, typer.Option(metavar="±AMOUNT", help="Such as '-1.5 kWh' (credit) or +300 (debit).")
    ] = None,
    session: Annotated[str | None, typer.Option(help="The session that it belongs to.")] = None,
    session_started_at: Annotated[str | None, typer.Option(metavar="TIME", help="When that session began.")] = None,
    fees: Annotated[int, typer.Option(metavar="±N", help="Prices per session to add, or (-1) to take back.")] = 0,
    refund_to: Annotated[
        str | None, typer.Option(metavar="ACCOUNT", help="Who is paid back what the correction takes.")
    ] = None,
    dry_run: DryRun = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Send a credit or debit note on what a meter counted; a sealed window is adjusted."""
    from deploy.machines.apply import add_correction
    from schemas.parsing import moment_ms

    terminal = Terminal(as_json=json)
    found = add_correction(
        data_folder(data_dir), machine, meter, terminal.step, at_ms=moment_ms(at), usage=usage, reason=reason,
        session=session, fees=fees, refund_to=refund_to, dry_run=dry_run,
        session_started_ms=None if session_started_at is None else moment_ms(session_started_at),
    )  # fmt: skip
    note = found.correction
    done = "accepted" if found.sent else "dry run, would be sent"
    terminal.say(
        f"{done}: correction {note.version} of {note.machine} {note.meter}, {_note_words(note)} ({note.reason})"
    )
    terminal.result(found)


def _note_words(note: "Correction") -> str:
    parts = [f"{note.difference:+,}" if note.difference or not note.fees else ""]
    parts.append(f"{note.fees:+,} fee{'s' if abs(note.fees) > 1 else ''}" if note.fees else "")
    parts.append(f"refunded to {note.refund_to}" if isinstance(note.refund_to, str) else "")
    return ", ".join(part for part in parts if part)


@app.command()
def machines(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[show MACHINE]", help="One machine: versions, tariff, payees, lock.")
    ] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Machines: last seen, earnings, trust, flags, reporting and uptime; `machines show ID` for one."""
    if words and (len(words) != 2 or words[0] != "show"):
        raise InvalidInput("write `tallyroot machines`, or `tallyroot machines show ID`")
    data, terminal = data_folder(data_dir), Terminal(as_json=json)
    if words:
        _show_machine(terminal, data, words[1])
    else:
        _list_machines(terminal, data)


def _show_machine(terminal: Terminal, data: "DataFolder", name: str) -> None:
    from deploy.machines.apply import machine_page
    from deploy.texts import moment_text

    page = machine_page(data, name, terminal.step)
    terminal.say(f"{page.machine}: partition {page.partition}, {page.corrections} corrections")
    for version in page.versions:
        since = moment_text(version.counts_from_ms) if version.counts_from_ms else ""
        terminal.say(f"version {version.version}, counts {'from ' + since if since else 'always'}")
        for what, value in version.facts.items():
            terminal.say(f"  {what}: {value}")
    terminal.result(page)


def _list_machines(terminal: Terminal, data: "DataFolder") -> None:
    from deploy.cli.results import MachinesShown
    from deploy.explain.machine_rows import machine_rows
    from deploy.explain.refused_signs import refused_signs

    rows = machine_rows(data)
    columns = {
        "machine": "machine", "last_seen": "last seen (UTC)", "windows": "windows", "readings": "readings",
        "gross": "gross", "currency": "", "simulated": "", "trust": "trust", "flags": "flags",
        "equivocations": "equivocations",
        "reporting": "reporting %", "reporting_from": "from (UTC)", "reporting_until": "until (UTC)",
        "uptime": "uptime %",
    }  # fmt: skip
    shown = [[_cell(name, getattr(row, name)) for name in columns] for row in rows]
    terminal.table("machines", list(columns.values()), shown)
    simulated = sum(row.gross for row in rows if row.simulated)
    if simulated:
        terminal.say(f"simulated: {simulated:,} of {sum(row.gross for row in rows):,} gross")
    if not any(row.uptime is not None for row in rows):
        terminal.say(
            "uptime (23 CFR 680.116) is known only of machines with a level meter `availability` (1: in service)"
        )
    signs = refused_signs(data)
    _show_signs(terminal, signs)
    if signs:
        terminal.say("check-gateway reads the log itself, and sees more")
    terminal.result(MachinesShown(rows, signs))


def _show_signs(terminal: Terminal, signs: "list[MeterSign]") -> None:
    """Meters that earn less than they could, and what mends it."""
    if signs:
        terminal.say("")
        terminal.say("what earns less than it could")
    for sign in signs[:PLANS_SHOWN]:
        terminal.say(f"  {sign.line}")
    if len(signs) > PLANS_SHOWN:
        terminal.say(f"  ... and {len(signs) - PLANS_SHOWN:,} more (--json has all)")
    for kind, advice in {sign.sign: sign.advice for sign in signs}.items():
        terminal.say(f"  {kind.replace('_', ' ')}: {advice}")


def _cell(name: str, value: object) -> object:
    if name == "simulated":
        return "simulated" if value else ""
    return ", ".join(value) if isinstance(value, list) else value


@app.command()
def replay(
    kind: Annotated[str | None, typer.Argument(help="acn-sessions, pv-power or chicago-taxi.")] = None,
    file: Annotated[Path | None, typer.Argument(help="CSV or Parquet.")] = None,
    source: Sources = None,
    days: Annotated[int | None, typer.Option(min=1, help="Only the first days of each file.")] = None,
    epoch: Epoch = "1d",
    partitions: Partitions = 4,
    unit: Unit = None,
    zone: Zone = None,
    capacity: Capacity = None,
    rebase: Rebase = False,
    payee: Payees = None,
    seed: Annotated[str | None, typer.Option(help="Makes the log reproducible; without it salts are random.")] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Turn data files into a new log, in order of time."""
    files, power, payees = named_files(source or [], kind, file), power_unit(unit), payees_of(payee)
    from deploy.importers.recording import ReplayOptions, read_sources, replay_into

    options = ReplayOptions(
        epoch=epoch, partitions=partitions, days=days, unit=power, zone=zone, capacity_w=rated_w(capacity),
        rebase=rebase, seed=seed, payees=payees,
    )  # fmt: skip
    terminal = Terminal(as_json=json)
    report = replay_into(data_folder(data_dir), terminal.progress, read_sources(files, options), options)
    show_replay(terminal, report)
    terminal.result(report)


def show_replay(terminal: Terminal, report: "ReplayReport") -> None:
    """What went into the log, and what was left out of it or moved."""
    from deploy.texts import moment_text

    terminal.say(
        f"{report.records:,} records of {report.machines} machines,"
        f" {moment_text(report.first_ms)} to {moment_text(report.last_ms)}"
    )
    for name, skipped in report.skipped.items():
        for row, reason in skipped:
            terminal.say(f"  left out: {name} row {row}: {reason}")
    for name, notes in report.notes.items():
        for note in notes:
            terminal.say(f"  note: {name}: {note}")
    for name, weeks in report.moved_weeks.items():
        terminal.say(f"  moved: {name} by {weeks} weeks")


@app.command()
def simulate(
    machines: Annotated[int, typer.Option(min=1, max=100_000, help="Size of the fleet.")] = 6,
    seed: Annotated[str, typer.Option(help="The same seed makes the same fleet, days and faults.")] = "1",
    live: Annotated[bool, typer.Option("--live", help="In real time (default, or as the log is).")] = False,
    fast: Annotated[bool, typer.Option("--fast", help="A backfill, as fast as possible.")] = False,
    days: Annotated[int | None, typer.Option(min=1, help="Days of a backfill (implies --fast).")] = None,
    start: Annotated[str, typer.Option(help="First day of a backfill.")] = "2026-06-01",
    runs_for: Annotated[str | None, typer.Option("--for", help="How long a live fleet runs [until Ctrl-C].")] = None,
    every: Annotated[str | None, typer.Option(help="Time between readings [5s live, 1m fast].")] = None,
    speed: Annotated[int, typer.Option(min=1, max=60, help="How many times faster life runs: days get shorter.")] = 1,
    faults: Annotated[
        str, typer.Option(help="clock, reset, duplicate, offline, equivocate, glitch (with commas), or all.")
    ] = "",
    form: Annotated[str, typer.Option("--format", help="json, array or arrow.")] = "json",
    unsigned: Annotated[bool, typer.Option("--unsigned", help="No gateway signs.")] = False,
    window: Annotated[str | None, typer.Option(help="A new log's window [1m live, 15m fast].")] = None,
    grace: Annotated[str | None, typer.Option(help="A new log's grace [5s live, 10m fast].")] = None,
    epoch: Annotated[str | None, typer.Option(help="A new log's epoch [10m live, 1d fast].")] = None,
    partitions: Partitions = 4,
    payee: Payees = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Simulate a fleet: realistic days, and faults if asked for."""
    if live and (fast or days is not None):
        raise InvalidInput("a fleet is live or fast: choose one of --live and --fast (or --days)")
    payees = payees_of(payee)
    from deploy.simulate import run
    from deploy.simulate.fleet_faults import faults_of
    from deploy.simulate.simulation import form_of

    options = run.SimulateOptions(
        machines=machines, seed=seed, mode="live" if live else "fast" if fast or days is not None else None,
        days=days, start=start, runs_for=runs_for, every=every, speed=speed, faults=faults_of(faults),
        form=form_of(form), is_signed=not unsigned, window=window, grace=grace, epoch=epoch, partitions=partitions,
        payees=payees,
    )  # fmt: skip
    terminal = Terminal(as_json=json)
    report = run.simulate(data_folder(data_dir), terminal.step, options)
    _show_simulation(terminal, report)
    terminal.result(report)


def _show_simulation(terminal: Terminal, report: "SimulateReport") -> None:
    terminal.say(
        f"{report.readings:,} readings of {report.machines:,} machines in {report.records:,} records,"
        f" {report.seconds:,.0f} s"
    )
    for fault, count in report.faults.items():
        terminal.say(f"  fault {fault}: {count}")
    for reason, count in report.expected_rejects.items():
        terminal.say(f"  to be rejected as {reason}: {count}")
    if report.expected_duplicates:
        terminal.say(f"  to be recognised as duplicates: {report.expected_duplicates}")


@app.command("check-gateway")
def check_gateway(
    machine: Annotated[str | None, typer.Option(help="Only this machine, and records that may be its own.")] = None,
    from_now: Annotated[bool, typer.Option("--from-now", help="Watch what arrives from now on, until Ctrl-C.")] = False,
    records: Annotated[
        int | None, typer.Option(min=1, help="With --from-now: end after this many records of readings.")
    ] = None,
    limit: Annotated[int, typer.Option(min=0, help="The most problems to show; all are counted.")] = 100,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """What is wrong with each record of a gateway, and what it would have earned; exit 1 if anything is wrong."""
    from deploy.explain.gateway_check import CheckOptions, check_gateway

    options = CheckOptions(machine=machine, from_now=from_now, records=records, limit=limit)
    data, terminal = data_folder(data_dir), Terminal(as_json=json)
    found = check_gateway(data, options, terminal.step, lambda problem: terminal.say(_problem_line(problem)))
    _show_check(terminal, data.log().currency, found, options)
    terminal.result(found)
    if not found.ok:
        raise typer.Exit(1)


def _problem_line(problem: "Problem") -> str:
    detail = f" ({problem.detail})" if problem.detail else ""
    return (
        f"partition {problem.partition} offset {problem.offset} row {problem.row} {problem.machine or '?'}:"
        f" {problem.reason}{detail}; {problem.advice}"
    )


def _show_check(terminal: Terminal, currency: str, result: "CheckResult", options: "CheckOptions") -> None:
    from deploy.texts import money

    if result.problems and not options.from_now:
        terminal.table(
            "what is wrong",
            ["partition", "offset", "row", "machine", "reason", "what"],
            [(p.partition, p.offset, p.row, p.machine, p.reason, p.detail) for p in result.problems],
        )
        if result.problem_count > len(result.problems):
            terminal.say(f"... and {result.problem_count - len(result.problems):,} more (--limit shows more)")
        terminal.say("")
        terminal.say("what to do")
        for reason, advice in {problem.reason: problem.advice for problem in result.problems}.items():
            terminal.say(f"  {reason}: {advice}")
        terminal.say("")
    terminal.table(
        f"{result.records:,} records of readings in the log {result.log_id}, by machine",
        ["machine", "accepted", "duplicate", "wrong", "skipped numbers", "trust", "would have earned"],
        [
            (
                report.machine,
                report.accepted,
                report.duplicate,
                ", ".join(f"{count} {reason}" for reason, count in report.problems.items()),
                report.skipped,
                "" if report.trust is None else TRUST[report.trust],
                money(report.earned_micros, currency),
            )
            for report in result.machines
        ],
    )
    _show_signs(terminal, result.signs)
    if options.machine is not None and not result.machines:
        terminal.say(f"nothing of {options.machine} has arrived: check the topic, the key and the machine's name")
    elif result.ok:
        terminal.say("nothing is wrong")
