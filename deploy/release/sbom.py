"""The bill of materials in CycloneDX's JSON: every package that the locks name, with its hashes where they have them.

It says what runs: Python packages of the image, Kafka's jars, the EVM node, and the libraries in the contracts.
https://cyclonedx.org/docs/1.6/json/
"""

import base64
import json
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deploy.setup.bootstrap import ROOT
from deploy.setup.embedded import anvil_lock
from deploy.stack.toolchain import JARS_LOCK, jar_entries

_REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;]+)")
_SHA256 = re.compile(r"--hash=sha256:([0-9a-f]{64})")
CONTRACTS = ("@openzeppelin/contracts",)


def bill_of_materials(version: str) -> dict[str, Any]:
    """The document for this checkout. The same locks give the same document."""
    python, npm = ROOT / "deploy" / "image" / "requirements.lock", ROOT / "package-lock.json"
    components = [*_python(python), *_java(), *_evm(), *_npm(npm)]
    name = f"pkg:pypi/tallyroot@{version}"
    content = json.dumps(components, sort_keys=True)
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, name + content)}",
        "version": 1,
        "metadata": {
            "component": {"type": "application", "bom-ref": name, "name": "tallyroot", "version": version, "purl": name}
        },
        "components": sorted(components, key=lambda component: component["purl"]),
    }


def _component(purl: str, name: str, version: str, hashes: list[tuple[str, str]], group: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
    if group:
        found["group"] = group
    # A Python package has a hash for each of its files: which of them is installed, the platform says.
    if len(hashes) == 1:
        found["hashes"] = [{"alg": alg, "content": content} for alg, content in hashes]
    elif hashes:
        found["properties"] = [{"name": f"hash:{alg}", "value": content} for alg, content in hashes]
    return found


def _python(lock: Path) -> Iterator[dict[str, Any]]:
    for entry in re.split(r"\n(?=\S)", lock.read_text("utf-8")):
        if match := _REQUIREMENT.match(entry):
            name, version = match.groups()
            hashes = [("SHA-256", digest) for digest in _SHA256.findall(entry)]
            yield _component(f"pkg:pypi/{name}@{version}", name, version, hashes)


def _java() -> Iterator[dict[str, Any]]:
    for digest, coordinate in jar_entries(JARS_LOCK):
        group, name, version = coordinate.split(":")
        yield _component(f"pkg:maven/{group}/{name}@{version}", name, version, [("SHA-256", digest)], group)


def _evm() -> Iterator[dict[str, Any]]:
    for package, (version, integrity) in anvil_lock().items():
        yield _of_npm(package, version, integrity)


def _npm(lock: Path) -> Iterator[dict[str, Any]]:
    packages = json.loads(lock.read_text("utf-8"))["packages"]
    for name in CONTRACTS:
        entry = packages[f"node_modules/{name}"]
        yield _of_npm(name, entry["version"], entry["integrity"])


def _of_npm(package: str, version: str, integrity: str) -> dict[str, Any]:
    scope, name = package.split("/")
    digest = base64.b64decode(integrity.removeprefix("sha512-")).hex()
    return _component(f"pkg:npm/%40{scope[1:]}/{name}@{version}", name, version, [("SHA-512", digest)], scope)
