"""The arrays of a state, which grow, and what Python does with them: machines, meters, versions and their terms.

Nothing here judges. Loops get the arrays as they are at a call; between calls `reserve` makes room.
"""

from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from schemas.registration import Registration
from schemas.units import HOUR_MS
from streams.core.kernel import tables as t
from streams.core.kernel.columns import KINDS, NONE, Bytes, Ints, Matrix
from streams.core.kernel.tables import Tables, Texts
from streams.core.plausible_usage import SLACK_MS, time_needed_ms
from streams.core.rating import Hours

FIRST_ROOM = 64


LARGE = 16_384
"""Lines of an array from which on it grows by less than its own size."""


class Store:
    """The matrices of `tables`, the texts, and how many lines of each are in use."""

    def __init__(self, key: int) -> None:
        self.key = key
        self._matrices = [np.full((FIRST_ROOM, width), NONE, np.int64) for width in t.WIDTHS]
        self.used = [0] * t.MATRICES
        self.texts: Texts = np.zeros((FIRST_ROOM, t.TEXT_MAX + 1), np.uint8)
        self.words: Texts = np.zeros((FIRST_ROOM, t.TEXT_MAX + 1), np.uint8)
        self.session_names: Texts = np.zeros((FIRST_ROOM, t.TEXT_MAX + 1), np.uint8)
        self.names: Bytes = np.zeros(1 << 12, np.uint8)
        self._names_used = 0
        self.clock: Ints = np.zeros(t.CLOCK_COLUMNS, np.int64)
        self.clock[[t.FREE_WINDOW, t.FREE_LINE]] = NONE
        self.machine_index: Ints = np.full(2 * FIRST_ROOM, NONE, np.int64)
        self.window_index: Ints = np.full(4 * FIRST_ROOM, NONE, np.int64)
        self._indexed = 0
        self.machine_of: dict[str, int] = {}
        self.ids: list[str] = []
        """The ids of machines, by number."""
        self.word_of: dict[str, int] = {}
        self.word_names: list[str] = []
        self._terms_of: dict[bytes, int] = {}

    @property
    def tables(self) -> Tables:
        """The matrices, in their order."""
        return tuple(self._matrices)

    def matrix(self, kind: int) -> Matrix:
        """One matrix, with room behind the lines in use."""
        return self._matrices[kind]

    # Room

    def reserve(self, rows: int) -> None:
        """Makes room for all that so many rows may open: windows, lines, holes, texts, events."""
        clock, meters = self.clock, min(rows, self.used[t.METERS])
        self.reserve_windows(rows, 2 * rows)
        self._room(t.HOLES, int(clock[t.HOLES_USED]) + 2 * meters)
        self._room(t.EVENTS, int(clock[t.EVENTS_USED]) + rows)
        self._room(t.TOUCHED, int(clock[t.METERS_TOUCHED : t.METERS_TOUCHED + t.TOUCHED_COLUMNS].max()) + rows)
        self.texts = _grown(self.texts, int(clock[t.TEXTS_USED]) + t.METER_TEXTS * meters)

    def reserve_windows(self, windows: int, lines: int) -> None:
        """Makes room for so many more open windows, with so many lines in all."""
        self._room(t.WINDOWS, int(self.clock[t.WINDOWS_USED]) + windows)
        self._room(t.LINES, int(self.clock[t.LINES_USED]) + lines)
        self._index(int(self.clock[t.WINDOWS_OPEN]) + windows)

    def need_texts(self, meter: int) -> None:
        """Gives a meter its six texts, if it has none."""
        row, used = self.matrix(t.METERS)[meter], int(self.clock[t.TEXTS_USED])
        if row[t.TEXT] == NONE:
            self.texts = _grown(self.texts, used + t.METER_TEXTS)
            row[t.TEXT] = used
            self.clock[t.TEXTS_USED] += t.METER_TEXTS

    def new_holes(self) -> int:
        """A new line of HOLES."""
        line = int(self.clock[t.HOLES_USED])
        self._room(t.HOLES, line + 1)
        self.clock[t.HOLES_USED] += 1
        return line

    def put_session_name(self, s: int, name: str) -> None:
        """The name of an open prepaid session."""
        self.session_names = _grown(self.session_names, s + 1)
        put(self.session_names, s, name)

    def touch(self, kind: int, line: int) -> None:
        """Notes in the list `kind` of TOUCHED that a line changed since the state was last written."""
        matrix, flag = t.TOUCHES[kind].tolist()
        things, length = self.matrix(matrix), t.METERS_TOUCHED + kind
        if things[line, flag] == 0:
            things[line, flag] = 1
            self._room(t.TOUCHED, int(self.clock[length]) + 1)
            self.matrix(t.TOUCHED)[self.clock[length], kind] = line
            self.clock[length] += 1

    def _room(self, kind: int, size: int) -> None:
        self._matrices[kind] = _grown(self._matrices[kind], size)

    def _index(self, windows: int) -> None:
        """Tables of names and of windows that are at most half full."""
        from streams.core.kernel.names import add_machines
        from streams.core.kernel.windows import put_windows

        machines = self.used[t.MACHINES]
        if machines > self._indexed:
            if 2 * machines > len(self.machine_index):
                self.machine_index = np.full(_power_of_two(2 * machines), NONE, np.int64)
                self._indexed = 0
            add_machines(self.machine_index, self.key, self.matrix(t.MACHINES), self.names, self._indexed, machines)
            self._indexed = machines
        if 2 * windows > len(self.window_index):
            self.window_index = np.full(_power_of_two(2 * windows), NONE, np.int64)
            put_windows(self.window_index, self.matrix(t.WINDOWS), int(self.clock[t.WINDOWS_USED]))

    def new(self, kind: int, *cells: int) -> int:
        """A new line of a matrix; columns that are not given are NONE."""
        line = self.used[kind]
        self._room(kind, line + 1)
        self.used[kind] = line + 1
        self._matrices[kind][line, : len(cells)] = cells
        return line

    # Names

    def add_machine(self, name: str) -> int:
        """A new machine."""
        encoded = name.encode("ascii")
        at = self._names_used
        self.names = _grown(self.names, at + len(encoded))
        self.names[at : at + len(encoded)] = np.frombuffer(encoded, np.uint8)
        self._names_used += len(encoded)
        m = self.new(t.MACHINES, at, len(encoded))
        self.matrix(t.MACHINES)[m, t.IS_MARKED] = self.matrix(t.MACHINES)[m, t.MACHINE_TOUCHED] = 0
        self.machine_of[name] = m
        self.ids.append(name)
        return m

    def name(self, m: int) -> str:
        """The id of a machine."""
        return self.ids[m]

    def word(self, name: str) -> int:
        """The number of a meter's name, which many machines share."""
        number = self.word_of.get(name)
        if number is None:
            number = self.word_of[name] = len(self.word_names)
            self.word_names.append(name)
            self.words = _grown(self.words, number + 1)
            put(self.words, number, name)
        return number

    def add_meter(self, m: int, name: str) -> int:
        """A new meter of a machine, of which nothing is known."""
        meter = self.new(t.METERS, m)
        row, machines = self.matrix(t.METERS)[meter], self.matrix(t.MACHINES)
        row[t.NEXT_METER] = machines[m, t.FIRST_METER]
        row[t.METER_NAME] = self.word(name)
        row[[t.SLACK_HIGH, t.STARTS, t.METER_TOUCHED]] = 0
        row[t.SLACK] = SLACK_MS
        machines[m, t.FIRST_METER] = meter
        return meter

    def meter_of(self, m: int, name: str) -> int:
        """The meter of a machine with this name, or NONE."""
        meters, word = self.matrix(t.METERS), self.word_of.get(name, NONE)
        meter = int(self.matrix(t.MACHINES)[m, t.FIRST_METER])
        while meter != NONE and meters[meter, t.METER_NAME] != word:
            meter = int(meters[meter, t.NEXT_METER])
        return meter

    def meters_of(self, m: int) -> list[int]:
        """The meters of a machine, the last one added first."""
        meters, found = self.matrix(t.METERS), []
        meter = int(self.matrix(t.MACHINES)[m, t.FIRST_METER])
        while meter != NONE:
            found.append(meter)
            meter = int(meters[meter, t.NEXT_METER])
        return found

    # Versions

    def add_version(
        self, m: int, number: int, in_force_from_ms: int, terms: int, content: int, effective_from: int
    ) -> int:
        """A further version of a machine."""
        machines = self.matrix(t.MACHINES)
        before = int(machines[m, t.LAST_VERSION])
        version = self.new(t.VERSIONS, m, number, in_force_from_ms, before, terms, content, effective_from)
        machines[m, t.LAST_VERSION] = version
        return version

    def terms(self, registration: Registration) -> int:
        """The line of TERMS with what loops look up of a version. Versions with equal terms share one."""
        r = registration
        key = msgspec.json.encode((r.meters, r.tariff, r.orders or (), r.retired, r.require_signature))
        found = self._terms_of.get(key)
        if found is None:
            found = self._terms_of[key] = self._new_terms(r)
        return found

    def _new_terms(self, r: Registration) -> int:
        spans = [self.used[kind] for kind in (t.TERM_METERS, t.ELEMENTS, t.OFFSETS)]
        reorder_at: dict[str, int] = {}
        for policy in r.orders or ():
            reorder_at[policy.meter] = max(policy.reorder_at, reorder_at.get(policy.meter, NONE))
        for meter in r.meters:
            need = time_needed_ms(meter.burst, meter.capacity_per_hour)
            self.new(
                t.TERM_METERS,
                self.word(meter.meter),
                KINDS.index(meter.kind),
                meter.capacity_per_hour,
                NONE if meter.modulus is UNSET else meter.modulus,
                -(-HOUR_MS // meter.starts_per_hour),
                *pair_of(need),
                reorder_at.get(meter.meter, NONE),
            )
        for element in r.tariff.elements:
            first = self.used[t.COMPONENTS]
            for part in element.components:
                self.new(t.COMPONENTS, self.word(part.meter), 0 if part.per is UNSET else part.per, part.price)
            self.new(t.ELEMENTS, *Hours.of(element.restrictions), first, self.used[t.COMPONENTS])
        for from_ms, seconds in r.tariff.offsets:
            self.new(t.OFFSETS, from_ms, seconds)
        ends = [self.used[kind] for kind in (t.TERM_METERS, t.ELEMENTS, t.OFFSETS)]
        cells = [cell for span in zip(spans, ends, strict=True) for cell in span]
        return self.new(t.TERMS, *cells, int(r.retired), int(r.require_signature))


def pair_of(value: int) -> tuple[int, int]:
    """A Python integer as a pair."""
    return value >> t.PAIR_BITS, value & (2**t.PAIR_BITS - 1)


def value_of(high: int, low: int) -> int:
    """The Python integer that a pair is."""
    return (high << t.PAIR_BITS) + low


def put(texts: Texts, number: int, text: str) -> None:
    """Makes a text that of a line."""
    encoded = text.encode("ascii")
    texts[number, : len(encoded)] = np.frombuffer(encoded, np.uint8)
    texts[number, t.TEXT_MAX] = len(encoded)


def get(texts: Texts, number: int) -> str:
    """The text of a line."""
    return texts[number, : texts[number, t.TEXT_MAX]].tobytes().decode("ascii")


def _grown(array: NDArray[Any], size: int) -> NDArray[Any]:
    """An array of at least `size` lines, this one if it is. A large one grows by a quarter: most of it is memory."""
    if size <= len(array):
        return array
    spare = len(array) // 4 if len(array) > LARGE else len(array)
    more = np.full((max(size - len(array), spare), *array.shape[1:]), NONE if array.dtype == np.int64 else 0)
    return np.concatenate([array, more.astype(array.dtype)])


def _power_of_two(size: int) -> int:
    return 1 << (size - 1).bit_length()
