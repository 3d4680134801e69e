"""A simulated fleet: the same bytes from one seed, nothing refused without a fault, and what each fault comes to."""

from collections import Counter, defaultdict
from fractions import Fraction
from itertools import pairwise

import msgspec
import pytest

from deploy.importers.replay import Outgoing
from deploy.simulate.fleet import BEARING_MICROS, Fleet
from deploy.simulate.fleet_days import BEARINGS_ORDERED, DRONE_BATTERY_WH, TAXI_BATTERY_WH
from deploy.simulate.fleet_faults import FAULTS, Fault, faults_of
from deploy.simulate.simulation import FORMS, FleetMemory, Form, Plan, Simulation, heartbeats, last_heartbeat_ms
from schemas.errors import InvalidInput
from schemas.log import Log, Ruleset
from schemas.order import RECEIVED, Order
from schemas.reading import Reading
from schemas.registration import Agreement
from schemas.units import CARRY_BASE, DAY_MS, HOUR_MS, MINUTE_MS
from schemas.window import Window
from streams.core.records import Record, record_type
from streams.core.replay import advance_through
from streams.core.sealing import open_windows
from streams.core.signature import operator_account
from streams.core.state import State
from streams.reference.recount import PartitionRecount

KEY = bytes(range(1, 33))
START_MS = 20_605 * DAY_MS
PER_SESSION_MICROS = 350_000
AGREEMENT = Agreement({"0x" + "11" * 20: 7_000, "0x" + "22" * 20: 3_000})
LOG = Log(
    log_id="simulated",
    partitions=2,
    timestamp_type="CreateTime",
    window_ms=15 * MINUTE_MS,
    epoch_ms=6 * HOUR_MS,
    rulesets=(Ruleset(operators=(operator_account(KEY),)),),
)


def simulated(
    seed: str = "s",
    *,
    machines: int = 6,
    form: Form = "json",
    faults: tuple[Fault, ...] = (),
    moments: int = 1_440,
    signed: bool = True,
    every_ms: int = MINUTE_MS,
) -> tuple[Simulation, list[Outgoing]]:
    """A day of a fleet as a backfill, or some."""
    plan = Plan(start_ms=START_MS, every_ms=every_ms, form=form, faults=faults)
    simulation = Simulation(LOG, Fleet(seed, machines, signed), plan)
    sent = [*heartbeats(LOG, START_MS), *simulation.registrations(KEY, AGREEMENT, START_MS)]
    step = simulation.moments_a_batch()
    for first in range(0, moments, step):
        sent += simulation.moments(first, min(step, moments - first))
    sent += simulation.rest(moments - 1)
    return simulation, [*sent, *heartbeats(LOG, last_heartbeat_ms(LOG, START_MS + moments * every_ms))]


def partitions(sent: list[Outgoing]) -> list[list[Record]]:
    """The log's partitions as a broker keeps them."""
    kept: list[list[Record]] = [[] for _ in range(LOG.partitions)]
    for out in sent:
        records = kept[out.partition]
        records.append(Record(len(records), out.timestamp_ms, out.key, out.value, out.headers))
    return kept


class Result:
    """What `advance` makes of a log."""

    def __init__(self, sent: list[Outgoing]) -> None:
        self.windows: list[Window] = []
        self.rejects: Counter[str] = Counter()
        self.orders: list[Order] = []
        self.duplicates = 0
        for partition, records in enumerate(partitions(sent)):
            state = State.new(LOG, partition)
            for done in advance_through(state, records):
                self.windows += done.windows
                self.orders += done.orders
                self.rejects.update(reject.reason for reject in done.rejects)
                self.duplicates += done.counts.duplicate
            assert not open_windows(state)


def flags(result: Result) -> set[str]:
    return {flag for window in result.windows for flag in window.flags}


def test_the_same_seed_gives_the_same_bytes() -> None:
    one, again, other = (simulated(seed, faults=FAULTS, moments=100, form="array")[1] for seed in ("a", "a", "b"))
    assert one == again
    assert one != other


@pytest.mark.parametrize("form", FORMS)
def test_an_honest_fleet_loses_nothing(form: Form) -> None:
    _, sent = simulated(form=form, moments=1_000 if form == "array" else 150)
    result = Result(sent)
    assert not result.rejects and not result.duplicates
    assert not flags(result)
    assert all(window.adjusts_ms is None for window in result.windows)
    assert {window.trust for window in result.windows} == {0, 1, 2}
    amounts, carry, exact = defaultdict(int), defaultdict(int), defaultdict(Fraction)
    for window in result.windows:
        amounts[window.machine] += window.gross_micros
        carry[window.machine] = window.carry_out
    for partition, records in enumerate(partitions(sent)):
        recount = PartitionRecount(LOG, partition).take(records)
        for (machine, _), money in recount.money.items():
            exact[machine] += money
    assert form != "array" or (len(amounts) == 6 and sum(amounts.values()) > 1_000_000)
    assert {machine: amount * CARRY_BASE + carry[machine] for machine, amount in amounts.items()} == {
        machine: money * CARRY_BASE for machine, money in exact.items()
    }


def test_what_meters_counted_is_what_windows_hold() -> None:
    simulation, sent = simulated(machines=30, form="array", moments=300)
    used: Counter[tuple[str, str]] = Counter()
    for window in Result(sent).windows:
        for line in window.lines:
            if line.price_micros != PER_SESSION_MICROS:
                used[window.machine, line.meter] += line.usage
    registers = {
        (machine, meter): total
        for machine, gauges in simulation.remember().gauges.items()
        for meter, (total, _) in gauges.items()
        if meter in ("energy", "import", "parts")
    }
    assert sum(registers.values()) > 100_000
    assert {name: used[name] for name in registers} == registers


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_comes_to_what_it_should(fault: Fault) -> None:
    simulation, sent = simulated("f", machines=6, faults=(fault,), moments=400, form="array")
    result, expected = Result(sent), simulation.expected
    assert expected.happened[fault] > 5
    assert result.rejects == expected.rejects
    assert result.duplicates == expected.duplicates
    assert ("reset" in flags(result)) == (fault == "reset")
    assert ("equivocation" in flags(result)) == (fault == "equivocate")
    assert bool(expected.rejects) == (fault in ("clock", "equivocate", "glitch"))


@pytest.mark.parametrize("form", FORMS)
def test_all_faults_at_once(form: Form) -> None:
    simulation, sent = simulated("all", machines=6, faults=FAULTS, moments=400 if form == "array" else 250, form=form)
    result = Result(sent)
    assert set(simulation.expected.happened) == set(FAULTS)
    assert result.rejects == simulation.expected.rejects
    if form == "array":
        assert set(result.rejects) == {"from_the_future", "equivocation", "too_high", "undecodable"}
    assert result.duplicates == simulation.expected.duplicates
    for partition, records in enumerate(partitions(sent)):
        recount = PartitionRecount(LOG, partition).take(records)
        assert Counter(reason for _, _, reason in recount.rejects) <= result.rejects


@pytest.mark.parametrize("died_at", [None, 199])
def test_machines_go_on_after_a_stop(died_at: int | None) -> None:
    """With what they knew, or, killed before it was saved, with what they had known a hundred moments before."""
    faults: tuple[Fault, ...] = () if died_at is None else ("reset",)
    simulation = Simulation(LOG, Fleet("s", 6), Plan(start_ms=START_MS, faults=faults, form="array"))
    sent = [*heartbeats(LOG, START_MS), *simulation.registrations(KEY, AGREEMENT, START_MS), *simulation.moments(0, 99)]
    saved = msgspec.json.decode(msgspec.json.encode(simulation.remember()), type=FleetMemory)
    sent += simulation.moments(99, 101)
    assert simulation.boot() < saved.boot
    if died_at is None:
        saved = simulation.remember()
    later = Simulation(LOG, Fleet("s", 6), Plan(start_ms=START_MS + 230 * MINUTE_MS, faults=faults, form="array"))
    later.recall(saved)
    registrations = list(later.registrations(KEY, AGREEMENT, START_MS))
    sent += [
        *registrations,
        *later.moments(0, 200),
        *heartbeats(LOG, last_heartbeat_ms(LOG, START_MS + 430 * MINUTE_MS)),
    ]
    result = Result(sent)
    assert not result.rejects
    assert flags(result) == (set() if died_at is None else {"reset"})
    assert result.duplicates == len(registrations)


@pytest.mark.parametrize("faults", [(), FAULTS])
def test_what_robots_order_comes_is_invoiced_and_paid(faults: tuple[Fault, ...]) -> None:
    """Also where clocks are wrong and gateways offline: no receipt and no invoice is refused."""
    simulation, sent = simulated("v", machines=5, faults=faults, moments=300, every_ms=10 * MINUTE_MS)
    result = Result(sent)
    assert result.rejects == simulation.expected.rejects
    dues = [due for window in result.windows for due in window.dues]
    records = [Record(0, out.timestamp_ms, out.key, out.value, out.headers) for out in sent]
    received = [record for record in records if record_type(record) == RECEIVED]
    assert len(dues) == len(received) == 1
    assert {(due.kind, due.ref, due.micros) for due in dues} == {
        ("expense", "bearing/1", BEARINGS_ORDERED * BEARING_MICROS)
    }
    assert [(order.item, order.number) for order in result.orders] == [("bearing", 1)]


def test_levels_are_such_as_batteries_and_shelves_have() -> None:
    _, sent = simulated(moments=1_200, every_ms=5 * MINUTE_MS)
    shown: dict[str, list[int]] = defaultdict(list)
    rows = [out.value for out in sent if out.key and b'"level"' in out.value and b"tariff" not in out.value]
    for reading in (msgspec.json.decode(row, type=Reading) for row in rows):
        shown[f"{reading.machine.split('-')[1]} {reading.meter}"].append(reading.value)
    taxi, drone, robot = shown["taxi battery"], shown["drone battery"], shown["robot bearings"]
    assert 0 < min(taxi) < max(taxi) < TAXI_BATTERY_WH and 0 < min(drone) < max(drone) <= DRONE_BATTERY_WH
    assert 0 < min(robot) < max(robot)
    for levels, most in ((taxi, TAXI_BATTERY_WH // 10), (drone, DRONE_BATTERY_WH // 3), (robot, BEARINGS_ORDERED)):
        assert any(a < b for a, b in pairwise(levels)) and any(a > b for a, b in pairwise(levels))
        assert max(abs(a - b) for a, b in pairwise(levels)) <= most


def test_goods_that_came_before_a_kill_are_received_once() -> None:
    """They are saved before they are sent: whichever of the two was done, the next run says the same, and no more."""
    fleet, every_ms = Fleet("v", 5), 10 * MINUTE_MS
    simulation = Simulation(LOG, fleet, Plan(start_ms=START_MS, every_ms=every_ms))
    sent = [*heartbeats(LOG, START_MS), *simulation.registrations(KEY, AGREEMENT, START_MS)]
    moment = 0
    while not simulation.goods:
        sent += simulation.moments(moment, 1)
        moment += 1
    saved = msgspec.json.decode(msgspec.json.encode(simulation.remember()), type=FleetMemory)
    start_ms = START_MS + moment * every_ms
    for was_sent in (True, False):
        later = Simulation(LOG, fleet, Plan(start_ms=start_ms, every_ms=every_ms))
        later.recall(saved)
        log = sent if was_sent else sent[:-2]
        rest = [out for number in range(380) for out in later.moments(number, 1)]
        result = Result([*log, *rest, *heartbeats(LOG, last_heartbeat_ms(LOG, start_ms + 380 * every_ms))])
        assert not result.rejects and result.duplicates == 2 * was_sent
        assert [due.ref for window in result.windows for due in window.dues] == ["bearing/1", "bearing/2"]


def test_large_fleets_share_gateways() -> None:
    fleet = Fleet("s", 1_000)
    assert [number for site in fleet.sites for number in site.machines] == list(range(1_000))
    assert {len(site.machines) for site in fleet.sites} == {17, 1_000 % 17}
    _, sent = simulated(machines=100, moments=5, form="arrow")
    result = Result(sent)
    assert not result.rejects
    assert {window.machine for window in result.windows} >= {fleet.machine(number).machine for number in (5, 11, 95)}


def test_unsigned_fleets_sign_nothing() -> None:
    _, sent = simulated(signed=False, moments=60)
    assert {window.trust for window in Result(sent).windows if window.lines} == {0}


def test_options_are_checked() -> None:
    assert faults_of("all") == FAULTS
    assert faults_of("reset, clock") == ("clock", "reset")
    for wrong in (lambda: faults_of("fire"), lambda: Fleet("s", 0), lambda: Plan(start_ms=0, speed=0)):
        with pytest.raises(InvalidInput):
            wrong()
