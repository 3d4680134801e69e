"""The files of a folder that somebody else has written: what may be asked of it, and the plain answers.

`files.confined` gives the same answers out of a child process with bounds, for who is watched by whoever asks.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from files.parquet import BYTES_MAX, read_batches
from files.read import CHUNK_BYTES, open_regular
from schemas.errors import InvalidInput

REMEDY = "restore it from a copy"


class ForeignFiles(Protocol):
    """Paths are within `folder`, and no link leads out of it.

    All raise FileMissing, HostFault (the system here can't read it), and InvalidInput for what is no such file.
    """

    @property
    def folder(self) -> Path: ...

    def chunks(self, path: Path, max_bytes: int) -> Iterator[bytes]:
        """The bytes of a file in parts."""
        ...

    def sha256(self, path: Path) -> str:
        """The digest of a file's bytes, as hex."""
        ...

    def batches(self, path: Path, schema: pa.Schema, max_rows: int, first_row: int = 0) -> Iterator[pa.RecordBatch]:
        """The columns of `schema` of a Parquet file. Other questions may come while it is read."""
        ...

    def rows(self, path: Path, schema: pa.Schema, max_rows: int) -> int:
        """How many rows these are, once all were unpacked: what `batches` gives then comes to its end."""
        ...


class PlainFiles:
    """The answers in this process, at whatever a file costs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def chunks(self, path: Path, max_bytes: int) -> Iterator[bytes]:
        """See ForeignFiles."""
        with open_regular(path, remedy=REMEDY, max_bytes=max_bytes, within=self.folder) as file:
            while part := file.read(min(CHUNK_BYTES, max_bytes + 1)):
                max_bytes -= len(part)
                if max_bytes < 0:
                    raise InvalidInput(f"{path} grows while it is read: {REMEDY}")
                yield part

    def sha256(self, path: Path) -> str:
        """See ForeignFiles."""
        digest = hashlib.sha256()
        for part in self.chunks(path, BYTES_MAX):
            digest.update(part)
        return digest.hexdigest()

    def batches(self, path: Path, schema: pa.Schema, max_rows: int, first_row: int = 0) -> Iterator[pa.RecordBatch]:
        """See ForeignFiles."""
        return read_batches(path, schema, remedy=REMEDY, max_rows=max_rows, within=self.folder, first_row=first_row)

    def rows(self, path: Path, schema: pa.Schema, max_rows: int) -> int:
        """See ForeignFiles."""
        return sum(batch.num_rows for batch in self.batches(path, schema, max_rows))
