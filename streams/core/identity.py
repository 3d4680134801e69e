"""Which rows are new: boots, high water and holes of one meter (rules 7 and 8)."""

from bisect import bisect_right
from typing import Literal

from schemas.reading import Reading
from schemas.reject import Reason
from streams.core.meters import NONE, Boot, Content, MeterState

BOOT_STEP_MAX = 2**20
SEQ_STEP_MAX = 2**20
HOLES_MAX = 16

Verdict = Reason | Literal["duplicate"] | None
"""Why a row is not new, or None for a new one."""


def judge_identity(meter: MeterState, row: Reading, least_boot: int) -> tuple[Verdict, int]:
    """The verdict on a row's boot and number, and how many numbers a new row skips (rules 7 and 8).

    A new row uses its number up. `least_boot` is the machine's registered boot, or NONE.
    """
    boot = _boot_of(meter, row.boot, least_boot)
    return _judge_seq(boot, row) if isinstance(boot, Boot) else (boot, 0)


def _boot_of(meter: MeterState, number: int, least_boot: int) -> Boot | Reason:
    """The boot that a row belongs to, made if it is a new one (rule 7)."""
    current, previous = meter.current, meter.previous
    if current is None:
        meter.current = Boot(number)
        return meter.current
    if number == current.boot:
        return current
    if number > current.boot:
        if number - current.boot > BOOT_STEP_MAX:
            return "boot_jump"
        meter.previous, meter.current = current, Boot(number)
        return meter.current
    if previous is not None and number == previous.boot:
        return previous
    # Below the current boot one more is kept: the highest seen, and none below a registered one.
    if number < (least_boot if previous is None else previous.boot):
        return "stale_boot"
    meter.previous = Boot(number)
    return meter.previous


def _judge_seq(boot: Boot, row: Reading) -> tuple[Verdict, int]:
    """The verdict on a row's number within its boot (rules 7 and 8)."""
    if boot.seq == NONE:  # The first reading of a boot: all numbers under it are one hole, and none counts as skipped.
        _raise_high_water(boot, row)
        return None, 0
    step = row.seq - boot.seq
    if step > SEQ_STEP_MAX:
        return "seq_jump", 0
    if step > 0:
        _raise_high_water(boot, row)
        return None, step - 1
    if step == 0:
        return ("duplicate" if Content.of(row) == boot.content else "equivocation"), 0
    if row.observed_at > boot.latest_ms:  # A late row was observed before the latest: these numbers began again.
        return "seq_reused", 0
    if _leave_hole(boot, row.seq):
        return None, 0
    return ("below_floor" if row.seq < boot.floor else "duplicate"), 0


def _raise_high_water(boot: Boot, row: Reading) -> None:
    if row.seq > boot.seq + 1:
        boot.holes.append((boot.seq + 1, row.seq - 1))
        _keep_highest_holes(boot)
    boot.seq, boot.content = row.seq, Content.of(row)
    boot.latest_ms = max(boot.latest_ms, row.observed_at)


def _leave_hole(boot: Boot, seq: int) -> bool:
    """Removes a number from its hole, which may split; False if it is in none."""
    index = bisect_right(boot.holes, seq, key=lambda hole: hole[0]) - 1
    if index < 0 or boot.holes[index][1] < seq:
        return False
    first, last = boot.holes[index]
    boot.holes[index : index + 1] = [hole for hole in ((first, seq - 1), (seq + 1, last)) if hole[0] <= hole[1]]
    _keep_highest_holes(boot)
    return True


def _keep_highest_holes(boot: Boot) -> None:
    while len(boot.holes) > HOLES_MAX:
        boot.floor = boot.holes.pop(0)[1] + 1
