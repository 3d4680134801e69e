"""However a log is cut into batches: ties, clocks that step, cuts within epochs, holes that close after a seal."""

import random
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.units import HOUR_MS, MINUTE_MS, SECOND_MS
from streams.core.advance import Advanced
from streams.core.recompute import EpochResult, recompute
from streams.core.records import Record
from streams.core.replay import advance_by_cuts
from streams.core.state import State
from streams.storage.log_reader import in_slices
from tests.support.parts import all_of
from tests.support.sim_log import HOURLY, START_MS, heartbeat, registration

STEPS_MS = (0, 0, 0, 1, SECOND_MS, MINUTE_MS, 7 * MINUTE_MS, -SECOND_MS, -5 * MINUTE_MS, 25 * MINUTE_MS)
"""How far the clock of the log goes between two records: ties, and steps back."""
LEAPS_MS = (70 * MINUTE_MS, 3 * HOUR_MS)
"""Past one cut, and past several."""


class Event(NamedTuple):
    """One record: how far the clock goes, whose reading, how many numbers it leaves out, whether it fills one in."""

    step_ms: int
    machine: int
    skipped: int
    closes: bool


EVENTS = st.lists(
    st.builds(
        Event,
        st.one_of(st.sampled_from(STEPS_MS), st.sampled_from(STEPS_MS), st.sampled_from(LEAPS_MS)),
        st.integers(0, 1),
        st.sampled_from((0, 0, 0, 1, 3)),
        st.booleans(),
    ),
    min_size=5,
    max_size=60,
)


class Story:
    """A log made of events, and what of interest happens in it."""

    def __init__(self, events: list[Event]) -> None:
        self.records = [registration("m0", 0), registration("m1", 1)]
        self.now_ms = START_MS
        self.seqs = [0, 0]
        self.holes: list[dict[str, Any]] = []
        self.closed_after_seal = 0
        for event in events:
            self.now_ms += event.step_ms
            if event.closes and self.holes:
                self.close()
            else:
                self.read(event)
        latest_ms = max(record.timestamp for record in self.records)
        self.records.append(heartbeat(self.records[-1].offset + 1, latest_ms + 3 * HOUR_MS))

    def read(self, event: Event) -> None:
        """A reading; the ones it skips come later or never."""
        for left in range(event.skipped, -1, -1):
            self.seqs[event.machine] += 1
            row = {
                "machine": f"m{event.machine}", "meter": "energy", "boot": 1, "seq": self.seqs[event.machine],
                "observed_at": self.now_ms - left * SECOND_MS, "register": 100 * self.seqs[event.machine],
            }  # fmt: skip
            if left:
                self.holes.append(row)
            else:
                self.send(row)

    def close(self) -> None:
        """The oldest that was left out."""
        row = self.holes.pop(0)
        latest_ms = max(record.timestamp for record in self.records)
        end_ms = HOURLY.window_start(row["observed_at"]) + HOURLY.window_ms
        self.closed_after_seal += end_ms + 10 * MINUTE_MS <= latest_ms
        self.send(row)

    def send(self, row: dict[str, Any]) -> None:
        value = msgspec.json.encode(row)
        self.records.append(Record(self.records[-1].offset + 1, self.now_ms, row["machine"].encode(), value, []))


class Taken:
    """A log taken in batches: all that came out, and the state's digest at each cut and at the end."""

    def __init__(self, records: list[Record], sizes: Any) -> None:
        state, self.parts, self.digests = State.new(HOURLY, 0), list[Advanced](), list[bytes]()
        while records:
            size = next(sizes)
            for done, _ in advance_by_cuts(state, records[:size]):
                self.parts.append(done)
                if done.cut is not None:
                    self.digests.append(state.digest())
            records = records[size:]
        self.digests.append(state.digest())

    def given(self) -> dict[str, Any]:
        """Everything, in order."""
        return all_of(self.parts) | {
            "cuts": [part.cut for part in self.parts if part.cut is not None],
            "digests": self.digests,
        }


def sizes(seed: int | None) -> Any:
    """One record a batch, or any numbers of them."""
    draw = random.Random(seed)
    while True:
        yield 1 if seed is None else draw.choice((1, 2, 5, 100))


@settings(max_examples=25)
@given(EVENTS, st.integers(0, 10**6))
def test_one_record_a_batch_is_any_other_cutting(events: list[Event], seed: int) -> None:
    records = Story(events).records
    single = Taken(records, sizes(None)).given()
    assert single["cuts"]
    assert Taken(records, sizes(seed)).given() == single
    alone: list[EpochResult] = list(recompute(HOURLY, 0, in_slices(records, 1)))
    assert alone == list(recompute(HOURLY, 0, [records]))
    assert [result.manifest.epoch for result in alone] == single["cuts"]
    assert [result.manifest.state_digest for result in alone] == [digest.hex() for digest in single["digests"][:-1]]


def test_the_stories_have_what_the_property_is_about() -> None:
    draw = random.Random(1)
    ties = steps_back = closed_after_seal = several_cuts = within = 0
    for _ in range(25):
        events = [
            Event(draw.choice((*STEPS_MS, *STEPS_MS, *LEAPS_MS)), draw.randrange(2), draw.choice((0, 1, 3)),
                  draw.random() < 0.4)
            for _ in range(50)
        ]  # fmt: skip
        story = Story(events)
        times = [record.timestamp for record in story.records]
        ties += sum(a == b for a, b in pairwise(times))
        steps_back += sum(a > b for a, b in pairwise(times))
        closed_after_seal += story.closed_after_seal
        taken = Taken(story.records, sizes(7))
        cutting = [part for part in taken.parts if part.cut is not None]
        several_cuts += sum(a.consumed == 0 and a.cut is not None for a in cutting[1:])
        within += sum(part.consumed > 0 for part in cutting)
        assert any(window.adjusts_ms is not None for part in taken.parts for window in part.windows) or (
            not story.closed_after_seal
        )
    assert min(ties, steps_back, closed_after_seal, several_cuts, within) > 20
