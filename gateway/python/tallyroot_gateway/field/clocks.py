"""A device's clock, held against the gateway's: whether to believe it, and when to say that it is wrong."""

import logging
from typing import NamedTuple

from tallyroot_gateway.field.metrics import Metrics

BEHIND_MS = 400 * 86_400_000
"""A clock that is further behind was never set: many devices begin in 1970 or 2000. None is offline for so long."""

AHEAD_MS = 4 * 60_000
"""The log refuses readings five minutes ahead of it."""

SAID_FROM_MS = 60_000
"""A clock that is off by more is said."""

_log = logging.getLogger("tallyroot.gateway")


class Moment(NamedTuple):
    """When something was observed (epoch ms); `reconstructed` where the device's clock could not be used."""

    observed_at: int
    reconstructed: bool


def is_set(device_ms: int, now_ms: int) -> bool:
    """Whether a device's clock was ever set, where it says this (epoch ms) now or said it lately."""
    return device_ms >= now_ms - BEHIND_MS


class Clocks:
    """What is known of the clocks of many devices."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._is_off: set[str] = set()

    def moment(self, device_ms: int, now_ms: int) -> Moment:
        """The device's time where it can be used, else the moment of arrival, `now_ms`."""
        is_believed = is_set(device_ms, now_ms) and device_ms <= now_ms + AHEAD_MS
        return Moment(device_ms if is_believed else now_ms, reconstructed=not is_believed)

    def compare(self, device: str, device_ms: int, now_ms: int) -> None:
        """A device said its time just now: it is shown in `/metrics`, and written to the log where it becomes wrong."""
        offset_ms = device_ms - now_ms
        self._metrics.clock_offset.labels(device).set(offset_ms / 1000)
        if abs(offset_ms) > SAID_FROM_MS and device not in self._is_off:
            self._is_off.add(device)
            _log.warning("the clock of %s is off by %.0f s: set it", device, offset_ms / 1000)
        elif abs(offset_ms) <= SAID_FROM_MS and device in self._is_off:
            self._is_off.discard(device)
            _log.info("the clock of %s is right again", device)
