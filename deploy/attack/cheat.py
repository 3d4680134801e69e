"""A cheat and its outcome: the words that all groups of cheats share."""

import time
from collections.abc import Callable
from typing import Literal

from msgspec import Struct

Cheater = Literal["gateway", "machine", "supplier", "operator", "poster", "host", "node", "stranger", "all roles"]
NOT_CAUGHT = "not caught"

CUSTOMERS, PAYEES, FUNDER = "the customers", "the payees", "the funder"
"""Who loses: who pays for what machines do, who is paid for it, who put the money into the ledger."""


class Outcome(Struct, frozen=True):
    """What stopped a cheat (`by`, empty: nothing did), its own words, and how long it took (whole microseconds)."""

    by: str
    said: str
    took_us: int

    @property
    def is_caught(self) -> bool:
        """Whether anything stopped it."""
        return self.by != ""


class Cheat(Struct, frozen=True):
    """A named cheat. `loses` says who would pay for it, or does where nothing catches it.

    `helps` is empty for what must be caught; else no rule and no proof finds the cheat, and this makes it harder.
    """

    name: str
    who: Cheater
    loses: str
    run: Callable[[], Outcome]
    helps: str = ""


class Row(Struct, frozen=True, kw_only=True):
    """One line of the table; `as_expected` where it was caught and had to be, or was not and can't be."""

    cheat: str
    who: Cheater
    caught_by: str
    said: str
    took_us: int
    loses: str
    helps: str
    as_expected: bool

    @classmethod
    def of(cls, cheat: Cheat, outcome: Outcome) -> "Row":
        """The outcome of a cheat."""
        return cls(
            cheat=cheat.name, who=cheat.who, caught_by=outcome.by or NOT_CAUGHT, said=outcome.said,
            took_us=outcome.took_us, loses=cheat.loses, helps=cheat.helps,
            as_expected=outcome.is_caught == (not cheat.helps),
        )  # fmt: skip


class Stopwatch:
    """Counts whole microseconds from its construction."""

    def __init__(self) -> None:
        self._started_ns = time.perf_counter_ns()

    def outcome(self, by: str, said: str) -> Outcome:
        """The outcome, and the time until now."""
        return Outcome(by, said, (time.perf_counter_ns() - self._started_ns) // 1_000)
