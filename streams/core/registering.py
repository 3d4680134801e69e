"""Registrations (rules 9, 10, 13, 22, 23 and 28)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from msgspec import UNSET

from schemas.registration import Agreement, Component, Meter, OrderPolicy, Registration
from schemas.units import CARRY_BASE
from streams.core import stream_time
from streams.core.control import Outcome, is_by_operator, is_in_place
from streams.core.kernel import tables as t
from streams.core.kernel.columns import FOUND_BLANK, FOUND_COLUMNS, FOUND_NOW, FOUND_WORD, NONE
from streams.core.machines import Machine
from streams.core.meters import Boot, MeterState, set_opening
from streams.core.plausible_usage import SLACK_MS
from streams.core.records import LogRecord
from streams.core.shared_text import Decoded
from streams.core.state import State

if TYPE_CHECKING:
    from streams.core.kernel.entries import Entries

ITEMS_MAX = 256
"""The most different items that a machine may order over all its versions."""


AHEAD = 1_024
"""How many records are looked at together."""


class Newcomers:
    """Registrations of a run of records, judged in their order. The first versions of machines, which mostly come in
    thousands, are entered together: `enter` must be called before anything else looks at the state.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._waiting: dict[str, Decoded] = {}
        """By machine, what is registered of it, but for the words of its own; these are, in the same order:"""
        self._routes: list[str] = []
        self._salts: list[str | None] = []
        self._now_ms: list[int] = []
        """Stream time at each record (epoch ms)."""
        self._ahead: Ahead | None = None

    def take(self, entries: Entries, line: int, end: int) -> int:
        """Takes the records from a line on, before `end`, that register new machines by known texts; returns the line
        of the first that must be judged by itself. The record of `line` must be a registration, before anything seals.
        """
        state, ahead = self._state, self._ahead
        if ahead is None or not ahead.holds(state, line):
            ahead = self._ahead = Ahead(state, entries, line, end)
        known, operators, decoded = state.store.machine_of, state.ruleset.operators, ahead.blanks.decoded
        first = k = line - ahead.first
        while k < len(ahead.found):
            blank, name = ahead.found[k], ahead.machines[k]
            if blank == NONE or name in known or name in self._waiting:
                break
            if operators and not is_by_operator(state, entries.record(ahead.first + k)):
                break
            self._waiting[name] = decoded[blank]
            k += 1
        if k > first:
            self._routes += ahead.routes[first:k]
            self._salts += ahead.salts[first:k]
            self._now_ms += ahead.now_ms[first:k]
            state.store.clock[t.NOW] = ahead.now_ms[k - 1]
            state.run_to_clock()
        return ahead.first + k

    def register(self, record: LogRecord) -> Outcome:
        """Judges a `machine.registered` record and applies it if it is the machine's next version."""
        state = self._state
        decoded = state.shared_texts.decode(record)
        if not isinstance(decoded, Decoded):
            return decoded
        registration = decoded.registration
        if registration.machine in self._waiting:
            self.enter()
        machine = state.machines.get(registration.machine)
        if (outcome := _verdict(state, record, machine, decoded)) is not None:
            return outcome
        if machine is None and registration.boot is UNSET:
            self._waiting[registration.machine] = decoded
            self._routes.append(registration.route)
            self._salts.append(decoded.plain.get("salt"))
            self._now_ms.append(state.now_ms)
        else:
            self.enter()
            _apply(state, machine, decoded)
        return None

    def enter(self) -> None:
        """Enters the machines that wait, in the order of their records."""
        if not self._waiting:
            return
        state, store, said = self._state, self._state.store, [*self._waiting.values()]
        number_of: dict[int, int] = {}
        which = np.array([number_of.setdefault(id(decoded), len(number_of)) for decoded in said], np.int64)
        distinct = [said[k] for k in np.unique(which, return_index=True)[1].tolist()]
        contents = np.array([state.book.content(decoded.content) for decoded in distinct], np.int64)
        effective_from = np.array([decoded.registration.effective_from for decoded in distinct], np.int64)
        machines = store.add_machines([*self._waiting], self._routes)
        facts = np.zeros((len(said), 3), np.int64)
        facts[:, 0], facts[:, 2] = 1, effective_from[which]  # A first version is in force from the beginning.
        versions = store.add_versions(machines, facts, contents[which], self._salts)
        # The meters of each machine: those of one registration after the other, taken as often as machines have it.
        registered = [decoded.registration.meters for decoded in distinct]
        counts = np.array([len(meters) for meters in registered], np.int64)
        sizes, ends = counts[which], np.cumsum(counts)
        places = np.repeat(ends[which] - np.cumsum(sizes), sizes) + np.arange(sizes.sum())
        flat = [meter for meters in registered for meter in meters]
        words = np.array([store.word(meter.meter) for meter in flat], np.int64)
        numbers = store.add_meters(np.repeat(machines, sizes), words[places])
        opening = np.array([_opening_of(meter) for meter in flat], np.int64)[places]
        times = np.repeat(np.column_stack([facts[:, 2], self._now_ms]), sizes, axis=0)
        is_open = opening != NONE
        store.open_registers(numbers[is_open], opening[is_open], times[is_open])
        state.add_newcomers(machines, versions, numbers)
        self._waiting, self._routes, self._salts, self._now_ms = {}, [], [], []


class Ahead:
    """Records from a line on, looked at together: which of them fill in a known blank, and with which words."""

    def __init__(self, state: State, entries: Entries, line: int, end: int) -> None:
        from streams.core.kernel.registrations import find_registrations
        from streams.core.kernel.texts import texts_array

        self.blanks = blanks = state.shared_texts.blanks
        self._known = len(blanks.decoded)
        clock, found = state.store.clock, np.empty((min(end - line, AHEAD), FOUND_COLUMNS), np.int64)
        count = find_registrations(
            entries.buffer, entries.records, line, blanks.texts, blanks.lines, int(clock[t.NOW]),
            int(clock[t.NEXT_SEAL]), state.partition, state.log.partitions, found,
        )  # fmt: skip
        found = found[:count]
        found[found[:, FOUND_BLANK] == NONE, FOUND_WORD:] = 0
        self.first = line
        self.found: list[int] = found[:, FOUND_BLANK].tolist()
        self.now_ms: list[int] = found[:, FOUND_NOW].tolist()
        self.machines, self.routes, self.salts = (
            texts_array(entries.buffer, np.maximum(found[:, at], 0), found[:, at + 1], pa.string()).to_pylist()
            for at in range(FOUND_WORD, FOUND_COLUMNS, 2)
        )

    def holds(self, state: State, line: int) -> bool:
        """Whether it has looked at a line, with all the blanks that are known now."""
        is_new = self.blanks is state.shared_texts.blanks and self._known == len(self.blanks.decoded)
        return is_new and self.first <= line < self.first + len(self.found)


def register(state: State, record: LogRecord) -> Outcome:
    """Judges a `machine.registered` record and applies it if it is the machine's next version."""
    newcomers = Newcomers(state)
    outcome = newcomers.register(record)
    newcomers.enter()
    return outcome


def _verdict(state: State, record: LogRecord, machine: Machine | None, decoded: Decoded) -> Outcome:
    registration, plain, content = decoded
    if machine and not _keeps_facts(machine, registration):
        return "malformed"
    if not is_by_operator(state, record):
        return "bad_signature"
    if not is_in_place(state, record, registration.route) or (machine and machine.route != registration.route):
        return "wrong_partition"
    last = machine.last if machine else None
    if last and last.number == registration.version and last.says(plain, content):
        return "duplicate"
    if registration.version != (last.number + 1 if last else 1):
        return "stale_version"
    if last and breaks_lock(last.content.template, registration, state.now_ms):
        return "agreement_locked"
    return None


def _keeps_facts(machine: Machine, registration: Registration) -> bool:
    """Rules 23 and 28: a meter's kind and unit are those of every version that had it; items stay few."""
    known = machine.all_meters()
    items = {policy.item for version in machine.versions for policy in version.content.template.orders or ()}
    items |= {policy.item for policy in registration.orders or ()}
    return len(items) <= ITEMS_MAX and all(
        (old := known.get(meter.meter)) is None or (old.kind, old.unit) == (meter.kind, meter.unit)
        for meter in registration.meters
    )


def breaks_lock(old: Registration, new: Registration, now_ms: int) -> bool:
    """Rule 23: until `locked_until` (epoch ms) payees keep their parts, and the machine spends no more."""
    locked_until = old.agreement.locked_until
    if locked_until is UNSET or now_ms >= locked_until:
        return False
    return _takes_from(old.agreement, new.agreement, locked_until) or _orders_more(old, new) or _costs_more(old, new)


def _takes_from(old: Agreement, new: Agreement, locked_until: int) -> bool:
    if new.locked_until is UNSET or new.locked_until < locked_until:
        return True
    return new.pays_trust > old.pays_trust or any(
        new.payees.get(payee, 0) < points for payee, points in old.payees.items()
    )


def _orders_more(old: Registration, new: Registration) -> bool:
    known = {policy.item: policy for policy in old.orders or ()}
    return any(
        policy.item not in known or _is_worse(known[policy.item], policy) for policy in new.orders or ()
    )  # fmt: skip


def _is_worse(old: OrderPolicy, new: OrderPolicy) -> bool:
    rises = new.unit_price > old.unit_price or new.quantity > old.quantity or new.budget > old.budget
    return rises or new.supplier != old.supplier


def _costs_more(old: Registration, new: Registration) -> bool:
    """Whether the lowest price of a meter falls and is below 0; without one it counts as 0."""
    before, after = lowest_prices(old), lowest_prices(new)
    return any(price < min(0, before.get(kind, 0)) for kind, price in after.items())


def lowest_prices(registration: Registration) -> dict[tuple[str, bool], int]:
    """The lowest price by (meter, whether it is per session): for 3,600,000 units, or of a session, in micros."""
    lowest: dict[tuple[str, bool], int] = {}
    for element in registration.tariff.elements:
        for part in element.components:
            kind, price = (part.meter, part.per_session), _price(part)
            lowest[kind] = min(price, lowest.get(kind, price))
    return lowest


def _price(part: Component) -> int:
    return part.price if part.per is UNSET else part.price * (CARRY_BASE // part.per)


def _apply(state: State, known: Machine | None, decoded: Decoded) -> None:
    registration, plain, content = decoded
    machine = known or state.book.add_machine(registration.machine, registration.route)
    acts = registration.boot is not UNSET and (known is None or registration.boot != machine.least_boot)
    from_ms = 0  # A first version is in force from the beginning.
    if known is not None:
        from_ms = stream_time.in_force_from_ms(state.log, state.ruleset, state.now_ms, registration.effective_from)
    if registration.boot is not UNSET and acts:
        _set_boot(state, machine, registration.boot)
    machine.is_marked = False  # Rule 9: until the next version.
    state.add_version(machine, plain, content, from_ms)
    _add_meters(state, machine, registration)
    if known is None:
        _open_registers(state, registration, registration.effective_from, state.now_ms)
    elif acts:
        _open_registers(state, registration, state.now_ms, state.now_ms)


def _set_boot(state: State, machine: Machine, boot: int) -> None:
    """Rule 10: sets the current boot of all the machine's meters, without a previous one; higher baselines go."""
    machine.least_boot = boot
    for name in state.meters.names(machine.machine):
        meter = state.meters.borrow(machine.machine, name)
        meter.current, meter.previous = Boot(boot), None
        meter.suspect = meter.displaced = None
        if meter.baseline is not None and meter.baseline.boot > boot:
            meter.baseline, meter.slack_ms = None, SLACK_MS


def _add_meters(state: State, machine: Machine, registration: Registration) -> None:
    for registered in registration.meters:
        if (machine.machine, registered.meter) not in state.meters:
            current = None if machine.least_boot == NONE else Boot(machine.least_boot)
            state.meters.add(machine.machine, registered.meter, MeterState(current))


def _open_registers(state: State, registration: Registration, at_ms: int, now_ms: int) -> None:
    """Rule 13: opening registers count in a first version or with a boot that acts, as of `at_ms`."""
    for registered in registration.meters:
        if (value := _opening_of(registered)) != NONE:
            set_opening(state.meters.borrow(registration.machine, registered.meter), value, at_ms, now_ms)


def _opening_of(meter: Meter) -> int:
    return NONE if meter.kind != "register" or meter.opening_register is UNSET else meter.opening_register
