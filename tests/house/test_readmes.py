"""What the README files tell a person to run exists."""

import re
from collections.abc import Iterator
from pathlib import Path

import typer

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


def commands(program: str) -> set[tuple[str, str]]:
    """(README, first word) of every command of the program that a README names, in a command's place."""
    found = set()
    for path in READMES:
        for line in code(path.read_text(encoding="utf-8")):
            match = re.match(rf"(?:\$ )?(?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?{program} ([a-z][a-z-]*)", line)
            if match:
                found.add((str(path.relative_to(ROOT)), match.group(1)))
    return found


def test_every_make_target_named_exists() -> None:
    targets = set(re.findall(r"(?m)^([a-z][a-z-]*):", (ROOT / "Makefile").read_text()))
    assert {"demo", "test"} <= targets
    missing = {(path, word) for path, word in commands("make") if word not in targets}
    assert not missing


def test_every_tallyroot_command_named_exists() -> None:
    from deploy import cli

    group = typer.main.get_command(cli.app)
    missing = {(path, word) for path, word in commands("tallyroot") if word not in group.commands}
    assert not missing


def test_every_file_linked_exists() -> None:
    missing = []
    for path in READMES:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
            if not re.match(r"[a-z]+:", target) and not (path.parent / target).exists():
                missing.append(f"{path.relative_to(ROOT)}: {target}")
    assert not missing, "\n".join(missing)
