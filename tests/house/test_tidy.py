"""The house rules that a machine can hold: sizes, no `assert` in the product, nothing of one machine in the files."""

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("files", "schemas", "streams", "gateway", "settlement", "till", "agent", "deploy")
LONGEST_FUNCTION = 60
MACHINE_PATH = re.compile(rb"(?<![\w.~/])/(?:home|root|Users|work|farm)/[\w.-]+")
REGISTRY_HOST = re.compile(
    rb"\b(?:pypi\.org|pythonhosted\.org|npmjs\.(?:org|com)|maven\.apache\.org|repo1\.maven|maven\.org|crates\.io"
    rb"|github\.com/[\w.-]+/[\w.-]+/releases)"
)
ADDRESS = re.compile(rb"https?://|git\+|file:|--(?:extra-)?index-url|--find-links|\"resolved\"")
LOCKS = (
    "requirements.lock",
    "package-lock.json",
    "deploy/image/requirements.lock",
    "deploy/image/build.lock",
    "deploy/setup/locks/pip.lock",
    "deploy/setup/locks/java.lock",
    "deploy/setup/locks/node.lock",
    "deploy/setup/locks/slither.lock",
    "deploy/setup/locks/chart.lock",
    "deploy/setup/locks/anvil.lock",
    "deploy/setup/locks/kafka-jars.lock",
    "tests/bench/jobs/flink.lock",
    "tests/bench/jobs/kafka-streams.lock",
)
JARS_LOCKS = ("anvil.lock", "kafka-jars.lock", "flink.lock", "kafka-streams.lock")


def tracked() -> list[Path]:
    """Every file that git keeps, as it is in the work tree."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


def python_files() -> Iterator[Path]:
    """The product's own Python files."""
    for package in PACKAGES:
        yield from sorted((ROOT / package).rglob("*.py"))


def test_functions_fit_on_a_screen() -> None:
    long = []
    for path in [path for path in tracked() if path.suffix == ".py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > LONGEST_FUNCTION:
                    long.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {lines}")
    assert not long, f"longer than {LONGEST_FUNCTION} lines:\n" + "\n".join(long)


def test_the_product_raises_and_never_asserts() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in python_files()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Assert)
    ]
    assert not wrong, "\n".join(wrong)


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in python_files()
        if path.stat().st_size and not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not silent, "no docstring:\n" + "\n".join(silent)


def test_every_package_has_a_readme() -> None:
    assert not [package for package in PACKAGES if not (ROOT / package / "README.md").exists()]


def test_no_path_of_a_machine_and_no_registry_s_address() -> None:
    wrong = []
    for path in tracked():
        if path == Path(__file__).resolve():
            continue
        for number, line in enumerate(path.read_bytes().splitlines(), 1):
            if MACHINE_PATH.search(line) or REGISTRY_HOST.search(line):
                wrong.append(f"{path.relative_to(ROOT)}:{number}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_names_hashes_and_no_addresses(name: str) -> None:
    lines = (ROOT / name).read_bytes().splitlines()
    assert not [line for line in lines if ADDRESS.search(line)]
    assert any(re.search(rb"sha256:[0-9a-f]{64}|sha512-|^[0-9a-f]{64}  ", line) for line in lines)


def test_every_locked_python_package_has_a_hash() -> None:
    for name in LOCKS:
        if name == "package-lock.json" or name.endswith(JARS_LOCKS):
            continue
        entries = re.split(r"(?m)^(?=[A-Za-z0-9])", (ROOT / name).read_text())
        bare = [entry.split("\n")[0] for entry in entries if "==" in entry and "--hash=sha256:" not in entry]
        assert not bare, f"{name}: {bare}"


@pytest.mark.parametrize("folder", [".", "gateway/python"])
def test_every_direct_requirement_is_locked_and_says_why(folder: str) -> None:
    text = (ROOT / folder / "pyproject.toml").read_text()
    project = tomllib.loads(text)["project"]
    wanted = list(project["dependencies"])
    for extra in project["optional-dependencies"].values():
        wanted += extra
    lock = (ROOT / "requirements.lock").read_text() + "tallyroot-gateway==here"
    for requirement in wanted:
        name = re.match(r"[A-Za-z0-9_.-]+", requirement)
        assert name is not None
        assert re.search(rf"(?mi)^{re.escape(name.group())}==", lock), f"{requirement} is not in requirements.lock"
        line = next(line for line in text.splitlines() if line.startswith(f'    "{requirement}"'))
        assert re.search(r",\s+# \w", line), f"{requirement}: no comment says why"


def test_nothing_is_left_to_do() -> None:
    """What isn't done is an issue, or stands in a README under *Not here yet*."""
    mark = re.compile(rb"\b(?:TODO|FIXME|XXX)\b")
    wrong = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in tracked()
        if path.suffix not in (".parquet", ".xml") and path != Path(__file__).resolve()
        for number, line in enumerate(path.read_bytes().splitlines(), 1)
        if mark.search(line)
    ]
    assert not wrong, "\n".join(wrong)


BLOB_BYTES = 100_000
BLOBS = {
    "requirements.lock": "hashes of every wheel for every platform",
    "deploy/image/requirements.lock": "the same for what an image runs",
    "deploy/setup/locks/slither.lock": "the same for the static analyser",
    "data/ev_sessions_acn_2019.parquet": "real records: the demo and the importers' tests",
    "data/pv_abb_5min.parquet": "real records: the demo and the importers' tests",
}
"""Every tracked file above BLOB_BYTES, and why it may be: a checkout stays small."""


def test_large_files_are_listed_with_their_reason() -> None:
    large = {path.relative_to(ROOT).as_posix() for path in tracked() if path.stat().st_size > BLOB_BYTES}
    assert large == set(BLOBS)
