"""A clock that steps and stalls, as clocks of servers do; and seconds that pass as fast as the simulation wants."""

import random

from schemas.units import HOUR_MS, MINUTE_MS

STEPS_MS = (-10 * MINUTE_MS, -MINUTE_MS, -1_000, 1_000, 2 * MINUTE_MS, 20 * MINUTE_MS)


class SimClock:
    """What a server's clock shows while true time goes on. `seconds` is a monotonic clock of its own."""

    def __init__(self, draw: random.Random) -> None:
        self._draw = draw
        self._off_ms = 0
        self._stalled_at: int | None = None
        self._elapsed = 0.0

    def stamp(self, true_ms: int) -> int:
        """The time (epoch ms) that is shown at a true time. It may go back, stand still or jump."""
        chance = self._draw.random()
        if chance < 0.02:
            # A clock that is off for long is set right again.
            self._off_ms = 0 if abs(self._off_ms) > HOUR_MS else self._off_ms + self._draw.choice(STEPS_MS)
        if self._stalled_at is None and chance > 0.98:
            self._stalled_at = true_ms + self._off_ms
        elif self._stalled_at is not None and chance > 0.7:
            self._stalled_at = None
        return true_ms + self._off_ms if self._stalled_at is None else self._stalled_at

    def seconds(self) -> float:
        """Seconds since the simulation began."""
        self._elapsed += 70.0 if self._draw.random() < 0.02 else 0.01
        return self._elapsed
