"""The rows of unfinished epochs for analysts: `live/<partition>/<number>.<table>.parquet`. A cache: never settled from.

The tables of one commit's windows have one number; the windows themselves are written last, so that whoever sees one
finds its lines.

At any moment a row is shown once, also while files move, and no query fails because a file vanished:

- `boundary.parquet` states from which moment on the partition's rows are read from here; earlier ones are read from
  `epochs/`. It is one row in one file, replaced in one step, and a query reads it once for both sides.
- It passes an epoch only some time after the epoch's manifest was written, so that a query that listed `epochs/` just
  before still finds all rows before the boundary.
- Files are replaced, never removed while queries may run: a file whose windows the boundary has passed is reused for
  newer windows, and only some time later, so that a query that has read the boundary still finds them.

`<number>.rejects.parquet`, `.orders.parquet` and `.payments.parquet` hold all of an epoch so far, by the same
rules: they are complete before the epoch's own files are written, and until then a few seconds old. `open.parquet`
holds the windows that are still open.
"""

from collections.abc import Callable, Sequence, Set
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from files.parquet import read_table, write_table
from files.write import Temporary, sync_file, sync_folder
from schemas.arrow import RECORD_TABLES, WINDOW_TABLES, Tables
from schemas.errors import InvalidInput
from streams.core.kernel import tables as t
from streams.core.kernel.columns import NONE, Ints
from streams.core.kernel.texts import names_array
from streams.core.kernel.turned import turned
from streams.core.state import State
from streams.core.state_tables import lines_of

LISTED_SECONDS = 10.0
"""How long a query may take from listing `epochs/` to reading the boundary."""

READ_SECONDS = 60.0
"""How long a query may take from reading the boundary to opening its last live file."""

OPEN_SECONDS = 2.0
"""How old `open.parquet` may be while slices arrive, unless writing it takes long."""

SHARE = 40
"""Writing it takes all partitions of a process together at most a fortieth of the time, and the rejects another."""

REJECT_SECONDS = 2e-6
"""About what writing a reject takes: of many that come at once, the first file waits too."""

BOUNDARY = pa.schema([("partition", pa.int64()), ("from_ms", pa.int64())])
LIVE_TABLES = {name: pa.schema([("start_ms", pa.int64()), *schema]) for name, schema in RECORD_TABLES.items()}
"""Live files of orders and payments: the start of the epoch, then as in the epoch's own file."""

OPEN_WINDOWS = pa.schema(
    [
        ("machine", pa.string()),
        ("start_ms", pa.int64()),
        ("adjusts_ms", pa.int64()),
        ("readings", pa.int64()),
        ("gross_micros", pa.int64()),
        ("flags", pa.int64()),
        ("first_offset", pa.int64()),
        ("last_offset", pa.int64()),
        ("stream_time_ms", pa.int64()),
        ("partition", pa.int64()),
    ]
)


class Live:
    """The live files of one partition, written by its owner."""

    def __init__(
        self,
        folder: Path,
        partition: int,
        published_ms: int,
        unpublished: Set[int],
        refused: Set[int],
        seconds: Callable[[], float],
        *,
        is_new: bool,
        partitions: Callable[[], int] = lambda: 1,
    ) -> None:
        """`published_ms` is the end (epoch ms) of the last epoch whose files are final, `unpublished` are the starts of
        the files whose rows the checkpoint still holds, `refused` are the starts of the unfinished epochs of which it
        holds rejects, orders or payments, `seconds` is a monotonic clock, `partitions` is how many share the time. If
        the checkpoint `is_new`, all final rows are read from `epochs/` at once: the files here belong to a lost
        checkpoint.
        """
        self._folder = folder / str(partition)
        self._partition = partition
        self._seconds = seconds
        self._partitions = partitions
        self._folder.mkdir(parents=True, exist_ok=True)
        stored = _stored_boundary(self._folder)
        self._boundary_ms = published_ms if stored is None or is_new else stored
        self._moved_at = seconds()
        self._published: list[tuple[float, int]] = []
        if self._boundary_ms != stored:
            self._write_boundary()
        elif published_ms > stored:
            self.published(published_ms)
        kept = partial(self._is_kept, published_ms)
        self._windows = _ReusedFiles(self._folder, tuple(WINDOW_TABLES), partial(kept, unpublished))
        self._rejects = _ReusedFiles(self._folder, ("rejects",), partial(kept, refused))
        self._records = {name: _ReusedFiles(self._folder, (name,), partial(kept, refused)) for name in RECORD_TABLES}
        self._open_due = self._rejects_due = self._rejects_shown = seconds()

    def write(self, start_ms: int, tables: Tables) -> None:
        """Writes the windows of one commit (the tables WINDOW_TABLES), the first of them at `start_ms`. Repeating it
        is harmless.
        """
        if start_ms < self._boundary_ms:
            return  # final already: the log is read again for a lost checkpoint
        for name in WINDOW_TABLES:
            path = self._windows.path(start_ms, name)
            if tables[name].num_rows or path.exists():  # an empty table replaces what a file that is reused held
                _write(path, tables[name])

    def is_rejects_due(self, count: int) -> bool:
        """Whether the rejects may be rewritten, `count` of which are new: the more there are, the less often."""
        return self._seconds() >= max(self._rejects_due, self._rejects_shown + self._pause(REJECT_SECONDS * count))

    def write_rejects(self, start_ms: int, write: Callable[[Path], None]) -> None:
        """Writes the rejects so far of an epoch that starts at `start_ms`; `write` is called with the path to write."""
        if start_ms < self._boundary_ms:
            return
        begun = self._seconds()
        file = Temporary(self._rejects.path(start_ms, "rejects"))
        write(file.temporary)
        file.publish(durable=False)
        self._rejects_shown = ended = self._seconds()
        self._rejects_due = ended + max(OPEN_SECONDS, self._pause(ended - begun))

    def write_rows(self, start_ms: int, name: str, rows: pa.Table) -> None:
        """Writes the rows so far of one of RECORD_TABLES of an epoch that starts at `start_ms`."""
        if start_ms >= self._boundary_ms and rows.num_rows:
            starts = pa.repeat(pa.scalar(start_ms, pa.int64()), rows.num_rows)
            table = rows.add_column(0, LIVE_TABLES[name].field("start_ms"), starts)
            _write(self._records[name].path(start_ms, name), table)

    @property
    def is_open_due(self) -> bool:
        """Whether `open.parquet` is missing or too old."""
        return self._seconds() >= self._open_due

    def write_open(self, windows: Callable[[], pa.Table]) -> None:
        """Writes the open windows: schema OPEN_WINDOWS."""
        begun = self._seconds()
        _write(self._folder / "open.parquet", windows())
        ended = self._seconds()
        self._open_due = ended + max(OPEN_SECONDS, self._pause(ended - begun))

    def keep(self, end_ms: int) -> None:
        """Flushes the files of epochs up to `end_ms` to the disk: from then on the checkpoint can't rewrite them."""
        for files in (self._windows, self._rejects, *self._records.values()):
            files.sync(end_ms)
        sync_folder(self._folder)

    def published(self, end_ms: int) -> None:
        """Notes that the files of an epoch that ends at `end_ms` are final: the boundary may pass it after a while."""
        self._published.append((self._seconds(), end_ms))

    def tidy(self) -> None:
        """Frees the files that no query can still need, then lets the boundary pass epochs that are final for long
        enough.
        """
        now = self._seconds()
        if not self._published or now - self._moved_at < READ_SECONDS:
            return
        for files in (self._windows, self._rejects, *self._records.values()):
            files.free(self._boundary_ms)
        passed = max((end_ms for at, end_ms in self._published if now - at >= LISTED_SECONDS), default=0)
        if passed > self._boundary_ms:
            self._boundary_ms = passed
            self._moved_at = now
            self._write_boundary()
        self._published = [entry for entry in self._published if entry[1] > self._boundary_ms]

    def _pause(self, seconds: float) -> float:
        """How long nothing is written after something that takes so long, or before."""
        return SHARE * self._partitions() * seconds

    def _is_kept(self, published_ms: int, held: Set[int], start_ms: int) -> bool:
        return start_ms in held or self._boundary_ms <= start_ms < published_ms

    def _write_boundary(self) -> None:
        row = pa.table([[self._partition], [self._boundary_ms]], schema=BOUNDARY)
        write_table(Temporary(self._folder / "boundary.parquet"), row).publish()


class _ReusedFiles:
    """Files of some tables that are written together, named by a number and known by the start (epoch ms) of their
    earliest row. The last table is never empty.
    """

    def __init__(self, folder: Path, tables: Sequence[str], is_kept: Callable[[int], bool]) -> None:
        """Takes over the files of an earlier run. Only here files are removed: torn, passed, or of a lost
        checkpoint.
        """
        self._folder = folder
        self._tables = tables
        self._numbers: dict[int, int] = {}
        self._free: list[int] = []
        for path in folder.glob(f"*.{tables[-1]}.parquet"):
            start_ms = _least(path, "start_ms")
            if start_ms is not None and is_kept(start_ms):
                self._numbers[start_ms] = _number(path)
        kept = set(self._numbers.values())
        for path in [path for name in tables for path in folder.glob(f"*.{name}.parquet")]:
            if _number(path) not in kept:
                path.unlink()

    def path(self, start_ms: int, table: str) -> Path:
        """The file of a table for rows from `start_ms` on: the one that holds them, or a free one."""
        number = self._numbers.get(start_ms)
        if number is None:
            number = self._free.pop() if self._free else max(self._numbers.values(), default=-1) + 1
            self._numbers[start_ms] = number
        return self._folder / f"{number}.{table}.parquet"

    def sync(self, before_ms: int) -> None:
        """Flushes the files whose rows start before `before_ms` to the disk."""
        for start_ms in [start_ms for start_ms in self._numbers if start_ms < before_ms]:
            for table in self._tables:
                with suppress(FileNotFoundError):
                    sync_file(self.path(start_ms, table))

    def free(self, before_ms: int) -> None:
        """Frees the files whose rows start before `before_ms` for reuse."""
        for start_ms in [start_ms for start_ms in self._numbers if start_ms < before_ms]:
            self._free.append(self._numbers.pop(start_ms))


def _write(path: Path, table: pa.Table) -> None:
    write_table(Temporary(path), table, is_cache=True).publish(durable=False)


def _number(path: Path) -> int:
    return int(path.name.split(".")[0])


def _stored_boundary(folder: Path) -> int | None:
    return _least(folder / "boundary.parquet", "from_ms")


def _least(path: Path, column: str) -> int | None:
    """The least value of a column of integers; None if the file is missing, torn or empty."""
    try:
        table = read_table(path, pa.schema([(column, pa.int64())]), remedy="it is rebuilt")
    except InvalidInput:
        return None
    return None if table.num_rows == 0 else int(pc.min(table.column(0)).as_py())


def open_windows(state: State, partition: int) -> pa.Table:
    """The open windows of a state, sorted by their keys: schema OPEN_WINDOWS. Amounts are estimates, without
    carries.
    """
    numbers = state.window_numbers()
    cells = turned(state.store.matrix(t.WINDOWS), numbers)
    columns = [
        names_array(state.store, t.NAME_AT, cells[t.WINDOW_MACHINE]),
        *(_or_null(cells[column]) for column in (t.START, t.ADJUSTS, t.READINGS)),
        pa.array(_amounts(state, numbers)),
        *(_or_null(cells[column]) for column in (t.FLAGS, t.FIRST_OFFSET_OF, t.LAST_OFFSET_OF)),
        *(pa.repeat(pa.scalar(each, pa.int64()), len(numbers)) for each in (state.stream_time_ms, partition)),
    ]
    table = pa.Table.from_arrays(columns, schema=OPEN_WINDOWS)
    return table.sort_by([("start_ms", "ascending"), ("machine", "ascending"), ("adjusts_ms", "ascending")])


def _or_null(cells: Ints) -> pa.Array:
    return pa.array(cells, mask=cells == NONE)


def _amounts(state: State, numbers: Ints) -> Ints:
    """What each of these windows comes to so far, in micros; `numbers` ascend."""
    owners, found = lines_of(state, numbers)
    lines = state.store.matrix(t.LINES)[found]
    usage, price = lines[:, t.LINE_USAGE], lines[:, t.LINE_PRICE]
    if len(lines) and int(np.abs(usage).max()) * int(np.abs(price).max()) >= 2**62:
        usage = usage.astype(object)
    amounts = np.zeros(len(numbers), np.int64)
    worth = usage * price // np.maximum(lines[:, t.LINE_PER], 1)
    np.add.at(amounts, np.searchsorted(numbers, owners), worth.astype(np.int64))
    return amounts
