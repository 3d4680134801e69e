"""Slither on the contracts: `make analyse`. Exits with 1 if it finds something that is not judged below.

It runs in an environment of its own under .cache, made from a lock with hashes. The sources are compiled in one run of
npm's solc: forge's build info holds some of them twice, under two sets of ids, and then slither loses what a contract
inherits, with a warning only. Each finding that was reviewed and accepted stands below with its reason.
"""

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent
ROOT = PROJECT.parents[1]
LOCK = ROOT / "deploy/setup/locks/slither.lock"
HOME = ROOT / ".cache/slither"
LOST = ("Failed to resolve", "Missing inheritance", "Missing params", "Missing function")
"""What slither prints if it has not understood a source: then its silence means nothing."""

EXACT = "the rest of the division is kept: it stays owed to the holder"
COUNTS = "a count, an index or a time of our own, not a balance that others could shift"
TIMES = "times are compared in hours and days; a proposer moves them by seconds"
BATCH = "claimMany pays one after the other, each with a bound of gas; whoever can't be paid is put back"
ACCEPTED = {
    ("divide-before-multiply", "MachineShares.withdraw"): EXACT,
    ("incorrect-equality", "MachineShares._areaBefore"): COUNTS,
    ("incorrect-equality", "MachineShares._takeNote"): COUNTS,
    ("incorrect-equality", "MachineShares.received"): COUNTS,
    ("incorrect-equality", "MachineShares.released"): COUNTS,
    ("incorrect-equality", "MachineShares.withdraw"): "refuses to withdraw nothing",
    ("incorrect-equality", "LedgerRoles._requireTimelock"): "an account without code is no timelock",
    ("calls-loop", "SettlementLedger._payOrPutBack"): BATCH,
    ("calls-loop", "SettlementLedger._transfers"): BATCH,
    ("return-bomb", "SettlementLedger._transfers"): "the gas of the call bounds what it returns",
    ("low-level-calls", "SettlementLedger._transfers"): "tokens such as USDT return nothing; the answer is looked at",
    ("uninitialized-local", "MachineShares._takeNote.last"): "zeros are meant: nothing has arrived yet",
    ("unused-return", "MachineShares.collect"): "income counts by balance, not by what a ledger says",
    ("shadowing-local", "ISettlementLedger.post.epochEnd"): "an interface has no body in which it could mislead",
    ("shadowing-local", "ISettlementLedger.post.deposits"): "an interface has no body in which it could mislead",
    ("shadowing-local", "ISettlementLedger.post.total"): "an interface has no body in which it could mislead",
    ("reentrancy-benign", "MachineShares.collect"): "both contracts hold their lock; the ledger never changes",
    ("costly-loop", "SettlementLedger._book"): "one warm slot a leaf, within the goals of GAS.md",
    ("naming-convention", "IMachineShares.RELEASE"): "the getter of a constant",
    ("timestamp", ""): TIMES,
}
"""(detector, place) to why it is accepted; without a place, everywhere."""

Finding = dict[str, Any]


def slither() -> Path:
    """The program, reinstalled if the lock has changed."""
    program, stamp = HOME / "bin/slither", HOME / "lock.sha256"
    wanted = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(HOME, ignore_errors=True)
        venv.create(HOME, with_pip=True)
        install = ("-m", "pip", "install", "--quiet", "--require-hashes", "--no-deps", "-r", str(LOCK))
        subprocess.run([HOME / "bin/python", *install], check=True)
        stamp.write_text(wanted)
    return program


def compile_into(folder: Path) -> None:
    """Writes sources and the compiler's output, laid out as slither reads a project that is built already."""
    shutil.copytree(PROJECT / "src", folder / "src")
    inside = Path("node_modules/@openzeppelin/contracts")
    shutil.copytree(ROOT / inside, folder / inside)
    (folder / "hardhat.config.js").touch()
    sources = {f"src/{path.name}": {"content": path.read_text()} for path in sorted((folder / "src").glob("*.sol"))}
    outputs = ["abi", "evm.bytecode", "evm.deployedBytecode"]
    request = {
        "language": "Solidity",
        "sources": sources,
        "settings": {
            "remappings": ["@openzeppelin/=node_modules/@openzeppelin/"],
            "optimizer": {"enabled": True, "runs": 10_000},
            "evmVersion": "cancun",
            "outputSelection": {"*": {"": ["ast"], "*": outputs}},
        },
    }
    command = ["node", str(PROJECT / "solc-shim.cjs"), "--standard-json", "--base-path", str(folder)]
    said = subprocess.run(command, input=json.dumps(request), check=True, capture_output=True, text=True).stdout
    answer = json.loads(said)
    errors = [error["formattedMessage"] for error in answer.get("errors", ()) if error["severity"] == "error"]
    if errors:
        sys.exit("\n".join(errors))
    version = json.loads((ROOT / "package.json").read_text())["dependencies"]["solc"]
    info = folder / "artifacts/build-info/all.json"
    info.parent.mkdir(parents=True)
    info.write_text(json.dumps({"solcVersion": version, "input": request, "output": answer}))


def findings(folder: Path) -> Iterator[tuple[str, str, Finding]]:
    """(detector, place in the source, finding). Exits if slither did not understand a source or read none."""
    report = folder / "report.json"
    command = (slither(), ".", "--ignore-compile", "--npx-disable", "--filter-paths", "node_modules", "--json", report)
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    if any(words in said for words in LOST) or not report.exists() or "(0 contracts" in said:
        sys.exit(f"slither has not understood the sources:\n{said}")
    sys.stdout.write(said.splitlines()[-1] + "\n")
    for found in json.loads(report.read_text())["results"].get("detectors", ()):
        yield found["check"], place_of(found["elements"][0]), found


def place_of(element: Finding) -> str:
    """A name such as Contract.function.variable."""
    parent = element.get("type_specific_fields", {}).get("parent")
    above = place_of(parent) + "." if parent and parent["type"] in ("contract", "function") else ""
    return above + str(element["name"])


def main() -> int:
    """Prints new findings; returns the exit code."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        compile_into(folder)
        found = list(findings(folder))
    seen = {(check, place) for check, place, _ in found} | {(check, "") for check, _, _ in found}
    new = [one for check, place, one in found if not {(check, place), (check, "")} & ACCEPTED.keys()]
    for one in new:
        sys.stdout.write(f"NEW {one['check']} ({one['impact']}): {one['description']}\n")
    for check, place in sorted(ACCEPTED.keys() - seen):
        sys.stdout.write(f"no longer found, remove it from the list: {check} {place}\n")
    sys.stdout.write(f"{len(found)} findings, {len(new)} of them new\n")
    return 1 if new or ACCEPTED.keys() - seen else 0


if __name__ == "__main__":
    sys.exit(main())
