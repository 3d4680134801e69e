"""ACN-Data charging sessions: each station is a machine, its register is the sum of its sessions.

Identity: a station's last register = the sum of its sessions' kWh, each rounded half up to a whole Wh.

- A session has a register at arrival and at departure. Between them, on the quarter hours of UTC, are registers
  of a constant rate, marked `reconstructed`: the file knows no more. What a register shows was used before its moment,
  so each quarter's energy lies in its own window, at its own price.
- A station is registered with the smallest usual class that its sessions fit (`charger_class`), or with `--capacity`.
- A session that doesn't fit has no reconstructed registers. So its departure is rejected as a whole (`too_high`); the
  next arrival continues from the rejected register, and that session alone bills nothing.
- Sessions that overlap on a station have meters of their own (`energy.2`, ...): none loses or doubles the other's.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from heapq import merge
from pathlib import Path
from zoneinfo import ZoneInfo

from deploy.importers.charger_class import charger_class_w, fits
from deploy.importers.names import id_of
from deploy.importers.source_log import (
    Skipped,
    SourceLog,
    SourceMachine,
    SourceOptions,
    SourceRecord,
    is_no,
    nothing_read,
    reading_record,
)
from deploy.importers.tables import exact, half_up, localised, moment_of, rows_of, to_ms
from deploy.importers.tariffs import time_of_use, zone_of
from schemas.reading import Reading
from schemas.registration import Meter
from schemas.units import ELAPSED_MAX_MS, MINUTE_MS

COLUMNS = ("site", "station_id", "session_id", "arrival", "departure", "delivered_energy_kwh")
ZONE = "America/Los_Angeles"

CAPACITY_LEAST_W = 7_400
"""AC, 32 A at 230 V. A station is no smaller because its cars draw little."""

PEAK_MICROS, BASE_MICROS, PER_WH = 420_000, 280_000, 1_000
"""USD 0.42 a kWh from 16:00 to 21:00 on working days, else 0.28: the order of Californian public charging."""

QUARTER_MS = 15 * MINUTE_MS

ENERGY_MAX_KWH = 10**9
"""More is digits gone wrong: it would take the station's register past what a reading can say, for good."""


@dataclass(frozen=True, slots=True)
class _Session:
    row: int
    machine: str
    session: str
    arrival_ms: int
    departure_ms: int
    energy_wh: int

    @property
    def lasted_ms(self) -> int:
        """From arrival to departure."""
        return self.departure_ms - self.arrival_ms

    def points(self, capacity_w: int) -> Iterator[tuple[int, int, bool]]:
        """(epoch ms, Wh of this session so far, whether reconstructed), from arrival to departure."""
        yield self.arrival_ms, 0, False
        if fits(self.energy_wh, self.lasted_ms, capacity_w):
            lasted = self.lasted_ms
            for at in range((self.arrival_ms // QUARTER_MS + 1) * QUARTER_MS, self.departure_ms, QUARTER_MS):
                yield at, self.energy_wh * (at - self.arrival_ms) // lasted, True
        yield self.departure_ms, self.energy_wh, False


class AcnSessions:
    """The source `acn-sessions`: columns site, station_id, session_id, arrival, departure, delivered_energy_kwh."""

    def read(self, path: Path, options: SourceOptions) -> SourceLog:
        """The file as a log. Times without an offset need `zone`.

        Raises InvalidInput naming the missing column, or where not one session can be read.
        """
        sessions, skipped, rows = _sessions(path, options)
        if not sessions:
            raise nothing_read(path.name, "no session that could be read: is it an acn-sessions file?", skipped)
        found, capacities_w = len(sessions), _capacities_w(sessions, options.capacity_w)
        end_ms = options.end_ms(min(session.arrival_ms for session in sessions))
        sessions = [session for session in sessions if end_ms is None or session.arrival_ms < end_ms]
        lanes = _lanes(sessions)
        return SourceLog(
            name=path.name,
            machines=tuple(_machine(machine, len(lanes[machine]), capacities_w[machine]) for machine in sorted(lanes)),
            rows=rows,
            left_out=found - len(sessions),
            skipped=tuple(skipped),
            totals={"energy Wh": sum(session.energy_wh for session in sessions)},
            start_ms=min(session.arrival_ms for session in sessions),
            end_ms=max(session.departure_ms for session in sessions),
            make=lambda shift_ms: _records(lanes, capacities_w, shift_ms),
            notes=tuple(_notes(sessions, capacities_w, options.capacity_w)),
        )


def _sessions(path: Path, options: SourceOptions) -> tuple[list[_Session], list[Skipped], int]:
    zone = zone_of(options.zone) if options.zone else None
    sessions: list[_Session] = []
    skipped: list[Skipped] = []
    seen: set[tuple[str, str]] = set()
    number = 0
    for number, fields in rows_of(path, COLUMNS):
        session = fields if isinstance(fields, str) else _session(number, fields, zone)
        if isinstance(session, str):
            skipped.append(Skipped(number, session))
        elif (session.machine, session.session) in seen:
            skipped.append(Skipped(number, "the session is a repetition"))
        else:
            seen.add((session.machine, session.session))
            sessions.append(session)
    return sessions, skipped, number


def _session(number: int, fields: tuple[str, ...], zone: ZoneInfo | None) -> _Session | str:
    """The session of a row, or why the row is impossible."""
    site, station, session, *moments, energy = fields
    if not (site and station and session):
        return "site, station_id or session_id is empty"
    kwh = exact(energy)
    if kwh is None:
        return is_no("number", "delivered_energy_kwh", energy)
    ends = []
    for name, text in zip(("arrival", "departure"), moments, strict=True):
        moment = moment_of(text)
        if moment is None:
            return is_no("time", name, text)
        if moment.tzinfo is None and zone is None:
            return "a time without a UTC offset: add --zone"
        at_ms = to_ms(moment) if moment.tzinfo or zone is None else localised(moment, zone, None)
        if at_ms is None:
            return f"{name} lies in an hour that the clock skipped"
        ends.append(at_ms)
    arrival_ms, departure_ms = ends
    if reason := _impossible(arrival_ms, departure_ms, kwh):
        return reason
    return _Session(number, id_of(site, station), id_of(session), arrival_ms, departure_ms, half_up(kwh * 1_000))


def _notes(sessions: list[_Session], capacities_w: dict[str, int], capacity_w: int | None) -> Iterator[str]:
    """What the stream will refuse, and what mends it."""
    fast = [one for one in sessions if not fits(one.energy_wh, one.lasted_ms, capacities_w[one.machine])]
    if fast:
        mend = (
            "they fit no usual class of charger; a higher --capacity lets those pass that are right"
            if capacity_w is None
            else "without --capacity each station has the class that its sessions fit"
        )
        yield (
            f"{len(fast):,} of {len(sessions):,} sessions charge faster than their station plausibly can, and will be"
            f" refused as too_high: {mend}"
        )


def _impossible(arrival_ms: int, departure_ms: int, kwh: Fraction) -> str:
    """Why a session is skipped, or nothing."""
    if arrival_ms < 0 or departure_ms <= arrival_ms:
        return "the departure is not after the arrival"
    if departure_ms - arrival_ms > ELAPSED_MAX_MS:
        return "the session is longer than 35 days"
    if kwh > ENERGY_MAX_KWH:
        return "the energy is out of range"
    return "the energy is negative" if kwh < 0 else ""


def _capacities_w(sessions: list[_Session], capacity_w: int | None) -> dict[str, int]:
    """What `--capacity` says, else each station's class, by all of the file's sessions, however few days are wanted."""
    shown: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for session in sessions:
        shown[session.machine].append((session.energy_wh, session.lasted_ms))
    return {machine: capacity_w or charger_class_w(those, CAPACITY_LEAST_W) for machine, those in shown.items()}


def _lanes(sessions: list[_Session]) -> dict[str, list[list[_Session]]]:
    """Each station's sessions, spread over as few meters as keep those of one meter apart in time."""
    lanes: dict[str, list[list[_Session]]] = defaultdict(list)
    for session in sorted(sessions, key=lambda s: (s.arrival_ms, s.departure_ms, s.row)):
        station = lanes[session.machine]
        free = next((lane for lane in station if lane[-1].departure_ms <= session.arrival_ms), None)
        if free is None:
            station.append([session])
        else:
            free.append(session)
    return dict(lanes)


def _meter(lane: int) -> str:
    return "energy" if lane == 0 else f"energy.{lane + 1}"


def _machine(machine: str, lanes: int, capacity_w: int) -> SourceMachine:
    names = tuple(_meter(lane) for lane in range(lanes))
    meters = tuple(Meter(name, "Wh", "register", capacity_w, opening_register=0) for name in names)
    return SourceMachine(machine, "ev_charger", meters, time_of_use(names, ZONE, PEAK_MICROS, BASE_MICROS, PER_WH))


def _records(
    lanes: dict[str, list[list[_Session]]], capacities_w: dict[str, int], shift_ms: int
) -> Iterator[SourceRecord]:
    """All readings by (moment, station, meter, number)."""
    streams = [
        _lane_readings(machine, lane, station[lane], capacities_w[machine], shift_ms)
        for machine, station in sorted(lanes.items())
        for lane in range(len(station))
    ]
    for _, _, _, _, reading in merge(*streams, key=lambda item: item[:4]):
        yield reading_record((reading,))


def _lane_readings(
    machine: str, lane: int, sessions: list[_Session], capacity_w: int, shift_ms: int
) -> Iterator[tuple[int, str, int, int, Reading]]:
    sequence = register = 0
    for session in sessions:
        for at, energy_wh, reconstructed in session.points(capacity_w):
            sequence += 1
            yield at + shift_ms, machine, lane, sequence, Reading(
                machine=machine,
                meter=_meter(lane),
                boot=1,
                seq=sequence,
                observed_at=at + shift_ms,
                register=register + energy_wh,
                session=session.session,
                session_started_at=session.arrival_ms + shift_ms,
                session_start=at == session.arrival_ms,
                reconstructed=reconstructed,
            )  # fmt: skip
        register += session.energy_wh
