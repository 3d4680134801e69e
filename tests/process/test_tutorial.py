"""The tutorial, run as it is written, in a folder of its own: at its end the payees of the form are paid."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "tutorial.md"

pytestmark = [pytest.mark.slow]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    environment = os.environ | {"TALLYROOT_DATA_DIR": str(tmp_path / "first-machine")}
    command = [str(ROOT / ".venv" / "bin" / "tallyroot"), "down"]
    subprocess.run(command, env=environment, cwd=tmp_path, check=False, capture_output=True, timeout=60)


def test_it_ends_with_money(folder: Path) -> None:
    (folder / ".venv").symlink_to(ROOT / ".venv")
    (folder / "first-machine").mkdir()
    script = ["set -e"]
    for language, block in re.findall(r"(?ms)^```(\w+)\n(.*?)^```", PAGE.read_text("utf-8")):
        if language == "python":
            (folder / "first-machine" / "gateway.py").write_text(block)
        else:
            script.append(block)
    environment = {
        name: text for name, text in os.environ.items() if not name.startswith(("TALLYROOT_", "KAFKA_", "CHAIN_"))
    }
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "2 accounts got" in said
    claimed = re.findall(r"(?m)^0x[12]{40} +([0-9.]+) +([0-9.]+)", done.stdout)
    assert len(claimed) == 2 and all(owed == paid != "0.000000" for owed, paid in claimed), said
