"""Who acts in a market: the machines' gateways, customers who buy by x402, and a thief who writes to the log.

They are threads of one process that nobody kills; all that they talk to may be killed at any moment.
"""

import random
import threading
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import requests
from confluent_kafka import Consumer
from eth_keys.datatypes import PrivateKey
from msgspec import Struct

from deploy.supply.orders_reader import OrdersReader
from deploy.till.chain_hand import TOKEN
from schemas.command import Command
from schemas.errors import InvalidInput
from schemas.log import Log
from schemas.order import INVOICED, RECEIVED, Order
from schemas.payment import PAID
from schemas.reading import READING, REGISTERED
from settlement.chain.node import Chain
from settlement.chain.signer import Signer
from streams.core.records import Record, record_type
from streams.kafka.producer import LogProducer
from streams.kafka.reader import KafkaLogReader
from tallyroot_gateway import Gateway
from tests.support.forged import forged
from tests.support.market_plan import ITEMS, KEY_ID
from tests.support.sim_till import payment_of
from till import wire
from till.authorization import Asset, Authorization
from till.wire import Required, decoded, encoded

TURN_S = 0.1
QUIET = 20
"""After so many looks without a command there comes none."""


class Person(threading.Thread):
    """Somebody who acts until the market closes. A fault of a person ends the market: `fault` has it."""

    def __init__(self, name: str, seed: int) -> None:
        super().__init__(name=name, daemon=True)
        self.draw = random.Random(f"{seed} {name}")
        self.did: Counter[str] = Counter()
        self.is_over = threading.Event()
        self.fault: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.is_over.is_set():
                self.act()
            self.end()
        except BaseException as error:
            self.fault = error
            raise

    def act(self) -> None:
        """One turn."""

    def end(self) -> None:
        """What is left to do."""


class Visit(Struct):
    """A session that a gateway runs: it ends by itself once `energy_wh` are charged, unless somebody stops it."""

    session: str
    until_ms: int
    started_ms: int
    energy_wh: int


class Gateways(Person):
    """All machines' gateways: they start and stop sessions as tills command, read meters, and receive goods."""

    def __init__(
        self, servers: str, log: Log, machines: Sequence[Mapping[str, Any]], folder: Path, topic: str, key: bytes,
        seed: int, step_s: float,
    ) -> None:  # fmt: skip
        super().__init__("gateways", seed)
        self._servers, self._log, self._step_s = servers, log, step_s
        self._machines = {str(one["machine"]): one for one in machines}
        self._sites = {
            route: Gateway(
                servers, log_id=log.log_id, topic=log.topic, partitions=log.partitions, route=route,
                spool=folder / route, key_id=KEY_ID, private_key=key,
            )
            for route in sorted({str(one["route"]) for one in machines})
        }  # fmt: skip
        self._commands = Consumer(
            {"bootstrap.servers": servers, "group.id": uuid.uuid4().hex, "auto.offset.reset": "earliest"}
        )
        self._commands.subscribe([topic])
        self._orders: OrdersReader | None = None
        self._registers: Counter[str] = Counter()
        self._stock = {(name, item): 4 for name in self._machines for item in ITEMS}
        self._visits: dict[str, Visit] = {}
        self._seen: set[str] = set()
        self._arriving: list[tuple[float, Order, int]] = []
        self._next_step_s = 0.0
        self.orders: dict[tuple[str, str, int], Order] = {}
        self.received: dict[tuple[str, str, int], int] = {}
        self.parked: Counter[str] = Counter()

    def act(self) -> None:
        self._hear()
        self._take_orders()
        self._receive()
        if time.monotonic() >= self._next_step_s:
            self._next_step_s = time.monotonic() + self._step_s
            for machine, visit in list(self._visits.items()):
                self._charge(machine, visit)
        time.sleep(TURN_S / 2)

    def end(self) -> None:
        """Ends all sessions, also those whose start comes now; what was ordered and has not arrived never does."""
        quiet = 0
        while quiet < QUIET:
            quiet = 0 if self._hear() else quiet + 1
        for machine in list(self._visits):
            self._leave(machine)
        for site in self._sites.values():
            site.flush(60)
            site.close()
        self._commands.close()
        if self._orders is not None:
            self._orders.close()

    def _hear(self) -> bool:
        """Whether any command came."""
        messages = self._commands.consume(100, TURN_S / 2)
        for message in messages:
            if message.error() is not None:
                continue
            command = msgspec.json.decode(message.value() or b"", type=Command)
            machine, session = command.machine, str(command.session)
            running = self._visits.get(machine)
            if command.command == "stop":
                self.did["told to stop"] += 1
                if running is not None and running.session == session:
                    self._leave(machine)
                self._seen.add(session)  # a start that comes later is void
            elif session not in self._seen and command.valid_until > time.time() * 1_000:
                self._seen.add(session)
                if running is not None:
                    self.did["two sessions at once"] += 1
                    self._leave(machine)
                self._start(machine, session, command.valid_until)
        return bool(messages)

    def _start(self, machine: str, session: str, until_ms: int) -> None:
        self.did["sessions"] += 1
        now_ms = int(time.time() * 1_000)
        self._visits[machine] = Visit(session, until_ms, now_ms, self.draw.choice((500, 3_000, 9_000, 10**6)))
        self._show(machine, session_start=True, observed_at=now_ms)

    def _charge(self, machine: str, visit: Visit) -> None:
        added = self.draw.randint(150, 900)
        visit.energy_wh -= added
        if visit.energy_wh <= 0 or time.time() * 1_000 >= visit.until_ms - 2_000:
            self._leave(machine)
            return
        self._registers[machine] += added
        self._show(machine)

    def _leave(self, machine: str) -> None:
        """The last reading; a spare or two is worn out, and somebody parked without having paid before."""
        self._show(machine, session_end=True)
        del self._visits[machine]
        if self.draw.random() < 0.5:
            hours = self.draw.randint(1, 3)
            self.parked[machine] += hours
            self._site(machine).send(machine, "parking", quantity=hours)
        item = self.draw.choice(ITEMS)
        self._stock[machine, item] = max(0, self._stock[machine, item] - self.draw.randint(1, 4))
        self._site(machine).send(machine, item, level=self._stock[machine, item])

    def _show(self, machine: str, **more: Any) -> None:
        visit = self._visits[machine]
        self._site(machine).send(
            machine, "energy", register=self._registers[machine], session=visit.session,
            session_started_at=visit.started_ms, **more,
        )  # fmt: skip

    def _site(self, machine: str) -> Gateway:
        return self._sites[str(self._machines[machine]["route"])]

    def _take_orders(self) -> None:
        if self._orders is None:
            with suppress(InvalidInput):  # no worker has made the topic yet
                self._orders = OrdersReader(self._servers, self._log, {})
            return
        for record in self._orders.read(0.01):
            order = msgspec.json.decode(record.value, type=Order)
            name = order.machine, order.item, order.number
            if name in self.orders:
                raise AssertionError(f"the order {name} is in its topic twice")
            self.orders[name] = order
            chance = self.draw.random()
            pieces = order.quantity if chance < 0.8 else self.draw.randint(0, order.quantity + 1)
            if chance < 0.95:  # else nobody delivers it
                self._arriving.append((time.monotonic() + self.draw.uniform(0.5, 6) * self._step_s, order, pieces))

    def _receive(self) -> None:
        due = [one for one in self._arriving if one[0] <= time.monotonic()]
        self._arriving = [one for one in self._arriving if one not in due]
        for _, order, pieces in due:
            machine, item = order.machine, order.item
            self._site(machine).receive(machine, item, order.number, pieces)
            self.received[machine, item, order.number] = pieces
            self._stock[machine, item] += pieces
            time.sleep(0.002)  # the level is observed after the goods
            self._site(machine).send(machine, item, level=self._stock[machine, item])


class Till(Struct, frozen=True):
    """Where customers buy, and what they pay in. `minted` is what each of them has in the beginning, token units."""

    url: str
    rpc_url: str
    asset: Asset
    machines: tuple[str, ...]
    minted: int


class Customer(Person):
    """Buys sessions, honestly and otherwise, and takes no answer for an end but a till's last word."""

    def __init__(self, number: int, seed: int, till: Till, patience_s: float) -> None:
        super().__init__(f"customer {number}", seed)
        self.key = PrivateKey(bytes([1 + number]) * 31 + b"\5")
        self.account = self.key.public_key.to_address()
        self._till, self._patience_s = till, patience_s
        self.other = Signer.from_seed("market", self.name)
        """Sends what this one has signed, and keeps what it moves away."""
        self._http = requests.Session()
        self._chain: Chain | None = None
        self._came_back = True
        self.started: set[str] = set()
        """Sessions that a till said have begun, or were paid and came too late."""

    def act(self) -> None:
        if self._chain is None:
            self._chain = Chain(self._till.rpc_url, poll_s=0.1)
        self._bring_back()
        kind = self.draw.choice(
            ("honest", "honest", "honest", "honest", "impatient", "stops", "tops up", "twice", "sent by another",
             "pays too little", "moves the money away")
        )  # fmt: skip
        machine = self.draw.choice(self._till.machines)
        wish = {"money": f"{self.draw.randint(20, 900) / 100:.2f}", "secret": f"{self.draw.getrandbits(128):032x}"}
        wanted = self._terms(machine, wish)
        if wanted is None:
            self.is_over.wait(TURN_S)
            return
        self._buy(kind, machine, wish, wanted)
        self.is_over.wait(self.draw.uniform(0.0, 0.1) * self._patience_s)

    def _terms(self, machine: str, wish: Mapping[str, str]) -> wire.Requirements | None:
        answer = self._post(f"/machines/{machine}/sessions", wish)
        if answer is None or answer.status_code != 402:
            self.did["no terms" if answer is None else f"terms: {answer.status_code}"] += 1
            return None
        return decoded(answer.headers[wire.REQUIRED_HEADER], Required).accepts[0]

    def _buy(self, kind: str, machine: str, wish: Mapping[str, str], wanted: wire.Requirements) -> None:
        place, value = f"/machines/{machine}/sessions", int(wanted.amount)
        payment = self._signed(wanted, value - (kind == "pays too little"))
        if kind in ("impatient", "sent by another", "moves the money away"):
            answer = self._post(place, wish, payment, seconds=0.1 if kind == "impatient" else 30)
            is_accepted = answer is not None and answer.status_code == 202
            if kind == "sent by another" and is_accepted:
                self._sent_by_another(payment)
            if kind == "moves the money away" and is_accepted:
                self._move_away()
        receipt = self._followed(place, wish, payment)
        self.did[f"{kind}: {'no session' if receipt is None else receipt['state']}"] += 1
        if kind == "pays too little" and receipt is not None:
            raise AssertionError(f"{self.name} has a session for less than its price: {receipt}")
        if receipt is None:
            return
        self.started.add(receipt["session"])
        if kind == "twice":
            self._twice(machine, wish, payment, receipt)
        if kind in ("stops", "tops up") and receipt["state"] == "started":
            self.is_over.wait(self.draw.uniform(0, 0.1) * self._patience_s)
            self._go_on_with(kind, f"{place}/{receipt['session']}", wish, value)

    def _go_on_with(self, kind: str, place: str, wish: Mapping[str, str], value: int) -> None:
        if kind == "stops":
            for secret in ("another's secret", wish["secret"]):
                answer = self._post(f"{place}/stop", {}, headers={"Authorization": f"Bearer {secret}"})
                self.did[f"stop: {'no answer' if answer is None else answer.status_code}"] += 1
                if secret != wish["secret"] and answer is not None and answer.status_code not in (401, 503):
                    raise AssertionError(f"{self.name} stopped a session with another's secret: {answer.text}")
            return
        answer = self._post(f"{place}/payments", wish)
        if answer is not None and answer.status_code == 402:
            wanted = decoded(answer.headers[wire.REQUIRED_HEADER], Required).accepts[0]
            receipt = self._followed(f"{place}/payments", wish, self._signed(wanted, value))
            self.did[f"top-up: {'none' if receipt is None else receipt['state']}"] += 1

    def _followed(self, place: str, wish: Mapping[str, str], payment: wire.Payment) -> dict[str, Any] | None:
        """Posts the same authorisation until the till has said its last word; the receipt, if it was paid."""
        while True:
            answer = self._post(place, wish, payment)
            status = 0 if answer is None else answer.status_code
            if answer is not None and status == 201:
                receipt: dict[str, Any] = answer.json()
                if receipt["state"] in ("started", "returned"):
                    return receipt
            elif answer is not None and status not in (0, 202, 429, 503):
                reason = answer.json().get("error") if status == 402 else ""
                self.did[f"refused: {status} {reason}"] += 1
                return None
            time.sleep(TURN_S)

    def _twice(
        self, machine: str, wish: Mapping[str, str], payment: wire.Payment, receipt: Mapping[str, Any]
    ) -> None:  # fmt: skip
        """The same authorisation for another machine, and once more for the same."""
        other = next(name for name in (*self._till.machines, "nobody") if name != machine)
        for name in (other, machine):
            answer = self._post(f"/machines/{name}/sessions", wish, payment)
            if answer is not None and answer.status_code == 201 and answer.json()["session"] != receipt["session"]:
                raise AssertionError(f"{self.name} has two sessions for one payment: {answer.text}")

    def _sent_by_another(self, payment: wire.Payment) -> None:
        signed = Authorization.of(payment)
        signature = bytes.fromhex(signed.signature[2:])
        call = TOKEN.call(
            self._till.asset.token, "transferWithAuthorization", signed.payer, signed.to, signed.value,
            signed.valid_after, signed.valid_before, bytes.fromhex(signed.nonce[2:]), signature[64], signature[:32],
            signature[32:64],
        )  # fmt: skip
        with suppress(InvalidInput):  # the till was faster
            self._node().transact(self.other, call)
            self.did["sent by another"] += 1

    def _move_away(self) -> None:
        """All that this account has, to one that it has as well."""
        node, own = self._node(), Signer.from_key(self.key.to_hex())
        units = int(node.ask(TOKEN.call(self._till.asset.token, "balanceOf", self.account)))
        with suppress(InvalidInput):
            node.transact(own, TOKEN.call(self._till.asset.token, "transfer", self.other.address, units))
            self.did["moved away"] += 1
        self._came_back = False

    def _bring_back(self) -> None:
        """What was moved away; a reorganisation may have undone that already."""
        if self._came_back:
            return
        node = self._node()
        units = int(node.ask(TOKEN.call(self._till.asset.token, "balanceOf", self.other.address)))
        if units:
            with suppress(InvalidInput):
                node.transact(self.other, TOKEN.call(self._till.asset.token, "transfer", self.account, units))
        self._came_back = units == 0

    def _node(self) -> Chain:
        if self._chain is None:
            raise AssertionError("act has opened it")
        return self._chain

    def _signed(self, wanted: wire.Requirements, value: int) -> wire.Payment:
        now_s = self._node().time_s(at="pending")
        return payment_of(wanted, self.key, self.draw.getrandbits(200), now_s, value=value, asset=self._till.asset)

    def _post(
        self, place: str, wish: Mapping[str, str], payment: wire.Payment | None = None, *, seconds: float = 30,
        headers: Mapping[str, str] | None = None,
    ) -> requests.Response | None:  # fmt: skip
        """The till's answer; None where it has none (it was killed, or the customer's patience ended)."""
        given = dict(headers or {}) | ({} if payment is None else {wire.SIGNATURE_HEADER: encoded(payment)})
        try:
            return self._http.post(self._till.url + place, json=wish, headers=given, timeout=(2, seconds))
        except requests.RequestException:
            return None


class Thief(Person):
    """Writes to the log what others have written, again, and what nobody has signed."""

    def __init__(self, servers: str, log: Log, seed: int, rest_s: float) -> None:
        super().__init__("thief", seed)
        self._servers, self._log, self._rest_s = servers, log, rest_s
        self._seen: dict[str, list[Record]] = defaultdict(list)

    def act(self) -> None:
        self.is_over.wait(self._rest_s * self.draw.uniform(0.5, 1.5))
        self._read()
        kinds = [kind for kind in (READING, REGISTERED, PAID, INVOICED, RECEIVED) if self._seen[kind]]
        if not kinds:
            return
        kind = self.draw.choice(kinds)
        stolen = self.draw.choice(self._seen[kind])
        name, record = "again", stolen
        if kind != READING and self.draw.random() < 0.6:
            name, record = forged(self.draw, stolen, kind, self._log.log_id)
        producer = LogProducer(self._servers, self._log)
        producer.send(
            time.time_ns() // 10**6, record.key, record.value or b"",
            [(name, value or b"") for name, value in record.headers],
        )  # fmt: skip
        producer.flush()
        producer.close()
        self.did[f"a thief's record, {name}: {kind}"] += 1

    def _read(self) -> None:
        """Now and then the last records of each partition."""
        reader = KafkaLogReader(self._servers, self._log.topic, 0)
        try:
            for partition in range(self._log.partitions):
                low, high = reader.range(partition)
                for record in reader.read(partition, max(low, high - 200), high) if high > low else ():
                    plain = Record(0, 0, record.key, record.value, list(record.headers))
                    self._seen[record_type(plain)].append(plain)
        finally:
            reader.close()
        for kept in self._seen.values():
            del kept[:-500]
