"""The one function that builds the manifest of a partition's epoch."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import to_builtins

from schemas.arrow import Tables
from schemas.canonical import chain_digest, document_digest
from schemas.log import Log
from schemas.manifest import Counts, EpochManifest, SkippedRange
from schemas.order import Order
from streams.core.refused import counted_reasons, rejects_digest
from streams.core.skipped_ranges import within


def build_manifest(
    *,
    log: Log,
    partition: int,
    epoch: int,
    first_offset: int,
    next_offset: int,
    stream_time_ms: int,
    counts: Counts,
    tables: Tables,
    orders: Sequence[Order],
    deposits_micros: int,
    log_root: bytes,
    state_digest: bytes,
    skipped_ranges: Sequence[SkippedRange] = (),
) -> EpochManifest:
    """The manifest of the offsets [first_offset, next_offset) of one partition.

    `tables` hold all that sealed and all that was refused, sorted, `state_digest` is that of the state at the cut.
    `skipped_ranges` may be all of the log's: the manifest names those within its range. A cut is a record's offset, so
    no skipped range lies across it.
    `windows` counts all of them, `adjustments` those among them that adjust. `orders` are those placed within the
    range, `deposits_micros` is that of the state at the cut.
    """
    start_ms, end_ms = log.epoch_span(epoch)
    windows = tables["windows"]
    order_digests = [document_digest("order 1", to_builtins(order)) for order in orders]
    return EpochManifest(
        log_id=log.log_id,
        currency=log.currency,
        partition=partition,
        epoch=epoch,
        start_ms=start_ms,
        end_ms=end_ms,
        first_offset=first_offset,
        next_offset=next_offset,
        stream_time_ms=stream_time_ms,
        counts=counts,
        rejects_by_reason=counted_reasons(tables["rejects"]),
        windows=windows.num_rows,
        adjustments=windows.num_rows - windows["adjusts_ms"].null_count,
        orders=len(orders),
        gross_micros=str(_sum(windows["gross_micros"])),
        expenses_micros=str(_sum(windows["expenses_micros"])),
        uncollected_micros=str(_sum(windows["uncollected_micros"])),
        net_micros=str(_sum(windows["net_micros"])),
        deposits_micros=str(deposits_micros),
        windows_digest=chain_digest("windows 1", _in_sealing_order(windows)).hex(),
        orders_digest=chain_digest("orders 1", order_digests).hex(),
        rejects_digest=rejects_digest(tables).hex(),
        log_root=log_root.hex(),
        ruleset_digest=log.ruleset_digest(epoch).hex(),
        state_digest=state_digest.hex(),
        skipped_ranges=within(skipped_ranges, partition, first_offset, next_offset),
    )


def _in_sealing_order(windows: pa.Table) -> list[bytes]:
    """The digests of windows in the order of rule 6."""
    keys = [(name, "ascending", "at_start") for name in ("start_ms", "machine", "adjusts_ms")]
    order = pc.sort_indices(windows, sort_keys=keys)
    digests: list[bytes] = windows["digest"].take(order).to_pylist()
    return digests


def _sum(amounts: pa.ChunkedArray) -> int:
    """The sum of amounts of 64 bits, whatever it takes."""
    values = np.asarray(amounts, np.int64)
    return (int((values >> 32).sum()) << 32) + int((values & 0xFFFFFFFF).sum())
