"""Readings that a gateway refuses, and its words, which are the same in Python and JavaScript."""

from typing import Any

GOOD: dict[str, Any] = {"machine": "taxi-1", "meter": "energy", "observed_at": 1_764_288_000_000, "register": 5}

MS = "use milliseconds since 1970 (UTC)"

FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"observed_at": 1_764_288_000}, f"observed_at: 1764288000 looks like seconds: {MS}"),
    ({"observed_at": 1_764_288_000_000_000}, f"observed_at: 1764288000000000 looks like microseconds: {MS}"),
    ({"observed_at": 1_764_288_000_000_000_000}, f"observed_at: 1764288000000000000 looks like nanoseconds: {MS}"),
    ({"observed_at": 0}, f"observed_at: 0 is before the year 2000: set the clock, and {MS}"),
    ({"observed_at": -5}, f"observed_at: -5 is before the year 2000: set the clock, and {MS}"),
    ({"observed_at": 946_684_799_999}, f"observed_at: 946684799999 is before the year 2000: set the clock, and {MS}"),
    ({"observed_at": 4_102_444_800_000}, f"observed_at: 4102444800000 is after the year 2099: set the clock, and {MS}"),
    (
        {"observed_at": 1_764_288_000_000.5},
        "observed_at: use an integer, milliseconds since 1970 (UTC), not 1764288000000.5",
    ),
    ({"session": "s", "session_started_at": 1_764_280_000}, f"session_started_at: 1764280000 looks like seconds: {MS}"),
    ({"register": 1.5}, "register: use an integer in the meter's unit, not 1.5"),
    ({"register": "5"}, "register: use an integer in the meter's unit, not '5'"),
    ({"register": -1}, "register: use 0 to 2^53, not -1"),
    ({"register": 2**53 + 2}, "register: use 0 to 2^53, not 9007199254740994"),
    ({"quantity": 1}, "give exactly one of register, quantity and level, not register and quantity"),
    ({"register": None}, "give exactly one of register, quantity and level, not none"),
    ({"machine": "taxi 1"}, "machine: use 1 to 64 of A-Z a-z 0-9 . _ : * -, not 'taxi 1'"),
    ({"meter": "energy\n"}, "meter: use 1 to 64 of A-Z a-z 0-9 . _ : * -, not 'energy\\n'"),
    ({"session": "s"}, "give session and session_started_at together"),
    (
        {"session": "s", "session_started_at": 1_764_288_000_001},
        "session_started_at: use a time that is not after observed_at",
    ),
    ({"session_start": True}, "session_start needs a session"),
    ({"session_end": True}, "session_end needs a session"),
    ({"evidence": ""}, "evidence: use the text that the meter signed, not ''"),
    ({"evidence": "ä" * 4_097}, "evidence: 8194 bytes are more than 8192"),
    ({"evidence": "OCMF|{}|{}", "register": None, "level": 5}, "evidence needs a register"),
    ({"session_start": "yes"}, "session_start: use true or false, not 'yes'"),
    ({"register": None, "quantity": 5, "reset": True}, "reset needs a register"),
    ({"reset": "yes"}, "reset: use true or false, not 'yes'"),
]
"""What differs from GOOD, and what the refusal says after its first words."""
