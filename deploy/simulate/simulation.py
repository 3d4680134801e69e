"""A simulated fleet as records of a log: registrations, readings batched and signed by site, goods that robots ordered
and their supplier's invoices, heartbeats at the end.

All is a pure function of the log, the fleet, the agreement, the operator's key, the faults and the moments: the same
input makes the same bytes. The caller decides how fast moments pass.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal, get_args

import msgspec

from deploy.importers.replay import Outgoing
from deploy.simulate.fleet import Fleet, Site
from deploy.simulate.fleet_faults import Expected, Fault, Faults, Item
from schemas.errors import InvalidInput
from schemas.log import Log
from schemas.order import INVOICED, RECEIVED, GoodsReceived, OrderInvoiced
from schemas.reading import HEARTBEAT, READING, REGISTERED, Reading
from schemas.registration import Agreement
from schemas.units import MINUTE_MS
from streams.core.encode import CONTENT_TYPES, Headers, arrow_value, json_row, json_value, signed_headers
from streams.core.murmur2 import partition_of
from streams.core.records import JSON
from streams.core.signature import operator_account, sign_control, sign_reading

Form = Literal["json", "array", "arrow"]
FORMS: tuple[Form, ...] = get_args(Form)

ROWS: dict[Form, int] = {"json": 1, "array": 100, "arrow": 1_000}
"""The most rows of a record."""

ROWS_A_MOMENT = 2
"""Rows that a machine shows at a moment, about."""


def form_of(text: str) -> Form:
    """The form that an option names. Raises InvalidInput."""
    for form in FORMS:
        if form == text:
            return form
    raise InvalidInput(f"'{text}' is not a format: choose one of {', '.join(FORMS)}")


BOOTS_SPARE = 64
"""Restarts that a machine may have before its fleet's memory has to be saved again: months of faults."""


class FleetMemory(msgspec.Struct, frozen=True, kw_only=True):
    """What machines still know after they were switched off, by machine and meter: what it showed, and the rest of a
    unit (in 1/3,600,000). `boot` is above each boot that was used, as long as none has passed it. `orders` are by
    machine as in `Life`, `goods` what may not have been sent yet.

    It may be old: what was counted since is lost then, which the stream sees as a reset.
    """

    boot: int
    gauges: dict[str, dict[str, tuple[int, int]]]
    orders: dict[str, dict[str, tuple[int, int]]] = {}
    goods: list[GoodsReceived] = []


@dataclass(frozen=True, kw_only=True)
class Plan:
    """When and how a fleet sends. Moment n is `start_ms + n * every_ms`; life runs `speed` times as fast as time."""

    start_ms: int
    every_ms: int = MINUTE_MS
    speed: int = 1
    form: Form = "json"
    faults: tuple[Fault, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.speed <= 60:
            raise InvalidInput(f"life can run 1 to 60 times as fast as time, not {self.speed}: choose --speed")


class Simulation:
    """A living fleet, moment by moment. `readings` counts what was sent, `expected` what faults cause."""

    def __init__(self, log: Log, fleet: Fleet, plan: Plan) -> None:
        self.readings = 0
        self._log, self._fleet, self._plan = log, fleet, plan
        self._lives = [fleet.life(number) for number in range(fleet.machines)]
        self._faults = Faults(fleet.seed, log, self._lives, plan.faults)
        self._partitions = {site.route: partition_of(site.route.encode(), log.partitions) for site in fleet.sites}
        self._sites = {self._lives[number].machine: site for site in fleet.sites for number in site.machines}
        self._recalled: list[GoodsReceived] = []
        self.goods: list[GoodsReceived] = []
        """What came with the last moments: to be saved before it is sent, since a number is received once."""

    @property
    def expected(self) -> Expected:
        """What the faults so far cause."""
        return self._faults.expected

    def registrations(self, operator_key: bytes, agreement: Agreement, effective_from_ms: int) -> Iterator[Outgoing]:
        """The machines, signed by their operator; stamped with the start."""
        account = operator_account(operator_key)
        for site, registration in self._fleet.registrations(agreement, effective_from_ms):
            key, value = site.route.encode(), msgspec.json.encode(registration)
            signature = sign_control(operator_key, self._log.log_id, key, REGISTERED, JSON, value)
            headers = (("ce_type", REGISTERED.encode()), *signed_headers(JSON, account, signature))
            yield Outgoing(self._partitions[site.route], self._plan.start_ms, key, value, headers, 1)

    def moments(self, first: int, count: int) -> Iterator[Outgoing]:
        """What is sent of `count` moments, at the last of them: each site's readings as one batch or some."""
        by_site: dict[str, list[Item]] = defaultdict(list)
        goods, self._recalled = self._recalled, []
        for moment in range(first, first + count):
            sent = self._faults.spoil(moment, self._shown(moment))
            self._sort(sent, by_site)
            goods += chain.from_iterable(life.arrived for life in self._lives if life.arrived)
        self.goods = [one for one in goods if self._sites[one.machine].private_key is not None]
        at_ms = self._at_ms(first + count - 1)
        return chain(self._outgoing(by_site, at_ms), self._deliveries(at_ms))

    def rest(self, moment: int) -> Iterator[Outgoing]:
        """What machines that are offline still keep, sent at a moment."""
        self.goods = []
        by_site: dict[str, list[Item]] = defaultdict(list)
        self._sort(self._faults.rest(), by_site)
        return self._outgoing(by_site, self._at_ms(moment))

    def moments_a_batch(self) -> int:
        """How many moments fill a record, at most half the grace: what was waiting must not be late."""
        shown = ROWS_A_MOMENT * len(self._fleet.sites[0].machines)
        in_grace = self._log.ruleset_at(0).grace_ms // 2 // self._plan.every_ms
        return max(1, min(ROWS[self._plan.form] // shown, in_grace))

    def boot(self) -> int:
        """The highest boot of a machine."""
        return max(life.boot for life in self._lives)

    def remember(self) -> FleetMemory:
        """What the machines know, for `recall` in another run."""
        gauges = {
            life.machine: {gauge.meter: (gauge.total, gauge.rest) for gauge in life.gauges.values()}
            for life in self._lives
        }
        orders = {life.machine: life.orders for life in self._lives if life.orders}
        return FleetMemory(boot=self.boot() + BOOTS_SPARE, gauges=gauges, orders=orders, goods=self.goods)

    def recall(self, memory: FleetMemory) -> None:
        """The machines restart and continue from what they knew, under a boot that none of them has used."""
        for life in self._lives:
            life.boot = memory.boot
            for meter, (total, rest) in memory.gauges[life.machine].items():
                life.gauges[meter].total, life.gauges[meter].rest = total, rest
            life.orders = dict(memory.orders.get(life.machine, {}))
        self._recalled = memory.goods

    def _at_ms(self, moment: int) -> int:
        return self._plan.start_ms + moment * self._plan.every_ms

    def _shown(self, moment: int) -> dict[int, list[Item]]:
        at_ms = self._at_ms(moment)
        life_ms = self._plan.start_ms + moment * self._plan.every_ms * self._plan.speed
        return {number: list(life.readings(at_ms, life_ms)) for number, life in enumerate(self._lives)}

    def _sort(self, sent: Mapping[int, list[Item]], by_site: dict[str, list[Item]]) -> None:
        for site in self._fleet.sites:
            found = [sent[number] for number in site.machines if sent.get(number)]
            if found:
                by_site[site.route] += chain.from_iterable(found)

    def _outgoing(self, by_site: Mapping[str, Sequence[Item]], at_ms: int) -> Iterator[Outgoing]:
        rows_max = ROWS[self._plan.form]
        for site in self._fleet.sites:
            rows: list[bytes] = []
            for item in by_site.get(site.route, ()):
                if isinstance(item, Reading):
                    rows.append(json_row(item))
                    if len(rows) < rows_max:
                        continue
                if rows:
                    yield self._record(site, rows, at_ms)
                    rows = []
                if isinstance(item, bytes):
                    yield self._signed(site, at_ms, JSON, item, 1)
            if rows:
                yield self._record(site, rows, at_ms)

    def _record(self, site: Site, rows: Sequence[bytes], at_ms: int) -> Outgoing:
        self.readings += len(rows)
        is_arrow = self._plan.form == "arrow"
        value = arrow_value(rows) if is_arrow else json_value(rows)
        return self._signed(site, at_ms, CONTENT_TYPES["arrow" if is_arrow else "json"], value, len(rows))

    def _deliveries(self, at_ms: int) -> Iterator[Outgoing]:
        """Receipts by the keys of the machines' gateways, each with the supplier's invoice."""
        supplier = self._fleet.supplier_key
        for goods in self.goods:
            site = self._sites[goods.machine]
            (policy,) = (one for one in self._fleet.policies["robot"] if one.item == goods.item)
            yield self._signed(site, at_ms, JSON, msgspec.json.encode(goods), 1, RECEIVED)
            key, value = site.route.encode(), msgspec.json.encode(invoice_of(goods, policy.unit_price))
            signature = sign_control(supplier, self._log.log_id, key, INVOICED, JSON, value)
            headers = (("ce_type", INVOICED.encode()), *signed_headers(JSON, operator_account(supplier), signature))
            yield Outgoing(self._partitions[site.route], at_ms, key, value, headers, 1)

    def _signed(
        self, site: Site, at_ms: int, content_type: str, value: bytes, entries: int, kind: str = READING
    ) -> Outgoing:
        key = site.route.encode()
        headers: Headers = () if content_type == JSON else (("content-type", content_type.encode()),)
        if site.private_key is not None:
            signature = sign_reading(site.private_key, self._log.log_id, key, kind, content_type, value)
            headers = signed_headers(content_type, site.key_id, signature)
            headers = headers if kind == READING else (("ce_type", kind.encode()), *headers)
        return Outgoing(self._partitions[site.route], at_ms, key, value, headers, entries)


def invoice_of(goods: GoodsReceived, unit_price: int) -> OrderInvoiced:
    """What the supplier asks for what came (micros a piece). The reference follows from the order."""
    named = f"{goods.machine}\n{goods.item}\n{goods.number}"
    reference = f"INV-{hashlib.sha256(named.encode()).hexdigest()[:32]}"
    return OrderInvoiced(goods.machine, goods.item, goods.number, goods.quantity, unit_price, reference)


def heartbeats(log: Log, timestamp_ms: int) -> Iterator[Outgoing]:
    """One in every partition of a backfill: to begin, and past the last epoch's end."""
    for partition in range(log.partitions):
        yield Outgoing(partition, timestamp_ms, None, b"{}", (("ce_type", HEARTBEAT.encode()),), 1)


def last_heartbeat_ms(log: Log, last_ms: int) -> int:
    """When the epoch of the last reading ends for all."""
    epoch = log.epoch_of(last_ms)
    return log.epoch_span(epoch)[1] + log.ruleset_at(epoch).grace_ms
