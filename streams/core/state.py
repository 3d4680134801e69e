"""The state of one partition. It grows with registered machines and meters, never with readings."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Self

import msgspec
import pyarrow as pa

from schemas.errors import InvariantBroken
from schemas.log import Log
from schemas.order import Order
from schemas.window import Statement
from streams.core import stream_time
from streams.core.machines import Machine, Version
from streams.core.meters import NONE, Meters
from streams.core.open_window import LineKey, OpenWindow, WindowKey
from streams.core.prepaid import PrepaidSession
from streams.core.state_tables import TABLES, Row, machine_from, machine_row, version_row
from streams.core.tables import Changes, table_of, tables_digest
from streams.core.trust import Signatures


class State:
    """The state that `advance` reads and changes. `epoch` is the number of the epoch that isn't cut yet."""

    def __init__(self, log: Log, partition: int, signatures: Signatures | None = None) -> None:
        self.log = log
        self.partition = partition
        self.signatures = signatures or Signatures(log.log_id)
        self.stream_time_ms: int | None = None
        self.epoch: int | None = None
        self.machines: dict[str, Machine] = {}
        self.meters = Meters()
        self.carries: dict[tuple[str, str], int] = {}
        self.open_windows: dict[int, dict[tuple[str, int], OpenWindow]] = {}
        """By start (epoch ms), then by (machine, start of the adjusted window or NONE)."""
        self.sessions: dict[str, dict[str, PrepaidSession]] = {}
        """The open prepaid sessions: by machine, then by name."""
        self.placed: list[Order] = []
        """Orders that the slice placed so far."""
        self._closing: defaultdict[int, set[tuple[str, str]]] = defaultdict(set)
        """The same sessions by the start of the window into which each closes: worked out from them."""
        self._touched_machines: set[str] = set()
        self._touched_versions: set[tuple[str, int]] = set()
        self._touched_carries: set[tuple[str, str]] = set()
        self._touched_windows: set[WindowKey] = set()
        self._touched_sessions: set[tuple[str, str]] = set()
        self._gone_windows: set[WindowKey] = set()
        self._gone_sessions: set[tuple[str, str]] = set()
        self._clock_moved = False

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
            self._set_clock(now_ms, epoch)
            self._clock_moved = True

    def end_epoch(self) -> int:
        """Cuts the epoch; returns the number of the one that ended."""
        if self.epoch is None:
            raise InvariantBroken("an epoch was cut before the first record")
        self._set_clock(self.now_ms, self.epoch + 1)
        self._clock_moved = True
        return self.epoch - 1

    def _set_clock(self, now_ms: int, epoch: int) -> None:
        self.stream_time_ms, self.epoch = now_ms, epoch
        self.ruleset = self.log.ruleset_at(epoch)
        """The rules of the epoch that isn't cut yet."""
        self.is_epoch_over = stream_time.is_cut(self.log, epoch, now_ms)
        """Whether stream time has reached the epoch's end + grace."""
        self.earliest_open_ms = stream_time.earliest_open_ms(self.log, epoch, now_ms)
        """The start (epoch ms) of the earliest window that isn't sealed, or the epoch's end if that is over."""

    @property
    def now_ms(self) -> int:
        """Stream time (epoch ms). Raises InvariantBroken before the first record."""
        if self.stream_time_ms is None:
            raise InvariantBroken("stream time was read before the first record")
        return self.stream_time_ms

    # Machines

    def touch(self, machine: Machine) -> None:
        """Notes that a machine's own facts changed."""
        self._touched_machines.add(machine.machine)

    def add_version(self, machine: Machine, version: Version) -> None:
        """Adds a version of a machine, which may be its first."""
        self.machines[machine.machine] = machine
        machine.versions.append(version)
        self.touch(machine)
        self._touched_versions.add((machine.machine, version.number))

    def carry_of(self, machine: Machine, version: Version) -> int:
        """The carry of (machine, agreement), in 1/3,600,000 of a micro. Equal agreements share one."""
        return self.carries.get((machine.machine, version.agreement_digest), 0)

    def move_carry(self, machine: Machine, version: Version, carry: int) -> None:
        """Replaces the carry of (machine, agreement), in 1/3,600,000 of a micro."""
        key = (machine.machine, version.agreement_digest)
        self.carries[key] = carry
        self._touched_carries.add(key)

    # Windows

    def window_at(self, machine: str, moment_ms: int) -> OpenWindow:
        """The window of something used at a moment (epoch ms), or an adjustment in the earliest open one."""
        return self._window(self.window_key(machine, moment_ms))

    def window_now(self, machine: str) -> OpenWindow:
        """The machine's plain window that holds stream time."""
        return self._window((self.log.window_start(self.now_ms), machine, NONE))

    def window_key(self, machine: str, moment_ms: int) -> WindowKey:
        """The key of the window of a moment, which need not exist yet."""
        start_ms = self.log.window_start(moment_ms)
        if start_ms < self.earliest_open_ms:
            return self.earliest_open_ms, machine, start_ms
        return start_ms, machine, NONE

    def usage_at(self, key: WindowKey) -> Mapping[LineKey, int]:
        """The usage in a window so far; empty if it doesn't exist yet."""
        window = self.open_windows.get(key[0], {}).get(key[1:])
        return {} if window is None else window.usage

    def _window(self, key: WindowKey) -> OpenWindow:
        self._touched_windows.add(key)
        windows = self.open_windows.setdefault(key[0], {})
        window = windows.get(key[1:])
        if window is None:
            window = windows[key[1:]] = OpenWindow()
        return window

    def take_windows(self, before_ms: int) -> Iterator[tuple[WindowKey, OpenWindow, list[Statement]]]:
        """Removes the windows that start before a moment (epoch ms) and yields them in sealing order (rule 6).

        Each comes with the statements of the sessions that close into it; those are removed too (rule 37).
        """
        starts = [start_ms for start_ms in {*self.open_windows, *self._closing} if start_ms < before_ms]
        for start_ms in sorted(starts):
            closing: defaultdict[str, list[str]] = defaultdict(list)
            for machine, session in self._closing.pop(start_ms, ()):
                closing[machine].append(session)
            windows = self.open_windows.pop(start_ms, {})
            for machine in closing:
                windows.setdefault((machine, NONE), OpenWindow())
            # Ids are ASCII: text sorts as its bytes do, and NONE puts the plain window before its adjustments.
            for (machine, adjusts_ms), window in sorted(windows.items(), key=lambda item: item[0]):
                key = (start_ms, machine, adjusts_ms)
                self._touched_windows.discard(key)
                self._gone_windows.add(key)
                closed = [] if adjusts_ms != NONE else self._close(machine, sorted(closing.get(machine, [])))
                yield key, window, closed

    def windows(self) -> Iterator[tuple[WindowKey, OpenWindow]]:
        """All open windows, in no order."""
        for start_ms, windows in self.open_windows.items():
            for (machine, adjusts_ms), window in windows.items():
                yield (start_ms, machine, adjusts_ms), window

    # Prepaid sessions

    def session_of(self, machine: str, session: str) -> PrepaidSession | None:
        """An open session, to be changed by `put_session`."""
        return self.sessions.get(machine, {}).get(session)

    def put_session(self, machine: str, name: str, session: PrepaidSession) -> None:
        """Opens a session, or puts its changed facts in place of the old ones."""
        known = self.sessions.setdefault(machine, {})
        old = known.get(name)
        if old is not None:
            self._closing[self._closes_in_ms(old)].discard((machine, name))
        known[name] = session
        self._closing[self._closes_in_ms(session)].add((machine, name))
        self._touched_sessions.add((machine, name))
        self._gone_sessions.discard((machine, name))

    def deposits_micros(self) -> int:
        """Rule 39: what was paid for open sessions, and the refunds that lie in open windows."""
        paid = sum(session.paid for sessions in self.sessions.values() for session in sessions.values())
        return paid + sum(window.refunds_micros for _, window in self.windows())

    def _closes_in_ms(self, session: PrepaidSession) -> int:
        """The start of the window into which it closes: that of its end or that of its term, the first to seal."""
        term_ms = self.log.window_start(session.valid_until - 1)
        return term_ms if session.ends_in_ms == NONE else min(session.ends_in_ms, term_ms)

    def closes_now(self, session: PrepaidSession) -> bool:
        """Whether it closes into the window that holds stream time."""
        return self._closes_in_ms(session) == self.log.window_start(self.now_ms)

    def _close(self, machine: str, names: list[str]) -> list[Statement]:
        closed = []
        for name in names:
            closed.append(self.sessions[machine].pop(name).statement(name))
            self._touched_sessions.discard((machine, name))
            self._gone_sessions.add((machine, name))
        if names and not self.sessions[machine]:
            del self.sessions[machine]
        return closed

    # The dumped form

    @classmethod
    def load(
        cls, log: Log, partition: int, tables: Mapping[str, pa.Table], signatures: Signatures | None = None
    ) -> Self:
        """The state whose dumped tables these are; a table left out is empty."""
        state = cls(log, partition, signatures)
        rows = {name: tables[name].to_pylist() for name in TABLES if name in tables and name != "meters"}
        for row in rows.get("clock", []):
            state._set_clock(row["stream_time_ms"], row["epoch"])
        for row in rows.get("machines", []):
            state.machines[row["machine"]] = machine_from(row["machine"], row["state"])
        for row in sorted(rows.get("versions", []), key=lambda row: int(row["version"])):
            version = Version(row["content"], row["version"], row["in_force_from_ms"])
            state.machines[row["machine"]].versions.append(version)
        for row in rows.get("carries", []):
            state.carries[row["machine"], row["agreement"]] = row["carry"]
        if "meters" in tables:
            state.meters = Meters.load(tables["meters"])
        for row in rows.get("open_windows", []):
            windows = state.open_windows.setdefault(row["start_ms"], {})
            windows[row["machine"], row["adjusts_ms"]] = OpenWindow.load(row["state"])
        for row in rows.get("sessions", []):
            state.put_session(row["machine"], row["session"], msgspec.json.decode(row["state"], type=PrepaidSession))
        state._forget()
        return state

    def tables(self) -> dict[str, pa.Table]:
        """The whole state as tables by name (see TABLES), rows sorted by key."""
        rows: dict[str, list[Row]] = {
            "carries": [(*key, carry) for key, carry in sorted(self.carries.items())],
            "clock": self._clock_rows(),
            "machines": [machine_row(self.machines[name]) for name in sorted(self.machines)],
            "open_windows": self._window_rows([key for key, _ in self.windows()]),
            "sessions": self._session_rows(
                [(machine, name) for machine in self.sessions for name in self.sessions[machine]]
            ),
            "versions": [
                version_row(self.machines[name], version.number)
                for name in sorted(self.machines)
                for version in self.machines[name].versions
            ],
        }
        tables = {name: table_of(TABLES[name].schema, part) for name, part in rows.items()}
        return tables | {"meters": self.meters.whole()}

    def digest(self) -> bytes:
        """32 bytes over the whole state: equal for equal states, however they were reached."""
        return tables_digest(self.tables())

    def changes(self) -> dict[str, Changes]:
        """What changed since the last call (or since `load`), by table."""
        upserts: dict[str, list[Row]] = {
            "carries": [(*key, self.carries[key]) for key in sorted(self._touched_carries)],
            "clock": self._clock_rows() if self._clock_moved else [],
            "machines": [machine_row(self.machines[name]) for name in sorted(self._touched_machines)],
            "open_windows": self._window_rows(self._touched_windows),
            "sessions": self._session_rows(self._touched_sessions),
            "versions": [version_row(self.machines[name], number) for name, number in sorted(self._touched_versions)],
        }
        deletes: dict[str, list[Row]] = {
            "open_windows": sorted(self._gone_windows),
            "sessions": sorted(self._gone_sessions),
        }
        changes = {
            name: Changes(table_of(TABLES[name].schema, rows), table_of(TABLES[name].key_schema, deletes.get(name, [])))
            for name, rows in upserts.items()
        }
        self._forget()
        return changes | {"meters": self.meters.changes()}

    def _forget(self) -> None:
        self._touched_machines.clear()
        self._touched_versions.clear()
        self._touched_carries.clear()
        self._touched_windows.clear()
        self._touched_sessions.clear()
        self._gone_windows.clear()
        self._gone_sessions.clear()
        self._clock_moved = False

    def _clock_rows(self) -> list[Row]:
        return [] if self.stream_time_ms is None else [(0, self.stream_time_ms, self.epoch)]

    def _window_rows(self, keys: Iterable[WindowKey]) -> list[Row]:
        return [(*key, self.open_windows[key[0]][key[1:]].dump()) for key in sorted(keys)]

    def _session_rows(self, keys: Iterable[tuple[str, str]]) -> list[Row]:
        return [(*key, msgspec.json.encode(self.sessions[key[0]][key[1]])) for key in sorted(keys)]
