"""How long to wait before the next try: twice as long each time, and spread, so that not all come at once."""

import random
from collections.abc import Iterator

FIRST_SECONDS, MOST_SECONDS = 1.0, 60.0


def pauses(first: float = FIRST_SECONDS, most: float = MOST_SECONDS) -> Iterator[float]:
    """Seconds to wait before each next try, without end; make a new one after a success."""
    pause = first
    while True:
        yield pause * random.uniform(0.5, 1.0)  # noqa: S311 - spreads, hides nothing
        pause = min(2 * pause, most)
