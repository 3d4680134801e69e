"""windows -> flat tables -> Parquet -> windows: the same, in sealing order, however they came."""

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.arrow import (
    AGREEMENTS,
    ORDER,
    ORDERS,
    TABLES,
    WINDOW_TABLES,
    orders_from,
    orders_table,
    windows_from,
)
from schemas.order import Order
from schemas.window import FLAGS, Window, flag_bits, flags_from
from streams.core.replay import advance_through
from streams.core.state import State
from streams.reference.vectors import new_state, read_document, records_of
from tests.support.mutated_vectors import FILES
from tests.support.sealed_windows import random_windows
from tests.support.window_tables import window_tables


def of_machine(machine: str, version: int) -> tuple[str, str]:
    return f"kind {version}", f"site of {machine}"


def place(value: object) -> tuple[bool, object]:
    return value is not None, value.encode() if isinstance(value, str) else value


@given(st.integers(0, 2**32), st.integers(0, 40))
def test_windows_come_back_equal(seed: int, count: int) -> None:
    windows = random_windows(random.Random(seed), count)
    tables = window_tables(windows, of_machine)
    assert windows_from(tables) == sorted(windows, key=lambda window: window.sealing_key)
    assert tables.keys() == WINDOW_TABLES.keys()
    for name, table in tables.items():
        assert table.schema == WINDOW_TABLES[name]
        assert not any(pa.types.is_nested(field.type) for field in table.schema)
        keys = [tuple(place(row[column]) for column in ORDER[name]) for row in table.to_pylist()]
        assert keys == sorted(set(keys)), name
    rows = tables["windows"].to_pylist()
    assert [(row["kind"], row["route"]) for row in rows] == [
        (f"kind {row['registration_version']}", f"site of {row['machine']}") for row in rows
    ]
    assert tables["agreements"].num_rows == sum(
        len(agreement.payees)
        for agreement in {window.agreement.terms_digest(): window.agreement for window in windows}.values()
    )


def test_they_come_back_from_files(tmp_path: Path) -> None:
    windows = random_windows(random.Random(5), 60)
    for name, table in window_tables(windows, of_machine).items():
        pq.write_table(table, tmp_path / f"{name}.parquet")
    tables = {name: pq.read_table(tmp_path / f"{name}.parquet") for name in WINDOW_TABLES}
    assert sorted(windows, key=lambda window: window.sealing_key) == windows_from(tables)


def test_orders_come_back_in_the_order_of_placing() -> None:
    supplier = "0x" + "c3" * 20
    orders = [
        Order(
            machine="m0",
            item=item,
            number=1,
            quantity=2,
            unit_price=3,
            supplier=supplier,
            placed_at=9,
            offset=7,
            row=row,
        )
        for row, item in ((0, "z"), (0, "a"), (2, "m"))
    ]
    table = orders_table(orders)
    assert table.schema == ORDERS
    assert orders_from(table) == orders
    assert orders_from(table.take([2, 1, 0]).sort_by([(name, "ascending") for name in ORDER["orders"]])) == orders


@pytest.mark.parametrize("path", FILES[::4], ids=lambda path: path.name.removesuffix(".json.gz"))
def test_what_the_core_seals_is_what_objects_say(path: Path) -> None:
    """Logs with prepaid sessions, orders and corrections: columns and digests are those of the windows as objects."""
    document = read_document(path)
    state = new_state(document)
    parts = advance_through(state, records_of(document))
    for part in parts:
        tables = window_tables(part.windows, lambda machine, version: named(state, machine, version))
        assert part.sealed.tables() == tables
        for window in part.windows:
            salt = state.machines[window.machine].version(window.registration_version).salt or ""
            assert window == window.sealed(salt)
    epochs: dict[int, list[Window]] = {}
    for window in (window for part in parts for window in part.windows):
        epochs.setdefault(state.log.epoch_of(window.start_ms), []).append(window)
    assert epochs
    for sealed in epochs.values():
        assert sealed == sorted(sealed, key=lambda window: window.sealing_key)
    orders = [order for part in parts for order in part.orders]
    assert orders_from(orders_table(orders)) == orders


def named(state: State, machine: str, version: int) -> tuple[str, str]:
    known = state.machines[machine]
    return known.version(version).registration.kind, known.route


def test_flags_are_bits() -> None:
    for bits in range(1 << len(FLAGS)):
        assert flag_bits(flags_from(bits)) == bits


def test_no_column_is_nested() -> None:
    assert not [name for name, schema in TABLES.items() for field in schema if pa.types.is_nested(field.type)]
    assert AGREEMENTS.names[0] == "agreement"
