"""How much of its time a port was up, as 23 CFR 680.116 (b) defines it for one port and the last 365 days:

    uptime = (minutes - (outage - excluded)) / minutes

It is up while it is online and available for use or in use. What is excluded is named in the gateway's file.
"""

from collections.abc import Sequence

from msgspec import Struct

DAY_MS = 86_400_000
DAYS = 365

Excluded = Sequence[tuple[int, int]]
"""Pairs of epoch ms, half-open."""


class Uptime(Struct, omit_defaults=True):
    """A port's outages since it was first seen (epoch ms): ms by the day, those before `down_since` only."""

    since: int
    down_since: int | None = None
    outages: dict[str, int] = {}

    def went_down(self, at_ms: int) -> None:
        """An outage begins, unless one lasts."""
        if self.down_since is None:
            self.down_since = max(at_ms, self.since)

    def went_up(self, at_ms: int, excluded: Excluded) -> None:
        """An outage ends, if one lasts."""
        if self.down_since is not None:
            self.outages = _outages(self, at_ms, excluded)
            self.down_since = None

    def ratio(self, now_ms: int, excluded: Excluded) -> float:
        """The part of the time until now that the port was up, 0 to 1; 1 before any time has passed."""
        oldest = now_ms // DAY_MS - DAYS
        outage = sum(ms for day, ms in _outages(self, now_ms, excluded).items() if int(day) > oldest)
        whole = now_ms - max(self.since, (oldest + 1) * DAY_MS)
        return 1.0 if whole <= 0 else max(0.0, min(1.0, (whole - outage) / whole))


def _outages(uptime: Uptime, until_ms: int, excluded: Excluded) -> dict[str, int]:
    """Outages by the day, the lasting one until a moment included, without what is excluded or older than a year."""
    oldest = until_ms // DAY_MS - DAYS
    outages = {day: ms for day, ms in uptime.outages.items() if int(day) > oldest}
    if uptime.down_since is None:
        return outages
    for day in range(max(uptime.down_since // DAY_MS, oldest + 1), until_ms // DAY_MS + 1):
        start, end = max(uptime.down_since, day * DAY_MS), min(until_ms, (day + 1) * DAY_MS)
        down = end - start - sum(max(0, min(end, to) - max(start, since)) for since, to in excluded)
        if down > 0:
            outages[str(day)] = outages.get(str(day), 0) + down
    return outages
