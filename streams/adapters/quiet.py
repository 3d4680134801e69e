"""What Faust and its libraries may say: errors on stderr, few a minute, however long a broker stays away."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

LEVELS = {
    "aiokafka": logging.ERROR,
    "faust": logging.ERROR,
    "faust.worker": logging.CRITICAL + 1,  # what ends the worker is said once, by whoever runs it
    "mode": logging.ERROR,
    "asyncio": logging.ERROR,
    "streams": logging.WARNING,
    "streams.adapters.consumer": logging.ERROR,  # where Faust's own warnings come from once its classes are ours
    "streams.adapters.faust_app": logging.ERROR,
}

PASSING = ("GroupCoordinatorNotAvailableError",)
"""What a fresh broker says to its first group. It is tried again, and the watchdog sees it if it stays so."""

EVERY_SECONDS = 10.0


class RateLimit(logging.Filter):
    """Passes one record of each logger and level in `every` seconds, and tells how many it kept back."""

    def __init__(self, every_seconds: float = EVERY_SECONDS) -> None:
        super().__init__()
        self._every_seconds = every_seconds
        self._kept_back: dict[tuple[str, int], int] = {}
        self._passed_at: dict[tuple[str, int], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record passes. A record's own time (s) is the clock."""
        if any(word in record.getMessage() for word in PASSING):
            return False
        kind = record.name, record.levelno
        passed_at = self._passed_at.get(kind)
        if passed_at is not None and record.created - passed_at < self._every_seconds:
            self._kept_back[kind] = self._kept_back.get(kind, 0) + 1
            return False
        kept_back = self._kept_back.pop(kind, 0)
        if kept_back:
            record.msg = f"{record.getMessage()} (and {kept_back} more like it)"
            record.args = None
        self._passed_at[kind] = record.created
        return True


@contextmanager
def quiet_logs() -> Iterator[None]:
    """While it lasts, the noisy loggers write what is grave to stderr, rate-limited; nothing goes to stdout."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("tallyroot: %(name)s: %(message)s"))
    handler.addFilter(RateLimit())
    loggers = {logging.getLogger(name): level for name, level in LEVELS.items()}
    before = {logger: (logger.level, logger.propagate) for logger in loggers}
    for logger, level in loggers.items():
        logger.addHandler(handler)
        logger.setLevel(level)
        logger.propagate = False
    try:
        yield
    finally:
        for logger, (level, propagate) in before.items():
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate
