"""Machines and meters by name: a hash table of numbers over the bytes of all names."""

import numpy as np

from streams.core.kernel.columns import NONE, Bytes, Ints, Matrix
from streams.core.kernel.compiled import compiled
from streams.core.kernel.tables import FIRST_METER, METER_NAME, NAME_AT, NAME_LEN, NEXT_METER, Texts

_SEED, _PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x9E3779B97F4A7C15)


@compiled
def place_of(buffer: Bytes, at: int, size: int, key: int, slots: int) -> int:
    """Where in a table of `slots` (a power of two) a text is first looked for; `key` differs for each log."""
    hashed = _SEED ^ np.uint64(key)
    for k in range(size):
        hashed = (hashed ^ np.uint64(buffer[at + k])) * _PRIME
        hashed ^= hashed >> np.uint64(29)
    return np.int64(hashed & np.uint64(slots - 1))  # type: ignore[return-value]


@compiled
def is_same(buffer: Bytes, at: int, names: Bytes, name_at: int, size: int) -> bool:
    """Whether two texts of one length are equal."""
    for k in range(size):  # noqa: SIM110 - a loop of numba
        if buffer[at + k] != names[name_at + k]:
            return False
    return True


@compiled
def find_machine(index: Ints, key: int, machines: Matrix, names: Bytes, buffer: Bytes, at: int, size: int) -> int:
    """The number of the machine with this id, or NONE."""
    place = place_of(buffer, at, size, key, len(index))
    while index[place] != NONE:
        m = index[place]
        if machines[m, NAME_LEN] == size and is_same(buffer, at, names, machines[m, NAME_AT], size):
            return m
        place = (place + 1) & (len(index) - 1)
    return NONE


@compiled
def add_machine(index: Ints, key: int, machines: Matrix, names: Bytes, m: int) -> None:
    """Puts a machine into the table, which must have room."""
    place = place_of(names, machines[m, NAME_AT], machines[m, NAME_LEN], key, len(index))
    while index[place] != NONE:
        place = (place + 1) & (len(index) - 1)
    index[place] = m


@compiled
def add_machines(index: Ints, key: int, machines: Matrix, names: Bytes, first: int, end: int) -> None:
    """Puts the machines from `first` on, before `end`, into the table."""
    for m in range(first, end):
        add_machine(index, key, machines, names, m)


@compiled
def is_text(texts: Texts, t: int, buffer: Bytes, at: int, size: int) -> bool:
    """Whether text number `t` is this one."""
    if texts[t, 64] != size:
        return False
    for k in range(size):  # noqa: SIM110 - a loop of numba
        if texts[t, k] != buffer[at + k]:
            return False
    return True


@compiled
def find_meter(machines: Matrix, meters: Matrix, words: Texts, m: int, buffer: Bytes, at: int, size: int) -> int:
    """The number of a machine's meter with this name, or NONE. A machine has few."""
    meter = machines[m, FIRST_METER]
    while meter != NONE:
        word = meters[meter, METER_NAME]
        if is_text(words, word, buffer, at, size):
            return meter
        meter = meters[meter, NEXT_METER]
    return NONE


@compiled
def put_text(texts: Texts, t: int, buffer: Bytes, at: int, size: int) -> None:
    """Makes text number `t` this one."""
    texts[t, 64] = size
    for k in range(size):
        texts[t, k] = buffer[at + k]


@compiled
def copy_text(texts: Texts, source: int, target: int) -> None:
    """Makes text number `target` what `source` is."""
    for k in range(65):
        texts[target, k] = texts[source, k]
