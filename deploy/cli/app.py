"""The command line: the commands of the files *_cli.py, and what a process that ran one exits with.

Each command reads its options, calls one function, and shows what came back.
"""

import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

import typer
from typer.exceptions import TyperException

from deploy.cli import (
    attack_cli,
    audit_cli,
    gateway_cli,
    log_cli,
    money_cli,
    report_cli,
    shares_cli,
    simulate_cli,
    skip_cli,
    statement_cli,
    watch_cli,
)
from deploy.cli.terminal import fail
from schemas.errors import InvalidInput, InvariantBroken

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Turns what machines report into money that anyone can check.",
)
for part in (
    log_cli,
    money_cli,
    report_cli,
    audit_cli,
    watch_cli,
    attack_cli,
    statement_cli,
    gateway_cli,
    simulate_cli,
    skip_cli,
    shares_cli,
):
    app.add_typer(part.app)


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
        if error.format_message():  # empty where the help was shown instead
            fail(f"{error.format_message()} (see `tallyroot --help`)")
        return error.exit_code
    except typer.Abort:
        return 130
    except KeyboardInterrupt:
        fail("interrupted")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001 - the last resort: a person gets one line, the traceback goes to a file
        path = _kept(traceback.format_exc())
        fail(f"unexpected {type(error).__name__}: {error} (please report it with {path})")
        return 70
    return code if isinstance(code, int) else 0


def _kept(trace: str) -> Path:
    """Where the traceback was written: the current folder, or the temporary one where that can't be written."""
    path = Path("tallyroot-error.log").absolute()
    try:
        path.write_text(trace)
    except OSError:
        path = Path(tempfile.gettempdir()) / path.name
        path.write_text(trace)
    return path


if __name__ == "__main__":
    main()
