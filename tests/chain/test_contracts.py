"""The committed artefacts are what the Solidity sources say, and the sources keep what they promise."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from settlement.contracts import build

# Half a minute each on two quiet cores; npm's compiler is slow where cores are shared.
COMPILING_SECONDS = 900
needs_forge = pytest.mark.skipif(build.find_forge() is None, reason="forge is not in node_modules: run `make setup`")


@pytest.fixture(autouse=True)
def node_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the machine has no node, the set-up put one beside Python."""
    monkeypatch.setenv("PATH", os.pathsep.join([os.environ["PATH"], str(Path(sys.executable).parent)]))


def committed(name: str) -> build.Artefact:
    artefact: build.Artefact = json.loads((build.ABI_DIR / f"{name}.json").read_bytes())
    return artefact


@pytest.mark.parametrize("name", build.CONTRACTS)
def test_an_artefact_was_built_from_these_sources(name: str) -> None:
    artefact = committed(name)
    assert artefact["sources"] == build.source_hashes(list(artefact["sources"])), (
        "a source changed: run `python settlement/contracts/build.py`"
    )
    assert artefact["openzeppelin"] == build.openzeppelin_version()
    settings = tomllib.loads((build.PROJECT / "foundry.toml").read_text())["profile"]["default"]
    compiler = artefact["compiler"]
    assert (compiler["evm_version"], compiler["optimizer_runs"], compiler["via_ir"]) == (
        settings["evm_version"],
        settings["optimizer_runs"],
        settings["via_ir"],
    )
    dependencies = json.loads((build.ROOT / "package.json").read_text())["dependencies"]
    assert compiler["solc"].split("+")[0] == dependencies["solc"]


@pytest.mark.parametrize("name", build.CONTRACTS)
def test_every_source_an_artefact_needs_is_hashed(name: str) -> None:
    """Imports of our own, followed from the contract: a file added to it can't escape the hashes."""
    reached: set[str] = set()
    waiting = [f"src/{name}.sol"]
    while waiting:
        source = waiting.pop()
        reached.add(source)
        own = re.findall(r'from\s+"\./([^"]+)"', (build.PROJECT / source).read_text())
        waiting += [f"src/{file}" for file in own if f"src/{file}" not in reached]
    assert reached == set(committed(name)["sources"])


def test_the_gas_table_shows_the_snapshot_and_meets_its_goals() -> None:
    measured = {name: int(gas) for name, gas in json.loads(build.GAS_SNAPSHOT.read_text()).items()}
    assert build.GAS_TABLE.read_text() == build.gas_table(measured)
    assert all(measured[name] <= goal for name, goal in build.GAS_GOALS.items())


@pytest.fixture(scope="module")
def tested() -> subprocess.CompletedProcess[str]:
    """All sources compiled anew, the tests' too, and these run: unit, fuzz and invariant tests, and a gas snapshot."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", os.pathsep.join([os.environ["PATH"], str(Path(sys.executable).parent)]))
        patch.setenv("FORGE_SNAPSHOT_CHECK", "true")
        try:
            return subprocess.CompletedProcess("forge", 0, build.forge("test", "--force"))
        except subprocess.CalledProcessError as failure:
            return subprocess.CompletedProcess("forge", failure.returncode, failure.stdout)


@needs_forge
@pytest.mark.slow
@pytest.mark.timeout(COMPILING_SECONDS)
def test_the_contracts_pass_their_own_tests(tested: subprocess.CompletedProcess[str]) -> None:
    """The gas snapshot must equal the committed one."""
    passed = re.search(r"Ran \d+ test suites? .*: (\d+) tests passed, 0 failed, 0 skipped", tested.stdout)
    assert tested.returncode == 0 and passed is not None, tested.stdout
    assert int(passed.group(1)) > 0


@needs_forge
@pytest.mark.slow
@pytest.mark.timeout(COMPILING_SECONDS)
@pytest.mark.usefixtures("tested")
def test_the_artefacts_rebuild_byte_for_byte() -> None:
    for name, artefact in build.read_artefacts().items():
        assert build.artefact_bytes(artefact) == (build.ABI_DIR / f"{name}.json").read_bytes(), name


@needs_forge
def test_the_golden_trees_are_what_their_generator_writes(tmp_path: Path) -> None:
    build.write_trees(tmp_path)
    written = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert written == {path.name: path.read_bytes() for path in build.TREES.glob("*.json")}
