"""Readings in an Arrow IPC stream become lines of `rows`: streams of the plain schema that `encode.arrow_value` writes.

A stream is a message with the schema, messages with record batches, and an end:
https://arrow.apache.org/docs/format/Columnar.html#ipc-streaming-format. Each message is a FlatBuffer (Message.fbs,
Schema.fbs), and a body that the buffers of a record batch lie in, for each column: where it is valid, where its texts
begin, its data.

Read here is what has columns of a reading's fields only, each once, as int64, utf8 or bool, uncompressed, with nulls or
without, and is right in all that Arrow checks. All else is left to `streams.core.arrow_rows` by ASK.
"""

from schemas.reading import ROWS_MAX
from schemas.units import COUNT_MAX
from streams.core.kernel import columns as c
from streams.core.kernel.columns import ASK, NONE, Bytes, Matrix, Words
from streams.core.kernel.compiled import compiled
from streams.core.kernel.flatbuffer import (
    count_of,
    field_at,
    followed,
    int32_at,
    int64_at,
    is_table,
    target_of,
    uint16_at,
    uint32_at,
)
from streams.core.kernel.json_rows import (
    COLUMN_OF,
    COUNT,
    EVIDENCE,
    FLAG,
    ID_MAX,
    IS_ID,
    KIND_OF,
    LEVEL,
    REGISTER,
    SORT_OF,
    TEXT,
    is_reading,
)
from streams.core.kernel.words import FIELDS, byte, is_word

CONTINUATION = 0xFFFF_FFFF
"""What every message begins with; its length follows, 0 at the end of the stream."""

SCHEMA_HEADER, BATCH_HEADER = 1, 3
"""Kinds of messages (Message.fbs: MessageHeader)."""

VERSION_5 = 4
INT, UTF8, BOOL = 2, 5, 6
"""Kinds of columns (Schema.fbs: Type)."""

FIELD, NULLABLE, NULLS, VALID_AT, VALID_LEN, OFFSETS_AT, OFFSETS_LEN, DATA_AT, DATA_LEN = range(9)
PLAN_COLUMNS = 9
"""A line of the plan: a column's field, whether it may have nulls, how many, and where its buffers are in the batch at
hand; OFFSETS only of texts. The plan has a line for each field of a reading.
"""

WRONG = 1 << 40
"""Beside the bits of the fields that a row has: one of them has a value that it may not have."""


@compiled
def message_end(words: Words, p: int, end: int) -> int:
    """The end of the metadata of the message at `p`; `p` itself at the end of the stream, else ASK."""
    if p == end:
        return p
    if end - p < 8 or uint32_at(words, p) != CONTINUATION:
        return ASK
    size = int32_at(words, p + 4)
    if size == 0:
        return p if p + 8 == end else ASK
    return ASK if size < 0 or size & 7 or size > end - p - 8 else p + 8 + size


@compiled
def message_header(words: Words, buffer: Bytes, base: int, end: int, kind: int) -> tuple[int, int]:
    """The table in the message [base, end), if it is of that kind: (its position or ASK, the length of the body)."""
    message = followed(words, base, end, base)
    if message == ASK or not is_table(words, base, end, message, 4):
        return ASK, 0
    version, found = field_at(words, base, end, message, 0, 2), field_at(words, base, end, message, 1, 1)
    header, length = target_of(words, base, end, message, 2), field_at(words, base, end, message, 3, 8)
    if version <= 0 or found <= 0 or header <= 0 or length == ASK:
        return ASK, 0
    body = int64_at(words, length) if length else 0
    if uint16_at(words, version) != VERSION_5 or byte(buffer, found) != kind or body < 0 or body & 7:
        return ASK, 0
    return header, body


@compiled
def is_int64(words: Words, buffer: Bytes, base: int, end: int, table: int) -> bool:
    """Whether an Int table says: 64 bits, signed."""
    if not is_table(words, base, end, table, 2):
        return False
    bits, is_signed = field_at(words, base, end, table, 0, 4), field_at(words, base, end, table, 1, 1)
    if bits <= 0 or is_signed <= 0:
        return False
    return int32_at(words, bits) == 64 and byte(buffer, is_signed) == 1


@compiled
def read_field(words: Words, buffer: Bytes, base: int, end: int, table: int, plan: Matrix, k: int) -> bool:
    """Whether a Field table describes a column of a reading's field, in its type; then it is line `k` of the plan."""
    if not is_table(words, base, end, table, 6):
        return False
    name, nullable = target_of(words, base, end, table, 0), field_at(words, base, end, table, 1, 1)
    kind, details = field_at(words, base, end, table, 2, 1), target_of(words, base, end, table, 3)
    dictionary, children = target_of(words, base, end, table, 4), target_of(words, base, end, table, 5)
    if name <= 0 or nullable == ASK or kind <= 0 or details <= 0 or dictionary != 0 or children == ASK:
        return False
    if children != 0 and uint32_at(words, children) != 0:
        return False
    size = count_of(words, base, end - 1, name, 1)
    if size < 0 or byte(buffer, name + 4 + size) != 0:
        return False
    plan[k, FIELD] = NONE
    for field in range(len(FIELDS)):
        if is_word(buffer, name + 4, size, field):
            plan[k, FIELD] = field
    plan[k, NULLABLE] = byte(buffer, nullable) if nullable else 0
    if plan[k, FIELD] == NONE or plan[k, FIELD] == EVIDENCE or plan[k, NULLABLE] > 1:
        return False
    sort, kind = SORT_OF[plan[k, FIELD]], byte(buffer, kind)
    if sort == COUNT:
        return kind == INT and is_int64(words, buffer, base, end, details)
    return kind == (UTF8 if sort == TEXT else BOOL) and is_table(words, base, end, details, 0)


@compiled
def read_schema(words: Words, buffer: Bytes, base: int, end: int, plan: Matrix) -> int:
    """The columns of the schema in the message [base, end) into the plan: their number, or ASK."""
    schema, body = message_header(words, buffer, base, end, SCHEMA_HEADER)
    if schema == ASK or body != 0 or not is_table(words, base, end, schema, 2):
        return ASK
    endianness, fields = field_at(words, base, end, schema, 0, 2), target_of(words, base, end, schema, 1)
    if fields <= 0 or endianness == ASK or (endianness and uint16_at(words, endianness) != 0):
        return ASK
    count = count_of(words, base, end, fields, 4)
    if count < 1 or count > len(plan):
        return ASK
    seen = 0
    for k in range(count):
        table = followed(words, base, end, fields + 4 + 4 * k)
        if table == ASK or not read_field(words, buffer, base, end, table, plan, k) or seen >> plan[k, FIELD] & 1:
            return ASK
        seen |= 1 << plan[k, FIELD]
    return count


@compiled
def locate(words: Words, p: int, body: int, size: int, plan: Matrix, k: int, column: int) -> bool:
    """Whether the Buffer struct at `p` lies in a body of that size; its position and length are put into the plan."""
    offset, extent = int64_at(words, p), int64_at(words, p + 8)
    plan[k, column], plan[k, column + 1] = body + offset, extent
    return offset >= 0 and offset & 7 == 0 and extent >= 0 and offset <= size and extent <= size - offset


@compiled
def bit_at(buffer: Bytes, bitmap: int, r: int) -> int:
    """A row's bit in a bitmap."""
    return byte(buffer, bitmap + (r >> 3)) >> (r & 7) & 1


@compiled
def is_column(words: Words, buffer: Bytes, plan: Matrix, k: int, rows: int) -> bool:
    """Whether the buffers of a column are long enough for its rows, and hold what Arrow checks of them."""
    bitmap = (rows + 7) >> 3
    if plan[k, NULLS] > 0:
        if plan[k, NULLABLE] == 0 or plan[k, VALID_LEN] < bitmap:
            return False
        nulls = 0
        for r in range(rows):
            nulls += not bit_at(buffer, plan[k, VALID_AT], r)
        if nulls != plan[k, NULLS]:
            return False
    sort = SORT_OF[plan[k, FIELD]]
    if sort != TEXT:
        return bool(plan[k, DATA_LEN] >= (bitmap if sort == FLAG else 8 * rows))
    if plan[k, OFFSETS_LEN] < 4 * (rows + 1):
        return False
    before = 0
    for r in range(rows + 1):
        offset = int32_at(words, plan[k, OFFSETS_AT] + 4 * r)
        if offset < before or offset > plan[k, DATA_LEN]:
            return False
        before = offset
    return True


@compiled
def read_batch(
    words: Words, buffer: Bytes, base: int, end: int, stop: int, plan: Matrix, count: int
) -> tuple[int, int]:
    """Where the columns of the record batch in the message [base, end) lie, into the plan: (rows or ASK, body's end).

    The body begins at `end`, the value ends at `stop`.
    """
    batch, size = message_header(words, buffer, base, end, BATCH_HEADER)
    if batch == ASK or size > stop - end or not is_table(words, base, end, batch, 3):
        return ASK, 0
    length = field_at(words, base, end, batch, 0, 8)
    nodes, buffers = target_of(words, base, end, batch, 1), target_of(words, base, end, batch, 2)
    if length <= 0 or nodes <= 0 or buffers <= 0 or count_of(words, base, end, nodes, 16) != count:
        return ASK, 0
    rows, left = int64_at(words, length), count_of(words, base, end, buffers, 16)
    if rows < 1 or rows > ROWS_MAX:
        return ASK, 0
    for k in range(count):
        node, p = nodes + 4 + 16 * k, buffers + 4
        parts = 3 if SORT_OF[plan[k, FIELD]] == TEXT else 2
        plan[k, NULLS] = int64_at(words, node + 8)
        if left < parts or int64_at(words, node) != rows or plan[k, NULLS] < 0 or plan[k, NULLS] > rows:
            return ASK, 0
        is_there = locate(words, p, end, size, plan, k, VALID_AT)
        if parts == 3:
            is_there &= locate(words, p + 16, end, size, plan, k, OFFSETS_AT)
        is_there &= locate(words, p + 16 * (parts - 1), end, size, plan, k, DATA_AT)
        if not is_there or not is_column(words, buffer, plan, k, rows):
            return ASK, 0
        buffers, left = buffers + 16 * parts, left - parts
    return (rows if left == 0 else ASK), end + size


@compiled
def read_text(words: Words, buffer: Bytes, plan: Matrix, k: int, r: int) -> tuple[int, int]:
    """A row's text: (its position, its length; NONE if it is no id, ASK if it is not ASCII)."""
    offset = int32_at(words, plan[k, OFFSETS_AT] + 4 * r)
    size = int32_at(words, plan[k, OFFSETS_AT] + 4 * r + 4) - offset
    at, is_id = plan[k, DATA_AT] + offset, 1 <= size <= ID_MAX
    for p in range(at, at + size):
        letter = byte(buffer, p)
        if letter >= 0x80:
            return at, ASK
        is_id &= KIND_OF[letter] & IS_ID != 0
    return at, (size if is_id else NONE)


@compiled
def fill_column(words: Words, buffer: Bytes, plan: Matrix, k: int, rows: Matrix, first: int, count: int) -> bool:
    """A column of a batch into the lines from `first` on, what each row has into VERDICT. False: a text isn't ASCII."""
    field = plan[k, FIELD]
    sort, column, has_nulls = SORT_OF[field], COLUMN_OF[field], plan[k, NULLS] > 0
    for r in range(count):
        if has_nulls and not bit_at(buffer, plan[k, VALID_AT], r):
            continue
        line, is_right = first + r, True
        if sort == TEXT:
            at, size = read_text(words, buffer, plan, k, r)
            if size == ASK:
                return False
            rows[line, column], rows[line, column + 1] = at, size
            is_right = size != NONE
        elif sort == FLAG:
            rows[line, c.MARKS] |= column * bit_at(buffer, plan[k, DATA_AT], r)
        else:
            value = int64_at(words, plan[k, DATA_AT] + 8 * r)
            rows[line, column] = value
            is_right = 0 <= value <= COUNT_MAX
            if REGISTER <= field <= LEVEL:
                rows[line, c.KIND] = field - REGISTER
        rows[line, c.VERDICT] |= 1 << field
        if not is_right:
            rows[line, c.VERDICT] |= WRONG
    return True


@compiled
def read_arrow(words: Words, buffer: Bytes, p: int, end: int, rows: Matrix, first: int, plan: Matrix) -> int:
    """A whole value, buffer[p:end], into the lines from `first` on: how many rows it has, or ASK.

    `words` is the same buffer, eight bytes each. `rows` has room for ROWS_MAX lines from `first` on. RECORD is left to
    the caller.
    """
    size, used = end - p, 0
    stop = message_end(words, p, end)
    columns = ASK if stop <= p else read_schema(words, buffer, p + 8, stop, plan)
    if columns == ASK:
        return ASK
    p = stop
    while True:
        stop = message_end(words, p, end)
        if stop == p:
            break
        if stop == ASK:
            return ASK
        count, p = read_batch(words, buffer, p + 8, stop, end, plan, columns)
        if count == ASK or used + count > min(ROWS_MAX, size):
            return ASK
        for r in range(first + used, first + used + count):
            rows[r, c.ROW], rows[r, c.VERDICT] = r - first, 0
            rows[r, c.SESSION_AT], rows[r, c.SESSION_LEN], rows[r, c.STARTED_AT], rows[r, c.MARKS] = 0, 0, NONE, 0
        for k in range(columns):
            if not fill_column(words, buffer, plan, k, rows, first + used, count):
                return ASK
        for r in range(first + used, first + used + count):
            seen = rows[r, c.VERDICT]
            is_right = seen & WRONG == 0 and is_reading(seen, rows, r)
            rows[r, c.VERDICT] = c.ACCEPTED if is_right else c.MALFORMED
        used += count
    return used if used else ASK
