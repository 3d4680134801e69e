"""A second count beside the first: what `recompute` gives, held window by window against the naive loop."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from schemas.log import Log
from schemas.manifest import SkippedRange
from streams.core.recompute import EpochResult, recompute
from streams.core.records import LogRecord
from streams.reference.recount import Naive, plain_windows
from streams.reference.recount_meter import Plain

PROGRESS_RECORDS = 10_000


def recompute_slowly(
    log: Log,
    partition: int,
    records: Iterable[LogRecord],
    exceptions: Sequence[SkippedRange],
    differs: Callable[[str], None],
    progress: Callable[[int], None],
) -> Iterator[EpochResult]:
    """The epochs of a partition as `recompute` gives them; `differs` is told what the naive loop counts otherwise.

    `progress` is told now and then how many records were counted. Memory grows with the readings.
    """
    naive = Naive(log, partition)
    for result in recompute(log, partition, _counted(naive, records, progress), exceptions=exceptions):
        _hold(naive, result, differs)
        yield result


def _counted(naive: Naive, records: Iterable[LogRecord], progress: Callable[[int], None]) -> Iterator[LogRecord]:
    for count, record in enumerate(records, 1):
        naive.take([record])
        yield record
        if count % PROGRESS_RECORDS == 0:
            progress(count)


def _hold(naive: Naive, result: EpochResult, differs: Callable[[str], None]) -> None:
    """Compares one epoch, and forgets it. The naive loop is ahead by less than one piece of the log."""
    epoch = f"partition {naive.partition}, epoch {result.manifest.epoch}"
    own, found = plain_windows(result.windows), [_without_by(window) for window in naive.sealed[: len(result.windows)]]
    for window, counted in zip(own, found, strict=False):
        if window != counted:
            names = ", ".join(name for name in window if window[name] != counted[name])
            differs(f"{epoch}: the window of {window['machine']} at {window['start']} ms is counted otherwise: {names}")
            break
    if len(own) != len(found):
        differs(f"{epoch}: {len(own)} windows, and {len(found)} by the slow count")
    refused = [(reject.offset, reject.row, reject.reason) for reject in result.rejects]
    if refused != naive.rejects[: len(refused)]:
        differs(f"{epoch}: other entries are refused, or for other reasons")
    del naive.sealed[: len(own)], naive.rejects[: len(refused)]


def _without_by(window: Plain) -> Plain:
    return {name: part for name, part in window.items() if name != "by"}
