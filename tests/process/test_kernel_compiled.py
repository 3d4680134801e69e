"""The kernel's loops say the same interpreted and compiled; what was compiled is kept, or not, as the folder allows."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from streams.core.kernel import loop_cache

ROOT = Path(__file__).resolve().parents[2]
SMALL = "from streams.core.kernel.words import is_word as loop; print(len(loop.stats.cache_hits))"
"""Compiles three loops, or takes them from the cache; prints 1 if the cache had this one."""


def python(*arguments: str, **environment: str) -> str:
    """What a Python of its own prints."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_interpreted_is_compiled() -> None:
    values = "-m", "tests.unit.kernel", "--count", "400", "--seed", "5"
    assert python(*values, NUMBA_DISABLE_JIT="1") == python(*values)


def test_the_interpreted_core_is_the_slow_text() -> None:
    """On dirty logs of all record types; the compiled core is held to it in tests/property."""
    python("-W", "ignore", "-m", "tests.property.differential", "--seeds", "3", NUMBA_DISABLE_JIT="1")


def test_what_was_compiled_is_kept_for_each_kind_of_processor(tmp_path: Path) -> None:
    folder = str(tmp_path / "cache")
    assert python("-c", SMALL, NUMBA_CACHE_DIR=folder) == "0\n"
    assert python("-c", SMALL, NUMBA_CACHE_DIR=folder) == "1\n"
    kept = {path.name for path in Path(folder).rglob("*.nbc")}
    other = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    assert python("-c", SMALL, NUMBA_CACHE_DIR=folder, **other) == "0\n"
    assert kept < {path.name for path in Path(folder).rglob("*.nbc")}


def test_the_cache_is_keyed_by_what_the_loops_take_from_elsewhere_too() -> None:
    """Codes of rejects, bits of flags and units are compiled in as numbers."""
    keyed = {path.relative_to(ROOT).as_posix() for path in loop_cache.sources()}
    folder = {path.relative_to(ROOT).as_posix() for path in (ROOT / "streams/core/kernel").glob("*.py")}
    taken = {"schemas/reject.py", "schemas/window.py", "schemas/units.py", "streams/core/plausible_usage.py"}
    assert folder | taken <= keyed


def test_a_cache_torn_by_a_power_cut_is_made_again(tmp_path: Path) -> None:
    folder = str(tmp_path / "cache")
    python("-c", SMALL, NUMBA_CACHE_DIR=folder)
    for size in (40, 0):
        for path in Path(folder).rglob("*.nb?"):
            os.truncate(path, size)
        assert python("-c", SMALL, NUMBA_CACHE_DIR=folder) == "0\n"
        assert python("-c", SMALL, NUMBA_CACHE_DIR=folder) == "1\n"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_can_only_be_read_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    python("-c", SMALL, NUMBA_CACHE_DIR=str(folder))
    lost = next(folder.rglob("words.is_word-*.nbc"))
    for there, hits in ((True, "1\n"), (False, "0\n")):
        if not there:
            lost.unlink()
        for path in folder.rglob("*"):
            path.chmod(0o500 if path.is_dir() else 0o400)
        assert python("-c", SMALL, NUMBA_CACHE_DIR=str(folder)) == hits
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o700)


@pytest.mark.parametrize("folder", ["/dev/null/cache", "/proc/cache"])
def test_where_nothing_can_be_written_each_process_compiles_for_itself(folder: str) -> None:
    before = set((ROOT / "streams").rglob("*.nbc"))
    python("-c", SMALL, NUMBA_CACHE_DIR=folder)
    assert set((ROOT / "streams").rglob("*.nbc")) == before


def test_only_who_imports_the_kernel_imports_numba() -> None:
    shown = python("-c", "import sys, deploy.__main__, streams.core.records; print('numba' in sys.modules)")
    assert shown == "False\n"
