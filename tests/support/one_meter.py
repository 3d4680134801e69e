"""One meter and one row at a time through the compiled loops: the state goes in and comes out as an object."""

from typing import Any

import msgspec
import numpy as np

from schemas.reading import Reading
from schemas.registration import Agreement, Component, Element, Meter, Registration, Tariff
from schemas.window import FLAGS, Flag
from streams.core.kernel import columns as c
from streams.core.kernel import tables as t
from streams.core.kernel.entries import Entries, Written
from streams.core.kernel.identity import judge_identity as identify
from streams.core.kernel.judge import (
    ALL_AFTER,
    FEE,
    NEW_LATEST,
    NEW_SLACK,
    PUSHES,
    START_FLAGS,
    look_at_start,
    push_start,
)
from streams.core.kernel.readings import Readings
from streams.core.kernel.store import Store
from streams.core.kernel.usage import AFTER_COLUMNS, AFTER_FROM
from streams.core.kernel.usage import judge_usage as use
from streams.core.machines import Book
from streams.core.meters import MeterState, read_meter, write_meter
from streams.core.records import Record

ENERGY = Meter("energy", "Wh", "register", 1)


class OneMeter:
    """A store of one machine with one meter, in the state given, and one row that is read."""

    def __init__(self, meter: MeterState, reading: Reading, registered: Meter = ENERGY) -> None:
        self.meter = meter
        self.store = Store(1)
        book = Book(self.store)
        book.add_machine("m", "m")
        plain = msgspec.to_builtins(registration(registered))
        book.add_version(0, plain, msgspec.json.encode(content(plain)), 0)
        self.store.add_meters(np.array([0]), np.array([self.store.word("energy")]))
        write_meter(self.store, 0, meter)
        self.store.reserve(2)
        self.entries = Entries()
        self.entries.add(Written([Record(0, 0, b"m", msgspec.json.encode(reading), ())]))
        self.rows = Readings(self.entries).read(0)[1]
        self.after = np.zeros(ALL_AFTER, np.int64)

    def take_back(self) -> None:
        """Writes the state after the loops into the object."""
        found = read_meter(self.store, 0)
        for name in MeterState.__struct_fields__:
            setattr(self.meter, name, getattr(found, name))


def registration(registered: Meter) -> Registration:
    """The registration of the machine, with a price for each session."""
    tariff = Tariff((Element((Component("energy", 1, per_session=True),)),), ((0, 0),))
    return Registration("m", "m", 1, "charger", 0, (registered,), tariff, Agreement({"owner": 10_000}))


def content(plain: dict[str, Any]) -> dict[str, Any]:
    """What it says beside what is the machine's own."""
    return {name: part for name, part in plain.items() if name not in ("machine", "route", "version", "effective_from")}


def judge_identity(meter: MeterState, reading: Reading, least_boot: int) -> tuple[str | None, int]:
    """The verdict on a row's boot and number, and how many numbers it skips."""
    one = OneMeter(meter, reading)
    store = one.store
    verdict, skipped = identify(
        store.matrix(t.METERS), store.matrix(t.HOLES), store.texts, store.clock, 0, least_boot, one.entries.buffer,
        one.rows, 0,
    )  # fmt: skip
    one.take_back()
    return _outcome(verdict), skipped


def judge_usage(
    meter: MeterState, reading: Reading, registered: Meter, now_ms: int
) -> tuple[int | str, tuple[Flag, ...]]:
    """The usage of a new row, or its reason, and its flags."""
    one = OneMeter(meter, reading, registered)
    store = one.store
    meters = store.matrix(t.METERS)
    verdict, usage, flags = use(meters, 0, store.matrix(t.TERM_METERS), 0, one.rows, 0, now_ms, one.after)
    if verdict == c.ACCEPTED:
        meters[0, AFTER_FROM : AFTER_FROM + AFTER_COLUMNS] = one.after[:AFTER_COLUMNS]
    one.take_back()
    return _outcome(verdict) or usage, tuple(flag for bit, flag in enumerate(FLAGS) if flags >> bit & 1)


def judge_start(meter: MeterState, session: str, started_at: int, registered: Meter) -> str:
    """What the start of a session comes to: "due" for its fee, "fees" for the flag, else "nothing"."""
    row = Reading(
        "m", "energy", 1, 1, started_at, register=0, session=session, session_started_at=started_at, session_start=True
    )
    one = OneMeter(meter, row, registered)
    store, buffer = one.store, one.entries.buffer
    look_at_start(store.tables, store.texts, 0, 0, 0, buffer, one.rows, 0, one.after)
    if one.after[PUSHES] == 1:
        meters = store.matrix(t.METERS)
        push_start(meters, store.texts, store.clock, 0, buffer, one.rows, 0)
        meters[0, [t.START_LATEST, t.START_SLACK]] = one.after[NEW_LATEST], one.after[NEW_SLACK]
    one.take_back()
    return "due" if one.after[FEE] != c.NONE else "fees" if one.after[START_FLAGS] else "nothing"


def _outcome(verdict: int) -> str | None:
    if verdict == c.ACCEPTED:
        return None
    return "duplicate" if verdict == c.DUPLICATE else c.reason_of(verdict)
