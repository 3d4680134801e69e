"""In which rows of raw records a reading stands, well formed or not."""

from functools import reduce

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct, to_builtins

from schemas.reading import READING
from streams.core.arrow_rows import decode_batches
from streams.core.log_root import RECORDS, records_from
from streams.core.records import ARROW, JSON, Record, media_type, plain_object, record_type


class ReadingName(Struct, frozen=True):
    """What names a reading."""

    machine: str
    meter: str
    boot: int
    seq: int

    def __str__(self) -> str:
        return f"{self.machine} {self.meter}, boot {self.boot}, seq {self.seq}"


def records_naming(batch: pa.RecordBatch, machine: str) -> list[Record]:
    """The records of an archive's batch whose values may name a machine: plainly, or with escapes in JSON."""
    values = batch.column(RECORDS.names.index("value"))
    named = pc.or_(pc.match_substring(values, machine.encode()), pc.match_substring(values, b"\\"))
    table = pa.Table.from_batches([batch]).filter(named).cast(RECORDS)
    return [record for part in table.to_batches() for record in records_from(part)]


def rows_of(record: Record, name: ReadingName) -> list[int]:
    """The rows of a reading record that carry a name, well formed or not.

    An Arrow record that is refused as a whole has no rows.
    """
    if record_type(record) != READING or record.value is None:
        return []
    content_type = media_type(record)
    if content_type == ARROW:
        return _arrow_rows(record.value, name)
    return _json_rows(record.value, name) if content_type == JSON else []


def _json_rows(value: bytes, name: ReadingName) -> list[int]:
    if str(name.seq).encode() not in value:
        return []
    try:
        decoded = plain_object(value)
    except msgspec.DecodeError:
        return []
    wanted = to_builtins(name)
    return [
        row
        for row, item in enumerate(decoded if isinstance(decoded, list) else [decoded])
        if isinstance(item, dict) and all(_is_same(item.get(part), wanted[part]) for part in wanted)
    ]


def _is_same(found: object, wanted: object) -> bool:
    """Equal and of one type: true is not 1."""
    return type(found) is type(wanted) and found == wanted


def _arrow_rows(value: bytes, name: ReadingName) -> list[int]:
    batches = decode_batches(value)
    rows: list[int] = []
    if isinstance(batches, str):
        return rows
    wanted = to_builtins(name)
    start = 0
    for batch in batches:
        if set(wanted) <= set(batch.schema.names):
            same = [pc.equal(batch.column(part), wanted[part]) for part in wanted]
            rows += [start + row for row in pc.indices_nonzero(reduce(pc.and_, same)).to_pylist()]
        start += batch.num_rows
    return rows
