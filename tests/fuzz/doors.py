"""Each place where bytes of strangers come in: one input goes in, and what becomes of it comes out as a word.

A door raises nothing that production doesn't catch: what else comes up is a crash.
"""

import json
import random
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy as Builder
from aiokafka.record.util import calc_crc32c

from deploy.explain.archive_source import ArchiveSource
from deploy.explain.audit_files import file_findings
from files.confined import ConfinedFiles, Overrun
from files.foreign import PlainFiles
from schemas.errors import InvalidInput
from schemas.manifest import Counts
from schemas.reading import READING
from schemas.units import DAY_MS
from settlement.audit.post_manifest import first_other, last_epochs, other_records
from settlement.audit.sources import SourceMissing
from settlement.head import PostHeader
from settlement.storage.published_post import PublishedPost
from streams.core.log_root import RECORDS
from streams.core.records import ARROW, KEY_ID, SIGNATURE, Record
from streams.core.replay import advance_through
from streams.core.state import State
from streams.kafka.raw_batches import RawBatches
from streams.kafka.whole_batches import why_unreadable
from streams.reference.vectors import log_of, read_document, records_of
from streams.storage.archive import skipped_from, slices_of
from tests.fuzz.conversation import Conversation
from tests.fuzz.spoiled import DEEP, spoiled_bytes, spoiled_json
from tests.support.archived_log import LOG, fill
from tests.support.mutated_vectors import FILES
from tests.support.odd_values import ARROW_VALUES, JSON_VALUES

AT_ONCE = 250
"""Records to a slice."""

Door = Callable[[random.Random], str]
"""Makes one input and puts it in."""


@contextmanager
def batches(_: Path) -> Iterator[Door]:
    """Record batches as a broker sends them, of each packing; most have a right checksum again."""
    honest = [_batch(packing, count) for packing in (0, 1, 2, 3, 4) for count in (1, 7, 60)]

    def put(draw: random.Random) -> str:
        raw = bytearray(spoiled_bytes(draw, draw.choice(honest)))
        if len(raw) > 61 and draw.random() < 0.9:
            struct.pack_into(">i", raw, 8, len(raw) - 12)
            struct.pack_into(">I", raw, 17, calc_crc32c(bytes(raw[21:])))
        found = "no batch"
        fetched = RawBatches(bytes(raw))
        try:
            while (batch := fetched.next_batch()) is not None:
                found = "unreadable" if why_unreadable(bytes(batch.raw)) else "read"
        except InvalidInput:
            found = "of before 0.11"
        try:
            skipped_from(bytes(raw), Path("some.skipped"))
        except InvalidInput:
            pass
        return found

    yield put


def _batch(packing: int, count: int) -> bytes:
    builder = Builder(2, packing, True, 7, 0, 0, 1 << 20)
    for number in range(count):
        value = json.dumps({"machine": "m", "seq": number, "note": "x" * (number % 40)}).encode()
        builder.append(number, 1_555_232_400_000 + number, b"key", value, [("ce_type", b"usage.reported"), ("x", b"")])
    return bytes(builder.build())


class Core:
    """The log of a vector with records in between, spoiled or a stranger's, some hundred at a time; then another's."""

    def __init__(self) -> None:
        self._left: Iterator[Record] = iter(())
        self._held: list[Record] = []

    def next(self, draw: random.Random) -> Record:
        """The next record of the vector."""
        while (record := next(self._left, None)) is None:
            if self._held:
                self._advance()
            document = read_document(draw.choice(FILES))
            self._state = State.new(log_of(document), document["ruleset"]["partition"])
            self._left, self._offset = iter(records_of(document)), 0
        return record

    def put(self, draw: random.Random, record: Record) -> str:
        """Adds a record at the next offset."""
        headers = list(record.headers)
        if draw.random() < 0.05:
            headers.append((draw.choice(("content-type", SIGNATURE, KEY_ID)), draw.randbytes(draw.randrange(70))))
        key = draw.choice((b"", None, b"\xff", b"m" * 70)) if draw.random() < 0.02 else record.key
        moment = record.timestamp + (draw.choice((-(10**9), 10**6, 40 * DAY_MS)) if draw.random() < 0.002 else 0)
        self._held.append(record._replace(offset=self._offset, key=key, timestamp=moment, headers=headers))
        self._offset += 1
        return "kept" if len(self._held) < AT_ONCE else self._advance()

    def _advance(self) -> str:
        counts = sum((done.counts for done in advance_through(self._state, self._held)), Counts())
        self._held.clear()
        return "a slice with some accepted" if counts.accepted else "a slice with none accepted"


@contextmanager
def records(_: Path) -> Iterator[Door]:
    """Records of every type through the core."""
    core = Core()

    def put(draw: random.Random) -> str:
        record, roll = core.next(draw), draw.random()
        value = record.value or b""
        if roll < 0.2:
            value = spoiled_bytes(draw, value)
        elif roll < 0.4:
            with suppress(ValueError, RecursionError):
                value = json.dumps(spoiled_json(draw, json.loads(value))).encode()
        elif roll < 0.5:
            value = JSON_VALUES[0](draw)
        elif roll < 0.501:
            value = DEEP
        return core.put(draw, record._replace(value=value))

    yield put


@contextmanager
def arrow(_: Path) -> Iterator[Door]:
    """Arrow bodies of readings through the core."""
    core = Core()

    def put(draw: random.Random) -> str:
        record = core.next(draw)
        if draw.random() < 0.3:
            return core.put(draw, record)
        value = ARROW_VALUES[0](draw)
        if draw.random() < 0.5:
            value = spoiled_bytes(draw, value)
        headers = [("ce_type", READING.encode()), ("content-type", ARROW.encode())]
        return core.put(draw, record._replace(value=value, headers=headers))

    yield put


@contextmanager
def archives(folder: Path) -> Iterator[Door]:
    """Archives of an epoch as Parquet, read by the child, and their records through the core's columns."""
    fill(folder / "data")
    honest = [path.read_bytes() for path in sorted((folder / "data" / "log").glob("*/*.parquet"))]
    honest += [_repacked(folder, content, packing) for content in honest[:2] for packing in ("none", "gzip", "snappy")]
    path = folder / "some.parquet"
    with ConfinedFiles(folder) as files:

        def put(draw: random.Random) -> str:
            path.write_bytes(spoiled_bytes(draw, draw.choice(honest)))
            try:
                count = sum(len(records) for records in slices_of(files.batches(path, RECORDS, 100_000)))
            except Overrun:
                return "the child's end"
            except InvalidInput:
                return "refused"
            return "read" if count else "empty"

        yield put


def _repacked(folder: Path, content: bytes, packing: str) -> bytes:
    path = folder / "repacked.parquet"
    pq.write_table(pq.read_table(pa.BufferReader(content)), path, compression=packing)
    return path.read_bytes()


@contextmanager
def manifests(folder: Path) -> Iterator[Door]:
    """Manifests of epochs and of posts, payouts of a post: JSON that a poster has written."""
    data = folder / "data"
    fill(data)
    paths = sorted((data / "epochs").glob("*/*.manifest.json"))
    honest = {path: path.read_bytes() for path in paths}
    post = data / "settlement" / "posts" / "1"
    post.mkdir(parents=True)
    files = PlainFiles(data)
    ref = {"epoch": 1, "manifest_digest": "ab" * 32, "log_root": "cd" * 32, "ruleset_digest": "ef" * 32}
    manifest = {
        "rules": 2, "partitions": [{"partition": 0, "epochs": [ref] * 3, "first_offset": 0, "next_offset": 9}],
        "totals": {"windows": 3}, "unsettled": [], "first_epoch": 1,
    }  # fmt: skip
    payouts = {"0x" + "a1" * 20: {
        "cumulative_micros": "1", "expenses_micros": "0", "refunds_micros": "0", "amount_micros": "1",
        "cumulative": "1", "proof": ["0x" + "ab" * 32] * 3,
    }}  # fmt: skip
    header = PostHeader(
        sequence=1, previous_head=bytes(32), windows_root=bytes(32), payouts_root=bytes(32), manifest_hash=bytes(32),
        epoch_start_s=0, epoch_end_s=3_600, total=1, deposits=0,
    )  # fmt: skip

    def put(draw: random.Random) -> str:
        if draw.random() < 0.4:
            path = draw.choice(paths)
            path.write_bytes(_spoiled_text(draw, json.loads(honest[path])))
            try:
                source, findings = ArchiveSource(files, int(path.name[0])), file_findings(files, {})
            finally:
                path.write_bytes(honest[path])
            return "refused" if source.gap is not None or findings else "as good"
        if draw.random() < 0.5:
            content = _spoiled_text(draw, manifest)
            last_epochs(content, header, LOG), other_records(content, {}), first_other(content, manifest)
            return "a post's manifest"
        (post / "payouts.json").write_bytes(_spoiled_text(draw, payouts))
        try:
            PublishedPost(files, 1).payouts(3)
        except SourceMissing:
            raise
        except InvalidInput:
            return "payouts refused"
        return "payouts read"

    yield put


def _spoiled_text(draw: random.Random, document: Any) -> bytes:
    roll = draw.random()
    if roll < 0.002:
        return DEEP
    if roll < 0.3:
        return spoiled_bytes(draw, json.dumps(document).encode())
    return json.dumps(spoiled_json(draw, document)).encode()


@contextmanager
def answers(folder: Path) -> Iterator[Door]:
    """Answers of a node to what settlements, audits and claims ask it."""
    yield Conversation(folder).spoil


DOORS = {each.__name__: each for each in (records, batches, arrow, archives, manifests, answers)}
