"""Texts as Arrow arrays, without an object each."""

from typing import Any

import numpy as np
import pyarrow as pa

from schemas.errors import InvariantBroken
from streams.core.kernel import tables as t
from streams.core.kernel.columns import NONE, Bytes, Ints
from streams.core.kernel.compiled import compiled
from streams.core.kernel.store import Store
from streams.core.kernel.words import copy


@compiled
def gather(buffer: Bytes, at: Ints, ends: Ints, out: Bytes) -> None:
    """Copies the bytes at each position, as many as `ends` says, one after the other."""
    for k in range(len(at)):
        copy(buffer, at[k], ends[k + 1] - ends[k], out, ends[k])


def ends_of(sizes: Ints) -> Ints:
    """Where texts of these sizes end that lie one after the other; the first begins at 0."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])


def texts_array(buffer: Bytes, at: Ints, sizes: Ints, kind: Any) -> Any:
    """Texts of the buffer as an Arrow array of `kind`; the size NONE is a null."""
    ends = ends_of(np.maximum(sizes, 0))
    if ends[-1] >= 2**31:
        raise InvariantBroken("the texts of a slice take 2 GiB")
    content = np.empty(int(ends[-1]), np.uint8)
    gather(buffer, np.ascontiguousarray(at), ends, content)
    is_there = sizes != NONE
    valid = None if is_there.all() else pa.py_buffer(np.packbits(is_there, bitorder="little"))
    buffers = [valid, pa.py_buffer(ends.astype(np.int32)), pa.py_buffer(content)]
    return pa.Array.from_buffers(kind, len(sizes), buffers)


def names_array(store: Store, at: int, machines: Ints) -> Any:
    """The names of machines (`at` is NAME_AT), or their routes (ROUTE_AT)."""
    rows = store.matrix(t.MACHINES)[machines]
    return texts_array(store.names, rows[:, at], rows[:, at + 1], pa.string())


def words_array(store: Store, words: Ints) -> Any:
    """The words of these numbers."""
    sizes = store.words[words, t.TEXT_MAX].astype(np.int64)
    return texts_array(store.words.reshape(-1), words * (t.TEXT_MAX + 1), sizes, pa.string())
