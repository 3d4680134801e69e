"""The verdicts on rows, in the order of the log, by every rule that applies to them (rules 4 to 27 and 36)."""

from schemas.reject import WHOLE_RECORD
from schemas.units import CARRY_BASE, COUNT_MAX, DAY_MS, ELAPSED_MAX_MS
from schemas.window import HARDWARE_BACKED, LINES_MAX, flag_bits
from streams.core.kernel import columns as c
from streams.core.kernel import tables as t
from streams.core.kernel.columns import NONE, Bytes, Ints, Matrix, code_of
from streams.core.kernel.compiled import compiled
from streams.core.kernel.identity import EQUIVOCATION, judge_identity, need_texts
from streams.core.kernel.names import copy_text, find_machine, find_meter, is_text, put_text
from streams.core.kernel.price import find_price, registered_meter, version_at
from streams.core.kernel.tables import Tables, Texts
from streams.core.kernel.usage import (
    AFTER_AND_PROOF,
    AFTER_COLUMNS,
    AFTER_FROM,
    BEGIN,
    IS_PROVEN,
    OWN_PROVEN,
    TOO_HIGH,
    judge_usage,
)
from streams.core.kernel.wide import is_above, minus, plus, product, scale
from streams.core.kernel.windows import (
    bill,
    can_bill,
    find_line,
    find_window,
    note_offset,
    open_window,
    touch,
)
from streams.core.stream_time import TIMESTAMP_MAX_MS

UNKNOWN_MACHINE, BAD_SIGNATURE, FUTURE = (
    code_of("unknown_machine"),
    code_of("bad_signature"),
    code_of("from_the_future"),
)
UNKNOWN_METER, WRONG_KIND, RETIRED = code_of("unknown_meter"), code_of("wrong_kind"), code_of("retired")
TOO_LATE = code_of("too_late")

FEES, RECONSTRUCTED = flag_bits(["fees"]), flag_bits(["reconstructed"])
EVIDENCE, PROVEN = flag_bits(["evidence"]), flag_bits(["proven"])

FIRST_START_BUCKET = 10

DONE, SEALS, CONTROL, SIGNED = range(4)
"""Why `judge_records` stopped before a record: it is the last; windows seal; it is a control record; it is signed, by
whoever sent it or, a row of it, by a meter.
"""

TRUST_REFUSED = -1
"""The trust of a row whose record's signature does not verify."""

(OWN, BEGAN) = range(2)
PROOF_COLUMNS = 2
"""What is known of a row's evidence, a line a row: OWN is NO_EVIDENCE, or whether its register is proven; BEGAN is the
register at the begin of its transaction, or NONE.
"""
NO_EVIDENCE, UNPROVEN, REGISTER_PROVEN = range(3)


# What a row's session start comes to, behind the columns of usage in `after`
(PUSHES, NEW_LATEST, NEW_SLACK, FEE, FEE_VERSION, START_FLAGS) = range(AFTER_AND_PROOF, AFTER_AND_PROOF + 6)
ALL_AFTER = AFTER_AND_PROOF + 6
"""PUSHES is 1 for a row that starts a session; FEE is the line of COMPONENTS of a fee that is due, or NONE."""


@compiled
def moment_of(rows: Matrix, r: int) -> int:
    """Rule 5a: what a meter shows was used before it was read; a session's first row is at its start."""
    if rows[r, c.MARKS] & c.IS_START:
        return rows[r, c.OBSERVED_AT]
    return max(0, rows[r, c.OBSERVED_AT] - 1)


@compiled
def has_started(tables: Tables, texts: Texts, m: int, buffer: Bytes, rows: Matrix, r: int) -> bool:
    """Whether a row's session, with its start, is among the last four of some meter of the machine (rule 19)."""
    meters = tables[t.METERS]
    meter = tables[t.MACHINES][m, t.FIRST_METER]
    while meter != NONE:
        for k in range(meters[meter, t.STARTS]):
            if meters[meter, t.STARTED + k] == rows[r, c.STARTED_AT] and is_text(
                texts, meters[meter, t.TEXT] + 2 + k, buffer, rows[r, c.SESSION_AT], rows[r, c.SESSION_LEN]
            ):
                return True
        meter = meters[meter, t.NEXT_METER]
    return False


@compiled
def look_at_start(
    tables: Tables, texts: Texts, m: int, meter: int, g: int, buffer: Bytes, rows: Matrix, r: int, after: Ints
) -> None:
    """Rule 20: whether a row starts a session, and whether its fee is due."""
    meters, started_at = tables[t.METERS], rows[r, c.STARTED_AT]
    after[PUSHES], after[FEE], after[START_FLAGS] = 0, NONE, 0
    if rows[r, c.MARKS] & c.IS_START == 0:
        return
    for k in range(meters[meter, t.STARTS]):
        if is_text(texts, meters[meter, t.TEXT] + 2 + k, buffer, rows[r, c.SESSION_AT], rows[r, c.SESSION_LEN]):
            return  # Gateways that restart say it twice.
    if rows[r, c.OBSERVED_AT] - started_at > DAY_MS:
        after[START_FLAGS] = FEES
        return
    latest, slack = meters[meter, t.START_LATEST], meters[meter, t.START_SLACK]
    version = version_at(tables[t.VERSIONS], tables[t.MACHINES][m, t.LAST_VERSION], started_at)
    fee = find_price(
        tables, tables[t.VERSIONS][version, t.VERSION_TERMS], meters[meter, t.METER_NAME], True, started_at
    )
    if fee != NONE:
        need = tables[t.TERM_METERS][g, t.TM_START_NEED]
        elapsed = 0 if latest == NONE else min(max(0, started_at - latest), ELAPSED_MAX_MS)
        slack = FIRST_START_BUCKET * need if slack == NONE else min(FIRST_START_BUCKET * need, slack + elapsed)
        if slack >= need:
            slack -= need
            after[FEE], after[FEE_VERSION] = fee, version
        else:
            after[START_FLAGS] = FEES
    after[PUSHES], after[NEW_LATEST], after[NEW_SLACK] = 1, max(latest, started_at), slack


@compiled
def push_start(meters: Matrix, texts: Texts, clock: Ints, meter: int, buffer: Bytes, rows: Matrix, r: int) -> None:
    """Keeps a start as the last one; of four the oldest goes."""
    need_texts(meters, clock, meter)
    first = meters[meter, t.TEXT] + 2
    if meters[meter, t.STARTS] == t.STARTS_KEPT:
        for k in range(t.STARTS_KEPT - 1):
            meters[meter, t.STARTED + k] = meters[meter, t.STARTED + k + 1]
            copy_text(texts, first + k + 1, first + k)
        meters[meter, t.STARTS] -= 1
    k = meters[meter, t.STARTS]
    meters[meter, t.STARTED + k] = rows[r, c.STARTED_AT]
    put_text(texts, first + k, buffer, rows[r, c.SESSION_AT], rows[r, c.SESSION_LEN])
    meters[meter, t.STARTS] = k + 1


@compiled
def find_session(
    tables: Tables, session_names: Texts, m: int, buffer: Bytes, rows: Matrix, r: int
) -> int:  # fmt: skip
    """The open prepaid session that a row names, or NONE."""
    if rows[r, c.SESSION_LEN] == 0:
        return NONE
    s = tables[t.MACHINES][m, t.FIRST_SESSION]
    while s != NONE and not is_text(session_names, s, buffer, rows[r, c.SESSION_AT], rows[r, c.SESSION_LEN]):
        s = tables[t.SESSIONS][s, t.SESSION_NEXT]
    return s


@compiled
def worth(usage: int, price: int, per: int) -> tuple[int, int]:
    """What usage is worth, in 1/3,600,000 of a micro, as a pair; a fee has per 0."""
    high, low = product(usage, price)
    if high < 0:
        high, low = minus(0, 0, high, low)
        high, low = scale(high, low, CARRY_BASE // max(per, 1))
        return minus(0, 0, high, low)
    return scale(high, low, CARRY_BASE // max(per, 1))


@compiled
def use_after(
    sessions: Matrix, s: int, usage: int, price: int, per: int, fee_price: int
) -> tuple[bool, int, int]:  # fmt: skip
    """Whether a session can take this use, and its use then (rules 21 and 36)."""
    high, low = worth(usage, price, per)
    fee_high, fee = worth(1, fee_price, 0)
    high, low = plus(high, low, fee_high, fee)
    high, low = plus(sessions[s, t.USE_HIGH], sessions[s, t.USE], high, low)
    limit_high, limit = worth(COUNT_MAX, 1, 1)
    size_high, size = minus(0, 0, high, low) if high < 0 else (high, low)
    return not is_above(size_high, size, limit_high, limit), high, low


@compiled
def end_session(
    tables: Tables, window_index: Ints, clock: Ints, s: int, m: int, offset: int
) -> None:  # fmt: skip
    """Rule 37: the first row that ends a session chooses the window into which it closes, and opens it."""
    sessions, window_ms = tables[t.SESSIONS], clock[t.WINDOW_MS]
    if sessions[s, t.ENDS_IN] != NONE:
        return
    start = clock[t.NOW] - clock[t.NOW] % window_ms
    sessions[s, t.ENDS_IN] = start
    if sessions[s, t.VALID_UNTIL] - 1 < start:  # Its term's window is the first to seal.
        return
    windows = tables[t.WINDOWS]
    w = open_window(window_index, windows, clock, m, start, NONE)
    if windows[w, t.FIRST_OFFSET_OF] == NONE:
        note_offset(windows, w, offset)
    touch(tables, clock, t.TOUCHED_WINDOW, w)


@compiled
def place_of_moment(clock: Ints, moment_ms: int) -> tuple[int, int]:
    """(start, adjusts) of the window that holds a moment, or of an adjustment in the earliest open one."""
    start = moment_ms - moment_ms % clock[t.WINDOW_MS]
    if start < clock[t.EARLIEST_OPEN]:
        return clock[t.EARLIEST_OPEN], start
    return start, NONE


@compiled
def place_row(
    tables: Tables, window_index: Ints, clock: Ints, m: int, rows: Matrix, r: int, offset: int, skipped: int, flags: int
) -> int:
    """Rule 26: the window of an accepted reading, with its flags and offset."""
    windows = tables[t.WINDOWS]
    start, adjusts = place_of_moment(clock, moment_of(rows, r))
    w = open_window(window_index, windows, clock, m, start, adjusts)
    touch(tables, clock, t.TOUCHED_WINDOW, w)
    note_offset(windows, w, offset)
    windows[w, t.READINGS] += 1
    windows[w, t.SKIPPED] += skipped
    windows[w, t.FLAGS] |= flags | (RECONSTRUCTED if rows[r, c.MARKS] & c.IS_RECONSTRUCTED else 0)
    return w


@compiled
def note_level(
    tables: Tables, clock: Ints, m: int, meter: int, rows: Matrix, r: int, offset: int
) -> None:  # fmt: skip
    """Rule 29: a level that may order something, by the version in force at stream time, is an event."""
    meters, observed_at = tables[t.METERS], rows[r, c.OBSERVED_AT]
    is_newest = observed_at > meters[meter, t.LEVEL_AT]
    meters[meter, t.LEVEL_AT] = max(observed_at, meters[meter, t.LEVEL_AT])
    if not is_newest or observed_at < clock[t.NOW] - DAY_MS:
        return
    versions = tables[t.VERSIONS]
    version = version_at(versions, tables[t.MACHINES][m, t.LAST_VERSION], clock[t.NOW])
    g = registered_meter(
        tables[t.TERMS], tables[t.TERM_METERS], versions[version, t.VERSION_TERMS], meters[meter, t.METER_NAME]
    )
    if g == NONE or rows[r, c.VALUE] > tables[t.TERM_METERS][g, t.TM_REORDER_AT]:
        return
    events, e = tables[t.EVENTS], clock[t.EVENTS_USED]
    events[e, t.EVENT_METER], events[e, t.EVENT_VALUE] = meter, rows[r, c.VALUE]
    events[e, t.EVENT_OBSERVED], events[e, t.EVENT_NOW] = observed_at, clock[t.NOW]
    events[e, t.EVENT_OFFSET], events[e, t.EVENT_ROW] = offset, rows[r, c.ROW]
    clock[t.EVENTS_USED] = e + 1


@compiled
def is_before_session(rows: Matrix, r: int) -> bool:
    """What a register shows at a session's start was used before it."""
    return rows[r, c.MARKS] & c.IS_START != 0 and rows[r, c.KIND] == c.REGISTER


@compiled
def is_by_session(tables: Tables, texts: Texts, m: int, buffer: Bytes, rows: Matrix, r: int, after: Ints) -> bool:
    """Rule 19: whether a row keeps its session's version: it starts it, or the machine has started it."""
    if rows[r, c.SESSION_LEN] == 0 or is_before_session(rows, r):
        return False
    return after[PUSHES] == 1 or has_started(tables, texts, m, buffer, rows, r)


@compiled
def settle_row(
    tables: Tables, texts: Texts, session_names: Texts, window_index: Ints, clock: Ints, after: Ints, buffer: Bytes,
    rows: Matrix, r: int, m: int, meter: int, g: int, usage: int, flags: int, skipped: int, trust: int, offset: int,
) -> int:  # fmt: skip
    """Rules 19 to 21: what a plausible row bills. ACCEPTED once all of it is applied, TOO_HIGH if nothing is."""
    meters, versions, components, lines = (
        tables[t.METERS], tables[t.VERSIONS], tables[t.COMPONENTS], tables[t.LINES]
    )  # fmt: skip
    name, last = meters[meter, t.METER_NAME], tables[t.MACHINES][m, t.LAST_VERSION]
    look_at_start(tables, texts, m, meter, g, buffer, rows, r, after)
    is_before, moment_ms = is_before_session(rows, r), moment_of(rows, r)
    by_session = is_by_session(tables, texts, m, buffer, rows, r, after)
    version = version_at(versions, last, rows[r, c.STARTED_AT] if by_session else moment_ms)
    start, adjusts = place_of_moment(clock, moment_ms)
    w = find_window(window_index, tables[t.WINDOWS], m, start, adjusts)
    number, price, per, line, new_lines = versions[version, t.VERSION_NO], 0, 1, NONE, 0
    if usage > 0:
        k = find_price(tables, versions[version, t.VERSION_TERMS], name, False, moment_ms)
        if k != NONE:
            price, per = components[k, t.COMPONENT_PRICE], components[k, t.COMPONENT_PER]
        line = find_line(tables, w, name, number, price, per)
        new_lines += line == NONE
        if not can_bill(lines, line, usage, price, per):
            return TOO_HIGH
    fee, fee_number, fee_price, fee_line = after[FEE], 0, 0, NONE
    if fee != NONE:
        fee_number, fee_price = versions[after[FEE_VERSION], t.VERSION_NO], components[fee, t.COMPONENT_PRICE]
        fee_line = find_line(tables, w, name, fee_number, fee_price, 0)
        new_lines += fee_line == NONE
        if not can_bill(lines, fee_line, 1, fee_price, 0):
            return TOO_HIGH
    if new_lines + (0 if w == NONE else tables[t.WINDOWS][w, t.LINE_COUNT]) > LINES_MAX:
        return TOO_HIGH
    s = find_session(tables, session_names, m, buffer, rows, r)
    if s != NONE:
        fits, high, low = use_after(tables[t.SESSIONS], s, 0 if is_before else usage, price, per, fee_price)
        if not fits:
            return TOO_HIGH
        tables[t.SESSIONS][s, t.USE_HIGH], tables[t.SESSIONS][s, t.USE] = high, low
    for column in range(AFTER_COLUMNS):
        meters[meter, AFTER_FROM + column] = after[column]
    if usage > 0 or fee != NONE:
        flags |= PROVEN if after[IS_PROVEN] else 0
        trust = HARDWARE_BACKED if after[IS_PROVEN] else trust  # Rule 42
    w = place_row(tables, window_index, clock, m, rows, r, offset, skipped, flags | after[START_FLAGS])
    if usage > 0:
        bill(tables, clock, w, line, name, number, price, per, usage)
    if fee != NONE:
        bill(tables, clock, w, fee_line, name, fee_number, fee_price, 0, 1)
    if usage > 0 or fee != NONE:  # Rule 27
        tables[t.WINDOWS][w, t.TRUST] = min(tables[t.WINDOWS][w, t.TRUST], trust)
    if after[PUSHES] == 1:
        push_start(meters, texts, clock, meter, buffer, rows, r)
        meters[meter, t.START_LATEST], meters[meter, t.START_SLACK] = after[NEW_LATEST], after[NEW_SLACK]
    if s != NONE:
        touch(tables, clock, t.TOUCHED_MACHINE, m)
        if rows[r, c.MARKS] & c.IS_END:
            end_session(tables, window_index, clock, s, m, offset)
    return c.ACCEPTED


@compiled
def judge_row(
    tables: Tables, texts: Texts, words: Texts, session_names: Texts, names: Bytes, machine_index: Ints, key: int,
    window_index: Ints, clock: Ints, after: Ints, buffer: Bytes, rows: Matrix, r: int, trust: int, is_signed: bool,
    own: int, began: int, offset: int,
) -> int:  # fmt: skip
    """Rule 4: the first reason that applies. Once identity has passed, the row's number is used up, even if it is
    refused.
    """
    if rows[r, c.VERDICT] == c.MALFORMED:
        return c.MALFORMED
    machines, meters, versions, terms = tables[t.MACHINES], tables[t.METERS], tables[t.VERSIONS], tables[t.TERMS]
    m = find_machine(machine_index, key, machines, names, buffer, rows[r, c.MACHINE_AT], rows[r, c.MACHINE_LEN])
    if m == NONE:
        return UNKNOWN_MACHINE
    moment_ms = moment_of(rows, r)
    term = versions[version_at(versions, machines[m, t.LAST_VERSION], moment_ms), t.VERSION_TERMS]
    if trust == TRUST_REFUSED or (not is_signed and terms[term, t.NEEDS_SIGNATURE] == 1):  # Rule 27
        return BAD_SIGNATURE
    if rows[r, c.OBSERVED_AT] > clock[t.NOW] + clock[t.SKEW_MS]:
        return FUTURE
    meter = find_meter(machines, meters, words, m, buffer, rows[r, c.METER_AT], rows[r, c.METER_LEN])
    g = NONE if meter == NONE else registered_meter(terms, tables[t.TERM_METERS], term, meters[meter, t.METER_NAME])
    if g == NONE:
        return UNKNOWN_METER
    if tables[t.TERM_METERS][g, t.TM_KIND] != rows[r, c.KIND]:  # Rule 11
        return WRONG_KIND
    verdict, skipped = judge_identity(
        meters, tables[t.HOLES], texts, clock, meter, machines[m, t.LEAST_BOOT], buffer, rows, r
    )
    if verdict == EQUIVOCATION:  # Rule 9
        machines[m, t.IS_MARKED] = 1
        touch(tables, clock, t.TOUCHED_MACHINE, m)
    if verdict != c.ACCEPTED:
        return verdict
    touch(tables, clock, t.TOUCHED_METER, meter)
    if terms[term, t.IS_RETIRED] == 1:  # Rule 24
        return RETIRED
    # Rule 5: the horizon is asked only where the window of the moment is sealed.
    is_sealed = moment_ms - moment_ms % clock[t.WINDOW_MS] < clock[t.EARLIEST_OPEN]
    if is_sealed and rows[r, c.OBSERVED_AT] < clock[t.NOW] - clock[t.HORIZON_MS]:
        return TOO_LATE
    after[OWN_PROVEN], after[BEGIN] = own == REGISTER_PROVEN, began
    verdict, usage, flags = judge_usage(meters, meter, tables[t.TERM_METERS], g, rows, r, clock[t.NOW], after)
    if verdict != c.ACCEPTED:
        return verdict
    flags |= EVIDENCE if own == UNPROVEN else 0
    verdict = settle_row(
        tables, texts, session_names, window_index, clock, after, buffer, rows, r, m, meter, g, usage, flags, skipped,
        trust, offset,
    )  # fmt: skip
    if verdict == c.ACCEPTED and rows[r, c.KIND] == c.LEVEL:
        note_level(tables, clock, m, meter, rows, r, offset)
    return verdict


@compiled
def find_versions(
    tables: Tables, names: Bytes, machine_index: Ints, key: int, buffer: Bytes, rows: Matrix, first: int, versions: Ints
) -> None:
    """The version in force at the moment of each row from `first` on; NONE stays where no machine is known."""
    machines = tables[t.MACHINES]
    for k in range(len(versions)):
        r = first + k
        if rows[r, c.VERDICT] == c.MALFORMED:
            continue
        m = find_machine(machine_index, key, machines, names, buffer, rows[r, c.MACHINE_AT], rows[r, c.MACHINE_LEN])
        if m != NONE:
            versions[k] = version_at(tables[t.VERSIONS], machines[m, t.LAST_VERSION], moment_of(rows, r))


@compiled
def refuse(refused: Matrix, clock: Ints, line: int, row: int, code: int) -> None:
    """Notes a refused entry as the last one."""
    k = clock[t.REFUSED_COUNT]
    refused[k, c.REFUSED_LINE], refused[k, c.REFUSED_ROW], refused[k, c.REFUSED_CODE] = line, row, code
    clock[t.REFUSED_COUNT] = k + 1


@compiled
def judge_records(
    tables: Tables, texts: Texts, words: Texts, session_names: Texts, names: Bytes, machine_index: Ints, key: int,
    window_index: Ints, clock: Ints, after: Ints, buffer: Bytes, records: Matrix, k: int, last: int, rows: Matrix,
    trust: Ints, proofs: Matrix, trusted: int, refused: Matrix,
) -> tuple[int, int]:  # fmt: skip
    """(next record, why it stopped): judges the records from line `k` on, up to `last`.

    `trust` and `proofs` have a line for each row; those of record `trusted` are filled in. What is refused is added to
    `refused`. Arrays must have room for what the rows may open.
    """
    while k < last:
        stamp = records[k, c.TIMESTAMP]
        now_ms = max(clock[t.NOW], stamp if stamp <= TIMESTAMP_MAX_MS else NONE)
        if now_ms >= clock[t.NEXT_SEAL]:
            return k, SEALS
        clock[t.NOW] = now_ms
        if records[k, c.REFUSED] == 0:
            kind = records[k, c.TYPE]
            if kind > c.TYPE_HEARTBEAT:
                return k, CONTROL
            if kind == NONE:
                records[k, c.REFUSED] = c.UNKNOWN_TYPE
            elif kind == c.TYPE_HEARTBEAT:
                clock[t.ACCEPTED_COUNT] += 1
            elif (records[k, c.IS_SIGNED] == 1 or records[k, c.EVIDENCES] > 0) and k != trusted:
                return k, SIGNED
            else:
                first = records[k, c.FIRST_ROW]
                for r in range(first, first + records[k, c.ROWS]):
                    given, own, began = 0, NO_EVIDENCE, NONE
                    if k == trusted:
                        given, own, began = trust[r], proofs[r, OWN], proofs[r, BEGAN]
                    rows[r, c.VERDICT] = judge_row(
                        tables, texts, words, session_names, names, machine_index, key, window_index, clock,
                        after, buffer, rows, r, given, records[k, c.IS_SIGNED] == 1, own, began,
                        records[k, c.OFFSET],
                    )  # fmt: skip
                    if rows[r, c.VERDICT] <= c.DUPLICATE:
                        clock[t.ACCEPTED_COUNT + rows[r, c.VERDICT]] += 1
                    else:
                        refuse(refused, clock, k, rows[r, c.ROW], rows[r, c.VERDICT])
        if records[k, c.REFUSED] != 0:
            refuse(refused, clock, k, WHOLE_RECORD, records[k, c.REFUSED])
        k += 1
    return k, DONE
