"""The arrays of a state, which grow, and what Python does with them: machines, meters, versions and their terms.

Nothing here judges. Loops get the arrays as they are at a call; between calls `reserve` makes room.
"""

from collections.abc import Sequence
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
        """The ids of machines, their routes and salts, one after the other."""
        self._names_used = 0
        self.carries: Ints = np.zeros(FIRST_ROOM, np.int64)
        """By version, in 1/3,600,000 of a micro; NONE where none has been left yet."""
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
        self._room(t.HOLES, int(clock[t.HOLES_USED]), 2 * meters)
        self._room(t.EVENTS, int(clock[t.EVENTS_USED]), rows)
        self.reserve_touched(rows)
        self.texts = _grown(self.texts, int(clock[t.TEXTS_USED]), t.METER_TEXTS * meters)

    def reserve_windows(self, windows: int, lines: int) -> None:
        """Makes room for so many more open windows, with so many lines in all."""
        self._room(t.WINDOWS, int(self.clock[t.WINDOWS_USED]), windows)
        self._room(t.LINES, int(self.clock[t.LINES_USED]), lines)
        self._index(int(self.clock[t.WINDOWS_OPEN]) + windows)

    def reserve_touched(self, things: int) -> None:
        """Makes room for so many more changes of a kind."""
        counts = self.clock[t.METERS_TOUCHED : t.METERS_TOUCHED + t.TOUCHED_COLUMNS]
        self._room(t.TOUCHED, int(counts.max()), things)

    def need_texts(self, meter: int) -> None:
        """Gives a meter its six texts, if it has none."""
        row, used = self.matrix(t.METERS)[meter], int(self.clock[t.TEXTS_USED])
        if row[t.TEXT] == NONE:
            self.texts = _grown(self.texts, used, t.METER_TEXTS)
            row[t.TEXT] = used
            self.clock[t.TEXTS_USED] += t.METER_TEXTS

    def new_holes(self) -> int:
        """A new line of HOLES."""
        line = int(self.clock[t.HOLES_USED])
        self._room(t.HOLES, line, 1)
        self.clock[t.HOLES_USED] += 1
        return line

    def put_session_name(self, s: int, name: str) -> None:
        """The name of an open prepaid session."""
        self.session_names = _grown(self.session_names, self.used[t.SESSIONS])
        put(self.session_names, s, name)

    def touch(self, kind: int, line: int) -> None:
        """Notes in the list `kind` of TOUCHED that a line changed since the state was last written."""
        matrix, flag = t.TOUCHES[kind].tolist()
        things, length = self.matrix(matrix), t.METERS_TOUCHED + kind
        if things[line, flag] == 0:
            things[line, flag] = 1
            self.reserve_touched(1)
            self.matrix(t.TOUCHED)[self.clock[length], kind] = line
            self.clock[length] += 1

    def touch_all(self, kind: int, lines: Ints) -> None:
        """The same of many, each once."""
        matrix, flag = t.TOUCHES[kind].tolist()
        things, length = self.matrix(matrix), t.METERS_TOUCHED + kind
        lines = lines[things[lines, flag] == 0]
        things[lines, flag] = 1
        first = int(self.clock[length])
        self.reserve_touched(len(lines))
        self.matrix(t.TOUCHED)[first : first + len(lines), kind] = lines
        self.clock[length] += len(lines)

    def _room(self, kind: int, used: int, more: int) -> None:
        self._matrices[kind] = _grown(self._matrices[kind], used, more, 0 if kind in t.WRITTEN_WHOLE else NONE)

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
        self._room(kind, line, 1)
        self.used[kind] = line + 1
        self._matrices[kind][line, : len(cells)] = cells
        return line

    # Names

    def add_machines(self, names: Sequence[str], routes: Sequence[str]) -> Ints:
        """New machines, and the keys of their records."""
        at, sizes = self._put_names(names)
        places = np.flatnonzero([name != route for name, route in zip(names, routes, strict=True)])
        numbers, machines = self._new_lines(t.MACHINES, len(names))
        machines[numbers, t.NAME_AT], machines[numbers, t.NAME_LEN] = at, sizes
        at[places], sizes[places] = self._put_names([routes[place] for place in places.tolist()])
        machines[numbers, t.ROUTE_AT], machines[numbers, t.ROUTE_LEN] = at, sizes
        machines[numbers, t.IS_MARKED] = machines[numbers, t.MACHINE_TOUCHED] = 0
        self.machine_of.update(zip(names, numbers.tolist(), strict=True))
        self.ids += names
        return numbers

    def _put_names(self, names: Sequence[str]) -> tuple[Ints, Ints]:
        """Where each text lies among all names, and its length."""
        encoded, at = "".join(names).encode("ascii"), self._names_used
        self.names = _grown(self.names, at, len(encoded))
        self._names_used += len(encoded)
        self.names[at : self._names_used] = np.frombuffer(encoded, np.uint8)
        sizes = np.array([len(name) for name in names], np.int64)
        return at + np.cumsum(sizes) - sizes, sizes

    def _new_lines(self, kind: int, count: int) -> tuple[Ints, Matrix]:
        """The numbers of so many new lines, filled with NONE, and the matrix."""
        first = self.used[kind]
        self._room(kind, first, count)
        self.used[kind] += count
        return np.arange(first, first + count), self.matrix(kind)

    def named(self, at: int, size: int) -> str:
        """The text that lies among all names at a position."""
        return self.names[at : at + size].tobytes().decode("ascii")

    def route(self, m: int) -> str:
        """The key of a machine's records."""
        return self.named(*self.matrix(t.MACHINES)[m, [t.ROUTE_AT, t.ROUTE_LEN]].tolist())

    def name(self, m: int) -> str:
        """The id of a machine."""
        return self.ids[m]

    def word(self, name: str) -> int:
        """The number of a text of at most 64 bytes that many machines share: a meter's name, a unit, a kind."""
        number = self.word_of.get(name)
        if number is None:
            number = self.word_of[name] = len(self.word_names)
            self.word_names.append(name)
            self.words = _grown(self.words, number, 1)
            put(self.words, number, name)
        return number

    def add_meters(self, machines: Ints, words: Ints) -> Ints:
        """New meters of machines, each with the word that is its name; nothing is known of them."""
        numbers, meters = self._new_lines(t.METERS, len(machines))
        meters[numbers, t.METER_MACHINE], meters[numbers, t.METER_NAME] = machines, words
        for column in (t.SLACK_HIGH, t.STARTS, t.METER_TOUCHED):
            meters[numbers, column] = 0
        meters[numbers, t.SLACK] = SLACK_MS
        order = np.argsort(machines, kind="stable")
        owners, chain, first_meters = machines[order], numbers[order], self.matrix(t.MACHINES)[:, t.FIRST_METER]
        is_next = np.concatenate([[False], owners[1:] == owners[:-1]])[: len(order)]
        meters[chain, t.NEXT_METER] = np.where(is_next, np.roll(chain, 1), first_meters[owners])
        first_meters[owners] = chain  # of several, the last one stays
        return numbers

    def open_registers(self, numbers: Ints, values: Ints, times: Matrix) -> None:
        """Makes opening registers the baselines of new meters (rule 13): values, and a line each of as of when, and
        when they were seen (epoch ms).
        """
        meters = self.matrix(t.METERS)
        meters[numbers, t.BASELINE + t.STAND_VALUE] = values
        meters[numbers, t.BASELINE + t.STAND_TIME], meters[numbers, t.BASELINE + t.STAND_SEEN] = times.T
        meters[numbers, t.BASELINE + t.STAND_PROVEN] = 0

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

    def add_versions(self, machines: Ints, facts: Matrix, contents: Ints, salts: Sequence[str | None]) -> Ints:
        """A further version of each of these machines: `facts` are its number, from when it counts, and from when the
        operator wanted it to.
        """
        numbers, versions = self._new_lines(t.VERSIONS, len(machines))
        lines, owners = self.matrix(t.CONTENTS)[contents], self.matrix(t.MACHINES)
        carried = self.carry_versions(machines, lines[:, t.CONTENT_PAYEES])
        versions[numbers, t.VERSION_MACHINE], versions[numbers, t.VERSION_BEFORE] = (
            machines,
            owners[machines, t.LAST_VERSION],
        )
        for column, fact in zip((t.VERSION_NO, t.IN_FORCE_FROM, t.EFFECTIVE_FROM), facts.T, strict=True):
            versions[numbers, column] = fact
        versions[numbers, t.VERSION_TERMS], versions[numbers, t.VERSION_CONTENT] = lines[:, t.CONTENT_TERMS], contents
        stated = np.flatnonzero([salt is not None for salt in salts])
        at, sizes = self._put_names([salt for salt in salts if salt is not None])
        versions[numbers[stated], t.SALT_AT], versions[numbers[stated], t.SALT_LEN] = at, sizes
        versions[numbers, t.CARRY_VERSION] = np.where(carried == NONE, numbers, carried)
        versions[numbers, t.CARRY_TOUCHED] = 0
        self.carries = _grown(self.carries, self.used[t.VERSIONS])
        self.carries[numbers] = NONE
        owners[machines, t.LAST_VERSION] = numbers
        return numbers

    def carry_versions(self, machines: Ints, payees: Ints) -> Ints:
        """The version of each machine that has the carry of these payees (a word), or NONE."""
        versions, contents = self.matrix(t.VERSIONS), self.matrix(t.CONTENTS)
        at, found = self.matrix(t.MACHINES)[machines, t.LAST_VERSION], np.full(len(machines), NONE)
        left = np.flatnonzero(at != NONE)
        while len(left):
            is_same = contents[versions[at[left], t.VERSION_CONTENT], t.CONTENT_PAYEES] == payees[left]
            found[left[is_same]] = versions[at[left[is_same]], t.CARRY_VERSION]
            left = left[~is_same]
            at[left] = versions[at[left], t.VERSION_BEFORE]
            left = left[at[left] != NONE]
        return found

    def add_content(self, registration: Registration) -> int:
        """A new line of CONTENTS."""
        agreement = registration.agreement
        digests = (agreement.terms_digest().hex(), agreement.digest().hex())
        return self.new(t.CONTENTS, self.terms(registration), *map(self.word, (registration.kind, *digests)))

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
                self.word(meter.unit),
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


def _grown(array: NDArray[Any], used: int, more: int = 0, fill: int = 0) -> NDArray[Any]:
    """An array with room for `more` lines behind those in use, this one if it has it; new lines hold `fill`.

    A large one grows by a quarter: most of it is memory. New lines of zeros are none until they are used.
    """
    if used + more <= len(array):
        return array
    spare = len(array) // 4 if len(array) > LARGE else len(array)
    shape = max(used + more, len(array) + spare), *array.shape[1:]
    grown = np.full(shape, fill, array.dtype) if fill else np.zeros(shape, array.dtype)
    kept = array[:used]
    grown[: len(kept)] = kept
    return grown


def _power_of_two(size: int) -> int:
    return 1 << (size - 1).bit_length()
