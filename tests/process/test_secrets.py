"""Keys of the environment, and what a command writes: for its own user, and for no process that it starts."""

import os
import subprocess
import sys
from pathlib import Path

WRITTEN = """
import os, subprocess, sys
import deploy.cli.app as app
from deploy.config import load_settings

def main():
    seen = subprocess.run([sys.executable, "-c", "import os; print(sorted(os.environ))"], stdout=-1, text=True)
    assert "TALLYROOT_POSTER_KEY" not in seen.stdout and "PATH" in seen.stdout, seen
    assert load_settings().poster.key == "0x" + "11" * 32
    open("written", "w").close()

app.main = main
from deploy.__main__ import main as begin
begin()
"""


def test_no_child_inherits_a_key_and_nobody_else_reads_what_is_written(tmp_path: Path) -> None:
    environment = {**os.environ, "TALLYROOT_POSTER_KEY": "0x" + "11" * 32, "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", WRITTEN], cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / "written").stat().st_mode & 0o777 == 0o600
