"""Recorded inverter power as energy: what it feeds in, and what it draws at night.

Identity, for each of both meters: the sum of its quantities = floor of the sum of power x interval, in Wh, exactly.

- A sample's power holds from its moment to the next sample's, at most for the file's usual step (its most frequent
  one): a gap counts as nothing, the file knows no more. The reading is observed at the interval's end, so its moment
  lies within the interval: the energy up to four o'clock is in the window before four.
- Power is a decimal and intervals are ms, so energy is a fraction. Its whole Wh go out, the rest goes into the next
  reading of the same meter.
- Positive power is the meter `energy`, negative power the meter `import`. Every sample reports both, so both are judged
  by the time of one sample: a sentinel such as -1,000,000 goes out as it is, and the stream rejects it as `too_high`.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

from deploy.importers.names import id_of
from deploy.importers.source_log import (
    Places,
    Skipped,
    SourceLog,
    SourceMachine,
    SourceOptions,
    SourceRecord,
    is_no,
    nothing_read,
    reading_record,
)
from deploy.importers.tables import columns_of, exact, localised, moment_of, rows_of, to_ms
from deploy.importers.tariffs import flat, zone_of
from schemas.errors import InvalidInput
from schemas.reading import Reading
from schemas.registration import Meter
from schemas.units import COUNT_MAX, HOUR_MS

LAYOUTS = {"ac_power": ("measured_on", "W"), "meas_val_f": ("ts", "kW")}
"""Power column to the moment's column and the unit that it has by default."""

WATTS = {"W": 1, "kW": 1_000}

SIZES_W: tuple[int, ...] = tuple(size * 10**power for power in range(3, 9) for size in (1, 2, 3, 4, 5, 6, 8))
"""Rated powers (W). A plant has the smallest one that 99 % of its samples of production don't exceed."""

IMPORT_SHARE = 50
"""What a plant may draw is its rated power divided by this: 2 % stands for its own electronics."""

PRICE_MICROS, PER_WH = 90_000, 1_000
"""USD 0.09 a kWh fed in, at all hours. What is drawn is metered and has no price."""


@dataclass(frozen=True, slots=True)
class _Sample:
    row: int
    at_ms: int
    power_w: Fraction


class PvPower:
    """The source `pv-power`: columns measured_on and ac_power (W), or ts and meas_val_f (kW)."""

    def read(self, path: Path, options: SourceOptions) -> SourceLog:
        """The file as a log of one machine, by default named after the file.

        Raises InvalidInput naming the missing column or what option is needed, or where no two samples can be read.
        """
        samples, skipped, rows = _samples(path, options)
        step_ms = _usual_step_ms(path.name, samples, skipped)
        found = len(samples)
        end_ms = options.end_ms(samples[0].at_ms)
        samples = [sample for sample in samples if end_ms is None or sample.at_ms < end_ms]
        name = id_of(options.machine or path.stem)
        machine = _machine(name, options.capacity_w or _rated_w(samples))
        points = list(_points(samples, step_ms))
        return SourceLog(
            name=path.name,
            machines=(machine,),
            rows=rows,
            left_out=found - len(samples),
            skipped=tuple(skipped),
            totals={
                "energy Wh": sum(energy_wh for _, energy_wh, _ in points),
                "import Wh": sum(import_wh for _, _, import_wh in points),
            },
            start_ms=points[0][0],
            end_ms=points[-1][0],
            make=lambda shift_ms: _records(name, points, shift_ms),
        )


def _samples(path: Path, options: SourceOptions) -> tuple[list[_Sample], list[Skipped], int]:
    """The samples by ascending moment, the rows skipped, and how many rows there are."""
    power, (stamp, unit) = _layout(path)
    watts = WATTS[options.unit or unit]
    zone = zone_of(options.zone) if options.zone else None
    samples: dict[int, _Sample] = {}
    skipped: list[Skipped] = []
    number, before_ms = 0, None
    for number, fields in rows_of(path, (stamp, power)):
        read = fields if isinstance(fields, str) else _read(fields, (stamp, power))
        if isinstance(read, str):
            skipped.append(Skipped(number, read))
            continue
        moment, value = read
        if moment.tzinfo is None and zone is None:
            raise InvalidInput(
                f"{path.name}, row {number}: {stamp} has no UTC offset: add --zone, such as UTC or America/Los_Angeles"
            )
        at_ms = to_ms(moment) if moment.tzinfo or zone is None else localised(moment, zone, before_ms)
        if at_ms is None:
            skipped.append(Skipped(number, "an hour that the clock skipped"))
        elif at_ms in samples:
            skipped.append(Skipped(number, "the time is a repetition"))
        elif at_ms < 0 or abs(value) * watts > COUNT_MAX:
            skipped.append(Skipped(number, "out of range"))
        else:
            samples[at_ms] = _Sample(number, at_ms, value * watts)
            before_ms = at_ms
    return [samples[at_ms] for at_ms in sorted(samples)], skipped, number


def _layout(path: Path) -> tuple[str, tuple[str, str]]:
    present = columns_of(path)
    for power, layout in LAYOUTS.items():
        if power in present:
            return power, layout
    raise InvalidInput(f"{path.name} has no column ac_power (with measured_on) or meas_val_f (with ts)")


def _read(fields: tuple[str, ...], columns: tuple[str, str]) -> tuple[datetime, Fraction] | str:
    """The time and the power of a row, or why it has none."""
    (stamp_text, power_text), (stamp, power) = fields, columns
    if power_text.lower() in ("", "nan"):
        return "no value"
    value = exact(power_text)
    if value is None:
        return is_no("number", power, power_text)
    moment = moment_of(stamp_text)
    return is_no("time", stamp, stamp_text) if moment is None else (moment, value)


def _usual_step_ms(file: str, samples: list[_Sample], skipped: Sequence[Skipped]) -> int:
    """The most frequent time between two samples; of several the shortest."""
    steps = Counter(after.at_ms - before.at_ms for before, after in pairwise(samples))
    if not steps:
        raise nothing_read(file, "fewer than two samples: their interval is unknown.", skipped)
    return min(steps, key=lambda step_ms: (-steps[step_ms], step_ms))


def _rated_w(samples: list[_Sample]) -> int:
    produced = sorted(sample.power_w for sample in samples if sample.power_w > 0)
    if not produced:
        return SIZES_W[0]
    typical = produced[(len(produced) - 1) * 99 // 100]
    return next((size for size in SIZES_W if size >= typical), SIZES_W[-1])


def _machine(name: str, capacity_w: int) -> SourceMachine:
    meters = (
        Meter("energy", "Wh", "quantity", capacity_w),
        Meter("import", "Wh", "quantity", max(1, capacity_w // IMPORT_SHARE)),
    )
    return SourceMachine(name, "pv_inverter", meters, flat({"energy": (PRICE_MICROS, PER_WH)}))


def _points(samples: list[_Sample], step_ms: int) -> Iterator[tuple[int, int, int]]:
    """(end of the interval in epoch ms, Wh produced, Wh drawn), the fraction of a Wh carried on for each."""
    nothing = produced_rest = drawn_rest = Fraction(0)
    ends = [min(after.at_ms - before.at_ms, step_ms) for before, after in pairwise(samples)] + [step_ms]
    for sample, lasted_ms in zip(samples, ends, strict=True):
        energy = sample.power_w * lasted_ms / HOUR_MS
        produced, produced_rest = divmod(produced_rest + max(energy, nothing), 1)
        drawn, drawn_rest = divmod(drawn_rest + max(-energy, nothing), 1)
        yield sample.at_ms + lasted_ms, produced, drawn


def _records(name: str, points: list[tuple[int, int, int]], shift_ms: int) -> Iterator[SourceRecord]:
    places = Places()
    for at_ms, *amounts in points:
        yield reading_record(
            tuple(
                Reading(
                    machine=name,
                    meter=meter,
                    boot=1,
                    seq=places.next(name, meter),
                    observed_at=at_ms + shift_ms,
                    quantity=amount,
                )
                for meter, amount in zip(("energy", "import"), amounts, strict=True)
            )
        )
