"""The EVM node of an installed package: the locked bytes or nothing, whole or not at all."""

import base64
import hashlib
import json
import tarfile
from pathlib import Path

import pytest

from deploy.setup import embedded
from deploy.setup.bootstrap import ROOT, native_package
from deploy.stack import toolchain
from schemas.errors import InvalidInput

NAME = native_package("anvil")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a registry serves, by an npm that says so."""
    program = tmp_path / "anvil-program"
    program.write_text("a node")
    served = tmp_path / "served.tgz"
    with tarfile.open(served, "w:gz") as archive:
        archive.add(program, "package/bin/anvil")
    npm = tmp_path / "npm"
    npm.write_text(
        f'#!/bin/sh\n[ "$1 $2 $3" = "pack --loglevel=error {NAME}@9.9.9" ] && cp "{served}" "$5/anvil.tgz"\n'
    )
    npm.chmod(0o755)
    monkeypatch.setattr(embedded, "_npm", lambda: [str(npm)])
    return served


def lock(tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    integrity = "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()
    (tmp_path / "anvil.lock").write_text(f"# a lock\n{integrity}  {NAME} 9.9.9\n")
    monkeypatch.setattr(toolchain, "ANVIL_LOCK", tmp_path / "anvil.lock")


def test_the_locked_bytes_are_installed(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock(tmp_path, package.read_bytes(), monkeypatch)
    embedded.fetch_anvil(tmp_path / "tools" / "anvil")
    assert (tmp_path / "tools" / "anvil").read_text() == "a node"
    assert (tmp_path / "tools" / "anvil").stat().st_mode & 0o111


def test_other_bytes_are_not(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock(tmp_path, b"others", monkeypatch)
    with pytest.raises(InvalidInput, match=r"the lock says sha512-.*: nothing installed"):
        embedded.fetch_anvil(tmp_path / "tools" / "anvil")
    assert not (tmp_path / "tools").exists()


def test_what_npm_says_is_shown(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock(tmp_path, package.read_bytes(), monkeypatch)
    monkeypatch.setattr(embedded, "_npm", lambda: ["sh", "-c", "echo no such package >&2; exit 1"])
    with pytest.raises(InvalidInput, match=f"can't fetch {NAME}: no such package"):
        embedded.fetch_anvil(tmp_path / "anvil")


def test_both_locks_name_one_version_and_hash() -> None:
    packages = json.loads((ROOT / "package-lock.json").read_text())["packages"]
    names = packages["node_modules/@foundry-rs/anvil"]["optionalDependencies"]
    found = embedded.anvil_lock()
    assert {name: version for name, (version, _) in found.items()} == {
        name: version for name, version in names.items() if "win32" not in name
    }
    locked = {name.removeprefix("node_modules/"): entry["integrity"] for name, entry in packages.items() if name}
    assert all(integrity == locked.get(name, integrity) for name, (_, integrity) in found.items())
