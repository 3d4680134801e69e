"""Unpacked record batches become lines of `records`: Kafka's message format v2, every length read with a bound.

A record is its length, a byte of attributes, timestamp and offset as differences to the batch's, key, value, and
headers: https://kafka.apache.org/documentation/#record. All integers in it are zigzag varints.
"""

from streams.core.kernel import columns as c
from streams.core.kernel.columns import NONE, Bytes, Matrix
from streams.core.kernel.compiled import compiled
from streams.core.kernel.words import (
    ARROW_WORD,
    CE_TYPE,
    CONTENT_TYPE,
    FIRST_TYPE,
    JSON_WORD,
    KEY_ID_WORD,
    SIGNATURE_WORD,
    byte,
    is_word,
    is_word_in_any_case,
)
from streams.core.records import HEADERS_BYTES_MAX, HEADERS_MAX, VALUE_MAX

WHOLE, DAMAGED, ODD_NAME, CROWDED = range(4)
"""What a batch is: all its records are read; its bytes are no records; the name of a header is not UTF-8; or it holds
more than BATCH_HEADERS_MAX headers, two bytes each, which would be gigabytes to whoever lists them.
"""

BATCH_HEADERS_MAX = 1 << 20

OFFSET_MAX = 2**62
"""A batch's first offset beyond it is damage."""


@compiled
def varint(buffer: Bytes, p: int, end: int) -> tuple[int, int]:
    """A zigzag varint of at most 64 bits: (value, the position after it); the position is NONE if it runs on."""
    raw, shift = 0, 0
    while p < end and shift < 64:
        part = byte(buffer, p)
        p += 1
        raw |= (part & 0x7F) << shift
        if part < 0x80:
            return ((raw >> 1) & 0x7FFF_FFFF_FFFF_FFFF) ^ -(raw & 1), p
        shift += 7
    return 0, NONE


@compiled
def text_size(buffer: Bytes, p: int, end: int) -> tuple[int, int]:
    """The length of a text at `p`, NONE for null, and its position; that is NONE if the text runs on beyond `end`."""
    size, p = varint(buffer, p, end)
    if p == NONE or size > end - p:
        return 0, NONE
    return max(size, NONE), p


@compiled
def is_utf8(buffer: Bytes, at: int, size: int) -> bool:
    """Whether these bytes are UTF-8 as Python decodes it: no overlong forms, no surrogates, nothing above 0x10FFFF."""
    end = at + size
    while at < end:
        lead = byte(buffer, at)
        at += 1
        if lead < 0x80:
            continue
        more = 1 if 0xC2 <= lead < 0xE0 else 2 if 0xE0 <= lead < 0xF0 else 3 if 0xF0 <= lead < 0xF5 else 0
        if more == 0 or at + more > end:
            return False
        second = byte(buffer, at)
        if (lead == 0xE0 and second < 0xA0) or (lead == 0xED and second >= 0xA0):
            return False
        if (lead == 0xF0 and second < 0x90) or (lead == 0xF4 and second >= 0x90):
            return False
        for k in range(at, at + more):
            if byte(buffer, k) & 0xC0 != 0x80:
                return False
        at += more
    return True


@compiled
def is_blank(letter: int) -> bool:
    """Whether `str.strip` takes this ASCII character away."""
    return letter == 0x20 or 0x09 <= letter <= 0x0D or 0x1C <= letter <= 0x1F


@compiled
def media_of(buffer: Bytes, at: int, size: int) -> int:
    """The media type in these bytes, without parameters, in any case; ASK if they are not ASCII."""
    end = at
    while end < at + size and byte(buffer, end) != ord(";"):
        if byte(buffer, end) >= 0x80:
            return c.ASK
        end += 1
    while at < end and is_blank(byte(buffer, at)):
        at += 1
    while at < end and is_blank(byte(buffer, end - 1)):
        end -= 1
    if is_word_in_any_case(buffer, at, end - at, JSON_WORD):
        return c.JSON_MEDIA
    return c.ARROW_MEDIA if is_word_in_any_case(buffer, at, end - at, ARROW_WORD) else c.OTHER_MEDIA


@compiled
def type_of(buffer: Bytes, at: int, size: int) -> int:
    """The record type that these bytes name, NONE for any other."""
    for kind in range(len(c.TYPES)):
        if is_word(buffer, at, size, FIRST_TYPE + kind):
            return kind
    return NONE


@compiled
def refusal(records: Matrix, k: int, headers_bytes: int) -> int:
    """The reason to refuse a record before its value is looked into: sizes first, then the type; 0 for none."""
    size = records[k, c.VALUE_LEN]
    if size > VALUE_MAX or records[k, c.HEADERS] > HEADERS_MAX or headers_bytes > HEADERS_BYTES_MAX:
        return c.UNDECODABLE
    if records[k, c.TYPE] == NONE:
        return c.UNKNOWN_TYPE
    if records[k, c.TYPE] == c.TYPE_READING and (size == NONE or records[k, c.MEDIA] == c.OTHER_MEDIA):
        return c.UNDECODABLE
    return 0


@compiled
def read_headers(buffer: Bytes, p: int, stop: int, records: Matrix, k: int) -> int:
    """Type, media type, signed or not, and whether the record is refused as a whole (rule 1), from all headers.

    Of several headers of one name the last one counts. A null counts as empty.
    """
    records[k, c.TYPE], records[k, c.MEDIA], records[k, c.IS_SIGNED] = c.TYPE_READING, c.JSON_MEDIA, 0
    texts = 0
    for _ in range(records[k, c.HEADERS]):
        name_len, name_at = text_size(buffer, p, stop)
        if name_at < 0 or name_len < 0:
            return DAMAGED
        size, at = text_size(buffer, name_at + name_len, stop)
        if at == NONE:
            return DAMAGED
        if not is_utf8(buffer, name_at, name_len):
            return ODD_NAME
        size = max(size, 0)
        if is_word(buffer, name_at, name_len, CE_TYPE):
            records[k, c.TYPE] = type_of(buffer, at, size)
        elif is_word(buffer, name_at, name_len, CONTENT_TYPE):
            records[k, c.MEDIA] = media_of(buffer, at, size)
        elif is_word(buffer, name_at, name_len, SIGNATURE_WORD) or is_word(buffer, name_at, name_len, KEY_ID_WORD):
            records[k, c.IS_SIGNED] = 1
        texts += name_len + size
        p = at + size
    records[k, c.REFUSED], records[k, c.FIRST_ROW], records[k, c.ROWS] = refusal(records, k, texts), 0, 0
    return WHOLE if p == stop else DAMAGED


@compiled
def split_record(buffer: Bytes, p: int, stop: int, records: Matrix, k: int) -> int:
    """The record in buffer[p:stop], behind its attributes, into the line `k`: offset and timestamp as differences."""
    delta, p = varint(buffer, p, stop)
    if p == NONE:
        return DAMAGED
    records[k, c.TIMESTAMP] = delta
    delta, p = varint(buffer, p, stop)
    if p == NONE:
        return DAMAGED
    records[k, c.OFFSET] = delta
    size, p = text_size(buffer, p, stop)
    if p == NONE:
        return DAMAGED
    records[k, c.KEY_AT], records[k, c.KEY_LEN] = p, size
    size, p = text_size(buffer, p + max(size, 0), stop)
    if p == NONE:
        return DAMAGED
    records[k, c.VALUE_AT], records[k, c.VALUE_LEN] = p, size
    size, p = varint(buffer, p + max(size, 0), stop)
    if p == NONE or size < 0:
        return DAMAGED
    records[k, c.HEADERS_AT], records[k, c.HEADERS_LEN], records[k, c.HEADERS] = p, stop - p, size
    return read_headers(buffer, p, stop, records, k)


@compiled
def split(buffer: Bytes, p: int, end: int, base: int, timestamp: int, is_append: bool, records: Matrix) -> int:
    """The records in buffer[p:end], as many as `records` has lines, into these; WHOLE, or what is wrong.

    `base` is the batch's first offset. `timestamp` is that of all records (`is_append`), or what theirs differ from:
    their sum is within 64 bits as Java adds, round the ends.
    """
    if not 0 <= base <= OFFSET_MAX:
        return DAMAGED
    headers = 0
    for k in range(len(records)):
        size, p = varint(buffer, p, end)
        if p == NONE or size < 1 or size > end - p or byte(buffer, p) >= 0x80:  # no attribute of a record is in use
            return DAMAGED
        stop = p + size
        became = split_record(buffer, p + 1, stop, records, k)
        if became != WHOLE:
            return became
        if records[k, c.OFFSET] > 2**31 or records[k, c.OFFSET] < 0:
            return DAMAGED
        headers += records[k, c.HEADERS]
        if headers > BATCH_HEADERS_MAX:
            return CROWDED
        records[k, c.OFFSET] += base
        records[k, c.TIMESTAMP] = timestamp if is_append else timestamp + records[k, c.TIMESTAMP]
        p = stop
    return WHOLE if p == end else DAMAGED
