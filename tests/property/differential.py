"""Core and slow text side by side: `python -m tests.property.differential --seeds 1000 [--first N] [--json]`.

Each seed draws the rules of a log and a dirty log with records of all types, signed or not, as JSON or Arrow. Both must
say the same of every entry, window, order and deposit; a third of the logs is also cut, with a restart at each cut.
"""

import random
import sys
from collections import Counter

from msgspec import to_builtins

from schemas.log import Log, Ruleset
from schemas.manifest import Counts
from schemas.units import DAY_MS, HOUR_MS, MINUTE_MS
from schemas.window import Window
from streams.core.advance import Advanced, advance
from streams.core.records import Record
from streams.core.replay import advance_by_cuts
from streams.core.sealing import open_windows
from streams.core.state import State
from streams.reference.recount import PartitionRecount, plain_windows
from tests.simulation.seeds import again, run_seeds
from tests.support.dirty_logs import START_MS, dirty_log
from tests.support.fleet_logs import in_arrow
from tests.support.parts import all_of
from tests.support.signed_logs import SignedLog

MODULE = "tests.property.differential"
LOG_ID = "differential"


def draw_log(seed: int) -> tuple[Log, list[Record]]:
    """The rules and the records of a seed."""
    draw = random.Random(seed)
    is_long = draw.random() < 0.3
    epoch_ms = 30 * DAY_MS if is_long else draw.choice((2 * HOUR_MS, DAY_MS))
    first = START_MS // epoch_ms
    log = Log(
        log_id=LOG_ID,
        partitions=1,
        window_ms=draw.choice((15, 15, 5, 60)) * MINUTE_MS,
        epoch_ms=epoch_ms,
        rulesets=tuple(draw_rules(draw, epoch) for epoch in draw.choice(((0,), (0,), (0, first + 1, first + 2)))),
    )
    dirt = draw.choice((0.0, 0.1, 0.5, 1.0))
    records = dirty_log(seed, dirt, draw.choice((60, 160, 400)), log_id=LOG_ID, is_long=is_long)
    if draw.random() < 0.3:
        records = [in_arrow(record) if draw.random() < 0.5 else record for record in records]
    if draw.random() < 0.3:
        records = SignedLog(LOG_ID, seed, share=0.7, dirt=0.3).of(records)
    return log, records


def draw_rules(draw: random.Random, first_epoch: int) -> Ruleset:
    """The rules from an epoch on."""
    return Ruleset(
        first_epoch=first_epoch,
        grace_ms=draw.choice((0, 10, 10, 40)) * MINUTE_MS,
        horizon_ms=draw.choice((HOUR_MS, 6 * HOUR_MS, 35 * DAY_MS)),
        skew_ms=draw.choice((0, 5, 5, 5)) * MINUTE_MS,
    )


def run_and_check(seed: int) -> Counter[str]:
    """One seed. Returns what happened, by name; what it raises says which seed it was."""
    try:
        return _check(seed)
    except BaseException as error:
        error.add_note(f"seed {seed} failed; run it again: {again(MODULE, seed)}")
        raise


def _check(seed: int) -> Counter[str]:
    log, records = draw_log(seed)
    state = State.new(log, 0)
    parts, deposits = list[Advanced](), list[int]()
    for done, _ in advance_by_cuts(state, records):
        parts.append(done)
        deposits += [] if done.cut is None else [state.deposits_micros()]
    recount = PartitionRecount(log).take(records)
    assert [(one.offset, one.row, one.reason) for part in parts for one in part.rejects] == recount.rejects
    counts = sum((part.counts for part in parts), Counts())
    assert (counts.accepted, counts.duplicate) == (recount.accepted, recount.duplicate)
    windows = [window for part in parts for window in part.windows] + open_windows(state)
    sealed = [{name: part for name, part in one.items() if name != "by"} for one in recount.sealed]
    assert plain_windows(windows) == sealed + recount.open_windows()
    orders = [to_builtins(order) for part in parts for order in part.orders]
    assert orders == [order.terms for order in recount.orders.placed]
    assert (deposits, state.deposits_micros()) == (recount.deposits_at_cuts, recount.deposits())
    if seed % 3 == 0:
        _check_cutting(log, records, parts, state, random.Random(seed))
    return _happened(parts, recount, windows)


def _check_cutting(log: Log, records: list[Record], whole: list[Advanced], end: State, draw: random.Random) -> None:
    """Slices of any size, each from a state that was dumped and loaded, come to the same."""
    state, parts, left = State.new(log, 0), list[Advanced](), records
    longest = draw.choice((1, 20, 90))
    while left:
        parts.append(advance(state, left[: draw.randint(1, longest)]))
        left = left[parts[-1].consumed :]
        state = State.load(log, 0, state.tables())
    assert all_of(parts) == all_of(whole)
    assert state.digest() == end.digest()


def _happened(parts: list[Advanced], recount: PartitionRecount, windows: list[Window]) -> Counter[str]:
    happened = Counter(reason for _, _, reason in recount.rejects)
    happened["accepted"], happened["duplicate"] = recount.accepted, recount.duplicate
    happened["cuts"] = sum(part.cut is not None for part in parts)
    happened.update(f"order {order.state(recount.now)}" for order in recount.orders.placed)
    for window in windows:
        happened["windows"] += 1
        happened["adjustments"] += window.adjusts_ms is not None
        happened.update(f"flag {flag}" for flag in window.flags)
        happened.update(f"due {due.kind}" for due in window.dues)
        happened["refunds by corrections"] += sum(due.kind == "refund" for due in window.dues) - sum(
            one.refund_micros > 0 for one in window.sessions
        )
        happened["statements"] += len(window.sessions)
        happened["sessions used"] += sum(one.used_micros > 0 for one in window.sessions)
        happened["uncollected"] += window.uncollected_micros > 0
        happened["lines of sessions"] += sum(line.per == 0 for line in window.lines)
        happened["gross below zero"] += window.gross_micros < 0
    return happened


if __name__ == "__main__":
    sys.exit(run_seeds(MODULE, __doc__, run_and_check))
