"""Which rows of a meter are new: boots, numbers, holes (rules 7, 8 and 10). All rows are kept."""

from itertools import pairwise

from streams.reference.entries import Plain, Refused

JUMP_MAX = 2**20
HOLES_MAX = 16


class BootRecount:
    """The rows of one boot of a meter, all of them."""

    def __init__(self, boot: int) -> None:
        self.boot = boot
        self.rows: dict[int, Plain] = {}
        self.high: int | None = None
        self.observed = -1
        self.floor = 0

    def holes(self) -> list[tuple[int, int]]:
        """Runs of unused numbers between the floor and the highest, as inclusive pairs."""
        used = [self.floor - 1, *sorted(seq for seq in self.rows if seq >= self.floor)]
        return [(a + 1, b - 1) for a, b in pairwise(used) if b - a > 1]

    def take(self, row: Plain) -> int:
        """How many numbers a row skips. Raises Refused if its number can't be used (rule 8)."""
        seq, high = row["seq"], self.high
        if high is None or seq > high:
            if high is not None and seq - high > JUMP_MAX:
                raise Refused("seq_jump")
            self.put(row)
            self.observed = max(self.observed, row["observed_at"])
            return 0 if high is None else seq - high - 1
        if seq == high:
            raise Refused("duplicate" if row == self.rows[high] else "equivocation")
        if row["observed_at"] > self.observed:
            raise Refused("seq_reused")
        if seq < self.floor:
            raise Refused("below_floor")
        if seq in self.rows:
            raise Refused("duplicate")
        self.put(row)
        return 0

    def put(self, row: Plain) -> None:
        """Keeps a row; of more than 16 holes the lowest go."""
        seq, high = row["seq"], self.high
        self.rows[seq] = row
        self.high = seq if high is None else max(high, seq)
        while seq - 1 != high and len(self.holes()) > HOLES_MAX:  # a row right after the last one makes no hole
            self.floor = self.holes()[0][1] + 1


class Identity:
    """The two highest boots of a meter, the higher one first."""

    def __init__(self) -> None:
        self.boots: list[BootRecount] = []

    @property
    def current(self) -> int:
        """The current boot, once a row was taken or a registration set one."""
        return self.boots[0].boot

    def take(self, row: Plain, registered: int | None) -> int:
        """How many numbers a row skips. Raises Refused if its boot or number can't be used (rules 7, 8).

        `registered` is the boot that a registration last set, if any did: it counts as seen before any row, and until
        another boot comes there is no previous one (rule 10).
        """
        if registered is not None and not self.boots:
            self.boots = [BootRecount(registered)]
        known = {boot.boot: boot for boot in self.boots}
        number = row["boot"]
        if number not in known:
            lowest = [registered or 0, *(boot.boot for boot in self.boots[1:])]
            if number < max(lowest):
                raise Refused("stale_boot")
            if self.boots and number > self.current + JUMP_MAX:
                raise Refused("boot_jump")
            known[number] = BootRecount(number)
            self.boots = sorted(known.values(), key=lambda boot: -boot.boot)[:2]
        return known[number].take(row)
