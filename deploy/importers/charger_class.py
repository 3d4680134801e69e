"""The class of a charging station, from what its sessions show: one answer for the replay and for `--register-form`."""

from collections.abc import Iterable

from schemas.units import MINUTE_MS
from streams.core.plausible_usage import time_needed_ms

CLASSES_W = (3_700, 7_400, 11_000, 22_000, 50_000, 150_000, 350_000)
"""Usual classes: AC of one and three phases at 16 and 32 A, then DC."""


def charger_class_w(sessions: Iterable[tuple[int, int]], least_w: int = CLASSES_W[0]) -> int:
    """The smallest class from `least_w` on that every session fits, each as (Wh, ms that it lasted).

    A session that fits no class at all is digits gone wrong, and decides nothing.
    """
    classes_w = [size for size in CLASSES_W if size >= least_w]
    needed = 0
    for energy_wh, lasted_ms in sessions:
        fitting = next((n for n, size in enumerate(classes_w) if fits(energy_wh, lasted_ms, size)), 0)
        needed = max(needed, fitting)
    return classes_w[needed]


def fits(energy_wh: int, lasted_ms: int, capacity_w: int) -> bool:
    """Whether a station of that class can have done this, as the stream judges it: it forgives a minute, once."""
    return time_needed_ms(energy_wh, capacity_w) <= max(lasted_ms, MINUTE_MS)
