"""A worker's logs, on stderr: errors of Faust and its libraries, rate-limited while a broker is away, and, if JSON
lines are asked for, the worker's events.
"""

import logging
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime

import orjson

EVENTS = "streams.events"
"""The logger of events: only JSON shows them, without a limit."""

LEVELS = {
    "aiokafka": logging.ERROR,
    "faust": logging.ERROR,
    "faust.worker": logging.CRITICAL + 1,  # the error that ends the worker is reported once, by `Ending`
    "mode": logging.ERROR,
    "asyncio": logging.ERROR,
    "streams": logging.WARNING,
    EVENTS: logging.WARNING,
    "streams.kafka.consumer": logging.ERROR,  # where Faust's own warnings come from once its classes are ours
    "streams.worker.faust_app": logging.ERROR,
}

PASSING = ("GroupCoordinatorNotAvailableError",)
"""A fresh broker's answer to its first group. Faust retries, and the watchdog notices if it lasts."""

EVERY_SECONDS = 10.0


class RateLimit(logging.Filter):
    """Passes one record of each logger and level in `every_seconds`, and adds how many it dropped."""

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


class JsonLines(logging.Formatter):
    """One JSON object: time (UTC), level, logger, event, the fields of an event, the traceback of an exception."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line."""
        document = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        } | getattr(record, "fields", {})
        if record.exc_info:
            document["traceback"] = "".join(traceback.format_exception(*record.exc_info))
        return orjson.dumps(document, default=str).decode()


def say(event: str, *, level: int = logging.INFO, **fields: object) -> None:
    """Logs an event, shown as JSON only. Fields are numbers, texts, lists, and dicts by text."""
    logging.getLogger(EVENTS).log(level, event, extra={"fields": fields})


class RejectSummary:
    """Logs refused entries by reason: at most one event in `every_seconds`, however many there are."""

    def __init__(self, every_seconds: float = EVERY_SECONDS) -> None:
        self._every_seconds = every_seconds
        self._counts: Counter[str] = Counter()
        self._told_at: float | None = None

    def add(self, by_reason: Mapping[str, int], now: float) -> None:
        """Counts the rejects of a commit. `now` is in monotonic seconds."""
        self._counts.update(by_reason)
        if self._told_at is None or now - self._told_at >= self._every_seconds:
            self.tell(now)

    def tell(self, now: float) -> None:
        """Logs the counts since the last event, if any."""
        if self._counts:
            say("rejects", rejected=self._counts.total(), by_reason=dict(sorted(self._counts.items())))
            self._counts.clear()
            self._told_at = now


def event_line(event: str, **fields: object) -> str:
    """The last event of a process as a line, made without a logger and its locks."""
    record = logging.makeLogRecord({"name": EVENTS, "levelname": "ERROR", "msg": event, "fields": fields})
    return JsonLines().format(record) + "\n"


def _log_thread(died: threading.ExceptHookArgs) -> None:
    cause = died.exc_type, died.exc_value or died.exc_type(), died.exc_traceback
    name = "" if died.thread is None else died.thread.name
    logging.getLogger("streams.threads").error("the thread %s died", name, exc_info=cause)


@contextmanager
def limited_logs(*, as_json: bool = False) -> Iterator[None]:
    """Within it, the noisy loggers write only errors to stderr, rate-limited, and nothing to stdout."""
    handler, events = (logging.StreamHandler(sys.stderr) for _ in range(2))
    events.setFormatter(JsonLines())
    handler.setFormatter(JsonLines() if as_json else logging.Formatter("tallyroot: %(name)s: %(message)s"))
    handler.addFilter(RateLimit())
    levels = LEVELS | ({EVENTS: logging.INFO} if as_json else {})
    loggers = {logging.getLogger(name): level for name, level in levels.items()}
    before = {logger: (logger.level, logger.propagate) for logger in loggers}
    for logger, level in loggers.items():
        logger.addHandler(events if logger.name == EVENTS else handler)
        logger.setLevel(level)
        logger.propagate = False
    excepthook = threading.excepthook
    if as_json:
        threading.excepthook = _log_thread
    try:
        yield
    finally:
        threading.excepthook = excepthook
        for logger, (level, propagate) in before.items():
            logger.removeHandler(events if logger.name == EVENTS else handler)
            logger.setLevel(level)
            logger.propagate = propagate
