"""The sessions that a meter's rows start, and whether their fees are due (rules 19 and 20)."""

from schemas.reading import Reading
from schemas.registration import Meter
from schemas.units import DAY_MS, ELAPSED_MAX_MS, HOUR_MS
from streams.core.meters import NONE, Starts

STARTS_KEPT = 4
START_AGE_MAX_MS = DAY_MS
"""A row that says a session started longer ago starts nothing."""

BUCKET = 10
"""So many starts may owe their fee at once."""


def begins(starts: Starts, row: Reading) -> bool:
    """Whether an accepted row starts a session: one that is marked, and names none of the last four."""
    return row.session_start and all(session != row.session for session, _ in starts.last)


def is_stale(row: Reading, started_at: int) -> bool:
    """Whether the start lies more than a day before the row that tells of it."""
    return row.observed_at - started_at > START_AGE_MAX_MS


def has_started(starts: Starts, session: str, started_at: int) -> bool:
    """Whether a session, begun at `started_at` (epoch ms), is among the last four."""
    return (session, started_at) in starts.last


def started(starts: Starts, session: str, started_at: int, registered: Meter, has_price: bool) -> tuple[Starts, bool]:
    """The starts after one more, and whether its fee is due. `has_price` says that it has a per-session price."""
    need_ms = -(-HOUR_MS // registered.starts_per_hour)
    slack_ms, is_due = starts.slack_ms, False
    if has_price:
        first = starts.latest_ms == NONE
        elapsed_ms = 0 if first else min(max(0, started_at - starts.latest_ms), ELAPSED_MAX_MS)
        slack_ms = BUCKET * need_ms if slack_ms == NONE else min(BUCKET * need_ms, slack_ms + elapsed_ms)
        is_due = slack_ms >= need_ms
        slack_ms -= need_ms * is_due
    last = [*starts.last, (session, started_at)][-STARTS_KEPT:]
    return Starts(last, max(starts.latest_ms, started_at), slack_ms), is_due
