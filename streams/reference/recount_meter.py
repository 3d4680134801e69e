"""One meter, slowly: which numbers are new, and what a register or a quantity comes to (rules 7 to 17)."""

import math
from fractions import Fraction
from itertools import pairwise
from typing import Any

from schemas.units import DAY_MS, HOUR_MS

Plain = dict[str, Any]
FAR = Fraction(135, 100)


class NaiveBoot:
    """The rows of one boot of a meter, all of them."""

    def __init__(self, boot: int) -> None:
        self.boot = boot
        self.rows: dict[int, Plain] = {}
        self.high: int | None = None
        self.floor = 0

    def holes(self) -> list[tuple[int, int]]:
        """Runs of numbers between the floor and the highest that no row has had."""
        used = [self.floor - 1, *sorted(seq for seq in self.rows if seq >= self.floor)]
        return [(a + 1, b - 1) for a, b in pairwise(used) if b - a > 1]

    def take(self, row: Plain) -> tuple[str | None, int]:
        """Why a row is refused or None, and how many numbers it steps over."""
        seq, high = row["seq"], self.high
        if high is None or seq > high:
            if high is not None and seq - high > 2**20:
                return "seq_jump", 0
            self.put(row)
            return None, 0 if high is None else seq - high - 1
        if seq == high:
            return ("duplicate" if row == self.rows[high] else "equivocation"), 0
        if seq >= self.floor and seq not in self.rows:
            self.put(row)
            return None, 0
        if seq < self.floor:
            return "below_floor", 0
        return ("seq_reused" if row["observed_at"] > self.rows[high]["observed_at"] else "duplicate"), 0

    def put(self, row: Plain) -> None:
        """Keeps a row; of more than 16 holes the lowest go."""
        seq, high = row["seq"], self.high
        self.rows[seq] = row
        self.high = seq if high is None else max(high, seq)
        while seq - 1 != high and len(self.holes()) > 16:  # what follows the last row makes no hole
            self.floor = self.holes()[0][1] + 1


class NaiveMeter:
    """What is known of one meter: its boots, its baseline and suspect, what bursts may still cost."""

    def __init__(self) -> None:
        self.boots: list[NaiveBoot] = []
        self.base: Plain | None = None
        self.suspect: Plain | None = None
        self.quantity_at: int | None = None
        self.slack = Fraction(60_000)
        self.flag: str | None = None

    def identify(self, row: Plain, least: int | None) -> tuple[str | None, int]:
        """The two highest boots seen, the higher one first; a registered boot is seen before any row."""
        if least is not None and not self.boots:
            self.boots = [NaiveBoot(least)]
        known = {boot.boot: boot for boot in self.boots}
        number = row["boot"]
        if number not in known:
            stale = [least or 0, *(boot.boot for boot in self.boots[1:2])]
            if number < max(stale):
                return "stale_boot", 0
            if self.boots and number > self.boots[0].boot + 2**20:
                return "boot_jump", 0
            known[number] = NaiveBoot(number)
            self.boots = sorted(known.values(), key=lambda boot: -boot.boot)[:2]
        return known[number].take(row)

    def plausible(self, usage: int, elapsed: int, capacity: int) -> bool:
        """Whether the meter can have counted so much in so many ms."""
        needed = math.ceil(usage * HOUR_MS / (FAR * capacity))
        return needed <= min(elapsed, 35 * DAY_MS) + self.slack

    def accept(self, usage: int, elapsed: int, capacity: int) -> int:
        """Takes usage; what it needed beyond the time that passed is owed."""
        needed = math.ceil(usage * HOUR_MS / (FAR * capacity))
        self.slack = min(Fraction(60_000), self.slack + min(elapsed, 35 * DAY_MS) - needed)
        return usage

    def register(self, row: Plain, capacity: int) -> int | str:
        """What a register adds, or why it is refused."""
        place, at, value, base = (row["boot"], row["seq"]), row["observed_at"], row["register"], self.base
        here = {"place": place, "at": at, "value": value}
        self.flag = None
        if row["boot"] != self.boots[0].boot:
            return 0
        if base is None:
            self.base = here
            return 0
        if at < base["at"] or place < base["place"]:
            return 0
        if base["place"] != (-1, -1) and place[0] > base["place"][0] and value < base["value"]:
            self.base, self.suspect, self.slack, self.flag = here, None, Fraction(60_000), "reset"
            return 0
        origins = [base]
        if self.suspect and place > self.suspect["place"] and at > self.suspect["at"]:
            origins.append(self.suspect)
        fit = [
            (one["value"], -rank, one)
            for rank, one in enumerate(origins)
            if one["value"] <= value and self.plausible(value - one["value"], at - one["at"], capacity)
        ]
        if not fit:
            self.suspect = here
            return "too_low" if value < base["value"] else "too_high"
        origin = max(fit, key=lambda item: item[:2])[2]
        self.flag = None if origin is base else "rebaselined"
        self.base, self.suspect = here, None
        return self.accept(value - origin["value"], at - origin["at"], capacity)

    def quantity(self, row: Plain, capacity: int) -> int | str:
        """What a quantity adds, or why it is refused."""
        elapsed = DAY_MS if self.quantity_at is None else abs(row["observed_at"] - self.quantity_at)
        if not self.plausible(row["quantity"], elapsed, capacity):
            return "too_high"
        self.quantity_at = max(self.quantity_at or 0, row["observed_at"])
        return self.accept(row["quantity"], elapsed, capacity)
