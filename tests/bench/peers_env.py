"""The peers' environment: made on demand beside the set-up's other downloads, from a lock of its own.

Their requirements are older than ours, so they can't share `.venv`. `peers.in` names them; the lock is made from it as
the Makefile makes the others.
"""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from deploy.setup.bootstrap import CACHE, trust_one_ca_bundle

FOLDER = CACHE / "bench-peers"
LOCK = Path(__file__).with_name("peers.lock")
SECONDS_MAX = 600


def peers_python() -> tuple[Path | None, str]:
    """The Python that has the peers; or None and why there is none."""
    python, stamp = FOLDER / "bin" / "python", FOLDER / "stamp"
    digest = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text(encoding="ascii") == digest:
        return python, ""
    environment = dict(os.environ)
    trust_one_ca_bundle(environment)
    pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    sys.stderr.write("bench: installing the peers into .cache/bench-peers\n")
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(FOLDER)],
        [*pip, "install", "--no-compile", "--require-hashes", "--no-deps", "--only-binary", ":all:", "-r", str(LOCK)],
    ):
        try:
            done = subprocess.run(command, env=environment, capture_output=True, timeout=SECONDS_MAX, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            return None, f"can't be installed: {error}"
        if done.returncode:
            lines = (done.stdout + done.stderr).decode("utf-8", "replace").strip().splitlines() or ["no word"]
            return None, f"can't be installed: {lines[-1]}"
    stamp.write_text(digest, encoding="ascii")
    return python, ""
