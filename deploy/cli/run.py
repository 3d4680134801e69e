"""Commands that run a log: workers, and what no client can read."""

from typing import Annotated

import typer

from deploy.cli.options import DataDir, Json, MetricsPort, data_folder
from deploy.cli.terminal import Terminal
from schemas.errors import InvalidInput

app = typer.Typer()


@app.command()
def stream(
    until_caught_up: Annotated[bool, typer.Option("--until-caught-up", help="Stop at the log's present end.")] = False,
    commit_records: Annotated[int | None, typer.Option(min=1, help="The most records in one commit.")] = None,
    metrics_port: MetricsPort = None,
    log_json: Annotated[bool, typer.Option("--log-json", help="One JSON object a line on stderr: all events.")] = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Run one worker; start more of them to share the partitions."""
    from deploy.cli.results import WorkerEnded
    from deploy.stack.worker import run_one_worker

    terminal = Terminal(as_json=json)
    code = run_one_worker(
        data_folder(data_dir), terminal.step, until_caught_up=until_caught_up, commit_records=commit_records,
        metrics_port=metrics_port, log_json=log_json,
    )  # fmt: skip
    terminal.result(WorkerEnded(code))
    if code:
        raise typer.Exit(code)


@app.command("skip-range")
def skip_range(
    partition: Annotated[int | None, typer.Argument(min=0, help="As the worker's last line named it.")] = None,
    first: Annotated[int | None, typer.Argument(min=0, help="The first offset that is skipped.")] = None,
    next: Annotated[int | None, typer.Argument(min=1, help="The offset after the last one.")] = None,
    reason: Annotated[str, typer.Option(help="Why, for auditors.")] = "",
    list_all: Annotated[bool, typer.Option("--list", help="List the skipped ranges.")] = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Skip a range of offsets that no client can read, signed by the operator and named under the root."""
    reason = reason.strip()
    if not list_all and (partition is None or first is None or next is None or not reason):
        raise InvalidInput("name the partition, the first offset, the next one and a --reason; or ask with --list")
    from deploy.cli.results import SkippedShown

    data, terminal = data_folder(data_dir), Terminal(as_json=json)
    added = None
    if partition is not None and first is not None and next is not None and not list_all:
        added = data.skip_range(partition, first, next, reason)
        terminal.say(
            f"the offsets {first} to {next} of partition {partition} are skipped: {reason}\n"
            "start the workers again; the manifest of the epoch will name the range (`skip-range --list`: all of them)"
        )
    skipped = data.skipped_ranges()
    if list_all and skipped:
        from streams.core.skipped_ranges import signer_of

        log = data.log()
        terminal.table(
            "",
            ("partition", "first", "next", "reason", "signed by"),
            [(one.partition, one.first_offset, one.next_offset, one.reason, signer_of(log, one)) for one in skipped],
        )
    elif list_all:
        terminal.say("no skipped ranges: every record of the log counts")
    terminal.result(SkippedShown(added, list(skipped)))
