"""The event logs of a contract, each block read once: in ranges that shrink to what the provider allows.

What lies in final blocks is remembered, in this process and, where there is a folder, in a file: with the hash of the
last block, so that another chain, or a reorganisation deeper than what was final, is noticed and all of it read again.
"""

from pathlib import Path
from typing import Protocol

import msgspec

from files.read import FileMissing, read_json
from files.write import make_folder, write_json
from schemas.errors import InvalidInput
from settlement.chain.rpc import NodeAway, NodeRefuses, TooMuchAsked

Topics = tuple[bytes | None, ...]
"""What the first topics of a log must be, 32 bytes each; None and those beyond may be any."""


class PlainLog(msgspec.Struct, frozen=True):
    """One log: bytes as they were emitted, and where it stands."""

    address: str
    topics: tuple[bytes, ...]
    data: bytes
    block: int
    index: int
    transaction: str


class Remembered(msgspec.Struct, frozen=True):
    """The logs of the blocks below `next_block`, whose last one has this hash (0x-hex)."""

    first_block: int
    next_block: int
    block_hash: str
    logs: tuple[PlainLog, ...]


class LogSource(Protocol):
    """What of a node is needed."""

    def latest_block(self) -> tuple[int, str]: ...
    def final_block(self) -> int: ...
    def block_hash(self, number: int) -> str: ...
    def logs_between(self, address: str, first: int, last: int, topics: Topics) -> list[PlainLog]: ...


class EventLogs:
    """The logs of one contract from its first block on; with `topics` those that have them."""

    def __init__(
        self, source: LogSource, address: str, first_block: int, folder: Path | None, topics: Topics = ()
    ) -> None:
        self._source = source
        self._address = address
        self._topics = topics
        name = "-".join([address, *("any" if topic is None else topic[-20:].hex() for topic in topics)])
        self._path = None if folder is None else folder / f"{name}.json"
        self._first = first_block
        self._kept = self._loaded() or Remembered(first_block, first_block, "", ())
        self._seen = (-1, "")
        self._newer: list[PlainLog] = []
        self._span = 0

    def all(self) -> list[PlainLog]:
        """All logs up to the latest block, in the chain's order. Raises InvalidInput."""
        latest = self._source.latest_block()
        if latest != self._seen:
            last, _ = latest
            self._check()
            final = min(last, self._source.final_block())
            found = self._read(self._kept.next_block, last)
            if final >= self._kept.next_block:
                self._remember(final, [log for log in found if log.block <= final])
            self._newer = [log for log in found if log.block >= self._kept.next_block]
            self._seen = latest
        return [*self._kept.logs, *self._newer]

    def forget(self) -> None:
        """Forgets all: the next call reads it again."""
        self._kept = Remembered(self._first, self._first, "", ())
        self._seen = (-1, "")

    def _check(self) -> None:
        """Forgets what is not of this chain."""
        kept = self._kept
        if kept.next_block > self._first:
            try:
                is_same = self._source.block_hash(kept.next_block - 1) == kept.block_hash
            except NodeAway:
                raise
            except InvalidInput:  # there is no such block
                is_same = False
            if not is_same:
                self.forget()

    def _read(self, first: int, last: int) -> list[PlainLog]:
        found: list[PlainLog] = []
        while first <= last:
            span = min(self._span or last - first + 1, last - first + 1)
            try:
                found += self._source.logs_between(self._address, first, first + span - 1, self._topics)
            except (NodeRefuses, TooMuchAsked):  # the provider allows fewer blocks, or fewer logs
                if span == 1:
                    raise
                self._span = span // 2
                continue
            first += span
        return sorted(found, key=lambda log: (log.block, log.index))

    def _remember(self, final: int, found: list[PlainLog]) -> None:
        block_hash = self._source.block_hash(final)
        self._kept = Remembered(self._first, final + 1, block_hash, (*self._kept.logs, *found))
        if self._path is not None:
            try:
                make_folder(self._path.parent)
                write_json(self._path, self._kept)
            except OSError:
                self._path = None  # a folder that can only be read: then this process remembers alone

    def _loaded(self) -> Remembered | None:
        if self._path is None:
            return None
        try:
            found = read_json(self._path, Remembered, what="remembered logs", remedy="remove it")
        except (FileMissing, InvalidInput):
            return None  # it is only a memory
        is_ordered = all(a.block <= b.block for a, b in zip(found.logs, found.logs[1:], strict=False))
        return found if found.first_block == self._first and is_ordered else None
