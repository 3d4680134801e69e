"""Compiles the loops of this folder: once per processor, kept in the project's cache folder.

The cache is keyed by all the source of this folder, because numba would not notice that a function called from another
module has changed. It lies in `.cache/kernel` of a checkout, else in `__pycache__` beside this file, or where
NUMBA_CACHE_DIR points. Where it can't be written, each process compiles for itself. numba itself remakes what another
kind of processor has compiled.

With NUMBA_DISABLE_JIT=1 the same text runs interpreted.
"""

import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import numba

Loop = TypeVar("Loop", bound=Callable[..., Any])

_FOLDER = Path(__file__).resolve().parent
_config: Any = numba.config
_njit: Any = numba.njit
_SCALARS = {int: "int64", bool: "boolean", type(None): "void"}


def compiled(loop: Loop) -> Loop:
    """A plain function over integers and arrays, compiled now for exactly the types that its annotations name.

    Arrays are the aliases in `columns`, integers 64 bits. Bounds are checked: an index beyond an array raises
    IndexError. The interpreter's lock is not held. A loop stands below those that it calls, makes no array, and slices
    none: references to arrays are not counted in it, which makes a call of a small function three times as fast.
    Raises numba's TypingError for what is not so plain.
    """
    hints = get_type_hints(loop, include_extras=True)
    result = _spelling(hints.pop("return"))
    signature = f"{result}({', '.join(map(_spelling, hints.values()))})"
    if _is_cached:
        try:
            return _compile(loop, signature, cache=True)
        except OSError:  # the disk has filled up since
            pass
    return _compile(loop, signature, cache=False)


def _compile(loop: Loop, signature: str, *, cache: bool) -> Loop:
    return _njit(signature, boundscheck=True, nogil=True, cache=cache, _nrt=False)(loop)


def _spelling(hint: Any) -> str:
    """numba's name of an annotation."""
    if get_origin(hint) is Annotated:
        return str(get_args(hint)[1])
    if get_origin(hint) is tuple:
        parts = [_spelling(part) for part in get_args(hint)]
        return f"Tuple([{', '.join(parts)}])"
    return _SCALARS[hint]


def _use_cache() -> bool:
    """Points numba at the cache folder for this source. False if nothing can be written there."""
    digest = hashlib.sha256()
    for source in sorted(_FOLDER.glob("*.py")):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    checkout = _FOLDER.parents[2]
    own = checkout / ".cache" / "kernel" if (checkout / "pyproject.toml").exists() else _FOLDER / "__pycache__"
    folder = Path(_config.CACHE_DIR or own) / digest.hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    _config.CACHE_DIR = str(folder)
    return True


_is_cached = _use_cache()
