"""All real charging sessions, recounted minute by minute: each Wh lies in its own window, at its own hour's price.

The recount knows nothing of readings: it spreads a session evenly over its time, counts whole Wh at each minute of the
clock as a meter would show them, and asks the zone itself what hour that minute has in Los Angeles.
"""

from collections import Counter, defaultdict
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest

from deploy.importers.acn_sessions import COLUMNS
from deploy.importers.names import id_of
from deploy.importers.source_log import SourceLog, SourceOptions
from deploy.importers.sources import SOURCES
from schemas.reading import Reading
from schemas.units import HOUR_MS, MINUTE_MS
from tests.unit.test_sources_in_windows import run, write_csv

REAL = Path(__file__).parents[2] / "data" / "ev_sessions_acn_2019.parquet"
ZONE = ZoneInfo("America/Los_Angeles")
QUARTER_MS = 15 * MINUTE_MS
PEAK, BASE = 420, 280
"""Micros for a Wh: 0.42 and 0.28 a kWh."""

Micros = dict[int, int]
"""What a session comes to at each price."""


class Session(NamedTuple):
    station: str
    name: str
    start_ms: int
    end_ms: int
    energy_wh: int


class Minutes(NamedTuple):
    """A session's minutes: their starts (epoch ms), the whole Wh that the meter moved on in each, and its price."""

    starts: npt.NDArray[np.int64]
    usage: npt.NDArray[np.int64]
    prices: npt.NDArray[np.int64]


def sessions() -> list[Session]:
    """The file's rows, read apart from the importer."""
    return [
        Session(
            f"{row['site']}.{row['station_id']}",
            id_of(row["session_id"]),
            *(int(datetime.fromisoformat(row[end]).timestamp() * 1_000) for end in ("arrival", "departure")),
            int((Decimal(row["delivered_energy_kwh"]) * 1_000).quantize(Decimal(1), rounding=ROUND_HALF_UP)),
        )
        for row in pq.read_table(REAL).to_pylist()
    ]


class Prices:
    """Micros for a Wh by hour: Los Angeles has whole hours of UTC."""

    def __init__(self) -> None:
        self._known: dict[int, int] = {}

    def of(self, starts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return np.array([self._at(int(hour)) for hour in starts // HOUR_MS], np.int64)

    def _at(self, hour: int) -> int:
        if hour not in self._known:
            local = datetime.fromtimestamp(hour * 3_600, UTC).astimezone(ZONE)
            self._known[hour] = PEAK if local.weekday() < 5 and 16 <= local.hour < 21 else BASE
        return self._known[hour]


def minutes_of(session: Session, prices: Prices) -> Minutes:
    first = (session.start_ms // MINUTE_MS + 1) * MINUTE_MS
    edges = np.array([session.start_ms, *range(first, session.end_ms, MINUTE_MS), session.end_ms], np.int64)
    shown = session.energy_wh * (edges - session.start_ms) // (session.end_ms - session.start_ms)
    return Minutes(edges[:-1], np.diff(shown), prices.of(edges[:-1]))


def by_price(minutes: Minutes) -> Micros:
    return {price: int(minutes.usage[minutes.prices == price].sum()) * price for price in (PEAK, BASE)}


@pytest.fixture(scope="module")
def recounted() -> list[tuple[Session, Minutes]]:
    prices = Prices()
    return [(session, minutes_of(session, prices)) for session in sessions()]


@pytest.fixture(scope="module")
def source() -> SourceLog:
    return SOURCES["acn-sessions"].read(REAL, SourceOptions())


def test_every_window_holds_the_energy_of_its_own_minutes(
    recounted: list[tuple[Session, Minutes]], tmp_path: Path
) -> None:
    """By station, quarter of an hour and price, as the core sealed them, in the days when summer time ends."""
    rows = pq.read_table(REAL).to_pylist()
    days = [number for number, row in enumerate(rows) if "2019-10-31" <= row["arrival"] < "2019-11-06"]
    file = write_csv(tmp_path, COLUMNS, [[rows[number][column] for column in COLUMNS] for number in days])
    source = SOURCES["acn-sessions"].read(file, SourceOptions())
    outcome = run([source])
    wanted: Counter[tuple[str, int, int]] = Counter()
    for session, minutes in (recounted[number] for number in days):
        quarters = minutes.starts // QUARTER_MS * QUARTER_MS
        for start, usage, price in zip(quarters.tolist(), minutes.usage.tolist(), minutes.prices.tolist(), strict=True):
            wanted[session.station, start, price] += usage
    found: Counter[tuple[str, int, int]] = Counter()
    for window in outcome.windows:
        for line in window.lines:
            found[window.machine, window.start_ms, line.price_micros // line.per] += line.usage
        assert window.adjusts_ms is None and window.carry_out == 0
        assert window.gross_micros == sum(line.amount_micros for line in window.lines)
    assert found == +wanted
    assert (outcome.rejects, outcome.accepted) == ([], outcome.entries)
    assert outcome.usage() == source.totals == {"energy Wh": sum(recounted[number][0].energy_wh for number in days)}
    assert {flag for window in outcome.windows for flag in window.flags} == {"reconstructed"}


def test_no_session_is_off_by_a_micro(recounted: list[tuple[Session, Minutes]], source: SourceLog) -> None:
    """Each session's usage at each price, by the moments of its readings, is what its minutes come to."""
    prices, found = Prices(), defaultdict[tuple[str, str], Micros](lambda: {PEAK: 0, BASE: 0})
    shown: dict[tuple[str, str], int] = {}
    for record in source.records():
        row = msgspec.json.decode(record.value, type=Reading)
        usage = row.value - shown.get((row.machine, row.meter), 0)
        shown[row.machine, row.meter] = row.value
        price = int(prices.of(np.array([row.moment_ms], np.int64))[0])
        found[row.machine, str(row.session)][price] += usage * price
    wanted = {(session.station, session.name): by_price(minutes) for session, minutes in recounted}
    assert len(wanted) == 8_981
    assert found == wanted


def test_whole_watt_hours_cost_a_session_at_most_one_of_them(recounted: list[tuple[Session, Minutes]]) -> None:
    """The same with fractions of a Wh: where the price changes, a meter of whole Wh is behind by less than one."""
    for session, minutes in recounted:
        lasted = session.end_ms - session.start_ms
        ends = np.append(minutes.starts[1:], session.end_ms)
        at_peak_ms = int((ends - minutes.starts)[minutes.prices == PEAK].sum())
        changes = int(np.count_nonzero(np.diff(minutes.prices)))
        exact = Fraction(session.energy_wh * at_peak_ms, lasted)
        assert abs(exact - int(minutes.usage[minutes.prices == PEAK].sum())) < max(changes, 1)
