"""The gateway in Go of the documents: compiled, run against a broker, killed and run again; the core accepts it all."""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from schemas.log import Log
from tests.support.gateway_logs import KEY, arrived, new_log, window_facts

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "docs" / "examples" / "gateway-go"
MODULES_SECONDS = 120


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
    run: dict[str, Any] = {"cwd": folder / "source", "env": environment, "capture_output": True, "text": True}
    try:
        fetched = subprocess.run([go, "mod", "download"], check=False, timeout=MODULES_SECONDS, **run)
    except subprocess.TimeoutExpired:
        pytest.skip("the Go module proxy didn't answer: the example in Go is not compiled here")
    if fetched.returncode and "SECURITY ERROR" not in fetched.stderr:
        pytest.skip(f"the example's modules can't be fetched: {fetched.stderr.strip()}")
    subprocess.run([go, "mod", "verify"], check=True, timeout=MODULES_SECONDS, **run)
    built = subprocess.run([go, "build", "-o", str(folder / "gateway"), "."], check=False, timeout=300, **run)
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
    assert sum(window.skipped for at in state.open_windows.values() for window in at.values()) == 0
    assert last["seq"] > 0


def test_a_meter_that_begins_again_begins_a_boot(kafka: str, program: Path, folder: Path) -> None:
    log = new_log(kafka, "wire-go-reset")
    send(program, kafka, log, folder, 5_000, 5_010, 3, 13)
    state, done, records = arrived(kafka, log)
    boots = [json.loads(record.value or b"")["boot"] for record in records]
    assert boots == [boots[0]] * 2 + [boots[0] + 1] * 2
    assert done.rejects == []
    assert window_facts(state) == (4, 20, 1)
