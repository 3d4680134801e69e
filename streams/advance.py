"""The one step that decides money. Skeleton: signatures are final."""

from collections.abc import Sequence

from msgspec import Struct

from schemas.manifest import Counts
from schemas.reject import Reject, RejectedRecord
from schemas.window import Window
from streams.records import LogRecord
from streams.state import State


class Advanced(Struct, frozen=True, kw_only=True):
    """What a slice came to.

    `consumed` records are done. At a cut `cut` is the number of the epoch that just ended and `records[consumed]` is
    the record that ended it: give it again, as the first of the next slice.
    """

    consumed: int
    windows: list[Window]
    rejects: list[Reject]
    rejected: list[RejectedRecord]
    counts: Counts
    cut: int | None


def advance(state: State, records: Sequence[LogRecord]) -> Advanced:
    """Takes records in their order up to the next cut. Changes `state` in place."""
    raise NotImplementedError
