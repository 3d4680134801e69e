"""What an audit reads: epochs recomputed from the log, and the files of posts as they were published."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from msgspec import Struct

from schemas.errors import InvalidInput
from schemas.manifest import EpochManifest, SkippedRange
from schemas.payment import AcceptedPayment
from schemas.window import Due, Window


class Epoch(NamedTuple):
    """One epoch of one partition, from the log alone: windows in sealing order, accepted payments in the log's."""

    manifest: EpochManifest
    windows: Sequence[Window]
    payments: Sequence[AcceptedPayment] = ()


Recompute = Callable[[int], Iterable[Epoch]]
"""From a partition to its epochs in order."""

Refutes = Callable[[SkippedRange], str]
"""Why an operator had no right to skip a range of a recomputed epoch; empty where nobody can read what it holds."""


class Sources(Struct, frozen=True):
    """The log as an audit reads it. `refutes` is asked about the ranges that recomputed manifests name.

    `published` gives the files of a post (its sequence); None where those of the data folder are read as they are.
    """

    recompute: Recompute
    refutes: Refutes = lambda _: ""
    published: "Callable[[int], Published] | None" = None


class SourceMissing(InvalidInput):
    """The log can't be read to its end. `withheld`: the server or folder that should hold the rest answers, and lacks
    it.

    Any other cause (a server that is away, a failing disk, a missing folder) says nothing about the poster.
    """

    def __init__(self, text: str, *, withheld: bool) -> None:
        super().__init__(text)
        self.withheld = withheld


class ArchiveEnds(SourceMissing):
    """An archive has no epoch after this: what was posted beyond is withheld, and nothing else is known to be there."""

    def __init__(self, text: str) -> None:
        super().__init__(text, withheld=True)


class PublishedWindow(Protocol):
    """A window in a post's windows.parquet; `adjusts_ms` is 0 for a plain one."""

    @property
    def machine(self) -> str: ...
    @property
    def start_ms(self) -> int: ...
    @property
    def end_ms(self) -> int: ...
    @property
    def adjusts_ms(self) -> int: ...
    @property
    def net_micros(self) -> int: ...
    @property
    def digest(self) -> bytes: ...
    @property
    def dues(self) -> Sequence[Due]: ...


class Published(Protocol):
    """The files of one post, whatever its poster has written: nothing is read that is larger than it can be.

    All raise InvalidInput for a file that is missing or unreadable, and SourceMissing where the reader is at fault.
    """

    def manifest(self) -> bytes:
        """The bytes of manifest.json."""
        ...

    def windows(self, expected: int) -> Sequence[PublishedWindow]:
        """windows.parquet, of which about `expected` rows are right."""
        ...

    def payouts(self, expected: int) -> Mapping[str, tuple[int, Sequence[bytes]]]:
        """payouts.json, of which about `expected` accounts are right: by account token units and proof."""
        ...


class EpochStream:
    """One partition's recomputed epochs, taken as posts need them.

    `gap` is why the epochs end early, None at the log's end; `is_empty` until there was a first one.
    """

    def __init__(self, epochs: Iterable[Epoch]) -> None:
        self._epochs: Iterator[Epoch] = iter(epochs)
        self._waiting: Epoch | None = None
        self._last = -1
        self.gap: SourceMissing | None = None

    def take(self, last_epoch: int | None) -> list[Epoch]:
        """All epochs up to a number that were not taken yet; none for None."""
        taken: list[Epoch] = []
        while last_epoch is not None:
            item = self._waiting or self._next()
            self._waiting = item
            if item is None or item.manifest.epoch > last_epoch:
                break
            taken.append(item)
            self._waiting = None
            if item.manifest.epoch == last_epoch:  # what comes after may not be there yet
                break
        return taken

    def take_all(self) -> list[Epoch]:
        """All epochs that were not taken yet."""
        taken: list[Epoch] = []
        while (item := self._waiting or self._next()) is not None:
            taken.append(item)
            self._waiting = None
        return taken

    @property
    def is_empty(self) -> bool:
        """Whether no epoch has come yet."""
        return self._last < 0

    def reaches(self, last_epoch: int | None) -> bool:
        """Whether the epoch of this number has been read; true for None."""
        return last_epoch is None or self._last >= last_epoch

    def _next(self) -> Epoch | None:
        try:
            item = None if self.gap is not None else next(self._epochs, None)
        except SourceMissing as gap:
            self.gap, item = gap, None
        self._last = self._last if item is None else item.manifest.epoch
        return item


def in_order(epochs: Mapping[int, Sequence[Epoch]]) -> list[Epoch]:
    """Epochs by partition in the order in which they settle: by epoch, then partition."""
    pairs = [(partition, item) for partition, items in epochs.items() for item in items]
    return [item for _, item in sorted(pairs, key=lambda pair: (pair[1].manifest.epoch, pair[0]))]
