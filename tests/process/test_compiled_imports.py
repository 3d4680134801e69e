"""Commands that judge few readings, or none, import no numba: they don't wait for the compiled loops."""

import importlib
import subprocess
import sys
from pathlib import Path

from schemas.log import Log
from schemas.units import DAY_MS

ROOT = Path(__file__).resolve().parents[2]
WITHOUT = {
    "register, retire": "deploy.machines.apply",
    "correct": "deploy.machines.correct",
    "ingest": "deploy.importers.ingest",
    "why": "deploy.explain.why",
    "why --window": "deploy.explain.why_readings",
    "receipt": "deploy.explain.receipt",
    "check-gateway": "deploy.explain.gateway_check",
    "shares": "deploy.money.shares",
    "fetched epochs": "streams.storage.shared_epochs",
}
"""What these commands import. `why` of a window, a found `receipt` and `check-gateway` judge readings, and import no
numba either where these are few: see test_interpreted.
"""


def test_they_import_no_numba() -> None:
    subprocess.run([sys.executable, "-m", "tests.process.test_compiled_imports"], cwd=ROOT, check=True)


def do_what_they_do() -> None:
    """Imports what they import; judges a registration, a correction and time, as `register` and `correct` do."""
    log = Log(log_id="log-1", partitions=1)
    for module in WITHOUT.values():
        importlib.import_module(module)
        assert "numba" not in sys.modules, module
    from streams.core.control_step import move_time, take_control
    from streams.core.state import State
    from tests.support.sim_log import START_MS, registration

    state = State.new(log, 0)
    assert take_control(state, registration("m0", 0)) is None
    assert take_control(state, registration("m0", 1)) == "duplicate"
    move_time(state, START_MS + 9 * DAY_MS)
    assert "m0" in state.machines
    assert "numba" not in sys.modules


if __name__ == "__main__":
    do_what_they_do()
