"""Control records taken alone come to what `advance` makes of them: outcomes and state, also through seals and cuts."""

from pathlib import Path

import pytest

from streams.core.control_step import CONTROL, move_time, take_control
from streams.core.records import record_type
from streams.core.replay import advance_through
from streams.reference.vectors import new_state, read_document, records_of
from tests.support.mutated_vectors import FILES


@pytest.mark.parametrize("path", FILES[1::8], ids=lambda path: path.name.removesuffix(".json.gz"))
def test_the_step_for_control_records_is_that_of_advance(path: Path) -> None:
    document = read_document(path)
    records = records_of(document)
    alone, whole = new_state(document), new_state(document)
    for record in records:
        if record_type(record) not in CONTROL:
            continue
        outcome = take_control(alone, record)
        parts = advance_through(whole, [record])
        counts = parts[-1].counts
        assert ([reject.reason for reject in parts[-1].rejects], counts.duplicate, counts.accepted) == (
            [outcome] if outcome not in (None, "duplicate") else [], outcome == "duplicate", outcome is None
        )  # fmt: skip
    assert alone.digest() == whole.digest()
    move_time(alone, records[-1].timestamp)
    assert alone.now_ms >= records[-1].timestamp
