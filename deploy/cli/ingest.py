"""`ingest`: files of one's own into the log."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.cli.options import DataDir, Json, data_folder
from deploy.cli.terminal import Terminal
from schemas.errors import InvalidInput

if TYPE_CHECKING:
    from deploy.importers.ingest import IngestReport

NAMES_SHOWN = 20
"""Names that a terminal shows one by one."""

app = typer.Typer()


@app.command()
def ingest(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="CSV, JSON, JSON lines or Parquet.")],
    mapping: Annotated[
        str | None, typer.Option("--map", metavar="MAP", help="A mapping file, or the name of one that ships.")
    ] = None,
    guess: Annotated[bool, typer.Option("--guess", help="Print a mapping to start from; send nothing.")] = False,
    form: Annotated[
        Path | None,
        typer.Option("--register-form", metavar="FILE", help="Write a form for the machines, no more."),
    ] = None,
    end: Annotated[
        str | None,
        typer.Option(metavar="DAY", help="The files are whole up to this day; the log goes on to it."),
    ] = None,
    skipped: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where rows go that are not sent [in the data folder].")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be sent; send nothing.")] = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Bring sessions, intervals or registers of a file into the log, each row once."""
    if guess:
        from deploy.importers.guess import guess as guessed

        sys.stdout.write(guessed(files[0]))
        return
    if mapping is None:
        raise InvalidInput("name a mapping: --map FILE; `tallyroot ingest FILE --guess` prints one to start from")
    from deploy.importers.ingest import IngestOptions, write_register_form
    from deploy.importers.ingest import ingest as bring
    from deploy.importers.mapping import read_mapping
    from schemas.parsing import day_number
    from schemas.units import DAY_MS

    data, terminal, read = data_folder(data_dir), Terminal(as_json=json), read_mapping(mapping)
    if form is not None:
        from deploy.cli.results import Written

        count = write_register_form(data, files, read, form)
        terminal.say(f"{form}: a form for {count:,} machines. Fill in accounts and prices, check the capacities, then")
        terminal.say(f"  tallyroot register {form}")
        terminal.result(Written(str(form), count))
        return
    options = IngestOptions(end_ms=None if end is None else day_number(end) * DAY_MS, skipped=skipped, dry_run=dry_run)
    _show(terminal, bring(data, files, read, options, terminal.step))


def _show(terminal: Terminal, report: "IngestReport") -> None:
    from deploy.texts import day_text, moment_text

    verb = "sent" if report.sent else "would be sent"
    terminal.say(
        f"{report.rows:,} rows of {report.machines:,} machines: {report.sent_rows:,} {verb},"
        f" {report.there_already:,} there already, {sum(report.skipped.values()):,} skipped"
    )
    if report.first_ms is not None and report.last_ms is not None:
        span = f"{moment_text(report.first_ms)} to {moment_text(report.last_ms)}"
        terminal.say(f"  {report.readings:,} readings, {span}")
    for meter, total in report.totals.items():
        terminal.say(f"  {meter}: {total:,} of {report.file_totals.get(meter, total):,} in the file")
    for reason, count in report.skipped.items():
        terminal.say(f"  skipped {count:,}: {reason}")
    if report.skipped_file is not None:
        terminal.say(f"  each skipped row: {report.skipped_file}")
    if report.twice_by_the_clock:
        terminal.say(
            f"  {report.twice_by_the_clock:,} times lie in an hour that the clock had twice: read as the first, unless"
            " the rows before them or a start lie later"
        )
    for machine, name in list(report.names.items())[:NAMES_SHOWN]:
        terminal.say(f"  {machine} is {name}")
    if len(report.names) > NAMES_SHOWN:
        terminal.say(f"  ... and {len(report.names) - NAMES_SHOWN:,} more names, all of them in ingest/names.json")
    if report.ended_at_ms is not None:
        terminal.say(f"  the log's time is past {day_text(report.ended_at_ms)}: epochs before it end")
    terminal.result(report)
