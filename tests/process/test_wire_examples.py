"""The gateways of the documents on a broker: the one in Go compiled and killed; the core accepts all that they send."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from schemas.log import Log
from streams.core.sealing import open_windows
from tests.support.gateway_logs import KEY, arrived, new_log, window_facts
from tests.support.gateway_packages import node_device, node_environment, run

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "docs" / "examples" / "gateway-go"
MODULES_SECONDS = 120
KAFKAJS = "2.2.4"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled example. Modules and build cache are the suite's own, so that nothing is left elsewhere."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("Go isn't installed: the example in Go is not compiled here")
    folder = tmp_path_factory.mktemp("go")
    shutil.copytree(SOURCE, folder / "source")
    cache = ROOT / ".cache" / "go"
    environment = os.environ | {
        "GOMODCACHE": str(cache / "modules"),
        "GOCACHE": str(cache / "build"),
        "GOFLAGS": "-mod=readonly -modcacherw -buildvcs=false",
        "GOTOOLCHAIN": "local",
        "CGO_ENABLED": "0",
    }
    how: dict[str, Any] = {"cwd": folder / "source", "env": environment, "capture_output": True, "text": True}
    try:
        fetched = subprocess.run([go, "mod", "download"], check=False, timeout=MODULES_SECONDS, **how)
    except subprocess.TimeoutExpired:
        pytest.skip("the Go module proxy didn't answer: the example in Go is not compiled here")
    if fetched.returncode and "SECURITY ERROR" not in fetched.stderr:
        pytest.skip(f"the example's modules can't be fetched: {fetched.stderr.strip()}")
    subprocess.run([go, "mod", "verify"], check=True, timeout=MODULES_SECONDS, **how)
    built = subprocess.run([go, "build", "-o", str(folder / "gateway"), "."], check=False, timeout=300, **how)
    assert built.returncode == 0, built.stderr
    return folder / "gateway"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "key").write_bytes(KEY)
    return tmp_path


def start(program: Path, kafka: str, log: Log, folder: Path) -> subprocess.Popen[str]:
    words = [str(program), kafka, log.log_id, log.topic, "taxi-1", "energy", str(folder)]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def send(program: Path, kafka: str, log: Log, folder: Path, *registers: int) -> str:
    """What the gateway says once it has sent these."""
    with start(program, kafka, log, folder) as gateway:
        said, errors = gateway.communicate("".join(f"{register}\n" for register in registers), timeout=60)
    assert gateway.returncode == 0, errors
    return said


def test_what_it_sends_is_signed_and_counts_once(kafka: str, program: Path, folder: Path) -> None:
    log = new_log(kafka, "wire-go", require_signature=True)
    said = send(program, kafka, log, folder, 1_000, 1_010, 1_020)
    assert "public key 03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8" in said
    send(program, kafka, log, folder, 1_030)
    state, done, records = arrived(kafka, log)
    assert (done.rejects, done.counts.accepted, done.counts.duplicate) == ([], 1 + 4, 1)
    assert len(records) == 5
    assert window_facts(state) == (4, 30, 1)


def test_a_kill_at_any_moment_loses_nothing(kafka: str, program: Path, folder: Path) -> None:
    log = new_log(kafka, "wire-go-killed", require_signature=True)
    for turn in range(4):
        with start(program, kafka, log, folder) as gateway:
            assert gateway.stdin is not None
            for register in range(turn * 1_000, turn * 1_000 + 60):
                gateway.stdin.write(f"{register // 100}\n")
            gateway.stdin.flush()
            time.sleep(0.05 + 0.02 * turn)
            gateway.kill()
    send(program, kafka, log, folder, 50)
    last = json.loads((folder / "last.json").read_bytes())
    state, done, _ = arrived(kafka, log)
    assert done.rejects == []
    readings, usage, trust = window_facts(state)
    assert (usage, trust) == (50, 1)
    assert readings == done.counts.accepted - 1
    assert sum(window.skipped for window in open_windows(state)) == 0
    assert last["seq"] > 0


def test_a_meter_that_begins_again_begins_a_boot(kafka: str, program: Path, folder: Path) -> None:
    log = new_log(kafka, "wire-go-reset")
    send(program, kafka, log, folder, 5_000, 5_010, 3, 13)
    state, done, records = arrived(kafka, log)
    boots = [json.loads(record.value or b"")["boot"] for record in records]
    assert boots == [boots[0]] * 2 + [boots[0] + 1] * 2
    assert done.rejects == []
    assert window_facts(state) == (4, 20, 1)


def own(text: str, kafka: str, log: Log, spool: Path) -> str:
    """A page's code with the names of a test's log."""
    names = {"kafka.example:9092": kafka, '"log-1"': f'"{log.log_id}"', '"telemetry"': f'"{log.topic}"'}
    names |= {"/var/lib/gateway": str(spool), "depot-1": "taxi-1", "charger-1": "taxi-1"}
    for theirs, ours in names.items():
        text = text.replace(theirs, ours)
    return text


def block(page: str, language: str) -> str:
    """The one block of a language of a page."""
    (found,) = re.findall(rf"(?ms)^```{language}\n(.*?)^```", (ROOT / "docs" / "how-to" / page).read_text("utf-8"))
    return str(found)


def test_the_page_s_python_sends_a_reading(kafka: str, tmp_path: Path) -> None:
    log = new_log(kafka, "wire-python")
    code = own(block("own-gateway-python.md", "python"), kafka, log, tmp_path)
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    _, done, records = arrived(kafka, log)
    assert (done.rejects, len(records)) == ([], 1)


def test_the_page_s_javascript_sends_a_reading(kafka: str, tmp_path: Path) -> None:
    environment = node_environment()
    folder = node_device(tmp_path)
    environment.pop("npm_config_offline")
    fetch = ["npm", "install", "--no-audit", "--no-fund", f"kafkajs@{KAFKAJS}"]
    try:
        done = subprocess.run(
            fetch, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=MODULES_SECONDS
        )
    except subprocess.TimeoutExpired:
        pytest.skip("npm's registry didn't answer: the page's JavaScript is not run here")
    if done.returncode:
        pytest.skip(f"kafkajs can't be fetched: {done.stderr.strip()}")
    log = new_log(kafka, "wire-javascript")
    script = folder / "gateway.mjs"
    script.write_text(own(block("own-gateway-javascript.md", "js"), kafka, log, tmp_path))
    run(["node", str(script)], folder, environment)
    _, judged, records = arrived(kafka, log)
    assert (judged.rejects, len(records)) == ([], 1)
