"""The state of one partition. Skeleton: signatures are final."""

from collections.abc import Mapping
from typing import NamedTuple, Self

import pyarrow as pa

from schemas.log import Log


class TableSpec(NamedTuple):
    """A table of the dumped state: its columns, and those that name a row."""

    schema: pa.Schema
    key: tuple[str, ...]


class Changes(NamedTuple):
    """What a table must take: rows to put in place of those of the same key, and keys to remove. No key is in both."""

    upserts: pa.Table
    deletes: pa.Table


TABLES: dict[str, TableSpec] = {}


class State:
    """What `advance` knows of one partition."""

    log: Log
    partition: int
    stream_time_ms: int | None
    epoch: int | None

    @classmethod
    def new(cls, log: Log, partition: int) -> Self:
        """The state before the first record."""
        raise NotImplementedError

    @classmethod
    def load(cls, log: Log, partition: int, tables: Mapping[str, pa.Table]) -> Self:
        """The state whose dumped tables these are; a table left out is empty."""
        raise NotImplementedError

    def changes(self) -> dict[str, Changes]:
        """What changed since the last call (or since `load`), by table; then forgets."""
        raise NotImplementedError

    def tables(self) -> dict[str, pa.Table]:
        """The whole state as tables, rows ordered by key."""
        raise NotImplementedError

    def digest(self) -> bytes:
        """32 bytes over the whole state: equal for equal states, however they came about."""
        raise NotImplementedError
