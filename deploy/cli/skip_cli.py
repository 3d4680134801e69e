"""The command with which an operator steps over what no client can read."""

from typing import Annotated

import typer

from deploy.cli.options import DataDir, Json, data_folder
from deploy.cli.terminal import Terminal
from schemas.errors import InvalidInput

app = typer.Typer()


@app.command("skip-range")
def skip_range(
    partition: Annotated[int | None, typer.Argument(min=0, help="As the worker's last line named it.")] = None,
    first: Annotated[int | None, typer.Argument(min=0, help="The first offset that is stepped over.")] = None,
    next: Annotated[int | None, typer.Argument(min=1, help="The offset after the last one.")] = None,
    reason: Annotated[str, typer.Option(help="Why, for whoever audits.")] = "",
    list_all: Annotated[bool, typer.Option("--list", help="Show those that there are.")] = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Step over a range of offsets that no client can read, signed by the operator and named under the root."""
    from deploy.cli import skip_commands

    data, terminal = data_folder(data_dir), Terminal(as_json=json)
    if list_all:
        skip_commands.list_skipped_ranges(data, terminal)
        return
    if partition is None or first is None or next is None or not reason.strip():
        raise InvalidInput("name the partition, the first offset, the next one and a --reason; or ask with --list")
    skip_commands.skip_range(data, terminal, partition, first, next, reason.strip())
