"""Compiles the loops of this folder: once for each kind of processor, kept in the project's cache folder.

The cache is keyed by all the source of this folder and of what it imports of ours, because numba would not notice that
a function or a constant of another module has changed; numba itself tells processors apart. It lies in `.cache/kernel`
of a checkout, else in `__pycache__` beside this file, or where NUMBA_CACHE_DIR points. A folder that can only be read
is read; what isn't there, each process then compiles for itself.

With NUMBA_DISABLE_JIT=1 the same text runs interpreted.
"""

import hashlib
import pickle
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import numba
from numba.core.caching import UserProvidedCacheLocator

Loop = TypeVar("Loop", bound=Callable[..., Any])

_FOLDER = Path(__file__).resolve().parent
_ROOT = _FOLDER.parents[2]
_IMPORT = re.compile(r"^from ((?:schemas|streams)[.\w]*) import (\([^)]*\)|.*)$", re.MULTILINE)
_SCALARS = {int: "int64", bool: "boolean", type(None): "void"}
_njit: Any = numba.njit
_config: Any = numba.config


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


_sources = _Sources()


class KernelCache(UserProvidedCacheLocator):  # type: ignore[misc, unused-ignore]
    """Tells numba where a loop of this folder is kept, and by which source."""

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> "KernelCache":
        """One for any function: this process compiles no others. Asks for no folder that can be written."""
        return cls(py_func, py_file)

    def get_cache_path(self) -> str:
        """The folder of all loops."""
        return str(_sources.folder)

    def get_source_stamp(self) -> str:
        """The digest of all sources: a loop compiled from others is not taken."""
        return _sources.stamp


_config.CACHE_LOCATOR_CLASSES = f"{__name__}.{KernelCache.__name__}"


def compiled(loop: Loop, *, checks_bounds: bool = True) -> Loop:
    """A plain function over integers and arrays, compiled now for exactly the types that its annotations name.

    Arrays are the aliases in `columns`, integers 64 bits. Bounds are checked: an index beyond an array raises
    IndexError; a loop that compares its bounds itself may do without. The interpreter's lock is not held. A loop stands
    below those that it calls, makes no array, and slices none: references to arrays are not counted in it. Each is
    inlined into its callers: a state is fifteen arrays of nine fields, which a call would copy, and those copies took
    half the time of judging.
    Raises numba's TypingError for what is not so plain.
    """
    hints = get_type_hints(loop, include_extras=True)
    result = _spelling(hints.pop("return"))
    signature = f"{result}({', '.join(map(_spelling, hints.values()))})"
    if _sources.can_keep:
        try:
            return _compile(loop, signature, checks_bounds, cache=True)
        except (EOFError, pickle.UnpicklingError):  # torn by a power cut: the next process makes what is missing
            shutil.rmtree(_sources.folder, ignore_errors=True)
        except OSError:  # this loop isn't there, and can't be written
            pass
    return _compile(loop, signature, checks_bounds, cache=False)


def _compile(loop: Loop, signature: str, checks_bounds: bool, *, cache: bool) -> Loop:
    options = {"boundscheck": checks_bounds, "nogil": True, "cache": cache, "_nrt": False, "forceinline": True}
    return _njit(signature, **options)(loop)


def _spelling(hint: Any) -> str:
    """numba's name of an annotation."""
    if get_origin(hint) is Annotated:
        return str(get_args(hint)[1])
    if get_origin(hint) is tuple:
        parts = [_spelling(part) for part in get_args(hint)]
        return f"Tuple([{', '.join(parts)}])"
    return _SCALARS[hint]
