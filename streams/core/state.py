"""The state of one partition. It grows with registered machines and meters, never with readings."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any, Self

import numpy as np
import pyarrow as pa

from schemas.errors import InvariantBroken
from schemas.log import Log
from schemas.order import Order
from schemas.payment import AcceptedPayment
from schemas.window import Statement
from streams.core import stream_time
from streams.core.kernel import tables as t
from streams.core.kernel.columns import NONE, Ints, Matrix
from streams.core.kernel.store import Store, get, pair_of, value_of
from streams.core.machines import Book, Machine, Machines
from streams.core.meters import Meters
from streams.core.open_window import Billed, Extras, LineKey, WindowKey
from streams.core.prepaid import PrepaidSession
from streams.core.shared_text import SharedTexts
from streams.core.state_tables import dump, lines_of, load, take_changes
from streams.core.stream_time import FAR_MS
from streams.core.tables import Changes, tables_digest
from streams.core.trust import Signatures


class State:
    """The state that `advance` reads and changes. `epoch` is the number of the epoch that isn't cut yet."""

    def __init__(self, log: Log, partition: int, signatures: Signatures | None = None) -> None:
        self.log = log
        self.partition = partition
        self.signatures = signatures or Signatures(log.log_id)
        self.stream_time_ms: int | None = None
        self.epoch: int | None = None
        self.cut_ms = 0
        self.store = Store(_key_of(log.log_id))
        self.book = Book(self.store)
        self.machines: Mapping[str, Machine] = Machines(self.book)
        self.meters = Meters(self.store)
        self.shared_texts = SharedTexts()
        self.extras: dict[int, Extras] = {}
        """What few windows hold, by their number."""
        self.payers: dict[int, str] = {}
        """Who paid for an open session, by its number."""
        self.session_of_name: dict[tuple[int, str], int] = {}
        self.placed: list[Order] = []
        """Orders that the slice placed so far."""
        self.paid: list[AcceptedPayment] = []
        """Payments that the slice accepted so far."""
        self.gone_windows: list[Matrix] = []
        """Start, machine and what it adjusts of each window that sealed since the state was last written."""
        self.gone_lines: list[Matrix] = []
        """The same of each of their lines, then its meter, version, price and per."""
        self.gone_sessions: set[tuple[str, str]] = set()
        self.new_versions: list[int] = []
        self.clock_moved = False
        self._free_sessions: list[int] = []
        self.store.clock[[t.WINDOW_MS]] = log.window_ms

    @classmethod
    def new(cls, log: Log, partition: int, signatures: Signatures | None = None) -> Self:
        """The state before the first record. `signatures` looks at those of records, and is no part of the state."""
        return cls(log, partition, signatures)

    # Time

    def observe(self, timestamp_ms: int) -> None:
        """Moves stream time by a record's timestamp (rule 5)."""
        now_ms = stream_time.later(self.stream_time_ms, timestamp_ms)
        if now_ms != self.stream_time_ms:
            epoch = stream_time.first_epoch(self.log, now_ms) if self.epoch is None else self.epoch
            self.set_clock(now_ms, epoch)
            self.clock_moved = True

    def end_epoch(self) -> int:
        """Cuts the epoch; returns the number of the one that ended."""
        if self.epoch is None:
            raise InvariantBroken("an epoch was cut before the first record")
        self.set_clock(self.now_ms, self.epoch + 1)
        self.clock_moved = True
        return self.epoch - 1

    def set_clock(self, now_ms: int, epoch: int) -> None:
        """Makes it this stream time, in this epoch."""
        self.stream_time_ms, self.epoch = now_ms, epoch
        self.ruleset = self.log.ruleset_at(epoch)
        """The rules of the epoch that isn't cut yet."""
        self.cut_ms = stream_time.cut_ms(self.log, epoch)
        """The stream time (epoch ms) from which on the epoch is over."""
        self.earliest_open_ms = stream_time.earliest_open_ms(self.log, epoch, now_ms)
        """The start (epoch ms) of the earliest window that isn't sealed, or the epoch's end if that is over."""
        clock = self.store.clock
        clock[t.NOW], clock[t.EARLIEST_OPEN] = now_ms, self.earliest_open_ms
        clock[t.NEXT_SEAL] = self.earliest_open_ms + self.log.window_ms + self.ruleset.grace_ms
        clock[t.SKEW_MS], clock[t.HORIZON_MS] = self.ruleset.skew_ms, self.ruleset.horizon_ms

    def run_to_clock(self) -> None:
        """Takes over the stream time that a loop has reached; it stops before anything seals."""
        now_ms = int(self.store.clock[t.NOW])
        if now_ms != self.stream_time_ms:
            self.stream_time_ms, self.clock_moved = now_ms, True

    @property
    def is_epoch_over(self) -> bool:
        """Whether stream time has reached the epoch's end + grace."""
        return self.now_ms >= self.cut_ms

    @property
    def now_ms(self) -> int:
        """Stream time (epoch ms). Raises InvariantBroken before the first record."""
        if self.stream_time_ms is None:
            raise InvariantBroken("stream time was read before the first record")
        return self.stream_time_ms

    # Machines

    def touch(self, machine: Machine) -> None:
        """Notes that a machine's own facts changed."""
        self.store.touch(t.TOUCHED_MACHINE, machine.number)

    def add_version(self, machine: Machine, own: Mapping[str, Any], content: bytes, in_force_from_ms: int) -> None:
        """Adds a version of a machine: what it says of that alone, and its content."""
        self.new_versions.append(self.book.add_version(machine.number, own, content, in_force_from_ms))
        self.touch(machine)

    def add_newcomers(self, machines: Ints, versions: Ints, meters: Ints) -> None:
        """Notes machines that are new, with one version and these meters."""
        self.new_versions += versions.tolist()
        self.store.touch_all(t.TOUCHED_MACHINE, machines)
        self.store.touch_all(t.TOUCHED_METER, meters)

    def adopt(self, machine: Machine) -> None:
        """Makes a machine of another state known here, with its versions, corrections and orders but no readings."""
        own = self.book.add_machine(machine.machine, machine.route)
        for version in machine.versions:
            self.book.add_version(own.number, version.own, version.content.encoded, version.in_force_from_ms)
        for name in machine.all_meters():
            self.store.add_meters(np.array([own.number]), np.array([self.store.word(name)]))
        own.least_boot = machine.least_boot
        self.book.rare[own.number] = deepcopy(machine.rare)

    # Windows

    def window_key(self, machine: str, moment_ms: int) -> WindowKey:
        """The key of the window of a moment, or of an adjustment in the earliest open one; it need not exist yet."""
        start_ms = self.log.window_start(moment_ms)
        if start_ms < self.earliest_open_ms:
            return self.earliest_open_ms, machine, start_ms
        return start_ms, machine, NONE

    def add_to_window(self, key: WindowKey, offset: int, billed: Billed = ()) -> Extras:
        """Notes that something of the record at `offset` lies in a window, and what; returns what few windows hold,
        to be added to.
        """
        from streams.core.kernel.windows import bill, find_line, note_offset

        store = self.store
        w = self.open_window(key)
        store.touch(t.TOUCHED_WINDOW, w)
        note_offset(store.matrix(t.WINDOWS), w, offset)
        for line, usage in billed:
            word = store.word(line.meter)
            k = find_line(store.tables, w, word, line.version, line.price_micros, line.per)
            bill(store.tables, store.clock, w, k, word, line.version, line.price_micros, line.per, usage)
        return self.extras.setdefault(w, Extras())

    def open_window(self, key: WindowKey) -> int:
        """The number of a window, opened if it isn't open."""
        from streams.core.kernel.windows import open_window

        self.store.reserve(2)
        start_ms, machine, adjusts_ms = key
        m = self.store.machine_of[machine]
        store = self.store
        return open_window(store.window_index, store.matrix(t.WINDOWS), store.clock, m, start_ms, adjusts_ms)

    def now_key(self, machine: str) -> WindowKey:
        """The key of the machine's plain window that holds stream time."""
        return self.log.window_start(self.now_ms), machine, NONE

    def usage_at(self, key: WindowKey) -> dict[LineKey, int]:
        """The usage in a window so far; empty if it doesn't exist yet."""
        from streams.core.kernel.windows import find_window

        start_ms, machine, adjusts_ms = key
        m = self.store.machine_of.get(machine, NONE)
        if m == NONE:
            return {}
        w = find_window(self.store.window_index, self.store.matrix(t.WINDOWS), m, start_ms, adjusts_ms)
        lines, k = self.store.matrix(t.LINES), NONE if w == NONE else int(self.store.matrix(t.WINDOWS)[w, t.FIRST_LINE])
        found = {}
        while k != NONE:
            k, name, version, price, per, usage = lines[k].tolist()
            found[LineKey(self.store.word_names[name], version, price, per)] = usage
        return found

    def window_numbers(self, before_ms: int = FAR_MS) -> Ints:
        """The numbers of the open windows that start before a moment (epoch ms), in no order."""
        starts = self.store.matrix(t.WINDOWS)[: self.store.clock[t.WINDOWS_USED], t.START]
        return np.flatnonzero((starts != NONE) & (starts < before_ms))

    def note_gone(self, numbers: Ints) -> None:
        """Notes that windows are no longer open."""
        windows = self.store.matrix(t.WINDOWS)
        owners, found = lines_of(self, numbers)
        keys = self.store.matrix(t.LINES)[found, t.LINE_NAME : t.LINE_PER + 1]
        self.gone_windows.append(windows[numbers, : t.ADJUSTS + 1])
        self.gone_lines.append(np.column_stack([windows[owners, : t.ADJUSTS + 1], keys]))

    # Prepaid sessions

    def session_of(self, machine: str, session: str) -> PrepaidSession | None:
        """An open session, to be changed by `put_session`."""
        s = self.session_of_name.get((self.store.machine_of.get(machine, NONE), session))
        return None if s is None else self._session(s)

    def _session(self, s: int) -> PrepaidSession:
        _, _, valid_until, paid, high, low, ends_in_ms = self.store.matrix(t.SESSIONS)[s].tolist()
        return PrepaidSession(self.payers[s], valid_until, paid, value_of(high, low), ends_in_ms)

    def session_names(self) -> Iterator[tuple[str, str]]:
        """(machine, session) of all open sessions."""
        return ((self.store.name(m), name) for m, name in self.session_of_name)

    def open_sessions(self, machine: str) -> int:
        """How many sessions of a machine are open."""
        store, count = self.store, 0
        s = int(store.matrix(t.MACHINES)[store.machine_of[machine], t.FIRST_SESSION])
        while s != NONE:
            s, count = int(store.matrix(t.SESSIONS)[s, t.SESSION_NEXT]), count + 1
        return count

    def put_session(self, machine: str, name: str, session: PrepaidSession) -> None:
        """Opens a session, or puts its changed facts in place of the old ones."""
        store = self.store
        m = store.machine_of[machine]
        s = self.session_of_name.get((m, name))
        if s is None:
            s = self._free_sessions.pop() if self._free_sessions else store.new(t.SESSIONS)
            store.put_session_name(s, name)
            row, machines = store.matrix(t.SESSIONS)[s], store.matrix(t.MACHINES)
            row[t.SESSION_NEXT], row[t.SESSION_MACHINE] = machines[m, t.FIRST_SESSION], m
            machines[m, t.FIRST_SESSION] = s
            self.session_of_name[m, name] = s
            self.payers[s] = session.payer
        facts = (session.valid_until, session.paid, *pair_of(session.use), session.ends_in_ms)
        store.matrix(t.SESSIONS)[s, t.VALID_UNTIL :] = facts
        self.gone_sessions.discard((machine, name))
        self.touch(Machine(self.book, m, machine))

    def deposits_micros(self) -> int:
        """Rule 39: what was paid for open sessions, and the refunds that lie in open windows."""
        paid = sum(self._session(s).paid for s in self.session_of_name.values())
        return paid + sum(extras.refunds_micros for extras in self.extras.values())

    def close_sessions(self, before_ms: int) -> dict[int, list[Statement]]:
        """Rule 37: ends the sessions that close before a moment (epoch ms); their statements, by window number."""
        return {self.open_window(key): self._close(sessions) for key, sessions in self._closing(before_ms).items()}

    def _closing(self, before_ms: int) -> dict[WindowKey, list[int]]:
        """The open sessions that close before a moment, by window: that of their end or term, the first to seal."""
        numbers = np.fromiter(self.session_of_name.values(), np.int64, len(self.session_of_name))
        rows = self.store.matrix(t.SESSIONS)[numbers]
        last_ms, ends_ms = rows[:, t.VALID_UNTIL] - 1, rows[:, t.ENDS_IN]
        term_ms = last_ms - last_ms % self.log.window_ms
        closes_ms = np.where(ends_ms == NONE, term_ms, np.minimum(ends_ms, term_ms))
        found: defaultdict[WindowKey, list[int]] = defaultdict(list)
        for k in np.flatnonzero(closes_ms < before_ms).tolist():
            machine = self.store.name(int(rows[k, t.SESSION_MACHINE]))
            found[int(closes_ms[k]), machine, NONE].append(int(numbers[k]))
        return found

    def _close(self, sessions: list[int]) -> list[Statement]:
        """Ends sessions; their statements, by name."""
        closed = []
        for s in sessions:
            name = get(self.store.session_names, s)
            closed.append(self._session(s).statement(name))
            m = int(self.store.matrix(t.SESSIONS)[s, t.SESSION_MACHINE])
            self._unlink(m, s)
            del self.session_of_name[m, name], self.payers[s]
            self._free_sessions.append(s)
            self.gone_sessions.add((self.store.name(m), name))
        return sorted(closed, key=lambda statement: statement.session)

    def _unlink(self, m: int, s: int) -> None:
        machines, sessions = self.store.matrix(t.MACHINES), self.store.matrix(t.SESSIONS)
        after = sessions[s, t.SESSION_NEXT]
        if machines[m, t.FIRST_SESSION] == s:
            machines[m, t.FIRST_SESSION] = after
            return
        before = machines[m, t.FIRST_SESSION]
        while sessions[before, t.SESSION_NEXT] != s:
            before = sessions[before, t.SESSION_NEXT]
        sessions[before, t.SESSION_NEXT] = after

    # The dumped form

    @classmethod
    def load(
        cls, log: Log, partition: int, tables: Mapping[str, pa.Table], signatures: Signatures | None = None
    ) -> Self:
        """The state whose dumped tables these are; a table left out is empty."""
        state = cls(log, partition, signatures)
        load(state, tables)
        return state

    def tables(self) -> dict[str, pa.Table]:
        """The whole state as tables by name (see TABLES), rows sorted by key."""
        self.meters.give_back()
        return dump(self)

    def digest(self) -> bytes:
        """32 bytes over the whole state: equal for equal states, however they were reached."""
        return tables_digest(self.tables())

    def changes(self) -> dict[str, Changes]:
        """What changed since the last call (or since `load`), by table."""
        self.meters.give_back()
        return take_changes(self)


def _key_of(log_id: str) -> int:
    return int.from_bytes(hashlib.sha256(log_id.encode()).digest()[:7], "big")
