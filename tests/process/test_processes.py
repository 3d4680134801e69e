"""Server processes: known by more than their id, ended, and what they said when they fail."""

import os
import socket
import sys
import time
from pathlib import Path

import pytest

from deploy.stack import processes
from deploy.stack.processes import LOOPBACK, Process
from schemas.errors import InvalidInput

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


def test_a_process_lives_until_stopped(tmp_path: Path) -> None:
    process = processes.start(SLEEP, tmp_path, tmp_path / "log")
    assert process.alive()
    process.stop(patience_s=5.0)
    assert not process.alive()
    process.stop(patience_s=5.0)


def test_one_that_ignores_the_polite_signal_is_killed(tmp_path: Path) -> None:
    script = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('x', flush=True); time.sleep(60)"
    )
    process = processes.start([sys.executable, "-c", script], tmp_path, tmp_path / "log")
    assert processes.wait_until(lambda: processes.tail(tmp_path / "log") == "x", 20.0)
    process.stop(patience_s=0.1)
    assert not process.alive()


def test_another_process_under_the_same_id_is_left_alone() -> None:
    stranger = Process(os.getpid(), "another time")
    assert not stranger.alive()
    stranger.stop(patience_s=0.1)


def test_a_server_that_ends_at_once_shows_what_it_said(tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = processes.start([sys.executable, "-c", "print('no'); print('luck')"], tmp_path, log)
    with pytest.raises(InvalidInput, match=r"Thing ended at once; .* ends: no luck$"):
        processes.await_ready("Thing", process, lambda: False, log, 20.0)


def test_a_server_that_never_answers_is_ended(tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = processes.start(SLEEP, tmp_path, log)
    with pytest.raises(InvalidInput, match=r"did not answer within 0 s \(.*PATIENCE\); .*\(empty\)$"):
        processes.await_ready("Thing", process, lambda: False, log, 0.1)
    assert not process.alive()


def test_a_server_that_works_is_waited_for(tmp_path: Path) -> None:
    """Its log grows, or it takes time of a core; patience that has no end of its own would never end either."""
    log = tmp_path / "log"
    writes = "import time\nfor _ in range(60):\n    print('read', flush=True); time.sleep(0.2)"
    for script, said in ((writes, "read"), ("while True: pass", "(empty)")):
        log.unlink(missing_ok=True)
        process = processes.start([sys.executable, "-c", script], tmp_path, log)
        began_s = time.monotonic()
        processes.await_ready("Thing", process, lambda began=began_s: time.monotonic() > began + 3.0, log, 1.5)  # type: ignore[misc]
        process.stop(patience_s=5.0)
        assert said in processes.tail(log)
    process = processes.start([sys.executable, "-c", "while True: pass"], tmp_path, log)
    with pytest.raises(InvalidInput, match="did not answer within"):
        processes.await_ready("Thing", process, lambda: False, log, 0.3)


def test_a_program_is_written_down_before_it_runs(tmp_path: Path) -> None:
    """Killed or failing before that, we leave nothing behind."""
    noted: list[Process] = []
    process = processes.start(["/bin/sh", "-c", f"touch '{tmp_path}/ran'"], tmp_path, tmp_path / "log", noted.append)
    assert noted == [process]
    assert processes.wait_until((tmp_path / "ran").exists, 20.0)
    (tmp_path / "ran").unlink()

    def fails(process: Process) -> None:
        noted.append(process)
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        processes.start(["/bin/sh", "-c", f"touch '{tmp_path}/ran'"], tmp_path, tmp_path / "log", fails)
    assert processes.wait_until(lambda: not noted[1].alive(), 20.0)
    assert not (tmp_path / "ran").exists()


def test_a_server_does_not_outlive_a_start_that_is_interrupted(tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = processes.start(SLEEP, tmp_path, log)

    def interrupted() -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        processes.await_ready("Thing", process, interrupted, log, 20.0)
    assert not process.alive()


def test_wanted_ports_are_given_while_they_are_free() -> None:
    first = processes.free_ports(2)
    assert len(set(first)) == 2
    assert processes.free_ports(2, first) == first
    with socket.socket() as taken:
        taken.bind((LOOPBACK, first[0]))
        taken.listen()
        assert processes.accepts(first[0])
        others = processes.free_ports(2, first)
        assert first[0] not in others
    assert not processes.accepts(first[0])


def test_what_others_set_for_their_java_does_not_reach_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also from a folder with an equals sign, which `env` alone would take for a variable."""
    for name in ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS"):
        monkeypatch.setenv(name, "-Xmx1k")
    folder = tmp_path / "a=b 'c' $d"
    folder.mkdir()
    program = folder / "program"
    program.write_text('#!/bin/sh\necho "$1 ${JAVA_TOOL_OPTIONS-}${JDK_JAVA_OPTIONS-}${_JAVA_OPTIONS-}| $LC_ALL"\n')
    program.chmod(0o755)
    processes.start([str(program), "$x"], folder, tmp_path / "log")
    assert processes.wait_until(lambda: processes.tail(tmp_path / "log") == "$x | C.UTF-8", 20.0)
