"""What sealed, in columns: no object is made of a window, nor of its lines."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from schemas.arrow import DUES, LINES, STATEMENTS, WINDOW_TABLES, WINDOWS, agreements_table, parts_table, windows_from
from schemas.window import Due, Statement, Window
from streams.core.kernel import sealed as s
from streams.core.kernel import tables as t
from streams.core.kernel.columns import NONE, Bytes, Ints, Matrix
from streams.core.kernel.seal import sort_windows
from streams.core.kernel.texts import names_array, words_array
from streams.core.machines import Book

DIGEST = 32


class Rare(NamedTuple):
    """What few windows have."""

    sessions: Sequence[Statement] = ()
    dues: Sequence[Due] = ()


class Part(NamedTuple):
    """What sealed at once: columns and their order as in `kernel.sealed`, 32 bytes for each window, and what few of
    them have, by place.
    """

    windows: Matrix
    lines: Matrix
    digests: Bytes
    rare: dict[int, Rare]


class Sealed:
    """The windows of some parts, which were sealed one after the other."""

    def __init__(self, book: Book, parts: Sequence[Part]) -> None:
        """`book` is that of the state that they sealed in."""
        self._book = book
        self.parts = parts

    def __len__(self) -> int:
        return sum(part.windows.shape[1] for part in self.parts)

    def objects(self) -> list[Window]:
        """The windows as objects, in sealing order: for what is rare."""
        return windows_from(self.tables()) if self.parts else []

    def tables(self) -> dict[str, pa.Table]:
        """The tables WINDOW_TABLES, sorted."""
        if not self.parts:
            return {name: schema.empty_table() for name, schema in WINDOW_TABLES.items()}
        whole = self._whole()
        windows, store = whole.windows, self._book.store
        versions = store.matrix(t.VERSIONS)[windows[s.VERSION]]
        contents = store.matrix(t.CONTENTS)[versions[:, t.VERSION_CONTENT]]
        keys = {
            "machine": names_array(store, t.NAME_AT, windows[s.MACHINE]),
            "start_ms": pa.array(windows[s.START]),
            "adjusts_ms": pa.array(windows[s.ADJUSTS], mask=windows[s.ADJUSTS] == NONE),
            "utc_offset_s": pa.array(windows[s.UTC_OFFSET]),
        }
        columns = {name: pa.array(windows[row]) for name, row in _WINDOW_INTS.items()} | {
            "kind": words_array(store, contents[:, t.CONTENT_KIND]),
            "route": names_array(store, t.ROUTE_AT, windows[s.MACHINE]),
            "agreement": words_array(store, contents[:, t.CONTENT_AGREEMENT]),
            "digest": pa.Array.from_buffers(pa.binary(DIGEST), len(self), [None, pa.py_buffer(whole.digests)]),
        }
        agreements = np.unique(contents[:, t.CONTENT_AGREEMENT]).tolist()
        rare = sorted(whole.rare.items())
        return {
            "lines": self._lines(whole, keys),
            "statements": self._rare(STATEMENTS, whole, [(place, each.sessions) for place, each in rare]),
            "dues": self._rare(DUES, whole, [(place, each.dues) for place, each in rare]),
            "agreements": agreements_table({store.word_names[n]: self._book.agreements[n] for n in agreements}),
            "windows": _table(WINDOWS, keys | columns),
        }

    def _lines(self, whole: Part, keys: dict[str, pa.Array]) -> pa.Table:
        lines, store = whole.lines, self._book.store
        owners = lines[s.WINDOW]
        own = {name: pa.array(lines[row]) for name, row in _LINE_INTS.items()}
        words = {name: words_array(store, lines[row]) for name, row in (("meter", s.METER), ("unit", s.UNIT))}
        return _table(LINES, {name: array.take(pa.array(owners)) for name, array in keys.items()} | own | words)

    def _rare(
        self, schema: pa.Schema, whole: Part, parts: Sequence[tuple[int, Sequence[Statement] | Sequence[Due]]]
    ) -> pa.Table:
        """The rows of what few windows have."""
        keyed = []
        for place, own in parts:
            m, start, adjusts, utc_offset = whole.windows[[s.MACHINE, s.START, s.ADJUSTS, s.UTC_OFFSET], place].tolist()
            keyed.append(((self._book.store.name(m), start, None if adjusts == NONE else adjusts, utc_offset), own))
        return parts_table(schema, keyed)

    def _whole(self) -> Part:
        """All of it as one part."""
        if len(self.parts) == 1:
            return self.parts[0]
        firsts = np.cumsum([0, *(part.windows.shape[1] for part in self.parts)])
        windows = np.concatenate([part.windows for part in self.parts], axis=1)
        order = order_of(self._book, windows[[s.START, s.MACHINE, s.ADJUSTS]])
        places = np.empty_like(order)
        places[order] = np.arange(len(order))
        lines = np.concatenate([part.lines for part in self.parts], axis=1)
        counts = [part.lines.shape[1] for part in self.parts]
        lines[s.WINDOW] = places[lines[s.WINDOW] + np.repeat(firsts[:-1], counts)]
        rare = {
            int(places[first + place]): each
            for first, part in zip(firsts.tolist(), self.parts, strict=False)
            for place, each in part.rare.items()
        }
        digests = np.concatenate([part.digests for part in self.parts]).reshape(-1, DIGEST)[order]
        in_order = np.argsort(lines[s.WINDOW], kind="stable")
        return Part(windows[:, order], lines[:, in_order], digests.ravel(), rare)


_WINDOW_INTS = {
    "end_ms": s.END, "registration_version": s.VERSION_NUMBER, "gross_micros": s.GROSS, "expenses_micros": s.EXPENSES,
    "uncollected_micros": s.UNCOLLECTED, "net_micros": s.NET, "collected_micros": s.COLLECTED, "carry_in": s.CARRY_IN,
    "carry_out": s.CARRY_OUT, "readings": s.READINGS, "first_offset": s.FIRST_OFFSET, "last_offset": s.LAST_OFFSET,
    "skipped": s.SKIPPED, "flags": s.FLAGS, "trust": s.TRUST,
}  # fmt: skip
_LINE_INTS = {
    "position": s.POSITION, "version": s.LINE_VERSION, "usage": s.USAGE, "price_micros": s.PRICE, "per": s.PER,
    "amount_micros": s.AMOUNT,
}  # fmt: skip


def order_of(book: Book, keys: Matrix) -> Ints:
    """The places of windows, of which `keys` are (start, machine, what it adjusts), in the order of their tables."""
    order = np.arange(keys.shape[1])
    sort_windows(book.store.names, book.store.matrix(t.MACHINES), keys, order, np.empty_like(order))
    return order


def _table(schema: pa.Schema, columns: dict[str, pa.Array]) -> pa.Table:
    return pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)
