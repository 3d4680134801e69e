"""What `core/replay` reports of records is what `advance` makes of them, however the log is cut."""

import random
from collections import Counter
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.reading import Reading
from schemas.window import Window
from streams.core.advance import Advanced
from streams.core.open_window import LineKey
from streams.core.records import Record
from streams.core.replay import RowChange, advance_through, judge_watched, replay
from streams.core.sealing import open_windows
from streams.core.state import State
from tests.support.dirty_logs import dirty_log, small_log

LOG = small_log()
SEEDS = st.integers(0, 10**6)
DIRT = st.sampled_from((0.0, 0.1, 0.5, 1.0))
MACHINES = frozenset(f"m{number}" for number in range(9))

Place = tuple[str, int, int | None]
"""Machine, start of the window, start of the adjusted one."""


class Replayed:
    """A log taken in slices, with restarts, a share of its records watched: what sealed, and each reported change."""

    def __init__(self, records: Sequence[Record], share: float, draw: random.Random) -> None:
        self.state = State.new(LOG, 0)
        self.windows: list[Window] = []
        self.changes: dict[int, list[RowChange]] = {}
        watched = {record.offset for record in records if draw.random() < share}
        while records:
            size = draw.randint(1, 50)
            for stop in replay(self.state, records[:size], lambda record: record.offset in watched):
                self.windows += stop.windows
                if stop.record is not None:
                    self.changes[stop.record.offset] = judge_watched(self.state, stop.record, MACHINES)
            records = records[size:]
            if draw.random() < 0.2:
                self.state = State.load(LOG, 0, self.state.tables())

    def lines(self) -> dict[Place, Counter[LineKey]]:
        """The sum of the changes, by window and line."""
        found: dict[Place, Counter[LineKey]] = {}
        for changes in self.changes.values():
            for window in (change.window for change in changes if change.window):
                lines = found.setdefault((window.machine, *window.where), Counter())
                for line in window.lines:
                    lines[line.meter, line.registration_version, line.price_micros, line.per] += line.usage
        return found


def place_of(window: Window) -> Place:
    return window.machine, window.start_ms, window.adjusts_ms


def lines_of(windows: Sequence[Window]) -> dict[Place, dict[LineKey, int]]:
    return {
        place_of(window): {(line.meter, line.version, line.price_micros, line.per): line.usage for line in window.lines}
        for window in windows
    }


def straight(records: Sequence[Record]) -> tuple[State, list[Advanced]]:
    state = State.new(LOG, 0)
    return state, advance_through(state, records)


@settings(max_examples=40)
@given(SEEDS, DIRT)
def test_the_changes_of_a_windows_lines_sum_to_its_lines(seed: int, dirt: float) -> None:
    records = dirty_log(seed, dirt)
    state, parts = straight(records)
    found = Replayed(records, 1.0, random.Random(seed))
    windows = [window for part in parts for window in part.windows]
    assert found.windows == windows
    assert found.state.digest() == state.digest()
    sealed_and_open = windows + open_windows(state)
    summed = {place: {line: usage for line, usage in own.items() if usage} for place, own in found.lines().items()}
    wanted = lines_of(sealed_and_open)
    assert {place: lines for place, lines in summed.items() if lines} == {
        place: lines for place, lines in wanted.items() if lines
    }
    assert set(summed) <= set(wanted)
    for window in sealed_and_open:
        placed = sum(
            isinstance(change.entry, Reading) and (into.machine, *into.where) == place_of(window)
            for changes in found.changes.values()
            for change in changes
            if (into := change.window)
        )
        assert placed == window.readings


@settings(max_examples=25)
@given(SEEDS, DIRT, st.sampled_from((0.0, 0.2, 1.0)))
def test_watching_changes_nothing_and_misses_no_verdict(seed: int, dirt: float, share: float) -> None:
    records = dirty_log(seed, dirt)
    state, parts = straight(records)
    found = Replayed(records, share, random.Random(seed))
    assert found.state.digest() == state.digest()
    assert found.windows == [window for part in parts for window in part.windows]
    refused = {(reject.offset, reject.row): reject.reason for part in parts for reject in part.rejects}
    seen = {
        (offset, change.row): change.outcome
        for offset, changes in found.changes.items()
        for change in changes
        if change.outcome not in (None, "duplicate")
    }
    assert seen == {place: reason for place, reason in refused.items() if place[0] in found.changes}
