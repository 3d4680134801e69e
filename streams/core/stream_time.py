"""Stream time, the only clock: the running maximum of record timestamps, and what it seals and cuts (rules 5, 22)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from schemas.log import Log, Ruleset

NO_TIMESTAMP = -1
"""What Kafka writes for a record without a timestamp."""

TIMESTAMP_MAX_MS = 253_402_300_799_999
"""The end of the year 9999. Later timestamps count as NO_TIMESTAMP: they would pass millions of epochs."""

FAR_MS = 2**62
"""After every moment."""


def later(stream_time_ms: int | None, timestamp_ms: int) -> int:
    """Stream time (ms) after a record with this timestamp."""
    moment_ms = timestamp_ms if timestamp_ms <= TIMESTAMP_MAX_MS else NO_TIMESTAMP
    return moment_ms if stream_time_ms is None else max(stream_time_ms, moment_ms)


def running(stream_time_ms: int | None, timestamps_ms: Sequence[int]) -> NDArray[np.int64]:
    """Stream time (ms) at each of these records, which follow a stream time of `stream_time_ms`."""
    moments_ms = np.array(timestamps_ms, np.int64)
    moments_ms[moments_ms > TIMESTAMP_MAX_MS] = NO_TIMESTAMP
    if stream_time_ms is not None and len(moments_ms):
        moments_ms[0] = max(stream_time_ms, int(moments_ms[0]))
    return np.maximum.accumulate(moments_ms)


def first_epoch(log: Log, stream_time_ms: int) -> int:
    """The number of the epoch in which a log begins: the first that stream time hasn't cut yet."""
    longest_grace_ms = max(ruleset.grace_ms for ruleset in log.rulesets)
    epoch = log.epoch_of(max(0, stream_time_ms - longest_grace_ms))
    while cut_ms(log, epoch) <= stream_time_ms:
        epoch += 1
    return epoch


def cut_ms(log: Log, epoch: int) -> int:
    """The stream time (ms) from which on an epoch is over: its end + grace, when all of its windows are sealed."""
    return log.epoch_span(epoch)[1] + log.ruleset_at(epoch).grace_ms


def earliest_open_ms(log: Log, epoch: int, stream_time_ms: int) -> int:
    """The smallest start on the grid with end + grace > stream time (rule 5), within the epoch that isn't cut yet.

    Never before that epoch: a longer grace from there on reopens no sealed window. Never after its end: windows there
    belong to the next epoch, and seal after the cut.
    """
    start_ms, end_ms = log.epoch_span(epoch)
    return min(end_ms, max(start_ms, log.window_start(stream_time_ms - log.ruleset_at(epoch).grace_ms)))


def in_force_from_ms(log: Log, ruleset: Ruleset, stream_time_ms: int, effective_from_ms: int) -> int:
    """The moment (epoch ms) at which a later version comes into force (rule 22).

    The later of `effective_from`, rounded up to a window start, and the first window start strictly after stream time +
    the ruleset's skew: no reading can lie there yet.
    """
    rounded_up_ms = -log.window_start(-effective_from_ms)
    return max(rounded_up_ms, log.window_start(stream_time_ms + ruleset.skew_ms) + log.window_ms)
