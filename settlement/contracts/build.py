"""Rebuilds the committed artefacts of the contracts: `python settlement/contracts/build.py` after a change of a source.

It writes settlement/abi/*.json (the artefacts that everything else loads), GAS.md with the snapshot under it, and the
golden trees. It needs node and the npm packages of the root's package.json. What it writes follows from the sources.
"""

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent
ROOT = PROJECT.parents[1]
ABI_DIR = ROOT / "settlement/abi"
OUT = ROOT / ".cache/contracts/out"
CONTRACTS = ("SettlementLedger", "LedgerTimelock", "DemoDollar", "MachineShares", "ShareOffering")
GAS_SNAPSHOT = PROJECT / "snapshots/Gas.json"
GAS_TABLE = PROJECT / "GAS.md"
TREES = ROOT / "tests/golden/trees"
TREES_GENERATOR = ROOT / "tests/golden/make_trees.cjs"

Artefact = dict[str, Any]

# The gas allowed, by the names of the gas tests' snapshots.
GAS_GOALS = {
    "post": 98_000,
    "claim, first": 75_000,
    "claim, repeated": 41_000,
    "claim, first, proxied token": 82_000,
    "claim, repeated, proxied token": 48_000,
    "claimMany of 50, per first leaf": 60_000,
    "claimMany of 50, per repeated leaf": 24_000,
    "dispute, whole transaction": 40_000,
    "attest": 45_000,
}


def find_forge() -> Path | None:
    """forge's own program for this machine, or None. npm's wrapper around it would hide a failure: it exits with 0."""
    return next((ROOT / "node_modules/@foundry-rs").glob("forge-*/bin/forge"), None)


def forge(*arguments: str) -> str:
    """Runs forge in the project and returns its standard output.

    Raises FileNotFoundError if forge is not installed, CalledProcessError (with the output) if it fails.
    """
    program = find_forge()
    if program is None:
        raise FileNotFoundError("forge is not in node_modules: run `make setup`")
    command = [str(program), *arguments, "--root", str(PROJECT)]
    return subprocess.run(command, cwd=PROJECT, check=True, text=True, stdout=subprocess.PIPE).stdout


def source_hashes(sources: list[str]) -> dict[str, str]:
    """SHA-256 of sources given relative to the Foundry project, as hex."""
    return {source: hashlib.sha256((PROJECT / source).read_bytes()).hexdigest() for source in sorted(sources)}


def openzeppelin_version() -> str:
    """The version of @openzeppelin/contracts that the root's package.json pins."""
    dependencies: dict[str, str] = json.loads((ROOT / "package.json").read_text())["dependencies"]
    return dependencies["@openzeppelin/contracts"]


def read_artefacts() -> dict[str, Artefact]:
    """The artefacts, by contract name, of what forge has compiled last."""
    return {name: _artefact(name, json.loads((OUT / f"{name}.sol/{name}.json").read_text())) for name in CONTRACTS}


def _artefact(name: str, compiled: dict[str, Any]) -> Artefact:
    metadata = compiled["metadata"]
    settings = metadata["settings"]
    return {
        "contract": name,
        "compiler": {
            "solc": metadata["compiler"]["version"],
            "evm_version": settings["evmVersion"],
            "optimizer_runs": settings["optimizer"]["runs"],
            "via_ir": settings.get("viaIR", False),
            "metadata": "none",
        },
        "openzeppelin": openzeppelin_version(),
        "sources": source_hashes([source for source in metadata["sources"] if source.startswith("src/")]),
        "abi": compiled["abi"],
        "bytecode": compiled["bytecode"]["object"],
    }


def artefact_bytes(artefact: Artefact) -> bytes:
    """The bytes of a committed artefact."""
    return (json.dumps(artefact, indent=1) + "\n").encode()


def write_trees(folder: Path) -> None:
    """Writes the golden trees into a folder that exists. Raises CalledProcessError when node fails."""
    subprocess.run(["node", str(TREES_GENERATOR), str(folder)], check=True)


def gas_table(measured: dict[str, int]) -> str:
    """GAS.md from the snapshot: name to gas."""
    rows = [f"| {name} | {measured[name]:,} | {goal:,} |" for name, goal in GAS_GOALS.items()]
    others = [f"| {name} | {gas:,} | |" for name, gas in measured.items() if name not in GAS_GOALS]
    return "\n".join(
        [
            "# Gas",
            "",
            "Written by `python settlement/contracts/build.py` from `snapshots/Gas.json`, which the tests in",
            "`test/Gas.t.sol` and `test/SharesGas.t.sol` measure. Solc 0.8.37, optimizer 10,000 runs, cancun;",
            "proofs of depth 17; shares that had income on each of 90 days.",
            "Execution, that is a transaction less 21,000 and its calldata, except where it says whole transaction.",
            "Gas per leaf is that of the whole batch divided by its leaves.",
            "",
            "| what | gas | goal |",
            "|---|---:|---:|",
            *rows,
            *others,
            "",
        ]
    )


def main() -> None:
    """Writes everything."""
    ABI_DIR.mkdir(exist_ok=True)
    forge("build", "--quiet", "--force")
    for name, artefact in read_artefacts().items():
        (ABI_DIR / f"{name}.json").write_bytes(artefact_bytes(artefact))
    forge("test", "--match-contract", "GasTest")
    measured = {name: int(gas) for name, gas in json.loads(GAS_SNAPSHOT.read_text()).items()}
    GAS_TABLE.write_text(gas_table(measured))
    write_trees(TREES)


if __name__ == "__main__":
    main()
