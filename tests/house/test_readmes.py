"""What the README files tell a person to run exists, and is written as it must be."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.exceptions import TyperException

ROOT = Path(__file__).resolve().parents[2]
READMES = [
    path
    for path in sorted(ROOT.rglob("README.md"))
    if not {".venv", "node_modules", ".cache", "lib"} & set(path.relative_to(ROOT).parts)
]


def code(text: str) -> Iterator[str]:
    """Every line of a fenced or indented block, and every inline span."""
    for block in re.findall(r"(?ms)^```[^\n]*\n(.*?)^```", text):
        yield from block.splitlines()
    outside = re.sub(r"(?ms)^```.*?^```", "", text)
    yield from (line.strip() for line in outside.splitlines() if line.startswith("    "))
    yield from re.findall(r"`([^`\n]+)`", outside)


def commands(program: str) -> Iterator[tuple[str, str]]:
    """(README, what stands behind the program) of every command line that a README shows, in a command's place."""
    for path in READMES:
        for line in code(path.read_text(encoding="utf-8")):
            match = re.match(rf"(?:\$ )?(?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?{program} ([a-z].*)", line)
            if match:
                yield str(path.relative_to(ROOT)), match.group(1)


def test_every_make_target_named_exists() -> None:
    targets = set(re.findall(r"(?m)^([a-z][a-z-]*):", (ROOT / "Makefile").read_text()))
    assert {"demo", "test"} <= targets
    assert [found for found in commands("make") if found[1].split()[0] not in targets] == []


def test_every_tallyroot_command_line_parses() -> None:
    """An inline mention may leave out what a command must be given; no option may be one that isn't there."""
    from deploy.cli import app as cli

    group = typer.main.get_command(cli.app)
    wrong = [(path, line, said) for path, line in commands("tallyroot") if (said := parsed(group, line))]
    assert not wrong


def parsed(group: Any, line: str) -> str:
    """What is wrong with a command line, which may have a remark behind a # or two blanks; empty if nothing is."""
    words = shlex.split(re.split(r"\s{2,}", line)[0].replace("…", "1"), comments=True)
    command, name = group, ""
    while hasattr(command, "commands") and words:
        name = words.pop(0)
        if name not in command.commands:
            return f"no command {name}"
        command = command.commands[name]
    try:
        command.make_context(name, words)
    except TyperException as error:
        return "" if type(error).__name__ == "MissingParameter" else error.format_message()
    return ""


def test_every_file_linked_exists() -> None:
    missing = []
    for path in READMES:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
            if not re.match(r"[a-z]+:", target) and not (path.parent / target).exists():
                missing.append(f"{path.relative_to(ROOT)}: {target}")
    assert not missing, "\n".join(missing)


@pytest.mark.parametrize("path", READMES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_block_of_shell_or_python_parses(path: Path) -> None:
    for language, block in re.findall(r"(?ms)^```(\w+)\n(.*?)^```", path.read_text(encoding="utf-8")):
        assert language in {"text", "console", "sh", "bash", "python", "js"}, "a kind of block that no test knows"
        if language == "python":
            compile(block, str(path), "exec")
        elif language in {"sh", "bash"}:
            subprocess.run([language, "-n"], input=block, text=True, check=True, timeout=10)
