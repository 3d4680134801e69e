"""Which version is in force, what it says of a meter, and the price of a moment (rules 18, 19 and 22)."""

from schemas.units import DAY_MS, MINUTE_MS, SECOND_MS
from streams.core.kernel import tables as t
from streams.core.kernel.columns import NONE, Matrix
from streams.core.kernel.compiled import compiled
from streams.core.kernel.tables import Tables
from streams.core.rating import EPOCH_WEEKDAY


@compiled
def version_at(versions: Matrix, last: int, moment_ms: int) -> int:
    """The highest version in force at a moment, of those up to `last`; the first one always is."""
    version = last
    while versions[version, t.IN_FORCE_FROM] > moment_ms and versions[version, t.VERSION_BEFORE] != NONE:
        version = versions[version, t.VERSION_BEFORE]
    return version


@compiled
def registered_meter(terms: Matrix, term_meters: Matrix, term: int, name: int) -> int:
    """The line of TERM_METERS that says what a version registers of a meter, or NONE."""
    for g in range(terms[term, t.TERM_FIRST_METER], terms[term, t.TERM_LAST_METER]):
        if term_meters[g, t.TM_NAME] == name:
            return g
    return NONE


@compiled
def offset_at(tables: Tables, term: int, moment_ms: int) -> int:
    """Seconds east of UTC at a moment."""
    terms, offsets = tables[t.TERMS], tables[t.OFFSETS]
    k = terms[term, t.LAST_OFFSET] - 1
    while offsets[k, t.OFFSET_FROM] > moment_ms and k > terms[term, t.FIRST_OFFSET]:
        k -= 1
    return offsets[k, t.OFFSET_SECONDS]


@compiled
def holds(elements: Matrix, e: int, day: int, minute: int) -> bool:
    """Whether an element's restrictions hold: starts inclusive, ends exclusive, over midnight if the end is first."""
    start, end = elements[e, t.START_MINUTE], elements[e, t.END_MINUTE]
    if start < end:
        in_time = start <= minute < end
    else:
        in_time = start == end or minute >= start or minute < end
    weekday = (day + EPOCH_WEEKDAY) % 7
    return (
        in_time
        and elements[e, t.START_DAY] <= day < elements[e, t.END_DAY]
        and (elements[e, t.WEEKDAYS] >> weekday & 1) == 1
    )


@compiled
def find_price(tables: Tables, term: int, name: int, is_fee: bool, moment_ms: int) -> int:
    """The line of COMPONENTS that prices a meter's usage, or its sessions, at a moment; NONE if it has no price."""
    terms, elements, components = tables[t.TERMS], tables[t.ELEMENTS], tables[t.COMPONENTS]
    if terms[term, t.FIRST_ELEMENT] == terms[term, t.LAST_ELEMENT]:
        return NONE
    local_ms = moment_ms + offset_at(tables, term, moment_ms) * SECOND_MS
    day, minute = local_ms // DAY_MS, local_ms % DAY_MS // MINUTE_MS
    for e in range(terms[term, t.FIRST_ELEMENT], terms[term, t.LAST_ELEMENT]):
        for k in range(elements[e, t.FIRST_COMPONENT], elements[e, t.LAST_COMPONENT]):
            is_kind = (components[k, t.COMPONENT_PER] == 0) == is_fee
            if components[k, t.COMPONENT_NAME] == name and is_kind:
                if holds(elements, e, day, minute):
                    return k
                break
    return NONE
