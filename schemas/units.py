"""Ids, amounts and times on the wire: base units and epoch milliseconds, integers only, all bounded."""

from typing import Annotated

from msgspec import Meta

COUNT_MAX = 2**53
"""The largest integer on the wire: what a double still holds exactly (RFC 8785)."""

SECOND_MS = 1_000
MINUTE_MS = 60 * SECOND_MS
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS

ELAPSED_MAX_MS = 35 * DAY_MS
"""The longest time that one usage may cover."""

CARRY_BASE = 3_600_000
"""Fractions of a micro are counted in 1/3,600,000: every `per` divides it, so no remainder is ever lost."""

# `$` also matches before a final newline; the look-ahead closes that hole in Python and in ECMAScript alike.
Id = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._:*-]{1,64}$(?!\n)")]
SIMULATED = "sim-"
"""A machine whose id begins with it is simulated: the id stands in every record, so no format has to say it apart."""
Count = Annotated[int, Meta(ge=0, le=COUNT_MAX)]
Positive = Annotated[int, Meta(ge=1, le=COUNT_MAX)]
Difference = Annotated[int, Meta(ge=-COUNT_MAX, le=COUNT_MAX)]
Account = Annotated[str, Meta(pattern=r"^0x[0-9a-f]{40}$(?!\n)")]
"""An EVM account in lower case: one spelling, so one account is one leaf."""
Reason = Annotated[str, Meta(max_length=256)]
"""Why an operator corrected or cancelled something, in words; perhaps none."""
Points = Annotated[int, Meta(ge=1, le=10_000)]
Trust = Annotated[int, Meta(ge=0, le=2)]

MICROS_DECIMALS = 6
"""Decimals of an amount in micros."""

LEDGER_UNITS = "units of the ledger's token"
TokenUnits = Annotated[int, LEDGER_UNITS]
"""An amount of the token in its smallest units; its decimals say how many make a whole one."""


def is_simulated(machine: str) -> bool:
    """Whether a machine is simulated, by its id."""
    return machine.startswith(SIMULATED)
