"""What every contender is measured with. Only the standard library: peers run in an environment of their own."""

import json
import os
import resource
import sys
import time
from pathlib import Path


class Clock:
    """Wall and CPU time from the end of the first batch to the end of the last: no start-up counts.

    A batch is what the contender takes at once (a record, for stock Faust). CPU time is that of all its threads.
    """

    def __init__(self) -> None:
        self.began: tuple[float, float] | None = None
        self.ended = (0.0, 0.0)
        self.first = 0
        self.peak_bytes = 0

    def batch_done(self, readings: int) -> None:
        """A batch is done; the first one ends what isn't measured."""
        self.ended = time.perf_counter(), time.process_time()
        if self.began is None:
            self.began, self.first = self.ended, readings

    def stop(self) -> None:
        """All is consumed: what comes now, such as a look at the sums, is not measured."""
        self.peak_bytes = peak_bytes()

    def report(self, contender: str, readings: int, correct: bool) -> None:
        """Prints the result as one JSON object; `readings` are all that there were."""
        began = self.began or self.ended
        wall, cpu = (end - start for end, start in zip(self.ended, began, strict=True))
        measured = max(0, readings - self.first)
        result = {
            "contender": contender,
            "readings": measured,
            "wall_seconds": round(wall, 3),
            "cpu_seconds": round(cpu, 3),
            "readings_per_cpu_second": round(measured / cpu) if cpu else 0,
            "peak_rss_bytes": self.peak_bytes,
            "correct": correct,
        }
        os.write(1, (json.dumps(result) + "\n").encode())  # stock Faust takes sys.stdout for its log


def peak_bytes() -> int:
    """The most memory that this process ever held. Linux counts its parent's into `ru_maxrss`, so not that there."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1_024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1_024)
