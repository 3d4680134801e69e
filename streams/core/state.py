"""The state of one partition. It grows with registered machines and meters, never with readings."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import pyarrow as pa

from schemas.errors import InvariantBroken
from schemas.log import Log
from streams.core import stream_time
from streams.core.machines import Machine, Version
from streams.core.meter_facts import MeterFacts
from streams.core.meters import NONE, Meters
from streams.core.open_window import OpenWindow, WindowKey
from streams.core.state_tables import TABLES, Row, line_keys, line_rows, machine_row, version_row, window_row
from streams.core.tables import Changes, table_of, tables_digest


class State:
    """The state that `advance` reads and changes. `epoch` is the number of the epoch that isn't cut yet."""

    def __init__(self, log: Log, partition: int) -> None:
        self.log = log
        self.partition = partition
        self.stream_time_ms: int | None = None
        self.epoch: int | None = None
        self.machines: dict[str, Machine] = {}
        self.meters = Meters()
        self.carries: dict[tuple[str, str], int] = {}
        self.open_windows: dict[int, dict[tuple[str, int], OpenWindow]] = {}
        """By start (epoch ms), then by (machine, start of the adjusted window or NONE)."""
        self.facts = MeterFacts()
        """A cache, built anew for every state."""
        self._touched_machines: set[str] = set()
        self._touched_versions: set[tuple[str, int]] = set()
        self._touched_carries: set[tuple[str, str]] = set()
        self._touched_windows: set[WindowKey] = set()
        self._sealed: dict[WindowKey, OpenWindow] = {}
        self._clock_moved = False

    @classmethod
    def new(cls, log: Log, partition: int) -> Self:
        """The state before the first record."""
        return cls(log, partition)

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
        self.facts.forget(machine.machine)
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

    def window_at(self, machine: str, observed_at_ms: int) -> OpenWindow:
        """The window of something observed at a moment (epoch ms), or an adjustment in the earliest open one."""
        key = self.window_key(machine, observed_at_ms)
        self._touched_windows.add(key)
        return self.open_windows.setdefault(key[0], {}).setdefault(key[1:], OpenWindow())

    def window_key(self, machine: str, observed_at_ms: int) -> WindowKey:
        """The key of that window, which need not exist yet."""
        start_ms = self.log.window_start(observed_at_ms)
        if start_ms < self.earliest_open_ms:
            return self.earliest_open_ms, machine, start_ms
        return start_ms, machine, NONE

    def windows_at(self, machines: Sequence[str], starts_ms: Sequence[int]) -> list[OpenWindow]:
        """The same for many machines, each at the start of a window."""
        earliest_ms, open_windows, touch = self.earliest_open_ms, self.open_windows, self._touched_windows.add
        found = []
        for machine, start_ms in zip(machines, starts_ms, strict=True):
            holding_ms, adjusts_ms = (start_ms, NONE) if start_ms >= earliest_ms else (earliest_ms, start_ms)
            touch((holding_ms, machine, adjusts_ms))
            windows = open_windows.get(holding_ms)
            if windows is None:
                windows = open_windows[holding_ms] = {}
            window = windows.get((machine, adjusts_ms))
            if window is None:
                window = windows[machine, adjusts_ms] = OpenWindow()
            found.append(window)
        return found

    def take_windows(self, before_ms: int) -> Iterator[tuple[WindowKey, OpenWindow]]:
        """Removes the windows that start before a moment (epoch ms) and yields them in sealing order (rule 6)."""
        for start_ms in sorted(start_ms for start_ms in self.open_windows if start_ms < before_ms):
            windows = self.open_windows.pop(start_ms)
            # Ids are ASCII: text sorts as its bytes do, and NONE puts the plain window before its adjustments.
            for (machine, adjusts_ms), window in sorted(windows.items(), key=lambda item: item[0]):
                key = (start_ms, machine, adjusts_ms)
                self._touched_windows.discard(key)
                self._sealed[key] = window
                yield key, window

    # The dumped form

    @classmethod
    def load(cls, log: Log, partition: int, tables: Mapping[str, pa.Table]) -> Self:
        """The state whose dumped tables these are; a table left out is empty."""
        state = cls(log, partition)
        rows = {name: tables[name].to_pylist() for name in TABLES if name in tables and name != "meters"}
        for row in rows.get("clock", []):
            state._set_clock(row["stream_time_ms"], row["epoch"])
        for row in rows.get("machines", []):
            facts = row | {"is_marked": bool(row["is_marked"])}
            state.machines[row["machine"]] = Machine(**facts)
        for row in sorted(rows.get("versions", []), key=lambda row: int(row["version"])):
            version = Version(row["content"], row["version"], row["in_force_from_ms"])
            state.machines[row["machine"]].versions.append(version)
        for row in rows.get("carries", []):
            state.carries[row["machine"], row["agreement"]] = row["carry"]
        if "meters" in tables:
            state.meters = Meters.load(tables["meters"])
        state._load_windows(rows.get("open_windows", []), rows.get("open_lines", []))
        return state

    def tables(self) -> dict[str, pa.Table]:
        """The whole state as tables by name (see TABLES), rows sorted by key."""
        windows = sorted(self.windows(), key=lambda item: item[0])
        rows: dict[str, list[Row]] = {
            "carries": [(*key, carry) for key, carry in sorted(self.carries.items())],
            "clock": self._clock_rows(),
            "machines": [machine_row(self.machines[name]) for name in sorted(self.machines)],
            "open_lines": line_rows(windows),
            "open_windows": [window_row(key, window) for key, window in windows],
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
        windows = [(key, self.open_windows[key[0]][key[1:]]) for key in sorted(self._touched_windows)]
        sealed = sorted(self._sealed.items(), key=lambda item: item[0])
        upserts: dict[str, list[Row]] = {
            "carries": [(*key, self.carries[key]) for key in sorted(self._touched_carries)],
            "clock": self._clock_rows() if self._clock_moved else [],
            "machines": [machine_row(self.machines[name]) for name in sorted(self._touched_machines)],
            "open_lines": line_rows(windows),
            "open_windows": [window_row(key, window) for key, window in windows],
            "versions": [version_row(self.machines[name], number) for name, number in sorted(self._touched_versions)],
        }
        deletes: dict[str, list[Row]] = {
            "open_lines": line_keys(sealed),
            "open_windows": [key for key, _ in sealed],
        }
        changes = {
            name: Changes(table_of(TABLES[name].schema, rows), table_of(TABLES[name].key_schema, deletes.get(name, [])))
            for name, rows in upserts.items()
        }
        self._forget()
        return changes | {"meters": self.meters.changes()}

    def _forget(self) -> None:
        for touched in (self._touched_machines, self._touched_versions, self._touched_carries, self._touched_windows):
            touched.clear()
        self._sealed.clear()
        self._clock_moved = False

    def _clock_rows(self) -> list[Row]:
        return [] if self.stream_time_ms is None else [(0, self.stream_time_ms, self.epoch)]

    def windows(self) -> Iterator[tuple[WindowKey, OpenWindow]]:
        """All open windows, in no order."""
        for start_ms, windows in self.open_windows.items():
            for (machine, adjusts_ms), window in windows.items():
                yield (start_ms, machine, adjusts_ms), window

    def _load_windows(self, windows: list[dict[str, Any]], lines: list[dict[str, Any]]) -> None:
        for row in windows:
            start_ms, machine, adjusts_ms, *facts = row.values()
            self.open_windows.setdefault(start_ms, {})[machine, adjusts_ms] = OpenWindow(*facts)
        for row in lines:
            start_ms, machine, adjusts_ms, *line, usage = row.values()
            self.open_windows[start_ms][machine, adjusts_ms].usage[tuple(line)] = usage
