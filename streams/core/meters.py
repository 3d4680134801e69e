"""The state of each meter: its boots, its standings, its quantities, its sessions' starts (rules 7 to 20).

The facts lie in arrays, where loops change them; a `MeterState` is made when control records or people ask.
"""

from typing import NamedTuple

import msgspec
import numpy as np
from msgspec import Struct

from streams.core.kernel import tables as t
from streams.core.kernel.columns import NONE
from streams.core.kernel.store import Store, get, pair_of, put, value_of
from streams.core.plausible_usage import SLACK_MS


class RowContent(NamedTuple):
    """All that a row states besides its meter, boot and number: rows are equal if these are.

    `kind` is an index in KINDS, `marks` are 1 for session_start, 2 for session_end and 4 for reconstructed.
    """

    observed_at: int
    kind: int
    value: int
    session_started_at: int
    marks: int
    session: str


_NO_CONTENT = RowContent(NONE, NONE, NONE, NONE, 0, "")


class Boot(Struct):
    """One boot of a meter: its high-water number with the content there, and the holes below it (inclusive pairs).

    `latest_ms` is the latest moment (epoch ms) at which a row that raised the high water was observed.
    """

    boot: int
    seq: int = NONE
    content: RowContent = _NO_CONTENT
    latest_ms: int = NONE
    floor: int = 0
    holes: list[tuple[int, int]] = []


class Standing(NamedTuple):
    """A register's value at a moment. An opening register has no boot and no number: both are NONE.

    Usage from here on is judged by the time since `time_ms`; where a clock stepped back, since stream time `seen_ms`.
    `proven` is 1 where the meter signed the value (rule 42).
    """

    boot: int
    seq: int
    value: int
    time_ms: int
    seen_ms: int
    proven: int = 0


class Starts(Struct):
    """The last four sessions that a meter's rows started, oldest first, and the bucket of their fees (rule 20).

    `latest_ms` is the highest start of all; `slack_ms` is NONE before the first start with a price.
    """

    last: list[tuple[str, int]] = []
    latest_ms: int = NONE
    slack_ms: int = NONE


class MeterState(Struct):
    """The state of one meter of one machine. Quantities were observed from `oldest_ms` to `newest_ms`, levels up to
    `level_ms` (epoch ms).
    """

    current: Boot | None = None
    previous: Boot | None = None
    baseline: Standing | None = None
    suspect: Standing | None = None
    displaced: Standing | None = None
    slack_ms: int = SLACK_MS
    oldest_ms: int = NONE
    newest_ms: int = NONE
    level_ms: int = NONE
    starts: Starts = msgspec.field(default_factory=Starts)


class Meters:
    """The meters of a partition by (machine, meter)."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._borrowed: dict[int, MeterState] = {}

    def __contains__(self, name: tuple[str, str]) -> bool:
        return self._find(*name) != NONE

    def _find(self, machine: str, meter: str) -> int:
        m = self._store.machine_of.get(machine, NONE)
        return NONE if m == NONE else self._store.meter_of(m, meter)

    def add(self, machine: str, meter: str, facts: MeterState) -> None:
        """Adds a new meter, of which nothing but perhaps its boot is known."""
        machines, words = [self._store.machine_of[machine]], [self._store.word(meter)]
        number = int(self._store.add_meters(np.array(machines), np.array(words))[0])
        if facts.current is None:  # as `add_meters` has left it
            self._store.touch(t.TOUCHED_METER, number)
        else:
            self._borrowed[number] = facts

    def borrow(self, machine: str, meter: str) -> MeterState:
        """A meter's state, to be changed until `give_back`."""
        number = self._find(machine, meter)
        facts = self._borrowed.get(number)
        if facts is None:
            facts = self._borrowed[number] = read_meter(self._store, number)
        return facts

    def look(self, machine: str, meter: str) -> MeterState:
        """A meter's state, to be read only."""
        number = self._find(machine, meter)
        return self._borrowed.get(number) or read_meter(self._store, number)

    def names(self, machine: str) -> list[str]:
        """The meters of a machine, sorted."""
        store = self._store
        meters = store.matrix(t.METERS)
        numbers = store.meters_of(store.machine_of[machine]) if machine in store.machine_of else []
        return sorted(store.word_names[meters[number, t.METER_NAME]] for number in numbers)

    def give_back(self) -> None:
        """Writes all borrowed states to the arrays."""
        for number, facts in self._borrowed.items():
            write_meter(self._store, number, facts)
            self._store.touch(t.TOUCHED_METER, number)
        self._borrowed.clear()


def set_opening(meter: MeterState, value: int, at_ms: int, seen_ms: int) -> None:
    """Makes an opening register the baseline, without a boot, as of `at_ms` (rule 13)."""
    meter.baseline = Standing(NONE, NONE, value, at_ms, seen_ms)
    meter.suspect = meter.displaced = None
    meter.slack_ms = SLACK_MS


def read_meter(store: Store, number: int) -> MeterState:
    """A meter's state out of the arrays."""
    row: list[int] = store.matrix(t.METERS)[number].tolist()
    texts = row[t.TEXT]
    started = row[t.STARTED : t.STARTED + row[t.STARTS]]
    return MeterState(
        _boot(store, row, t.CURRENT, 0),
        _boot(store, row, t.PREVIOUS, 1),
        _standing(row, t.BASELINE),
        _standing(row, t.SUSPECT),
        _standing(row, t.DISPLACED),
        value_of(row[t.SLACK_HIGH], row[t.SLACK]),
        row[t.OLDEST],
        row[t.NEWEST],
        row[t.LEVEL_AT],
        Starts(
            [(get(store.texts, texts + 2 + k), at_ms) for k, at_ms in enumerate(started)],
            row[t.START_LATEST],
            row[t.START_SLACK],
        ),
    )


def _boot(store: Store, row: list[int], side: int, text: int) -> Boot | None:
    boot, seq, observed_at, kind, value, started_at, marks, latest_ms, floor, line = row[side : side + t.BOOT_COLUMNS]
    if boot == NONE:
        return None
    session = "" if started_at == NONE else get(store.texts, row[t.TEXT] + text)
    holes: list[int] = []
    if line != NONE:
        cells = store.matrix(t.HOLES)[line].tolist()
        holes = cells[: 2 * cells[t.HOLE_COUNT]]
    content = RowContent(observed_at, kind, value, started_at, marks, session)
    return Boot(boot, seq, content, latest_ms, floor, list(zip(holes[::2], holes[1::2], strict=True)))


def _standing(row: list[int], place: int) -> Standing | None:
    cells = row[place : place + t.STANDING_COLUMNS]
    return None if cells[t.STAND_VALUE] == NONE else Standing(*cells)


def write_meter(store: Store, number: int, facts: MeterState) -> None:
    """Puts a meter's state into the arrays."""
    row = store.matrix(t.METERS)[number]
    sessions = [boot.content.session for boot in (facts.current, facts.previous) if boot]
    if any(sessions) or facts.starts.last:
        store.need_texts(number)
    _write_boot(store, number, t.CURRENT, facts.current, 0)
    _write_boot(store, number, t.PREVIOUS, facts.previous, 1)
    for place, standing in ((t.BASELINE, facts.baseline), (t.SUSPECT, facts.suspect), (t.DISPLACED, facts.displaced)):
        row[place : place + t.STANDING_COLUMNS] = NONE if standing is None else standing
    row[t.SLACK_HIGH], row[t.SLACK] = pair_of(facts.slack_ms)
    row[t.OLDEST], row[t.NEWEST], row[t.LEVEL_AT] = facts.oldest_ms, facts.newest_ms, facts.level_ms
    starts = facts.starts
    row[t.STARTS], row[t.START_LATEST], row[t.START_SLACK] = len(starts.last), starts.latest_ms, starts.slack_ms
    for k, (session, at_ms) in enumerate(starts.last):
        row[t.STARTED + k] = at_ms
        put(store.texts, int(row[t.TEXT]) + 2 + k, session)


def _write_boot(store: Store, number: int, side: int, boot: Boot | None, text: int) -> None:
    row = store.matrix(t.METERS)[number]
    row[side : side + t.BOOT_HOLES] = NONE
    if boot is not None:
        content = boot.content
        row[side : side + t.BOOT_HOLES] = (boot.boot, boot.seq, *content[:5], boot.latest_ms, boot.floor)
        if content.session:
            put(store.texts, int(row[t.TEXT]) + text, content.session)
    write_holes(store, number, side, [end for hole in (boot.holes if boot else ()) for end in hole])


def write_holes(store: Store, number: int, side: int, flat: list[int]) -> None:
    """Makes the holes of a meter's boot those that begin and end so: first, last, first, last, ..."""
    row = store.matrix(t.METERS)[number]
    line = int(row[side + t.BOOT_HOLES])
    if line == NONE and flat:
        line = row[side + t.BOOT_HOLES] = store.new_holes()
    if line != NONE:
        holes = store.matrix(t.HOLES)[line]
        holes[: len(flat)] = flat
        holes[t.HOLE_COUNT] = len(flat) // 2
