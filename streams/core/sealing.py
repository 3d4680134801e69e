"""How windows seal (rules 6, 21, 37 and 38): loops fill columns; statements and dues, which few have, are objects."""

import struct
from collections.abc import Mapping, Sequence

import numpy as np

from schemas.errors import InvariantBroken
from schemas.window import Due, Statement, Window, rare_bytes
from streams.core.kernel import sealed as s
from streams.core.kernel import tables as t
from streams.core.kernel.columns import NONE, Bytes, Ints, Matrix
from streams.core.kernel.digests import digests
from streams.core.kernel.seal import free_windows, seal_windows, touch_carries
from streams.core.kernel.turned import turned
from streams.core.open_window import Extras
from streams.core.sealed import Part, Rare, Sealed, order_of
from streams.core.state import State

PIECE = 16_384
"""Windows whose bytes lie in memory at once."""

Closed = Mapping[int, Sequence[Statement]]
"""Statements of the sessions that close into a window, by its number."""


def seal_due(state: State) -> Part | None:
    """Rules 5, 6 and 21: windows with end + grace <= stream time seal, those of later epochs only after the cut.

    Takes them out of the state. Raises InvariantBroken if an amount leaves 64 bits.
    """
    closed = state.close_sessions(state.earliest_open_ms)
    numbers = state.window_numbers(state.earliest_open_ms)
    if not len(numbers):
        return None
    store, numbers = state.store, _in_order(state, numbers)
    part = _sealed(state, numbers, closed, store.carries)
    state.note_gone(numbers)
    free_windows(store.tables, store.window_index, store.clock, numbers)
    for w in state.extras.keys() & set(numbers.tolist()):
        del state.extras[w]
    store.reserve_touched(len(numbers))
    touch_carries(store.tables, store.clock, part.windows)
    return part


def open_windows(state: State) -> list[Window]:
    """The open windows as they would seal now, in sealing order. Leaves `state` as it is."""
    numbers = _in_order(state, state.window_numbers())
    return Sealed(state.book, [_sealed(state, numbers, {}, state.store.carries.copy())]).objects()


def _in_order(state: State, numbers: Ints) -> Ints:
    """Windows by machine, start and what they adjust: for each machine the order in which they seal (rule 6)."""
    keys = turned(state.store.matrix(t.WINDOWS), numbers)[: t.ADJUSTS + 1]
    return numbers[order_of(state.book, keys)]


def _sealed(state: State, numbers: Ints, closed: Closed, carries: Ints) -> Part:
    """The windows of these numbers, which are in order; moves the carries."""
    store, count = state.store, len(numbers)
    counts = store.matrix(t.WINDOWS)[numbers, t.LINE_COUNT]
    rare = _rare(state, numbers, closed)
    rare_rows, tails = _rare_rows(state, numbers, rare)
    windows = np.empty((s.COLUMNS, count), np.int64)
    lines = np.empty((s.LINE_COLUMNS, int(counts.sum())), np.int64)
    order = np.empty(int(counts.max(initial=0)), np.int64)
    wrong = seal_windows(store.tables, store.words, store.clock, carries, numbers, rare_rows, windows, lines, order)
    if wrong != NONE:
        raise _beyond(state, int(numbers[wrong]))
    used = int(windows[s.LINES_END, -1]) if count else 0
    return Part(windows, lines[:, :used], _digests(state, windows, lines, rare_rows, tails), rare)


def _digests(state: State, windows: Matrix, lines: Matrix, rare_rows: Matrix, tails: Bytes) -> Bytes:
    """SHA-256 of each window's bytes, in their order."""
    found = [np.empty(0, np.uint8)]
    store, ends = state.store, np.zeros(PIECE + 1, np.int64)
    words = store.words.reshape(-1)
    for first in range(0, windows.shape[1], PIECE):
        end = min(first + PIECE, windows.shape[1])
        count, line = end - first, int(windows[s.LINES_END, first - 1]) if first else 0
        room = s.WINDOW_BYTES * count + s.LINE_BYTES * (int(windows[s.LINES_END, end - 1]) - line) + len(tails)
        out = np.empty(room, np.uint8)
        s.write_windows(
            store.tables, store.names, words, windows, lines, first, end, rare_rows, tails, out, ends[1:]
        )  # fmt: skip
        found.append(digests(out, ends[:count], ends[1 : count + 1]))
    return np.concatenate(found)


def _rare(state: State, numbers: Ints, closed: Closed) -> dict[int, Rare]:
    """Statements and dues of the few windows that have any, by place."""
    rare = {}
    for place in np.flatnonzero(np.isin(numbers, [*state.extras, *closed])).tolist():
        w = int(numbers[place])
        extras = state.extras.get(w) or Extras()
        sessions = sorted([*extras.statements, *closed.get(w, ())], key=lambda statement: statement.session)
        rare[place] = Rare(tuple(sessions), _dues(extras, sessions))
    return rare


def _rare_rows(state: State, numbers: Ints, rare: Mapping[int, Rare]) -> tuple[Matrix, Bytes]:
    """The same as the loops take it: the table, and the bytes."""
    rows, tails = np.empty((len(rare), s.RARE_COLUMNS), np.int64), bytearray()
    for k, (place, each) in enumerate(rare.items()):
        try:
            tails += rare_bytes(each.sessions, each.dues)
            rows[k] = (
                place,
                sum(due.micros for due in each.dues if due.kind == "expense"),
                sum(statement.uncollected_micros for statement in each.sessions),
                sum(statement.paid_micros - statement.refund_micros for statement in each.sessions),
                len(tails),
            )
        except (struct.error, OverflowError):
            raise _beyond(state, int(numbers[place])) from None
    return rows, np.frombuffer(tails, np.uint8)


def _dues(extras: Extras, sessions: Sequence[Statement]) -> tuple[Due, ...]:
    """Rule 38: suppliers by item and number, customers by session, then what corrections refund."""
    expenses = [
        Due("expense", expense.supplier, f"{expense.item}/{expense.number}", expense.micros)
        for expense in sorted(extras.expenses)
    ]
    refunds = [
        Due("refund", statement.payer, statement.session, statement.refund_micros)
        for statement in sessions
        if statement.refund_micros
    ]
    return (*expenses, *refunds, *extras.refunds)


def _beyond(state: State, w: int) -> InvariantBroken:
    start, m = state.store.matrix(t.WINDOWS)[w, [t.START, t.WINDOW_MACHINE]].tolist()
    return InvariantBroken(f"a window of {state.store.name(m)} at {start} leaves 64 bits")
