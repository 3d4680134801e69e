"""The windows that still fill, as analysts see them: a look at the state, never settled from."""

from decimal import Decimal

import pyarrow as pa

from schemas.arrow import MICROS
from streams.core.meters import NONE
from streams.core.state import State
from streams.core.tables import table_of

OPEN_WINDOWS = pa.schema(
    [
        ("machine", pa.string()),
        ("start_ms", pa.int64()),
        ("mends_ms", pa.int64()),
        ("readings", pa.int64()),
        ("gross_micros", MICROS),
        ("first_offset", pa.int64()),
        ("last_offset", pa.int64()),
        ("stream_time_ms", pa.int64()),
        ("partition", pa.int64()),
    ]
)


def open_windows(state: State, partition: int) -> pa.Table:
    """The open windows of a state, without carries, by their keys: schema OPEN_WINDOWS."""
    rows = [
        (
            machine,
            start_ms,
            None if mends_ms == NONE else mends_ms,
            window.readings,
            Decimal(sum(usage * micros // max(per, 1) for (_, _, micros, per), usage in window.usage.items())),
            None if window.first_offset == NONE else window.first_offset,
            None if window.last_offset == NONE else window.last_offset,
            state.stream_time_ms,
            partition,
        )
        for (start_ms, machine, mends_ms), window in sorted(state.windows(), key=lambda item: item[0])
    ]
    return table_of(OPEN_WINDOWS, rows)
