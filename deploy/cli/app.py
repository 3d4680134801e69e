"""The `tallyroot` command: the groups of commands, and the exit code of a process that ran one.

A command parses its options, calls one function, and shows what it returned. The modules of the groups import nothing
heavy; a command imports what it needs when it runs, so that help and usage errors are immediate.
"""

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from typer._click import Context, HelpFormatter
from typer.exceptions import TyperException

from deploy.cli import ask, check, devices, ingest, machines, money, orders, roles, run, selling, shares, start, upkeep
from deploy.cli.terminal import fail
from deploy.cli.values import PlainCommand, PlainGroup
from schemas.errors import InvalidInput, InvariantBroken

PANELS = {
    "start": (start,),
    "machines": (machines, ingest, orders),
    "devices": (devices,),
    "money": (money, selling),
    "check": (check,),
    "run": (run, upkeep, roles),
    "ask": (ask,),
}
"""Panels of the help, in their order, and the modules whose commands they show."""


class PanelGroup(PlainGroup):
    """Shows its commands by panel, in plain text: Typer's rich help would load rich."""

    def format_commands(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Writes one section for each panel, in the order of PANELS."""
        width = max(map(len, self.commands))
        for panel in PANELS:
            rows = [
                (f"{name:{width}}", command.get_short_help_str(200))
                for name, command in self.commands.items()
                if getattr(command, "rich_help_panel", None) == panel
            ]
            with formatter.section(panel):
                formatter.write_dl(rows)


def _show_version(is_asked: bool) -> None:
    if is_asked:
        from importlib.metadata import version

        typer.echo(f"tallyroot {version('tallyroot')}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Turns what machines report into money that anyone can check."""


app = typer.Typer(
    cls=PanelGroup,
    callback=_options,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"max_content_width": 120},
)
for panel, parts in PANELS.items():
    for part in parts:
        app.add_typer(part.app)
        for command in part.app.registered_commands:
            command.rich_help_panel, command.cls = panel, PlainCommand
app.add_typer(shares.app, name="shares", cls=PlainGroup, rich_help_panel="money")
for command in shares.app.registered_commands:
    command.cls = PlainCommand


def main() -> None:
    """The `tallyroot` command. 0 done, 1 an error in one line, 2 usage, 70 an invariant, 130 interrupted."""
    sys.exit(_exit_code(lambda: app(standalone_mode=False)))


def _exit_code(run: Callable[[], object]) -> int:
    try:
        code = run()
    except InvalidInput as error:
        fail(str(error))
        return 1
    except InvariantBroken as error:
        fail(f"stopped, an invariant is broken: {error}")
        return 70
    except TyperException as error:
        said = error.format_message()
        if negative := re.fullmatch(r"No such option: (-[\d.]+)", said):
            said = f"{negative[1]} is negative, which nothing here can be"
        if said:  # empty where the help was shown instead
            fail(f"{said} (see `tallyroot --help`)")
        return error.exit_code
    except typer.Abort:
        return 130
    except KeyboardInterrupt:
        fail("interrupted")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001 - the last resort: a person reads one line, the traceback is in a file
        path = _write_traceback()
        fail(f"unexpected {type(error).__name__}: {error} (please report it with {path})")
        return 70
    return code if isinstance(code, int) else 0


def _write_traceback() -> Path:
    """Writes the traceback into the current folder, or the temporary one where that can't be written. Returns where."""
    import tempfile
    import traceback

    path = Path("tallyroot-error.log").absolute()
    try:
        path.write_text(traceback.format_exc())
    except OSError:
        path = Path(tempfile.gettempdir()) / path.name
        path.write_text(traceback.format_exc())
    return path


if __name__ == "__main__":
    main()
