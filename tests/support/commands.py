"""`tallyroot` as a person runs it, in a process of its own; forked, so that it doesn't spend a second on imports."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import typer
from typer.core import TyperGroup

from deploy.cli import app as cli
from tests.support.forked import FORKED, send_output_to


def commands() -> list[str]:
    """Every command that there is, those of a group with its name: `shares buy`."""
    root = typer.main.get_command(cli.app)
    assert isinstance(root, TyperGroup)
    return [
        f"{name} {part}".strip()
        for name, one in root.commands.items()
        for part in (one.commands if isinstance(one, TyperGroup) else ("",))
    ]


def tallyroot(
    *words: str, cwd: Path, code: int = 0, seconds: float = 300, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs a command with these variables too; its exit code must be `code`, and no traceback may be shown."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        process = FORKED.Process(target=run_forked, args=(words, cwd, out, err, env or {}))
        process.start()
        process.join(seconds)
        if process.exitcode is None:
            process.kill()
        done = subprocess.CompletedProcess(words, process.exitcode or 0, out.read_text(), err.read_text())
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def run_forked(words: tuple[str, ...], cwd: Path, out: Path, err: Path, env: Mapping[str, str]) -> None:
    """A command as the process that was forked for it."""
    from deploy.__main__ import main

    os.chdir(cwd)
    os.environ.update(env, PWD=str(cwd))
    send_output_to(out, err)
    sys.argv = ["tallyroot", *words]
    main()
