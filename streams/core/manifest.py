"""The one function that builds the manifest of a partition's epoch."""

from collections.abc import Sequence

from msgspec import to_builtins

from schemas.arrow import Tables
from schemas.canonical import chain_digest, document_digest
from schemas.log import Log
from schemas.manifest import Counts, EpochManifest, SkippedRange
from schemas.order import Order
from schemas.window import Window
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
    windows: Sequence[Window],
    orders: Sequence[Order],
    deposits_micros: int,
    refused: Tables,
    log_root: bytes,
    state_digest: bytes,
    skipped_ranges: Sequence[SkippedRange] = (),
) -> EpochManifest:
    """The manifest of the offsets [first_offset, next_offset) of one partition.

    `windows` are in sealing order and carry their digests, `refused` are the tables `rejects`, in the order of the log,
    and `rejected_records`, `state_digest` is that of the state at the cut.
    `skipped_ranges` may be all of the log's: the manifest names those within its range. A cut is a record's offset, so
    no skipped range lies across it.
    `windows` counts all of them, `adjustments` those among them that adjust. `orders` are those placed within the
    range, `deposits_micros` is that of the state at the cut.
    """
    start_ms, end_ms = log.epoch_span(epoch)
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
        rejects_by_reason=counted_reasons(refused["rejects"]),
        windows=len(windows),
        adjustments=sum(window.adjusts_ms is not None for window in windows),
        orders=len(orders),
        gross_micros=str(sum(window.gross_micros for window in windows)),
        expenses_micros=str(sum(window.expenses_micros for window in windows)),
        uncollected_micros=str(sum(window.uncollected_micros for window in windows)),
        net_micros=str(sum(window.net_micros for window in windows)),
        deposits_micros=str(deposits_micros),
        windows_digest=chain_digest("windows 1", (window.digest for window in windows)).hex(),
        orders_digest=chain_digest("orders 1", order_digests).hex(),
        rejects_digest=rejects_digest(refused).hex(),
        log_root=log_root.hex(),
        ruleset_digest=log.ruleset_digest(epoch).hex(),
        state_digest=state_digest.hex(),
        skipped_ranges=within(skipped_ranges, partition, first_offset, next_offset),
    )
