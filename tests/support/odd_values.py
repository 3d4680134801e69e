"""Values of reading records as a hostile or broken gateway may send them, and whether kernel and definition agree."""

import hashlib
import json
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from msgspec import UNSET

from schemas.reading import Reading
from streams.core.encode import arrow_value
from streams.core.kernel import columns as c
from streams.core.kernel.entries import Entries, Written
from streams.core.kernel.readings import Readings
from streams.core.records import ARROW, JSON, Record, decode_plainly, decode_readings

TOKENS = [
    b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"-", b"0", b"1e3", b".5", b"5.0", b"true", b"false", b"null",
    b" ", b"\n", b"\t", b"\r", b"\0", b"\x0b", b"\x1f", b"\x7f", b"\x80", b"\xc3\xa9", b"\xff", b"\xef\xbb\xbf",
    b"9007199254740992", b"9007199254740993", b"99999999999999999", b"999999999999999999", b"9" * 25, b"-1", b"-0",
    b"00", b"1E400", b"\\u0041", b"\\ud800", b'"level":5', b',"session":"s1"', b',"session_started_at":1555232400000',
    b',"session_start":true', b',"session_end":true', b',"reconstructed":false', b'"boot":2', b'"quantity":-0',
    b',"volts":231.4', b',"note":"x"', b',"more":{"a":[1]}', b',"none":null', b'"', b'*', b"a" * 70,
]  # fmt: skip
"""What is put into values: JSON's own signs, integers at the bounds, odd characters, members."""

IDS = ("m-1", "EVSE*7:x", "a" * 64, "a" * 65, "", "m 1", "mé")
VALUES = (0, 5, 10**6, 2**53 - 1, 2**53, 2**53 + 1, 10**17, -1)


def json_row(draw: random.Random) -> bytes:
    """A reading, mostly well formed; its members in any order, and spelled in any way that JSON allows."""
    moment = 1_555_232_400_000
    row = {
        "machine": draw.choice(("m-1", "EVSE*7:x", "a" * 64, "a" * 65, "", "m 1", "mé"))
        if draw.random() < 0.3
        else "m",
        "meter": "energy",
        "boot": draw.randrange(3),
        "seq": draw.randrange(99),
        "observed_at": moment,
        draw.choice(("register", "quantity", "level")): draw.choice(VALUES[: 8 if draw.random() < 0.2 else 5]),
    }
    if draw.random() < 0.3:
        row |= {"session": draw.choice(("a-1", "b")), "session_started_at": moment + draw.randrange(-2, 2)}
    for mark in ("session_start", "session_end", "reconstructed"):
        if draw.random() < 0.15:
            row[mark] = draw.random() < 0.7
    if draw.random() < 0.2:
        row[draw.choice(("volts", "machines", "seqs", "Seq"))] = draw.choice((1, -2.25, "x", None, True, [], 0.1, 1e30))
    names = list(row)
    if draw.random() < 0.3:
        draw.shuffle(names)
    comma, colon = draw.choice(((",", ":"), (", ", ": "), (" ,\n", "\t: ")))
    return ("{" + comma.join(f"{_json(name)}{colon}{_json(row[name])}" for name in names) + "}").encode()


def json_value(draw: random.Random) -> bytes:
    """One row or an array of some, then cut, or with bytes put in, taken away or exchanged."""
    if draw.random() < 0.6:
        value = json_row(draw)
    else:
        rows = draw.choice((b",", b", ", b"\n,")).join(json_row(draw) for _ in range(draw.randrange(1, 5)))
        value = b"[" + rows + draw.choice((b"]", b"]", b" ]\n"))
    for _ in range(draw.choice((0, 0, 0, 1, 1, 1, 2, 3))):
        at = draw.randrange(len(value) + 1)
        match draw.randrange(16):
            case 0:
                value = value[:at]
            case 1 | 2 | 3 | 4 | 5:
                value = value[:at] + draw.choice(TOKENS) + value[at:]
            case 6 | 7:
                value = value[:at] + value[at + draw.randrange(1, 6) :]
            case 8 | 9 | 10 | 11:
                value = value[:at] + bytes([draw.randrange(256)]) + value[at + 1 :]
            case 12 | 13 | 14:
                value = value[:at] + draw.choice(TOKENS) + value[at + draw.randrange(1, 9) :]
            case _:
                value = draw.randbytes(draw.randrange(20))
    return value


def arrow_body(draw: random.Random) -> bytes:
    """An Arrow stream: of the plain schema, with nulls, several batches, or columns that only Arrow's reader knows."""
    count = draw.choice((1, 2, 7, 8, 9, 40))
    moment = 1_555_232_400_000

    def some(values: Sequence[Any], kind: Any) -> Any:
        share = draw.choice((0.0, 0.0, 0.0, 0.3, 1.0))
        return pa.array([None if draw.random() < share else draw.choice(values) for _ in range(count)], kind)

    ids = ("m", "EVSE*7", "a" * 64) if draw.random() < 0.8 else ("m", "", "a" * 65, "m 1", "mé", "\n")
    text = draw.choice((pa.string(),) * 8 + (pa.large_string(),))
    number = draw.choice((pa.int64(),) * 8 + (pa.uint64(), pa.int32()))
    numbers = VALUES[:2] if number == pa.int32() else VALUES[:7] if number == pa.uint64() else VALUES
    columns = {
        "machine": some(ids, text),
        "meter": pa.array(["energy"] * count),
        "boot": some((0, 1), pa.int64()),
        "seq": pa.array(range(count), pa.int64()),
        "observed_at": pa.array([moment] * count, pa.int64()),
        draw.choice(("register", "quantity", "level")): some(numbers[: draw.choice((2, 5, 9))], number),
    }
    if draw.random() < 0.3:
        columns["level"] = some((1, 2), pa.int64())
    if draw.random() < 0.4:
        columns |= {"session": some(ids, pa.string()), "session_started_at": some((moment, moment + 1), pa.int64())}
    for mark in ("session_start", "session_end", "reconstructed"):
        if draw.random() < 0.3:
            columns[mark] = some((True, False), pa.bool_())
    if draw.random() < 0.1:
        columns["volts"] = some((1.5,), pa.float64())
    if draw.random() < 0.05:
        columns["session"] = pa.array(["a"] * count).dictionary_encode()
    return _stream(draw, columns)


def _stream(draw: random.Random, columns: dict[str, Any]) -> bytes:
    names = list(columns)
    if draw.random() < 0.3:
        draw.shuffle(names)
    fields = [
        pa.field(name, columns[name].type, nullable=columns[name].null_count > 0 or draw.random() < 0.8)
        for name in names
    ]
    meta = {b"a": b"b"} if draw.random() < 0.05 else None
    table = pa.table([columns[name] for name in names], pa.schema(fields, meta))
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=draw.choice((None,) * 12 + ("zstd", "lz4")))
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        for batch in table.to_batches(max_chunksize=draw.choice((3, 1_000, 1_000))):
            writer.write_batch(batch)
    return bytes(sink.getvalue().to_pybytes())


def arrow_value_spoiled(draw: random.Random) -> bytes:
    """Such a stream with bits, bytes, integers or ranges of it changed."""
    value = bytearray(arrow_body(draw) if draw.random() < 0.9 else arrow_value([json_row(random.Random(1))]))
    for _ in range(draw.choice((0, 1, 1, 1, 2, 4))):
        at = draw.randrange(len(value)) if value else 0
        match draw.randrange(8):
            case 0:
                value[at : at + 1] = bytes([draw.randrange(256)])
            case 1:
                at &= ~3
                value[at : at + 4] = draw.choice(
                    (b"\xff" * 4, b"\0\0\0\x80", b"\xff\xff\xff\x7f", bytes(4), b"\1\0\0\0")
                )
            case 2:
                at &= ~7
                value[at : at + 8] = draw.choice((2**64 - 1, 2**63 - 1, 2**40, 2**31, 0)).to_bytes(8, "little")
            case 3:
                del value[at : at + draw.randrange(1, 9)]
            case 4:
                value[at:at] = draw.randbytes(draw.randrange(1, 9))
            case 5:
                other, size = draw.randrange(len(value) + 1), draw.randrange(1, 33)
                value[at : at + size] = value[other : other + size]
            case 6:
                del value[at:]
            case _:
                if value:
                    value[at % len(value)] ^= 1 << draw.randrange(8)
    return bytes(value)


class Compared:
    """Values that kernel and definition have read: how often each decided, what differs, a digest of all rows."""

    def __init__(self) -> None:
        self.became: Counter[str] = Counter()
        self.differ: list[tuple[bytes, object, object]] = []
        self.hash = hashlib.sha256()

    def add(self, values: Sequence[bytes], content_type: str) -> None:
        """Reads the values of one slice."""
        headers = [("content-type", content_type.encode())]
        entries = Entries()
        entries.add(Written([Record(offset, 0, None, value, headers) for offset, value in enumerate(values)]))
        readings, line = _Counted(entries), 0
        while line < len(values):
            first = line
            line, rows = readings.read(line)
            for k in range(first, line):
                mine = seen(entries, rows, k)
                whole = decode_plainly(values[k]) if content_type == JSON else decode_readings(values[k], content_type)
                if mine != whole:
                    self.differ.append((values[k], mine, whole))
                self.became[mine if isinstance(mine, str) else "rows"] += 1
                self.hash.update(repr(mine).encode())
        self.became["asked"] += readings.asked


class _Counted(Readings):
    asked = 0

    def _ask(self, line: int, used: int) -> int:
        self.asked += 1
        return super()._ask(line, used)


def seen(entries: Entries, rows: c.Matrix, k: int) -> list[Reading | None] | str:
    """What the columns say of a record, in the definition's own terms."""
    line = entries.records[k].tolist()
    if line[c.REFUSED]:
        return c.reason_of(line[c.REFUSED])
    own = rows[line[c.FIRST_ROW] : line[c.FIRST_ROW] + line[c.ROWS]].tolist()
    if [(row[c.RECORD], row[c.ROW]) for row in own] != [(k, number) for number in range(len(own))]:
        return "rows that are not the record's"
    return [reading_of(entries, row) for row in own]


def reading_of(entries: Entries, row: list[int]) -> Reading | None:
    """A row as an object."""
    if row[c.VERDICT] != c.ACCEPTED:
        return None
    values: list[Any] = [UNSET, UNSET, UNSET]
    values[row[c.KIND]] = row[c.VALUE]
    texts = [c.text(entries.buffer, row[at], row[at + 1]) for at in (c.MACHINE_AT, c.METER_AT, c.SESSION_AT)]
    return Reading(
        texts[0], texts[1], row[c.BOOT], row[c.SEQ], row[c.OBSERVED_AT], *values,
        texts[2] if row[c.SESSION_LEN] else UNSET,
        UNSET if row[c.STARTED_AT] == c.NONE else row[c.STARTED_AT],
        *(bool(row[c.MARKS] & bit) for bit in (c.IS_START, c.IS_END, c.IS_RECONSTRUCTED)),
    )  # fmt: skip


def compare(count: int, seed: int, spoil: Any, content_type: str) -> Compared:
    """So many values, drawn from the seed, in slices of 500."""
    draw, compared = random.Random(seed), Compared()
    for first in range(0, count, 500):
        compared.add([spoil(draw) for _ in range(min(500, count - first))], content_type)
    return compared


JSON_VALUES, ARROW_VALUES = (json_value, JSON), (arrow_value_spoiled, ARROW)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
