"""How a state lies in arrays: one matrix of int64 for each kind of thing, a line for each thing, columns named here.

    tables[METERS][m, SLACK]

What a machine, a meter or a version is called is its number: the line in its matrix. Numbers of windows and lines are
used again; all others stay. Chains are lists through a column: NONE ends one.
"""

from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from streams.core.kernel.columns import NONE

PAIR_BITS = 62
"""An integer of up to 124 bits is a pair: high × 2^62 + low, where 0 <= low < 2^62. The high part carries the sign."""

MATRICES = 15
Tables = Annotated[tuple[NDArray[np.int64], ...], f"UniTuple(int64[:, ::1], {MATRICES})"]
Texts = Annotated[NDArray[np.uint8], "uint8[:, ::1]"]
"""A line holds up to 64 bytes of text, and their number in column 64."""

TEXT_MAX = 64

(
    MACHINES,
    METERS,
    VERSIONS,
    TERMS,
    TERM_METERS,
    ELEMENTS,
    COMPONENTS,
    OFFSETS,
    WINDOWS,
    LINES,
    HOLES,
    SESSIONS,
    EVENTS,
    TOUCHED,
    CONTENTS,
) = range(MATRICES)
"""The matrices, in their order in `Tables`."""

# MACHINES
(
    NAME_AT,  # of the id, in the bytes of all names
    NAME_LEN,
    ROUTE_AT,  # of the key of its records, in the same bytes
    ROUTE_LEN,
    FIRST_METER,
    LAST_VERSION,
    LEAST_BOOT,  # that its registrations stated last, or NONE
    IS_MARKED,  # it equivocated since its last version (rule 9)
    FIRST_SESSION,  # of its open prepaid sessions
    MACHINE_TOUCHED,  # 1 if it changed since the state was last written
) = range(10)
MACHINE_COLUMNS = 10

# METERS: what identity keeps of one boot, twice
(
    BOOT_NO,
    BOOT_SEQ,
    BOOT_OBSERVED,
    BOOT_KIND,
    BOOT_VALUE,
    BOOT_STARTED,
    BOOT_MARKS,
    BOOT_LATEST,
    BOOT_FLOOR,
    BOOT_HOLES,
) = range(10)
BOOT_COLUMNS = 10
"""BOOT_HOLES is a line of HOLES or NONE. The session at high water is text number CURRENT or PREVIOUS of the meter."""

# METERS: a standing of a register, three times (rule 12)
(STAND_BOOT, STAND_SEQ, STAND_VALUE, STAND_TIME, STAND_SEEN, STAND_PROVEN) = range(6)
STANDING_COLUMNS = 6
"""STAND_PROVEN is 1 where the meter itself signed the value (rule 42)."""

(METER_MACHINE, NEXT_METER, METER_NAME, CURRENT) = range(4)
PREVIOUS = CURRENT + BOOT_COLUMNS
BASELINE = PREVIOUS + BOOT_COLUMNS
SUSPECT = BASELINE + STANDING_COLUMNS
DISPLACED = SUSPECT + STANDING_COLUMNS
(
    SLACK_HIGH,
    SLACK,
    OLDEST,
    NEWEST,
    LEVEL_AT,
    TEXT,
    STARTS,
    START_LATEST,
    START_SLACK,
    STARTED,
    _,
    _,
    _,
    METER_TOUCHED,
) = range(DISPLACED + STANDING_COLUMNS, DISPLACED + STANDING_COLUMNS + 14)
METER_COLUMNS = METER_TOUCHED + 1
"""METER_NAME is the number of a word. TEXT is the first of six texts or NONE: sessions at both high waters, and those
of the last four starts; STARTED are four columns. A standing with value NONE is absent.
"""
STARTS_KEPT = 4
METER_TEXTS = 2 + STARTS_KEPT

# VERSIONS
(
    VERSION_MACHINE,
    VERSION_NO,
    IN_FORCE_FROM,
    VERSION_BEFORE,
    VERSION_TERMS,
    VERSION_CONTENT,
    EFFECTIVE_FROM,
    SALT_AT,  # in the bytes of all names
    SALT_LEN,  # NONE: it states none
    CARRY_VERSION,  # the machine's first version with the same payees: the carry is its
    CARRY_TOUCHED,  # 1 if its carry changed since the state was last written
) = range(11)
VERSION_COLUMNS = 11

# CONTENTS: what a version says beside what is the machine's own
(
    CONTENT_TERMS,
    CONTENT_KIND,  # of machine; a word, as the two below
    CONTENT_AGREEMENT,  # the digest of its terms (hex)
    CONTENT_PAYEES,  # the digest of its payees alone (hex)
) = range(4)
CONTENT_COLUMNS = 4

# TERMS: what versions may have in common
(
    TERM_FIRST_METER,
    TERM_LAST_METER,
    FIRST_ELEMENT,
    LAST_ELEMENT,
    FIRST_OFFSET,
    LAST_OFFSET,
    IS_RETIRED,
    NEEDS_SIGNATURE,
) = range(8)
TERM_COLUMNS = 8

# TERM_METERS
(TM_NAME, TM_KIND, TM_CAPACITY, TM_MODULUS, TM_START_NEED, TM_BURST_HIGH, TM_BURST, TM_REORDER_AT, TM_UNIT) = range(9)
TERM_METER_COLUMNS = 9
"""TM_MODULUS is NONE where there is none; TM_BURST is the time that the burst needs; TM_REORDER_AT is the highest level
at which a policy orders, or NONE; TM_UNIT is a word.
"""

# ELEMENTS, COMPONENTS, OFFSETS
(START_MINUTE, END_MINUTE, START_DAY, END_DAY, WEEKDAYS, FIRST_COMPONENT, LAST_COMPONENT) = range(7)
ELEMENT_COLUMNS = 7
(COMPONENT_NAME, COMPONENT_PER, COMPONENT_PRICE) = range(3)
COMPONENT_COLUMNS = 3
(OFFSET_FROM, OFFSET_SECONDS) = range(2)
OFFSET_COLUMNS = 2

# WINDOWS
(
    START,  # epoch ms
    WINDOW_MACHINE,
    ADJUSTS,  # start of the window that it adjusts, or NONE
    READINGS,
    FIRST_OFFSET_OF,
    LAST_OFFSET_OF,
    SKIPPED,
    FLAGS,
    TRUST,
    FIRST_LINE,
    LINE_COUNT,
    WINDOW_TOUCHED,
    NEXT_FREE,
) = range(13)
WINDOW_COLUMNS = 13

# LINES
(LINE_NEXT, LINE_NAME, LINE_VERSION, LINE_PRICE, LINE_PER, LINE_USAGE) = range(6)
LINE_COLUMNS = 6

# HOLES: a boot's, inclusive pairs, ascending
HOLES_MAX = 16
HOLE_COUNT = 2 * (HOLES_MAX + 1)
HOLES_COLUMNS = HOLE_COUNT + 1

# SESSIONS: open prepaid ones; text k of all sessions is the name of session k
(SESSION_NEXT, SESSION_MACHINE, VALID_UNTIL, PAID, USE_HIGH, USE, ENDS_IN) = range(7)
SESSION_COLUMNS = 7
"""USE_HIGH and USE are the use in 1/3,600,000 of a micro, see `wide`. ENDS_IN is the start of a window or NONE."""

# EVENTS: levels that may order something (rule 29)
(EVENT_METER, EVENT_VALUE, EVENT_OBSERVED, EVENT_NOW, EVENT_OFFSET, EVENT_ROW) = range(6)
EVENT_COLUMNS = 6

WRITTEN_WHOLE = (WINDOWS, LINES, HOLES, EVENTS, TOUCHED)
"""Whoever takes a line of these into use writes all of it that is read; an unused line of any other holds NONE."""

# TOUCHED: four lists, of what changed since the state was last written
(TOUCHED_METER, TOUCHED_WINDOW, TOUCHED_MACHINE, TOUCHED_CARRY) = range(4)
TOUCHED_COLUMNS = 4
TOUCHES = np.array(
    [[METERS, METER_TOUCHED], [WINDOWS, WINDOW_TOUCHED], [MACHINES, MACHINE_TOUCHED], [VERSIONS, CARRY_TOUCHED]]
)
"""For each list the matrix whose lines it names, and the column that says that a line is in it. Their lengths stand in
this order in the clock, from METERS_TOUCHED on.
"""

WIDTHS = (
    MACHINE_COLUMNS,
    METER_COLUMNS,
    VERSION_COLUMNS,
    TERM_COLUMNS,
    TERM_METER_COLUMNS,
    ELEMENT_COLUMNS,
    COMPONENT_COLUMNS,
    OFFSET_COLUMNS,
    WINDOW_COLUMNS,
    LINE_COLUMNS,
    HOLES_COLUMNS,
    SESSION_COLUMNS,
    EVENT_COLUMNS,
    TOUCHED_COLUMNS,
    CONTENT_COLUMNS,
)

# The clock and the counters: one line of integers
(
    NOW,  # stream time (epoch ms)
    EARLIEST_OPEN,
    NEXT_SEAL,  # stream time at which something seals
    WINDOW_MS,
    SKEW_MS,
    HORIZON_MS,
    ACCEPTED_COUNT,
    DUPLICATE_COUNT,
    WINDOWS_USED,
    FREE_WINDOW,
    LINES_USED,
    FREE_LINE,
    HOLES_USED,
    TEXTS_USED,
    EVENTS_USED,
    METERS_TOUCHED,
    WINDOWS_TOUCHED,
    MACHINES_TOUCHED,
    CARRIES_TOUCHED,
    WINDOWS_OPEN,
    REFUSED_COUNT,
) = range(21)
CLOCK_COLUMNS = 21

ABSENT = NONE
