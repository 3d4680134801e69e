"""Whatever a charger's transactions show, in whatever order: readings are whole, sessions begin once, sums add up."""

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from tallyroot_gateway import NewReading
from tallyroot_gateway.field.clocks import Clocks
from tallyroot_gateway.field.metrics import Metrics
from tallyroot_gateway.ocpp.config import Connector
from tallyroot_gateway.ocpp.transactions import KEPT, Port, Step
from tallyroot_gateway.ocpp.values import Sample
from tallyroot_gateway.reading import fault_of

NOW_MS = 1_790_000_000_000
CLOCKS = Clocks(Metrics())

REGISTERS = st.one_of(st.none(), st.just(0), st.integers(0, 2**53))
TIMES = st.one_of(st.none(), st.just(740), st.integers(NOW_MS - 10**9, NOW_MS + 10**9))
SCRIPTS = st.lists(st.tuples(st.sampled_from(["begin", "sample", "end", "adopt"]), st.integers(0, 5), REGISTERS, TIMES))


def connector(**options: Any) -> Connector:
    """A connector as the file says."""
    given = {"per_transaction": False, "signed": False, "opening": None, **options}
    return Connector(1, "m", "m", "energy", "Wh", None, public_key=None, obis=None, **given)


def played(script: list[tuple[str, int, int | None, int | None]], port: Connector) -> tuple[Port, list[NewReading]]:
    """Each step from the notes of the one before."""
    notes, readings = msgspec.json.encode(Port()), []
    for number, (what, which, register, at_ms) in enumerate(script):
        step = Step(port, msgspec.json.decode(notes, type=Port), CLOCKS, NOW_MS)
        transaction = step.port.find(str(which))
        if what == "begin":
            begun = step.begin(str(which), f"s-{number}", at_ms)
            step.begin_register(begun, register)
        elif what == "adopt" and transaction is None:
            step.adopt(str(which), None, at_ms)
        elif what == "sample":
            step.sample(transaction, Sample(at_ms, "Sample.Periodic", register, None))
        elif what == "end" and transaction is not None:
            step.end(transaction, at_ms, register)
        readings += step.readings
        notes = msgspec.json.encode(step.port)
    return msgspec.json.decode(notes, type=Port), readings


@given(SCRIPTS, st.booleans(), st.booleans(), st.sampled_from([None, 0]))
def test_readings_are_whole_and_each_session_begins_once(
    script: list[tuple[str, int, int | None, int | None]], per_transaction: bool, signed: bool, opening: int | None
) -> None:
    port, readings = played(script, connector(per_transaction=per_transaction, signed=signed, opening=opening))
    assert len(port.transactions) <= KEPT
    starts: dict[str, NewReading] = {}
    for reading in readings:
        fields = {name: value for name, value in msgspec.structs.asdict(reading).items() if value is not msgspec.UNSET}
        fields.pop("may_fall")
        fault = fault_of(fields | {"boot": 0, "seq": 0})
        assert fault is None or "register" in fault  # beyond 2^53, which the charger's step sets aside
        if isinstance(reading.session, str):
            assert reading.session_start == (reading.session not in starts)
            first = starts.setdefault(reading.session, reading)
            assert reading.session_started_at == first.session_started_at


@given(st.lists(st.lists(st.integers(0, 10**6), min_size=1, max_size=4), max_size=KEPT), st.randoms())
def test_a_register_of_transactions_is_the_sum_of_what_each_showed_last(rising: list[list[int]], order: Any) -> None:
    """In whatever order they come, as long as each one's own registers do."""
    queues = {str(number): sorted(registers) for number, registers in enumerate(rising)}
    port = Port()
    for id in queues:
        step = Step(connector(per_transaction=True), port, CLOCKS, NOW_MS)
        step.begin_register(step.begin(id, f"s-{id}", NOW_MS), 0)
    total = sum(registers[-1] for registers in queues.values())
    while any(queues.values()):
        id = order.choice([id for id, registers in queues.items() if registers])
        step = Step(connector(per_transaction=True), port, CLOCKS, NOW_MS)
        step.sample(port.find(id), Sample(NOW_MS, "Sample.Periodic", queues[id].pop(0), None))
        assert all((reading.register or 0) <= total for reading in step.readings)
    assert (port.register or 0) == total
