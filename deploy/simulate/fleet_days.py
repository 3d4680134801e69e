"""A simulated machine's day: what its meters show at a moment, in whole units, from its name and a seed.

Two times go in. `at_ms` is the moment of a reading, and what flows is counted by it, so no rate is ever implausible.
`life_ms` is the moment that the machine believes in: it decides who arrives, where the sun stands and who works. Where
life runs faster than time, days are short and kilowatts stay what they are.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Sequence

from msgspec import UNSET

from schemas.order import GoodsReceived
from schemas.reading import MeterKind, Reading
from schemas.registration import Meter
from schemas.units import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS

DAYLIGHT_MINUTES = (560, 630, 720, 810, 890, 930, 910, 840, 750, 660, 580, 540)
"""From sunrise to sunset, by twelfth of the year, at the latitude of Rome."""

CHARGER_PERCENT = (20, 15, 15, 55, 85, 60, 55, 60, 80, 90, 60, 35)
"""How likely a charger has a visitor, by two hours of the local day: most arrive in the morning and in the evening."""

TAXI_PERCENT = (40, 25, 15, 15, 30, 50, 80, 90, 85, 70, 65, 70, 75, 70, 70, 75, 85, 95, 95, 90, 80, 70, 60, 50)
"""How likely a taxi has a fare, by hour of the local day."""

DRONE_PERCENT = (0, 0, 0, 0, 0, 0, 30, 60, 80, 90, 90, 85, 85, 90, 90, 85, 70, 60, 40, 20, 0, 0, 0, 0)
"""How likely a drone is sent, by hour of the local day: not at night."""


TAXI_BATTERY_WH, TAXI_WH_PER_KM, TAXI_CHARGE_W = 60_000, 180, 22_000
TAXI_LOW_WH, TAXI_FULL_WH = 15_000, 54_000
"""An electric taxi drives to a charger below the one, and away above the other."""

DRONE_BATTERY_WH, DRONE_WH_PER_KM, DRONE_CHARGE_W = 1_200, 20, 800
DRONE_READY_WH = 600
"""What a drone takes off with at least: the longest flight needs half of it."""

BATTERY_STEPS = 20
"""A battery shows its level each time that it has changed by a step of so many."""

BEARING, BEARINGS_AT_MOST, BEARINGS_LOW, BEARINGS_ORDERED = "bearing", 90, 20, 60
PARTS_A_BEARING = 500
LEAD_MS, LEAD_MOMENTS = 3 * HOUR_MS, 24
"""How long goods travel at least, in time of life and in moments: a machine that is offline for a while, or whose clock
is wrong for a moment, has told of its low level by then.
"""


def draw(seed: str, name: str, below: int) -> int:
    """A number from 0 to below - 1 that follows from the seed and a name: the same everywhere."""
    digest = hashlib.blake2b(f"{seed}\n{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % below


class Gauge:
    """One meter: how far it counted, the part of a unit it has yet to count, and the last number used."""

    __slots__ = ("kind", "meter", "rest", "seq", "total")

    def __init__(self, meter: str, kind: MeterKind) -> None:
        self.meter, self.kind = meter, kind
        self.total = self.rest = self.seq = 0

    def grow(self, rate_per_hour: int, elapsed_ms: int) -> int:
        """Counts a rate over a time. Returns the whole units that it added."""
        whole, self.rest = divmod(self.rest + rate_per_hour * elapsed_ms, HOUR_MS)
        self.total += whole
        return whole

    def fall(self, amount: int, per: int) -> None:
        """Takes a unit for each `per` of an amount, down to nothing. `per` divides 3,600,000."""
        whole, self.rest = divmod(self.rest - amount * (HOUR_MS // per), HOUR_MS)
        self.total = max(0, self.total + whole)


class Life:
    """A machine that lives. Subclasses say what its meters show; `offsets` are those of its tariff."""

    def __init__(self, seed: str, machine: str, meters: Sequence[Meter], offsets: Sequence[tuple[int, int]]) -> None:
        self.machine = machine
        self.seed = f"{seed}\n{machine}"
        self.boot = 1
        self.orders: dict[str, tuple[int, int]] = {}
        """By item: the number of the last order, and the time of life (ms) until it arrives, 0 once it has."""
        self.arrived: list[GoodsReceived] = []
        """Goods that came with the last readings."""
        self.gauges = {meter.meter: Gauge(meter.meter, meter.kind) for meter in meters}
        self._offsets, self._starts = offsets, [start for start, _ in offsets]
        self._before_ms: int | None = None
        self._life_ms: int | None = None
        self._lived_ms = 0
        self._level_shown = -1
        self._visit: tuple[int, int] | None = None
        self._slot = -1
        self._offer: tuple[int, int] | None = None

    def restart(self) -> None:
        """The machine restarts and has forgotten all: a higher boot, numbers and registers from the beginning.

        What is on its shelf and in its battery is still there.
        """
        self.boot += 1
        for gauge in self.gauges.values():
            gauge.seq = 0
            if gauge.kind != "level":
                gauge.total = gauge.rest = 0

    def readings(self, at_ms: int, life_ms: int) -> list[Reading]:
        """What it shows at a moment, later than the last one that was asked for."""
        elapsed_ms = 0 if self._before_ms is None else at_ms - self._before_ms
        self._lived_ms = 0 if self._life_ms is None else life_ms - self._life_ms
        self._before_ms, self._life_ms = at_ms, life_ms
        self.arrived = []
        local_ms = life_ms + self._offsets[bisect_right(self._starts, life_ms) - 1][1] * SECOND_MS
        return self._tick(at_ms, elapsed_ms, local_ms)

    def _tick(self, at_ms: int, elapsed_ms: int, local_ms: int) -> list[Reading]:
        raise NotImplementedError

    def _show(
        self, meter: str, at_ms: int, value: int | None = None, session: tuple[str, int] | None = None
    ) -> Reading:
        """The next reading of a meter, of its total if there is no value."""
        gauge = self.gauges[meter]
        gauge.seq += 1
        shown = gauge.total if value is None else value
        return Reading(
            machine=self.machine,
            meter=meter,
            boot=self.boot,
            seq=gauge.seq,
            observed_at=at_ms,
            register=shown if gauge.kind == "register" else UNSET,
            quantity=shown if gauge.kind == "quantity" else UNSET,
            level=shown if gauge.kind == "level" else UNSET,
            session=UNSET if session is None else session[0],
            session_started_at=UNSET if session is None else session[1],
            session_start=session is not None and session[1] == at_ms,
        )

    def _battery(self, at_ms: int, capacity_wh: int) -> list[Reading]:
        """The battery's level, if it has changed by a step since it was shown."""
        step = self.gauges["battery"].total * BATTERY_STEPS // capacity_wh
        if step == self._level_shown:
            return []
        self._level_shown = step
        return [self._show("battery", at_ms)]

    def _visitor(self, local_ms: int, slot_ms: int, percent: Sequence[int]) -> tuple[int, int] | None:
        """(number, end in local ms) of the present visit: at most one in each slot of time."""
        slot = local_ms // slot_ms
        if slot != self._slot:
            self._slot, self._offer = slot, None
            hour = local_ms % DAY_MS * len(percent) // DAY_MS
            if draw(self.seed, f"comes {slot}", 100) < percent[hour]:
                start = slot * slot_ms + draw(self.seed, f"from {slot}", slot_ms // 3)
                self._offer = start, start + slot_ms // 6 + draw(self.seed, f"for {slot}", slot_ms * 4 // 10)
        if self._offer is None or not self._offer[0] <= local_ms < self._offer[1]:
            return None
        return slot, self._offer[1]

    def _leads(self, local_ms: int, slot_ms: int, percent: Sequence[int]) -> tuple[bool, bool]:
        """Whether there is a visit, and whether it ends now; a new one is in `_visit` from its first moment."""
        if self._visit is None:
            self._visit = self._visitor(local_ms, slot_ms, percent)
            return False, False
        return True, local_ms >= self._visit[1]


class Charger(Life):
    """Visitors in sessions, most of them in the morning and in the evening; each with a power of its own."""

    _session: tuple[str, int] | None = None

    def restart(self) -> None:
        """A visitor who is there stays, in a session that begins again."""
        super().restart()
        self._session = None

    def _tick(self, at_ms: int, elapsed_ms: int, local_ms: int) -> list[Reading]:
        goes_on, ends = self._leads(local_ms, 2 * HOUR_MS, CHARGER_PERCENT)
        if self._visit is None:
            return []
        slot = self._visit[0]
        if not goes_on or self._session is None:
            self._session = f"{self.machine}.{self.boot}.{slot}", at_ms
        else:
            power_w = (3_700, 7_400, 11_000, 22_000)[draw(self.seed, f"power {slot}", 4)]
            self.gauges["energy"].grow(power_w, elapsed_ms)
        shown = self._show("energy", at_ms, session=self._session)
        if ends:
            self._visit = self._session = None
        return [shown]


class Inverter(Life):
    """The sun by hour and season, under clouds that change each hour; at night it draws a little."""

    def _tick(self, at_ms: int, elapsed_ms: int, local_ms: int) -> list[Reading]:
        month = local_ms // DAY_MS % 365 * 12 // 365
        daylight = DAYLIGHT_MINUTES[month]
        minute = local_ms % DAY_MS // MINUTE_MS - (750 - daylight // 2)
        power_w = 0
        if 0 < minute < daylight:
            cloud_percent = 100 - draw(self.seed, f"cloud {local_ms // HOUR_MS}", 8) ** 2
            height = 8_000 * daylight // 930
            power_w = height * 4 * minute * (daylight - minute) * cloud_percent // (daylight * daylight * 100)
        self.gauges["energy"].grow(power_w, elapsed_ms)
        self.gauges["import"].grow(0 if power_w else 40, elapsed_ms)
        return [self._show("energy", at_ms), self._show("import", at_ms)]


class Taxi(Life):
    """Trips: metres and seconds while they last, the trip and its fare (cents) when they end. They empty its battery;
    when it is low, the taxi stands at a charger and has no fares.
    """

    _cents = 0
    charge_w = 0
    """What flows into its battery now."""

    def __init__(self, seed: str, machine: str, meters: Sequence[Meter], offsets: Sequence[tuple[int, int]]) -> None:
        super().__init__(seed, machine, meters, offsets)
        self.gauges["battery"].total = TAXI_LOW_WH + draw(self.seed, "battery", TAXI_FULL_WH - TAXI_LOW_WH)

    @property
    def battery_wh(self) -> int:
        """What its battery holds."""
        return self.gauges["battery"].total

    @property
    def is_free(self) -> bool:
        """Whether nobody sits in it."""
        return self._visit is None

    def _tick(self, at_ms: int, elapsed_ms: int, local_ms: int) -> list[Reading]:
        self._plug()
        if self.charge_w:
            self.gauges["battery"].grow(self.charge_w, elapsed_ms)
            return self._battery(at_ms, TAXI_BATTERY_WH)
        goes_on, ends = self._leads(local_ms, 30 * MINUTE_MS, TAXI_PERCENT)
        if self._visit is None or not goes_on:
            return self._battery(at_ms, TAXI_BATTERY_WH)
        speed = 18_000 + draw(self.seed, f"speed {self._visit[0]} {at_ms // MINUTE_MS}", 40_000)
        distance_m = self.gauges["distance"].grow(speed, elapsed_ms)
        duration_s = self.gauges["duration"].grow(3_600, elapsed_ms)
        self.gauges["battery"].fall(distance_m * TAXI_WH_PER_KM, 1_000)
        self._cents += distance_m * 225 // 1_609 + duration_s // 2
        shown = self._battery(at_ms, TAXI_BATTERY_WH)
        shown += [self._show("distance", at_ms, distance_m), self._show("duration", at_ms, duration_s)]
        if ends:
            shown += [self._show("trips", at_ms, 1), self._show("fare", at_ms, 325 + self._cents)]
            self._visit, self._cents = None, 0
        return shown

    def _plug(self) -> None:
        """At the depot it charges as it likes, and nobody is paid for that."""
        if self.charge_w and self.battery_wh >= TAXI_FULL_WH:
            self.charge_w = 0
        elif self.is_free and self.battery_wh < TAXI_LOW_WH:
            self.charge_w = TAXI_CHARGE_W


class Drone(Life):
    """Flights by day: metres and seconds in the air, a parcel where it lands. In between it charges its battery."""

    def __init__(self, seed: str, machine: str, meters: Sequence[Meter], offsets: Sequence[tuple[int, int]]) -> None:
        super().__init__(seed, machine, meters, offsets)
        self.gauges["battery"].total = DRONE_BATTERY_WH

    def _tick(self, at_ms: int, elapsed_ms: int, local_ms: int) -> list[Reading]:
        battery = self.gauges["battery"]
        is_ready = self._visit is not None or battery.total >= DRONE_READY_WH
        goes_on, ends = self._leads(local_ms, 20 * MINUTE_MS, DRONE_PERCENT) if is_ready else (False, False)
        if self._visit is None or not goes_on:
            battery.grow(min(DRONE_CHARGE_W, DRONE_BATTERY_WH - battery.total), elapsed_ms)
            return self._battery(at_ms, DRONE_BATTERY_WH)
        speed = 50_000 + draw(self.seed, f"wind {self._visit[0]}", 30_000)
        distance_m = self.gauges["distance"].grow(speed, elapsed_ms)
        battery.fall(distance_m * DRONE_WH_PER_KM, 1_000)
        shown = self._battery(at_ms, DRONE_BATTERY_WH)
        shown += [
            self._show("distance", at_ms, distance_m),
            self._show("airtime", at_ms, self.gauges["airtime"].grow(3_600, elapsed_ms)),
        ]
        if ends:
            shown.append(self._show("parcels", at_ms, 1))
            self._visit = None
        return shown


class Robot(Life):
    """A factory robot: parts made and energy used as registers, and its uptime; slow at night, idle now and then.

    Parts wear bearings out. When few are left, its registration's policy orders more, which come some hours later.
    Without bearings it makes nothing.
    """

    _waited = 0

    def __init__(self, seed: str, machine: str, meters: Sequence[Meter], offsets: Sequence[tuple[int, int]]) -> None:
        super().__init__(seed, machine, meters, offsets)
        self.gauges["bearings"].total = BEARINGS_LOW + draw(self.seed, "bearings", BEARINGS_AT_MOST - BEARINGS_LOW)

    def _tick(self, at_ms: int, elapsed_ms: int, local_ms: int) -> list[Reading]:
        hour = local_ms % DAY_MS // HOUR_MS
        bearings = self.gauges["bearings"]
        works = bearings.total > 0 and draw(self.seed, f"works {local_ms // (10 * MINUTE_MS)}", 100) < 92
        parts_per_hour = 0 if not works else 720 if 6 <= hour < 22 else 240
        bearings.fall(self.gauges["parts"].grow(parts_per_hour, elapsed_ms), PARTS_A_BEARING)
        self._restock(at_ms)
        self.gauges["energy"].grow(400 + 4 * parts_per_hour, elapsed_ms)
        uptime_s = self.gauges["uptime"].grow(3_600 if works else 0, elapsed_ms)
        shown = [self._show("bearings", at_ms), self._show("parts", at_ms), self._show("energy", at_ms)]
        return [*shown, self._show("uptime", at_ms, uptime_s)] if uptime_s else shown

    def _restock(self, at_ms: int) -> None:
        """Counts down to the delivery that is under way, or to the one that the level of now lets order."""
        number, wait_ms = self.orders.get(BEARING, (0, 0))
        bearings = self.gauges["bearings"]
        if wait_ms:
            self._waited += 1
            wait_ms = max(1, wait_ms - self._lived_ms)
            if wait_ms == 1 and self._waited >= LEAD_MOMENTS:
                bearings.total += BEARINGS_ORDERED
                self.arrived = [GoodsReceived(self.machine, BEARING, number, BEARINGS_ORDERED, at_ms)]
                wait_ms = 0
        elif bearings.total <= BEARINGS_LOW:
            number, self._waited = number + 1, 0
            wait_ms = LEAD_MS + draw(self.seed, f"lead {number}", LEAD_MS)
        if number:
            self.orders[BEARING] = number, wait_ms


class Sensor(Life):
    """A temperature (mK) that follows the day, and one datum sold with each reading."""

    def _tick(self, at_ms: int, elapsed_ms: int, local_ms: int) -> list[Reading]:
        minute = local_ms % DAY_MS // MINUTE_MS
        swing = 9_000 * minute * (1_440 - minute) * 4 // (1_440 * 1_440)
        level = 283_150 + swing + draw(self.seed, f"air {local_ms // MINUTE_MS}", 400)
        return [self._show("temperature", at_ms, level), self._show("data", at_ms, 1)]
