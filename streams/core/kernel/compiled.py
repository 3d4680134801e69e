"""How the loops of this folder run: compiled, or, where a process judges few entries, as they are written.

numba compiles a loop once for each kind of processor (`loop_cache`). Importing numba and loading what it compiled takes
a second or two of processor time, though, more than some hundred entries take interpreted. A command that knows how few
it will judge says so before it imports a loop (`interpret_if_few`): then numba is not imported at all. Both ways return
the same, and tests hold them equal. With NUMBA_DISABLE_JIT=1 numba is imported, and every loop runs interpreted.
"""

import pickle
import shutil
import sys
from collections.abc import Callable
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import numpy as np

Loop = TypeVar("Loop", bound=Callable[..., Any])

_SCALARS = {int: "int64", bool: "boolean", type(None): "void"}

INTERPRETED_ENTRIES_MAX = 1_000
"""Up to how many entries the interpreter needs less processor time than loading the compiled loops.

Measured: loading takes 1.4 to 1.8 s; an entry takes 0.8 to 1.4 ms more interpreted, and 0.3 to 0.8 ms more where the
log root is made of it too.
"""


class _Way:
    """How this process runs all loops: one that is compiled can't call one that isn't."""

    is_interpreted = False


def interpret_if_few(entries: int) -> None:
    """Makes this process run all loops as they are written if it judges at most INTERPRETED_ENTRIES_MAX entries.

    For a command, with all that it is going to judge: it holds as long as the process lives. Where numba was imported
    before, nothing changes, for loops may have been compiled.
    """
    if entries <= INTERPRETED_ENTRIES_MAX and "numba" not in sys.modules:
        _Way.is_interpreted = True
        np.seterr(over="ignore")  # integers wrap silently in compiled loops; interpreted, numpy would warn


def is_interpreted() -> bool:
    """Whether loops run as they are written in this process."""
    if _Way.is_interpreted:
        return True
    from streams.core.kernel.loop_cache import IS_OFF

    return IS_OFF


def compiled(loop: Loop, *, checks_bounds: bool = True) -> Loop:
    """A plain function over integers and arrays, compiled now for exactly the types that its annotations name.

    Arrays are the aliases in `columns`, integers 64 bits. Bounds are checked: an index beyond an array raises
    IndexError; a loop that compares its bounds itself may do without. The interpreter's lock is not held. A loop stands
    below those that it calls, makes no array, and slices none: references to arrays are not counted in it. Each is
    inlined into its callers: a state is fifteen arrays of nine fields, which a call would copy, and those copies took
    half the time of judging.
    Raises numba's TypingError for what is not so plain.
    """
    if _Way.is_interpreted:
        return loop
    from streams.core.kernel.loop_cache import SOURCES

    hints = get_type_hints(loop, include_extras=True)
    result = _spelling(hints.pop("return"))
    signature = f"{result}({', '.join(map(_spelling, hints.values()))})"
    if SOURCES.can_keep:
        try:
            return _compile(loop, signature, checks_bounds, cache=True)
        except (EOFError, pickle.UnpicklingError):  # torn by a power cut: the next process makes what is missing
            shutil.rmtree(SOURCES.folder, ignore_errors=True)
        except OSError:  # this loop isn't there, and can't be written
            pass
    return _compile(loop, signature, checks_bounds, cache=False)


def _compile(loop: Loop, signature: str, checks_bounds: bool, *, cache: bool) -> Loop:
    from streams.core.kernel.loop_cache import njit

    options = {"boundscheck": checks_bounds, "nogil": True, "cache": cache, "_nrt": False, "forceinline": True}
    return njit(signature, **options)(loop)


def _spelling(hint: Any) -> str:
    """numba's name of an annotation."""
    if get_origin(hint) is Annotated:
        return str(get_args(hint)[1])
    if get_origin(hint) is tuple:
        parts = [_spelling(part) for part in get_args(hint)]
        return f"Tuple([{', '.join(parts)}])"
    return _SCALARS[hint]
