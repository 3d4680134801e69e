"""The command that writes the page which checks itself."""

from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from deploy.cli.options import DataDir, Json, data_folder
from deploy.cli.terminal import Terminal
from schemas.errors import InvalidInput

EPOCH_DAY = date(1970, 1, 1).toordinal()

app = typer.Typer()


@app.command()
def report(
    out: Annotated[Path | None, typer.Option(help="Write the page there [report.html in the data folder].")] = None,
    machine: Annotated[str | None, typer.Option(help="Show a day of this machine down to its readings.")] = None,
    day: Annotated[str | None, typer.Option(metavar="YYYY-MM-DD", help="Show this UTC day down to readings.")] = None,
    name: Annotated[
        list[str] | None, typer.Option(metavar="ACCOUNT=NAME", help="Who an account is; repeatable.")
    ] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Write report.html: one page without a network that shows what was earned, and checks itself."""
    from deploy.report.figures import Wish
    from deploy.report.report import report as write

    write(
        data_folder(data_dir),
        Terminal(as_json=json),
        out,
        wish=Wish(machine, None if day is None else _day(day)),
        names=dict(_named(text) for text in name or ()),
    )


def _day(text: str) -> int:
    """Days since 1970. Raises InvalidInput."""
    try:
        return date.fromisoformat(text).toordinal() - EPOCH_DAY
    except ValueError:
        raise InvalidInput(f"'{text}' is no day: write it as 2019-09-10") from None


def _named(text: str) -> tuple[str, str]:
    account, found, who = text.partition("=")
    if not found or not who:
        raise InvalidInput(f"'{text}' names nobody: write --name 0x…=owner")
    return account, who
