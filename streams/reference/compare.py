"""Two counts side by side: the windows of `recompute`, compared one by one with those of the slow recount."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from msgspec import to_builtins

from schemas.log import Log
from schemas.manifest import SkippedRange
from streams.core.recompute import EpochResult, recompute
from streams.core.records import LogRecord
from streams.core.skipped_ranges import SkippedBatches
from streams.reference.entries import Plain
from streams.reference.recount import PartitionRecount, plain_windows


def recompute_and_compare(
    log: Log,
    partition: int,
    slices: Iterable[Sequence[LogRecord]],
    skipped_ranges: Sequence[SkippedRange],
    skipped: SkippedBatches | None,
    differs: Callable[[str], None],
    progress: Callable[[int], None],
) -> Iterator[EpochResult]:
    """Yields the epochs of `recompute`; calls `differs` with a text for each difference that the recount finds.

    `progress` is called with the number of records counted, each slice. Memory grows with the readings.
    """
    recount = PartitionRecount(log, partition)
    for result in recompute(log, partition, _counted(recount, slices, progress), skipped_ranges, skipped):
        _hold(recount, result, differs)
        yield result


def _counted(
    recount: PartitionRecount, slices: Iterable[Sequence[LogRecord]], progress: Callable[[int], None]
) -> Iterator[Sequence[LogRecord]]:
    count = 0
    for records in slices:
        recount.take(records)
        yield records
        count += len(records)
        progress(count)


def _hold(recount: PartitionRecount, result: EpochResult, differs: Callable[[str], None]) -> None:
    """Compares one epoch, then drops it. The recount is ahead by less than one slice of the log."""
    epoch = f"partition {recount.partition}, epoch {result.manifest.epoch}"
    own, found = (
        plain_windows(result.windows),
        [_without_by(window) for window in recount.sealed[: len(result.windows)]],
    )
    for window, counted in zip(own, found, strict=False):
        if window != counted:
            names = ", ".join(name for name in window if window[name] != counted[name])
            differs(f"{epoch}: the window of {window['machine']} at {window['start']} ms is counted otherwise: {names}")
            break
    if len(own) != len(found):
        differs(f"{epoch}: {len(own)} windows, and {len(found)} by the slow count")
    refused = [(reject.offset, reject.row, reject.reason) for reject in result.rejects]
    if refused != recount.rejects[: len(refused)]:
        differs(f"{epoch}: other entries are refused, or for other reasons")
    placed = [to_builtins(order) for order in result.orders]
    if placed != [order.terms for order in recount.orders.placed[: len(placed)]]:
        differs(f"{epoch}: other orders are placed")
    paid = [to_builtins(accepted.payment) for accepted in result.payments]
    if paid != [recount.sessions.payments[one["machine"]][one["version"] - 1] for one in paid]:
        differs(f"{epoch}: other payments are accepted")
    if int(result.manifest.deposits_micros) != recount.deposits_at_cuts[0]:
        differs(f"{epoch}: deposits of {recount.deposits_at_cuts[0]} micros by the slow count")
    del recount.sealed[: len(own)], recount.rejects[: len(refused)]
    del recount.orders.placed[: len(placed)], recount.deposits_at_cuts[0]


def _without_by(window: Plain) -> Plain:
    return {name: part for name, part in window.items() if name != "by"}
