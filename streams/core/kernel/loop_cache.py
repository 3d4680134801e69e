"""Where compiled loops are kept: once for each kind of processor, in the project's cache folder.

The cache is keyed by all the source of this folder and of what it imports of ours, because numba would not notice that
a function or a constant of another module has changed; numba itself tells processors apart. It lies in `.cache/kernel`
of a checkout, else in `__pycache__` beside this file, or where NUMBA_CACHE_DIR points. A folder that can only be read
is read; what isn't there, each process then compiles for itself.
"""

import hashlib
import re
import tempfile
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import UserProvidedCacheLocator

_FOLDER = Path(__file__).resolve().parent
_ROOT = _FOLDER.parents[2]
_IMPORT = re.compile(r"^from ((?:schemas|streams)[.\w]*) import (\([^)]*\)|.*)$", re.MULTILINE)
njit: Any = numba.njit
_config: Any = numba.config
IS_OFF = bool(_config.DISABLE_JIT)
"""Whether numba leaves loops as they are written."""


def sources() -> list[Path]:
    """The files of this folder and, step by step, those of ours that they import."""
    found: set[Path] = set()
    left = list(_FOLDER.glob("*.py"))
    while left:
        path = left.pop()
        if path in found or not path.is_file():
            continue
        found.add(path)
        for module, names in _IMPORT.findall(path.read_text("utf-8")):
            place = _ROOT.joinpath(*module.split("."))
            left += [place.with_suffix(".py"), *(place / f"{name}.py" for name in re.findall(r"\w+", names))]
    return sorted(found)


class _Sources:
    """The digest of all sources, and the cache's folder for it."""

    def __init__(self) -> None:
        digest = hashlib.sha256()
        for path in sources():
            digest.update(path.relative_to(_ROOT).as_posix().encode() + b"\0" + path.read_bytes())
        self.stamp = digest.hexdigest()
        own = _ROOT / ".cache" / "kernel" if (_ROOT / "pyproject.toml").exists() else _FOLDER / "__pycache__"
        self.folder = Path(_config.CACHE_DIR or own) / self.stamp[:16]
        self.can_keep = self.folder.is_dir() or self._can_write()

    def _can_write(self) -> bool:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.folder).close()
        except OSError:
            return False
        return True


SOURCES = _Sources()


class KernelCache(UserProvidedCacheLocator):  # type: ignore[misc, unused-ignore]
    """Tells numba where a loop of this folder is kept, and by which source."""

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> "KernelCache":
        """One for any function: this process compiles no others. Asks for no folder that can be written."""
        return cls(py_func, py_file)

    def get_cache_path(self) -> str:
        """The folder of all loops."""
        return str(SOURCES.folder)

    def get_source_stamp(self) -> str:
        """The digest of all sources: a loop compiled from others is not taken."""
        return SOURCES.stamp


_config.CACHE_LOCATOR_CLASSES = f"{__name__}.{KernelCache.__name__}"
