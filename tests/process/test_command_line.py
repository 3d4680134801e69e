"""The command from its first moment to its last, whatever ends it."""

import signal
import subprocess
import sys

import pytest

LOADING = """
import os, signal, sys
from deploy.__main__ import main

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "deploy.cli":
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Interrupting())
main()
"""
RUNNING = """
import os, signal, sys
from deploy.cli import app as cli
signal.signal(signal.SIGINT, signal.default_int_handler)
cli.app = lambda **_: os.kill(os.getpid(), signal.SIGINT)
cli.main()
"""


@pytest.mark.parametrize(
    ("program", "code", "said"),
    [(LOADING, -signal.SIGINT, ""), (RUNNING, 130, "tallyroot: interrupted\n")],
    ids=["while it is loaded", "while it runs"],
)
def test_ctrl_c_ends_it_without_a_traceback(program: str, code: int, said: str) -> None:
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (code, said)
