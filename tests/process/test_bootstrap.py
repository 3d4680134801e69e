"""The set-up script: what it accepts, what it says, and that it goes on where it was cut off."""

import errno
import fcntl
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.setup import bootstrap
from deploy.setup.bootstrap import SetUpError
from deploy.setup.plain_lock import without_addresses

SCRIPT = Path(bootstrap.__file__)


def fake_program(folder: Path, name: str, says: str, code: int = 0) -> Path:
    """A program that prints a text on its error stream, as `java -version` does."""
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{says}' >&2\nexit {code}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def stamps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
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
    bootstrap.choose_java()
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


def test_one_ca_bundle_serves_all_clients_and_a_client_s_own_stays(tmp_path: Path) -> None:
    company, node = tmp_path / "company.pem", tmp_path / "node.pem"
    company.touch()
    node.touch()
    environment = {"CURL_CA_BUNDLE": str(company), "NODE_EXTRA_CA_CERTS": str(node), "PIP_CERT": ""}
    bootstrap.trust_one_ca_bundle(environment)
    assert environment == {
        "CURL_CA_BUNDLE": str(company),
        "REQUESTS_CA_BUNDLE": str(company),
        "PIP_CERT": str(company),
        "SSL_CERT_FILE": str(company),
        "NODE_EXTRA_CA_CERTS": str(node),
    }


def test_a_ca_bundle_that_is_not_there_is_not_handed_on() -> None:
    untouched = {"NODE_EXTRA_CA_CERTS": "/nowhere.pem"}
    bootstrap.trust_one_ca_bundle(untouched)
    assert untouched == {"NODE_EXTRA_CA_CERTS": "/nowhere.pem"}


def test_what_node_trusts_beside_the_rest_the_others_trust_beside_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, company = tmp_path / "known.pem", tmp_path / "company.pem"
    known.write_text("known")
    company.write_text("company")
    monkeypatch.setattr(bootstrap, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(bootstrap, "_KNOWN_AUTHORITIES", ("/nowhere.pem", str(known)))
    environment = {"NODE_EXTRA_CA_CERTS": str(company)}
    bootstrap.trust_one_ca_bundle(environment)
    assert Path(environment["PIP_CERT"]).read_text() == "known\ncompany"
    assert environment["REQUESTS_CA_BUNDLE"] == environment["SSL_CERT_FILE"] == environment["PIP_CERT"]
    assert environment["NODE_EXTRA_CA_CERTS"] == str(company)


def test_what_is_meant_for_other_projects_does_not_reach_the_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = dict.fromkeys(bootstrap._DISTURBING, "x") | {"PIP_INDEX_URL": "https://index"}
    monkeypatch.setenv("HOME", str(Path.cwd()))
    bootstrap.prepare(environment)
    assert not set(bootstrap._DISTURBING) & set(environment)
    assert environment["PIP_INDEX_URL"] == "https://index"
    assert "PIP_CACHE_DIR" not in environment


def test_without_a_home_the_caches_are_in_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "absent"))
    environment: dict[str, str] = {}
    bootstrap.prepare(environment)
    assert environment["npm_config_cache"] == str(bootstrap.CACHE / "npm")
    assert environment["PIP_CACHE_DIR"] == str(bootstrap.CACHE / "pip")
    assert environment["HOME"] == str(bootstrap.CACHE)


def test_a_dead_proxy_is_named_without_its_password() -> None:
    with socket.create_server(("127.0.0.1", 0)) as live:
        alive = f"http://127.0.0.1:{live.getsockname()[1]}"
        assert bootstrap.reason_of("ProxyError", {"HTTPS_PROXY": alive}) is None
    dead = {"HTTPS_PROXY": alive.replace("127", "ann:secret@127"), "HTTP_PROXY": alive}
    reason = bootstrap.reason_of("Cannot connect to proxy", dead) or ""
    assert re.match(r"HTTPS_PROXY names a proxy, 127\.0\.0\.1:\d+, that takes no connection", reason)
    for text in ("http://:x", "http://127.0.0.1:99999"):
        assert "all_proxy names" in (bootstrap.reason_of("Could not connect", {"all_proxy": text}) or "")
    assert bootstrap.reason_of("hashes differ", dead) is None


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (f"ERROR: Could not install packages: [Errno 28] {os.strerror(errno.ENOSPC)}", "is full: make room"),
        ("npm error code ENOSPC", "is full: make room"),
        (f"Error: [Errno 30] {os.strerror(errno.EROFS)}: '/x/.venv'", "can't be written"),
        ("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed certificate", "CA bundle in PIP_CERT"),
        ("npm error code SELF_SIGNED_CERT_IN_CHAIN", "CA bundle in PIP_CERT"),
        ("npm error code UNABLE_TO_GET_ISSUER_CERT_LOCALLY", "CA bundle in PIP_CERT"),
        ("npm error code UNABLE_TO_VERIFY_LEAF_SIGNATURE", "CA bundle in PIP_CERT"),
        ("[Errno -3] Temporary failure in name resolution", "is there a network"),
        ("npm error code EAI_AGAIN", "is there a network"),
    ],
)
def test_a_known_reason_takes_the_place_of_a_tool_s_own_words(said: str, reason: str) -> None:
    assert reason in (bootstrap.reason_of(said, {}) or "")


def test_what_an_interrupted_pip_left_half_there_is_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "VENV", tmp_path)
    (tmp_path / "bin").mkdir()
    fake_program(tmp_path / "bin", "python", "what it did")
    packages = tmp_path / "lib" / "python3.11" / "site-packages"
    for name in ("pip-26.3", "whole-1", "half-1"):
        (packages / f"{name}.dist-info").mkdir(parents=True)
        (packages / f"{name}.dist-info" / "METADATA").touch()
    for name in ("pip-26.3", "whole-1"):
        (packages / f"{name}.dist-info" / "INSTALLER").touch()
    bootstrap.install("a.lock")
    assert {path.name for path in packages.iterdir()} == {"pip-26.3.dist-info", "whole-1.dist-info"}


def test_nobody_sets_up_beside_a_tool_that_outlived_a_killed_set_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "CACHE", tmp_path)
    with bootstrap.only_one_at_a_time():
        tool = subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, close_fds=False)
    with (tmp_path / "set-up.lock").open("w") as file:
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        tool.communicate()
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_set_up_that_is_done_asks_no_network_and_writes_nothing(tmp_path: Path) -> None:
    """It goes through where nothing can be written, and where every proxy is dead."""
    dead = dict.fromkeys(bootstrap._PROXY_VARIABLES, "http://127.0.0.1:9")
    stamps = {path: path.stat().st_mtime_ns for path in bootstrap.STAMPS.iterdir()}
    done = subprocess.run(
        [sys.executable, str(SCRIPT)], env={"PATH": str(tmp_path), **dead}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert {path: path.stat().st_mtime_ns for path in bootstrap.STAMPS.iterdir()} == stamps


def test_a_checkout_that_can_t_be_written_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The lock can't be made either: what is still to be done says what it could not write."""

    def set_up() -> None:
        with bootstrap.step(3, "Python packages", []) as todo:
            assert todo

    monkeypatch.setattr(bootstrap, "CACHE", Path("/dev/null/cache"))
    monkeypatch.setattr(bootstrap, "STAMPS", Path("/dev/null/stamps"))
    monkeypatch.setattr(bootstrap, "set_up", set_up)
    monkeypatch.setattr(bootstrap, "prepare", lambda _: None)
    assert bootstrap.main() == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tallyroot: can't write /dev/null/stamps: Not a directory; run the same command again")


def test_the_makefile_is_one_for_gnu_make_3_81() -> None:
    """That of macOS: what came with 3.82 and later is not in it."""
    text = (bootstrap.ROOT / "Makefile").read_text()
    newer = r"\.ONESHELL|\.SHELLFLAGS|\.RECIPEPREFIX|\$\((file|guile|let|intcmp) |(?m:^\S* *(!=|::|&:|undefine))"
    assert not re.search(newer, text)


def test_a_failing_command_is_told_in_one_line() -> None:
    with pytest.raises(SetUpError, match=r"`false` failed \(1\): see above"):
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
    (tmp_path / "deploy" / "setup").mkdir(parents=True)
    shutil.copy(SCRIPT, tmp_path / "deploy" / "setup")
    done = subprocess.run(
        [python, str(tmp_path / "deploy" / "setup" / "bootstrap.py")],
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
