"""Machines of a simulated fleet as a source, so that they merge by time into the same log as recorded files."""

from collections.abc import Collection, Iterator

from deploy.importers.source_log import SourceLog, SourceRecord, reading_record
from deploy.simulate.fleet import Fleet
from schemas.units import DAY_MS, MINUTE_MS

EVERY_MS = 5 * MINUTE_MS


def fleet_source(seed: str, kinds: Collection[str], start_ms: int, days: int) -> SourceLog:
    """One machine of each kind, read every five minutes for `days` days from `start_ms` on, without faults.

    No file stands behind it, so it has no totals; nothing is signed, as in recorded files. The same arguments make
    the same records.
    """
    fleet = Fleet(seed, is_signed=False)
    chosen = [number for number in range(fleet.machines) if fleet.machine(number).kind in kinds]
    machines = tuple(fleet.machine(number) for number in chosen)
    moments = range(start_ms, start_ms + days * DAY_MS, EVERY_MS)

    def make(shift_ms: int) -> Iterator[SourceRecord]:
        lives = [fleet.life(number) for number in chosen]
        for moment in moments:
            for life in lives:
                readings = life.readings(moment + shift_ms, moment + shift_ms)
                if readings:
                    yield reading_record(tuple(readings))

    return SourceLog(
        name="simulated " + ", ".join(machine.kind for machine in machines),
        machines=machines,
        rows=len(moments) * len(machines),
        left_out=0,
        skipped=(),
        totals={},
        start_ms=moments[0],
        end_ms=moments[-1],
        make=make,
    )
