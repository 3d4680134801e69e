"""Chicago's taxi trips: no row names a taxi, so a machine is a company's fleet, and rows without a company are one.

Identity, for each fleet and meter: the sum of its quantities = the sum over its trips, each rounded half up to a whole
metre, second or cent.

- A trip is reported at its end, in one record: `distance` (m), `duration` (s), `trips` (1) and `fare` (cents). Tips go
  to the driver and are not metered.
- 'No Charge' and 'Dispute' bring nothing: such a trip has no fare. A trip of zero miles with a fare keeps its fare.
- A trip without seconds has no duration, and is reported a millisecond after its start: what a row says was used before
  it, and such a trip lies in the window of its start.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from deploy.importers.source_log import (
    Places,
    Skipped,
    SourceLog,
    SourceMachine,
    SourceOptions,
    SourceRecord,
    is_no,
    nothing_read,
    reading_record,
)
from deploy.importers.tables import exact, half_up, rows_of
from deploy.importers.tariffs import flat
from schemas.reading import Reading
from schemas.registration import Meter
from schemas.units import COUNT_MAX, ELAPSED_MAX_MS, SECOND_MS

COLUMNS = ("trip_start_timestamp", "trip_seconds", "trip_miles", "fare", "payment_type", "company")
UNPAID = ("No Charge", "Dispute")
MILE_M = Fraction(1_609_344, 1_000)
CENT_MICROS = 10_000

TAXIS = 10_000
METERS = (
    Meter("distance", "m", "quantity", TAXIS * 100_000),
    Meter("duration", "s", "quantity", TAXIS * 3_600),
    Meter("trips", "count", "quantity", TAXIS * 20),
    Meter("fare", "cents", "quantity", TAXIS * 10_000),
)
"""As wide as the largest fleet could be: 10,000 taxis at 100 km, 1 h, 20 trips and USD 100 an hour each. Many trips of
a fleet end in the same second, so the bound catches digits gone wrong, not a single taxi's odd trip."""


@dataclass(frozen=True, slots=True)
class _Trip:
    row: int
    company: str
    end_ms: int
    amounts: tuple[tuple[str, int], ...]
    """Meter to quantity, in the order of METERS."""


class ChicagoTaxi:
    """The source `chicago-taxi`: columns trip_start_timestamp (epoch s), trip_seconds, trip_miles, fare (USD),
    payment_type and company; rows in any order."""

    def read(self, path: Path, options: SourceOptions) -> SourceLog:
        """The file as a log. Raises InvalidInput naming the missing column, or where no trip can be read."""
        trips, skipped, rows = _trips(path)
        if not trips:
            raise nothing_read(path.name, "no trip that could be read: is it a chicago-taxi file?", skipped)
        trips.sort(key=lambda trip: (trip.end_ms, trip.row))
        found = len(trips)
        end_ms = options.end_ms(trips[0].end_ms)
        trips = [trip for trip in trips if end_ms is None or trip.end_ms < end_ms]
        names = _machines(sorted({trip.company for trip in trips}))
        tariff = flat({"fare": (CENT_MICROS, 1)})
        totals: Counter[str] = Counter({f"{meter.meter} {meter.unit}": 0 for meter in METERS})
        units = {meter.meter: meter.unit for meter in METERS}
        for trip in trips:
            totals.update({f"{meter} {units[meter]}": amount for meter, amount in trip.amounts})
        return SourceLog(
            name=path.name,
            machines=tuple(SourceMachine(name, "taxi_fleet", METERS, tariff) for name in sorted(names.values())),
            rows=rows,
            left_out=found - len(trips),
            skipped=tuple(skipped),
            totals=dict(totals),
            start_ms=trips[0].end_ms,
            end_ms=trips[-1].end_ms,
            make=lambda shift_ms: _records(names, trips, shift_ms),
        )


def _trips(path: Path) -> tuple[list[_Trip], list[Skipped], int]:
    trips: list[_Trip] = []
    skipped: list[Skipped] = []
    number = 0
    for number, fields in rows_of(path, COLUMNS):
        trip = fields if isinstance(fields, str) else _trip(number, fields)
        if isinstance(trip, str):
            skipped.append(Skipped(number, trip))
        else:
            trips.append(trip)
    return trips, skipped, number


def _trip(number: int, fields: tuple[str, ...]) -> _Trip | str:
    """The trip of a row, or why the row is impossible."""
    start, seconds, miles, fare, payment, company = fields
    numbers = []
    for name, text in zip(COLUMNS, (start, seconds or "0", miles or "0", fare or "0"), strict=False):
        value = exact(text)
        if value is None:
            return is_no("number", name, text)
        numbers.append(value)
    start_s, lasted, distance, dollars = numbers
    if start_s.denominator != 1:
        return is_no("whole second", "trip_start_timestamp", start)
    if reason := _impossible(start_s, lasted, distance, dollars):
        return reason
    lasted_s = half_up(lasted)
    amounts = {"distance": half_up(distance * MILE_M), "trips": 1}
    if seconds:
        amounts["duration"] = lasted_s
    if payment not in UNPAID:
        amounts["fare"] = half_up(dollars * 100)
    ordered = tuple((meter.meter, amounts[meter.meter]) for meter in METERS if meter.meter in amounts)
    end_ms = (start_s.numerator + lasted_s) * SECOND_MS + (lasted_s == 0)
    return _Trip(number, company, end_ms, ordered)


def _impossible(start_s: Fraction, lasted_s: Fraction, miles: Fraction, dollars: Fraction) -> str:
    """Why a trip is skipped, or nothing."""
    if start_s < 0 or start_s * SECOND_MS > COUNT_MAX // 2:
        return "the start is out of range"
    if lasted_s < 0 or lasted_s * SECOND_MS > ELAPSED_MAX_MS:
        return "the trip has a negative duration or is longer than 35 days"
    if miles < 0 or miles * MILE_M > COUNT_MAX:
        return "the distance is out of range"
    return "the fare is out of range" if dollars < 0 or dollars * 100 > COUNT_MAX else ""


def _machines(companies: list[str]) -> dict[str, str]:
    """Company to machine id. Where two names come to the same id, a digest keeps their fleets apart."""
    plain = {company: f"taxi.{_slug(company)}" for company in companies}
    shared = Counter(plain.values())
    return {
        company: name if shared[name] == 1 else f"{name}.{hashlib.sha256(company.encode()).hexdigest()[:8]}"
        for company, name in plain.items()
    }


def _slug(company: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", company.lower()).strip("-")[:48] or "unnamed"


def _records(names: dict[str, str], trips: list[_Trip], shift_ms: int) -> Iterator[SourceRecord]:
    places = Places()
    for trip in trips:
        machine = names[trip.company]
        yield reading_record(
            tuple(
                Reading(
                    machine=machine,
                    meter=meter,
                    boot=1,
                    seq=places.next(machine, meter),
                    observed_at=trip.end_ms + shift_ms,
                    quantity=amount,
                )
                for meter, amount in trip.amounts
            )
        )
