"""What the documents name exists: commands, files, headings, modules. And every module and decision is named."""

import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.exceptions import TyperException

ROOT = Path(__file__).resolve().parents[2]
MADE = {".venv", "node_modules", ".cache", "lib", "build"}
DOCUMENTS = [path for path in sorted(ROOT.rglob("*.md")) if not MADE & set(path.relative_to(ROOT).parts)]
PACKAGES = [
    name
    for name in ("files", "schemas", "streams", "settlement", "gateway", "till", "agent", "deploy")
    if (ROOT / name).is_dir()
]
MODULES = {".py", ".sql", ".mjs", ".cjs", ".js"}


def code(text: str) -> Iterator[str]:
    """Every line of a fenced or indented block, and every inline span."""
    for block in re.findall(r"(?ms)^```[^\n]*\n(.*?)^```", text):
        yield from block.splitlines()
    outside = re.sub(r"(?ms)^```.*?^```", "", text)
    yield from (line.strip() for line in outside.splitlines() if line.startswith("    "))
    yield from re.findall(r"`([^`\n]+)`", outside)


def commands(program: str) -> Iterator[tuple[str, str]]:
    """(document, what stands behind the program) of every command line that a document shows, in a command's place."""
    for path in DOCUMENTS:
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


def headings(path: Path) -> set[str]:
    """The anchors that a document's headings get."""
    text = re.sub(r"(?ms)^```.*?^```", "", path.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in re.findall(r"(?m)^#+ (.*)$", text)}


def test_every_file_and_heading_linked_exists() -> None:
    missing = []
    for path in DOCUMENTS:
        for target, heading in re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", path.read_text(encoding="utf-8")):
            if re.match(r"[a-z]+:", target):
                continue
            file = path.parent / target if target else path
            if not file.exists() or (heading and heading not in headings(file)):
                missing.append(f"{path.relative_to(ROOT)}: {target}#{heading}")
    assert not missing, "\n".join(missing)


def test_every_source_named_by_its_path_exists() -> None:
    """Also behind `python -m`. What is named must begin with a folder of ours."""
    folders = "|".join(path.name for path in sorted(ROOT.iterdir()) if path.is_dir() and path.name.isalpha())
    named_file = re.compile(rf"(?<![\w/.-])(?:{folders})/[\w./-]*\.(?:py|sql|mjs|cjs|js|md|sol)\b")
    named_module = re.compile(rf"\bpython -m ((?:{folders})[\w.]*)")
    missing = []
    for path in DOCUMENTS:
        for span in code(path.read_text(encoding="utf-8")):
            names = [(name,) for name in named_file.findall(span)]
            for name in named_module.findall(span):
                file = name.replace(".", "/")
                names.append((file + ".py", file + "/__main__.py"))
            missing += [
                f"{path.relative_to(ROOT)}: {any_of[0]}"
                for any_of in names
                if not any((ROOT / n).exists() for n in any_of)
            ]
    assert not missing, "\n".join(missing)


def modules(package: str) -> Iterator[tuple[Path, Path]]:
    """(module, the nearest README above it) of a package; its tests and what is only a package's mark are none."""
    for path in sorted((ROOT / package).rglob("*")):
        parts = set(path.relative_to(ROOT).parts)
        if path.suffix in MODULES and path.name != "__init__.py" and not parts & {*MADE, "test", "tests"}:
            yield path, next(folder / "README.md" for folder in path.parents if (folder / "README.md").exists())


def spellings(module: Path, readme: Path) -> set[str]:
    """How a README may name a module: by its name or its path from there, with or without what it ends with."""
    inside = module.relative_to(readme.parent)
    return {module.name, module.stem, inside.as_posix(), inside.with_suffix("").as_posix()}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_is_named_in_the_nearest_readme(package: str) -> None:
    silent = [
        f"{readme.relative_to(ROOT)} doesn't name {module.relative_to(readme.parent)}"
        for module, readme in modules(package)
        if not spellings(module, readme) & set(re.findall(r"`([^`\n]+)`", readme.read_text(encoding="utf-8")))
    ]
    assert not silent, "\n".join(silent)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_in_a_readme_s_table_exists(package: str) -> None:
    known: dict[Path, set[str]] = {}
    for module, readme in modules(package):
        known.setdefault(readme, set()).update(spellings(module, readme) | {module.name})
    gone = []
    for readme, names in known.items():
        text = readme.read_text(encoding="utf-8")
        for table in re.findall(r"(?m)^\| module \|.*\n\|---.*\n((?:\|.*\n)*)", text):
            cells = [line.split("|")[1] for line in table.splitlines()]
            named = [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]
            gone += [
                f"{readme.relative_to(ROOT)}: {name}"
                for name in named
                if name not in names and not (readme.parent / name).is_file()
            ]
    assert not gone, "\n".join(gone)


DECISION = re.compile(
    r"# (?P<number>\d{4}) (?P<title>.+)\n\n- Date: (?P<date>\d{4}-\d{2}-\d{2})\n- Status: .+(?:\n  .+)*\n"
    r"- Area: `(?P<area>[a-z/]+)`\n- Replaces: .+(?:\n  .+)*\n\n## Decision\n\n(?s:.+)\n## Why\n\n(?s:.+)"
)


def test_decisions_are_numbered_without_gaps_and_stand_in_their_index() -> None:
    folder = ROOT / "docs" / "decisions"
    rows = []
    for path in sorted(folder.glob("[0-9]*.md")):
        found = DECISION.fullmatch(path.read_text(encoding="utf-8"))
        assert found and path.name.startswith(found["number"] + "-"), f"{path.name} is no decision by the form"
        rows.append(f"| [{found['number']}]({path.name}) | {found['date']} | {found['title']} | `{found['area']}` |")
    assert [int(row[3:7]) for row in rows] == list(range(1, len(rows) + 1))
    index = (folder / "README.md").read_text(encoding="utf-8")
    assert [line for line in index.splitlines() if line.startswith("| [")] == rows


def test_decisions_stand_nowhere_else() -> None:
    found = [
        str(path.relative_to(ROOT)) for path in DOCUMENTS if re.search(r"(?m)^- \d{4}-\d\d-\d\d", path.read_text())
    ]
    assert not found


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_block_of_shell_or_python_parses(path: Path) -> None:
    for language, block in re.findall(r"(?ms)^```(\w+)\n(.*?)^```", path.read_text(encoding="utf-8")):
        assert language in {"text", "console", "sh", "bash", "python", "js", "sql", "toml"}, "no test knows these"
        if language == "python":
            compile(block, str(path), "exec")
        elif language == "toml":
            tomllib.loads(block)
        elif language in {"sh", "bash"}:
            subprocess.run([language, "-n"], input=block, text=True, check=True, timeout=10)
