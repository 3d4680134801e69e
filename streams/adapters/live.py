"""What analysts see of an unfinished epoch: `live/<partition>/<ms>.parquet`. A cache: nothing is ever settled from it.

A row is shown once at any moment, also while files move. `boundary.parquet` says from which moment on the partition's
rows are taken from here; earlier ones are taken from `epochs/`. It is one row in one file, replaced in one step, so a
query reads one boundary and both sides obey it. It passes an epoch only some time after the epoch's manifest came, so
that a query that listed `epochs/` just before still finds all that the boundary leaves to it; and live files are
removed only some time after the boundary passed them, so that a query that has listed them still finds them.
"""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from streams.adapters.files import Temporary

LISTED_SECONDS = 10.0
"""How long a query may take from listing `epochs/` to reading the boundary."""

READ_SECONDS = 60.0
"""How long a query may take from reading the boundary to opening its last live file."""

BOUNDARY = pa.schema([("partition", pa.int64()), ("from_ms", pa.int64())])


class Live:
    """The live files of one partition, written by its owner."""

    def __init__(self, folder: Path, partition: int, published_ms: int, seconds: Callable[[], float]) -> None:
        """`published_ms` is the end (epoch ms) of the last epoch whose files are final, `seconds` a monotonic clock."""
        self._folder = folder / str(partition)
        self._partition = partition
        self._seconds = seconds
        self._folder.mkdir(parents=True, exist_ok=True)
        stored = self._stored()
        self._boundary_ms = published_ms if stored is None else stored
        self._moved_at = seconds()
        self._published: list[tuple[float, int]] = []
        if stored is None:
            self._write_boundary()
        elif published_ms > stored:
            self.published(published_ms)

    def write(self, start_ms: int, windows: pa.Table) -> None:
        """Writes the windows that sealed together, the first of them at `start_ms`. Repeating it is harmless."""
        Temporary(self._folder / f"{start_ms}.parquet").write_table(windows).publish(durable=False)

    def published(self, end_ms: int) -> None:
        """The files of an epoch that ends at `end_ms` are final: its rows may leave, in a while."""
        self._published.append((self._seconds(), end_ms))

    def tidy(self) -> None:
        """Removes what no query can still want, then lets the boundary pass what is final for long enough. Cheap."""
        now = self._seconds()
        if not self._published or now - self._moved_at < READ_SECONDS:
            return
        for path in self._folder.glob("*[0-9].parquet"):
            if int(path.stem) < self._boundary_ms:
                path.unlink()
        passed = [end_ms for at, end_ms in self._published if now - at >= LISTED_SECONDS]
        if passed:
            self._boundary_ms = max(passed)
            self._moved_at = now
            self._published = [entry for entry in self._published if entry[1] > self._boundary_ms]
            self._write_boundary()

    def _stored(self) -> int | None:
        try:
            return int(pq.read_table(self._folder / "boundary.parquet").column("from_ms")[0].as_py())
        except (FileNotFoundError, pa.ArrowInvalid):
            return None

    def _write_boundary(self) -> None:
        row = pa.table([[self._partition], [self._boundary_ms]], schema=BOUNDARY)
        Temporary(self._folder / "boundary.parquet").write_table(row).publish()
