"""Recomputes everything that a worker publishes of a partition, from its log alone: an audit compares the two."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
from msgspec import Struct

from schemas.arrow import REJECTED_RECORDS, REJECTS, Tables, rejects_from, windows_from
from schemas.errors import InvalidInput
from schemas.log import Log
from schemas.manifest import Counts, EpochManifest, SkippedRange
from schemas.order import Order
from schemas.payment import AcceptedPayment
from schemas.reject import Reject
from schemas.window import Window
from streams.core.advance import Advanced
from streams.core.kernel.entries import EntryRecords
from streams.core.log_digest import LogDigest
from streams.core.manifest import build_manifest
from streams.core.records import LogRecord
from streams.core.replay import advance_by_cuts
from streams.core.sealed import Part, Sealed
from streams.core.skipped_ranges import SkippedBatch, SkippedBatches
from streams.core.state import State


class EpochResult(Struct, frozen=True, kw_only=True):
    """One epoch of one partition. `tables` are those of its windows, `rejects` and `rejected_records`; `payments` are
    what the rules accepted, in the order of the log.
    """

    manifest: EpochManifest
    tables: Tables
    orders: list[Order]
    payments: list[AcceptedPayment]

    @property
    def windows(self) -> list[Window]:
        """The sealed windows as objects, in sealing order."""
        return windows_from(self.tables)

    @property
    def rejects(self) -> list[Reject]:
        """The refused entries as objects, in the order of the log."""
        return rejects_from(self.tables["rejects"])


def recompute(
    log: Log,
    partition: int,
    slices: Iterable[Sequence[LogRecord]],
    skipped_ranges: Sequence[SkippedRange] = (),
    skipped: SkippedBatches | None = None,
) -> Iterator[EpochResult]:
    """The epochs of a partition that its log has cut, in their order; the result doesn't depend on where it is sliced.

    `slices` are the partition's records from the log's first offset on. What lies after the last cut is not reported.
    `skipped_ranges` are those that operators signed: the slices must hold nothing of them. `skipped` are the batches in
    them, to which whoever makes the slices may add.
    Raises InvalidInput if offsets don't ascend.
    """
    state = State.new(log, partition)
    skipped = {} if skipped is None else skipped
    pending = _Pending(0)
    for piece in _ascending(slices):
        for done, left in advance_by_cuts(state, piece):
            pending.add(done, left[: done.consumed])
            if done.cut is not None:
                next_offset = left[done.consumed].offset
                batches = [skipped[at] for at in sorted(skipped) if pending.first_offset <= at < next_offset]
                yield pending.result(log, state, done.cut, next_offset, skipped_ranges, batches)
                pending = _Pending(next_offset)


class _Pending:
    """The epoch that isn't cut yet. It begins where the previous one ended; a log begins at offset 0."""

    def __init__(self, first_offset: int) -> None:
        self.first_offset = first_offset
        self.sealed: list[Part] = []
        self.orders: list[Order] = []
        self.payments: list[AcceptedPayment] = []
        self.refused: list[Tables] = []
        self.counts = Counts()
        self.log_digest = LogDigest()

    def add(self, done: Advanced, records: Sequence[LogRecord]) -> None:
        self.sealed += done.sealed.parts
        self.orders += done.orders
        self.payments += done.payments
        self.refused.append(done.refused.tables())
        self.counts += done.counts
        self.log_digest.add(records)

    def result(
        self,
        log: Log,
        state: State,
        epoch: int,
        next_offset: int,
        skipped_ranges: Sequence[SkippedRange],
        skipped: Sequence[SkippedBatch],
    ) -> EpochResult:
        refused = {
            name: pa.concat_tables([schema.empty_table(), *(tables[name] for tables in self.refused)])
            for name, schema in (("rejects", REJECTS), ("rejected_records", REJECTED_RECORDS))
        }
        tables = Sealed(state.book, self.sealed).tables() | refused
        manifest = build_manifest(
            log=log,
            partition=state.partition,
            epoch=epoch,
            first_offset=self.first_offset,
            next_offset=next_offset,
            stream_time_ms=state.now_ms,
            counts=self.counts,
            tables=tables,
            orders=self.orders,
            deposits_micros=state.deposits_micros(),
            log_root=self.log_digest.finish(skipped)[0],
            state_digest=state.digest(),
            skipped_ranges=skipped_ranges,
        )
        return EpochResult(manifest=manifest, tables=tables, orders=self.orders, payments=self.payments)


def _ascending(slices: Iterable[Sequence[LogRecord]]) -> Iterator[EntryRecords]:
    last_offset = -1
    for piece in map(EntryRecords.of, slices):
        if not piece:
            continue
        offsets = np.concatenate([[last_offset], piece.offsets])
        for k in np.flatnonzero(np.diff(offsets) <= 0).tolist():
            raise InvalidInput(f"offset {offsets[k + 1]} follows {offsets[k]}: pass the log from its start, in order")
        last_offset = int(offsets[-1])
        yield piece
