"""The clean readings, the same in every run and encoding: each machine shows its register every so often."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from schemas.units import DAY_MS, HOUR_MS, SECOND_MS
from streams.core.murmur2 import partition_of

PARTITIONS = 4
START_MS = 18_000 * DAY_MS + 9 * HOUR_MS
"""No epoch ends within the load: neither the archive nor an epoch's files are measured."""

STEP_MS = 10 * SECOND_MS
SPAN_MS = 14 * HOUR_MS
RISE_MAX = 60
SEED = 7
CHUNK = 100_000
ROW = b'{"machine":"%b","meter":"energy","boot":%d,"seq":%d,"observed_at":%d,"register":%d}'

SCHEMA = pa.schema(
    [("machine", pa.string()), ("meter", pa.string())]
    + [(name, pa.int64()) for name in ("boot", "seq", "observed_at", "register")]
)

Ints = Any
"""A numpy array of int64."""


class Readings:
    """`count` readings of `machines` in the order of time: the n-th is number n // machines of machine n % machines.

    All of them lie within `span_ms`.
    """

    def __init__(self, machines: int, count: int, step_ms: int = STEP_MS, span_ms: int = SPAN_MS) -> None:
        steps, most = -(-count // machines), span_ms // step_ms
        if steps > most:
            raise SystemExit(f"an epoch would end: at most {most * machines} readings of {machines} machines")
        self.step_ms = step_ms
        self.machines, self.count = machines, count
        self.names = names_of(machines)
        self.partitions: Ints = np.array([partition_of(name, PARTITIONS) for name in self.names])
        draw = np.random.default_rng(SEED)
        rises = draw.integers(0, RISE_MAX, (steps, machines))
        rises[0] = draw.integers(1_000, 1_000_000, machines)
        self.registers: Ints = rises.cumsum(axis=0)

    @property
    def end_ms(self) -> int:
        """A moment by which every window has ended and its grace is over."""
        return START_MS + len(self.registers) * self.step_ms + HOUR_MS

    def columns(self, numbers: Ints) -> tuple[Ints, Ints, Ints, Ints]:
        """Machine's place, seq, moment (epoch ms) and register of the readings of these numbers."""
        seqs, places = np.divmod(numbers, self.machines)
        moments = START_MS + seqs * self.step_ms + places * self.step_ms // self.machines
        return places, seqs, moments, self.registers[seqs, places]

    def by_machine(self) -> dict[str, tuple[int, int, int]]:
        """Readings, usage and sum of the registers of each machine."""
        full, rest = divmod(self.count, self.machines)
        shown: Ints = full + (np.arange(self.machines) < rest)
        last = self.registers[shown - 1, np.arange(self.machines)]
        sums = self.registers[:full].sum(axis=0)
        if rest:
            sums[:rest] += self.registers[full, :rest]
        columns = shown, np.where(shown > 0, last - self.registers[0], 0), sums
        rows = zip(*(column.tolist() for column in columns), strict=True)
        return {name.decode(): row for name, row in zip(self.names, rows, strict=True) if row[0]}

    def singles(self) -> Iterator[tuple[int, int, bytes, bytes]]:
        """(partition, moment, key, JSON value) of each reading."""
        for first in range(0, self.count, CHUNK):
            places, seqs, moments, registers = self.columns(np.arange(first, min(first + CHUNK, self.count)))
            owners = self.partitions[places].tolist()
            names = [self.names[place] for place in places.tolist()]
            moments = moments.tolist()
            for owner, name, seq, moment, register in zip(
                owners, names, seqs.tolist(), moments, registers.tolist(), strict=True
            ):
                yield owner, moment, name, ROW % (name, 1, seq, moment, register)

    def batches(self, rows: int, form: str) -> Iterator[tuple[int, int, bytes, bytes]]:
        """The same with so many readings of a partition in a value: a JSON array (`json`) or an Arrow stream."""
        encode = self._json if form == "json" else self._arrow
        numbers = [self._numbers_of(partition) for partition in range(PARTITIONS)]
        for first in range(0, max(map(len, numbers)), rows):
            for partition, own in enumerate(numbers):
                chunk = own[first : first + rows]
                if len(chunk):
                    columns = self.columns(chunk)
                    yield partition, int(columns[2][-1]), self.names[columns[0][0]], encode(columns)

    def _numbers_of(self, partition: int) -> Ints:
        places = np.flatnonzero(self.partitions == partition)
        numbers = (np.arange(len(self.registers))[:, None] * self.machines + places).ravel()
        return numbers[numbers < self.count]

    def _json(self, columns: Sequence[Ints]) -> bytes:
        lists = (column.tolist() for column in columns)
        rows = [ROW % (self.names[place], 1, *rest) for place, *rest in zip(*lists, strict=True)]
        return b"[" + b",".join(rows) + b"]"

    def _arrow(self, columns: Sequence[Ints]) -> bytes:
        places, seqs, moments, registers = columns
        rows = len(places)
        machines = pa.array([self.names[place].decode() for place in places.tolist()])
        boots = np.ones(rows, np.int64)
        arrays = [machines, pa.array(["energy"] * rows), *map(pa.array, (boots, seqs, moments, registers))]
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, SCHEMA) as writer:
            writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=SCHEMA))
        value: bytes = sink.getvalue().to_pybytes()
        return value


def names_of(machines: int) -> list[bytes]:
    """The machines' ids."""
    return [b"m-%06d" % number for number in range(machines)]
