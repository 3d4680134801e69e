"""The set-up script: what it accepts, what it says, and that it goes on where it was cut off."""

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy import bootstrap
from deploy.bootstrap import SetUpError
from deploy.plain_lock import without_addresses

SCRIPT = Path(bootstrap.__file__)


def fake_program(folder: Path, name: str, says: str, code: int = 0) -> Path:
    """A program that prints a text on its error stream, as `java -version` does."""
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{says}' >&2\nexit {code}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def stamps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A stamps folder of the test's own."""
    monkeypatch.setattr(bootstrap, "STAMPS", tmp_path / "stamps")
    return tmp_path / "stamps"


def test_the_first_python_that_fits_is_taken(tmp_path: Path) -> None:
    old = fake_program(tmp_path, "old", "3.9")
    new = fake_program(tmp_path, "new", "3.15")
    good = fake_program(tmp_path, "good", "3.13")
    other = fake_program(tmp_path, "other", "3.12")
    names = [str(path) for path in (tmp_path / "absent", old, new, good, other)]
    assert bootstrap.find_python(names) == (str(good), "3.13")


def test_without_a_fitting_python_one_line_says_what_was_found(tmp_path: Path) -> None:
    old = fake_program(tmp_path, "old", "3.9")
    broken = fake_program(tmp_path, "broken", "no module named ensurepip", code=1)
    with pytest.raises(SetUpError, match=r"found only 3\.9; install Python 3\.11 to 3\.14") as caught:
        bootstrap.find_python([str(old), str(broken)])
    assert "\n" not in str(caught.value)
    with pytest.raises(SetUpError, match="found none"):
        bootstrap.find_python([str(broken)])


def test_this_python_fits() -> None:
    assert bootstrap.find_python([sys.executable])[1] == "{}.{}".format(*sys.version_info[:2])


@pytest.mark.parametrize(
    ("says", "code", "version"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 0, 17),
        ('openjdk version "25" 2025-09-16', 0, 25),
        ('java version "1.8.0_292"', 0, 1),
        ("Unable to locate a Java Runtime.", 1, None),
        ("nonsense", 0, None),
    ],
)
def test_java_s_version_is_read(tmp_path: Path, says: str, code: int, version: int | None) -> None:
    assert bootstrap.java_version(str(fake_program(tmp_path, "java", says, code))) == version


def test_a_java_home_with_a_new_enough_java_is_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ü home" / "bin").mkdir(parents=True)
    java = fake_program(tmp_path / "ü home" / "bin", "java", 'openjdk version "21.0.1"')
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "ü home"))
    monkeypatch.setattr(bootstrap, "CACHE", tmp_path)
    monkeypatch.setattr(bootstrap, "JAVA_FILE", tmp_path / "java")
    bootstrap.choose_java(Path(sys.executable), ["false"])
    assert bootstrap.recorded(tmp_path / "java") == java


@pytest.mark.parametrize(("says", "fits"), [("v20.20.2", True), ("v18.0.0", True), ("v16.1.0", False), ("what", False)])
def test_node_needs_npm_and_version_18(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, fits: bool) -> None:
    fake_program(tmp_path, "node", says)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(bootstrap, "VENV", tmp_path / "no venv")
    assert bootstrap.find_node() is None  # no npm
    fake_program(tmp_path, "npm", "11.0.0")
    # The stand-ins are shell scripts, which find their shell by its full path.
    assert bootstrap.find_node() == (str(tmp_path) if fits else None)


def test_a_step_runs_until_it_is_through_and_again_when_its_lock_changes(tmp_path: Path, stamps: Path) -> None:
    lock, made = tmp_path / "a.lock", tmp_path / "made"
    lock.write_text("one")

    def attempt(*, fail: bool = False) -> bool:
        with bootstrap.step(1, "some step", [lock], made) as todo:
            if todo:
                made.touch()
            if fail:
                raise SetUpError("cut off")
        return todo

    with pytest.raises(SetUpError):
        attempt(fail=True)
    assert not stamps.exists()
    assert attempt()
    assert not attempt()
    lock.write_text("two")
    assert attempt()
    made.unlink()
    assert attempt()
    assert not attempt()


def test_one_ca_bundle_serves_all_clients_and_a_client_s_own_stays() -> None:
    environment = {"REQUESTS_CA_BUNDLE": "/company.pem", "NODE_EXTRA_CA_CERTS": "/node.pem"}
    bootstrap.trust_one_ca_bundle(environment)
    assert environment == {
        "REQUESTS_CA_BUNDLE": "/company.pem",
        "PIP_CERT": "/company.pem",
        "SSL_CERT_FILE": "/company.pem",
        "NODE_EXTRA_CA_CERTS": "/node.pem",
    }
    untouched: dict[str, str] = {}
    bootstrap.trust_one_ca_bundle(untouched)
    assert not untouched


def test_a_failing_command_is_told_in_one_line() -> None:
    with pytest.raises(SetUpError, match=r"`false \.\.\.` failed \(1\)"):
        bootstrap.run(["false"])
    with pytest.raises(SetUpError, match="can't run /nowhere: No such file"):
        bootstrap.run(["/nowhere"])


@pytest.mark.parametrize("version", ["3.6", "3.8", "3.9", "3.10"])
def test_an_old_python_runs_the_script_or_says_one_line(version: str, tmp_path: Path) -> None:
    """3.9 and newer get as far as looking for a Python; what is older says so."""
    pyenv = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    python = str(pyenv[0]) if pyenv else shutil.which(f"python{version}")
    if python is None or subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode:
        pytest.skip(f"no Python {version} here")
    (tmp_path / "deploy").mkdir()
    shutil.copy(SCRIPT, tmp_path / "deploy")
    done = subprocess.run(
        [python, str(tmp_path / "deploy" / "bootstrap.py")],
        env={"PATH": str(tmp_path), "HOME": os.environ.get("HOME", "")},
        capture_output=True,
        text=True,
        check=False,
    )
    wanted = "found only" if version in ("3.9", "3.10") else "older than 3.9"
    assert wanted in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.returncode == 1


def test_an_npm_lock_loses_its_addresses_and_keeps_its_hashes() -> None:
    package = (
        '{"version": "1", "resolved": "https://x/y.tgz", "integrity": "sha512-ü", "funding": {"url": "https://z"}}'
    )
    plain = without_addresses('{"packages": {"node_modules/a": ' + package + "}}")
    assert "https" not in plain
    assert '"integrity": "sha512-ü"' in plain
