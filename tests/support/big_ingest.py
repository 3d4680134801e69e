"""A long file into a log on disk, twice: `python -m tests.support.big_ingest FOLDER MACHINES ROWS_OF_EACH`.

Prints one JSON object: what each of the two runs sent, and the process' peak of memory after both, in bytes.
"""

import json
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from deploy.importers.ingest import placed, read_files, records_of
from deploy.importers.mapping import Mapping, read_mapping
from deploy.importers.spool import Spool
from schemas.units import MINUTE_MS
from streams.core.records import LogRecord, Record
from tests.support.ingested import NOW_MS, IngestedLog, filled_in, form_of

BEGINS_MS = 1_714_521_600_000
MAPPING = """
kind = "events"
machine = ["m"]
time_format = "epoch_ms"
[session]
end = "at"
[amounts.fare]
column = "v"
times = "100"
unit = "cents"
capacity = "100000 cents/h"
"""


class LogOnDisk(IngestedLog):
    """What was registered in memory, and readings in a file: a log that may be longer than memory."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, BEGINS_MS, partitions=1)
        self._path = folder / "log"
        self._path.touch()
        self._count = 0

    def read(self, partition: int, first: int, next: int) -> Iterator[LogRecord]:
        yield from super().read(partition, first, next)
        with self._path.open("rb") as file:
            for line in file:
                yield msgspec.json.decode(line, type=Record)

    def range(self, partition: int) -> tuple[int, int]:
        return 0, len(self.records[partition]) + self._count

    def send(self, file: Path, mapping: Mapping) -> dict[str, int]:
        """One run of `ingest`."""
        with Spool(self.folder / "spool.sqlite") as spool, self._path.open("ab") as sink:
            found = read_files([file], mapping, spool)
            _, new = placed(self.log, self, found, mapping, spool, NOW_MS, lambda _: None)
            for at_ms, route, value in records_of(new.readings.by_time()):
                sink.write(msgspec.json.encode(Record(0, at_ms, route.encode(), value)) + b"\n")
                self._count += 1
            return {"rows": found.rows, "sent": new.sums.sent_rows, "there_already": new.sums.there_already}


def main(folder: Path, machines: int, rows: int) -> None:
    """See the module."""
    (folder / "map.toml").write_text(MAPPING)
    mapping, file = read_mapping(str(folder / "map.toml")), folder / "rows.csv"
    few = folder / "few.csv"
    for path, count in ((few, 1), (file, rows)):
        with path.open("w") as out:
            out.write("m,at,v\n")
            for row in range(count):
                at_ms = BEGINS_MS + row * MINUTE_MS
                out.writelines(f"m{machine},{at_ms},{row % 40}.50\n" for machine in range(machines))
    log = LogOnDisk(folder)
    log.register(filled_in(form_of(few, mapping)))
    runs = [log.send(file, mapping) for _ in range(2)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1_024)
    print(json.dumps({"runs": runs, "peak_bytes": peak}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
