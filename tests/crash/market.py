"""Machines that sell and buy, while their processes are killed and the chain is taken back: no micro may be lost.

`python -m tests.crash.market --minutes 30 --machines 50 --suppliers 3 --payers 20 --seed 1` starts a broker, an EVM
node, and as processes of their own two workers, a till, suppliers, `settle --follow` and `watch`. Customers buy
sessions by x402, honestly and otherwise; machines charge, order spares and receive them; a thief writes to the log.
Processes are killed (SIGKILL) and the chain's last blocks undone at random moments, drawn from the seed. In the end
everybody claims, an audit looks, and the balance sheet is printed: money in = money out + held + carried, to the micro,
on the chain and in the log.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path

import msgspec
import requests
from confluent_kafka.admin import AdminClient, NewTopic
from eth_account import Account

from deploy.config import Settings
from deploy.data_folder import DataFolder
from deploy.explain.audit import audit, audit_slowly
from deploy.machines.new_log import InitOptions, init, operator_of
from deploy.machines.register import record_of, signed
from deploy.machines.registry import Registry
from deploy.machines.send import send
from deploy.money.treasury import Treasury
from deploy.stack.processes import free_ports
from deploy.stack.servers import start_evm, start_kafka
from deploy.till.chain_hand import asset_of
from schemas.errors import InvalidInput
from schemas.registration import Registration
from schemas.units import SECOND_MS
from settlement import service
from settlement.chain.ledger import Ledger
from settlement.chain.node import Chain
from settlement.chain.signer import DEVELOPMENT_MNEMONIC, Keys
from settlement.storage.published_epochs import last_epoch
from streams.core.signature import operator_account, reading_key
from streams.kafka.producer import LogProducer
from streams.kafka.reader import KafkaLogReader
from tests.support.commands import run_forked
from tests.support.forked import FORKED
from tests.support.market_people import Customer, Gateways, Person, Thief, Till
from tests.support.market_plan import PIECE_MICROS, Plan, Wanted, long_market, plan_of
from tests.support.market_sheet import Books, Sheet, arrived, holder_faults, order_faults, payment_faults, sheet_of
from tests.support.watched_folder import ask

GAS = 9
"""The development node's account that pays the till's gas."""

DELAY_S = 60
GRACE_MS = 2 * SECOND_MS
MINTED = 10**12
"""Token units that each customer has."""

DEVICE_KEY = b"\x21" * 32
LEFT_S = 60
"""In that time everything that is under way must come to its end."""


def development_key(index: int) -> str:
    """The private key of one of the development node's accounts; the first is the operator's."""
    Account.enable_unaudited_hdwallet_features()
    return str(Account.from_mnemonic(DEVELOPMENT_MNEMONIC, account_path=f"m/44'/60'/0'/0/{index}").key.hex())


class Part:
    """One process of the market: a command that goes on until it is killed."""

    def __init__(self, name: str, words: Sequence[str], env: Mapping[str, str], folder: Path, *, forked: bool) -> None:
        """`forked` saves the second that a Python of its own takes to import all."""
        self.name, self.kills, self.ended = name, 0, Counter[int]()
        self._words, self._env, self._folder, self._forked = tuple(words), dict(env), folder, forked
        self._out, self._err = folder / f"{name}.out", folder / f"{name}.err"
        self._process: subprocess.Popen[bytes] | BaseProcess | None = None

    def start(self) -> None:
        """Starts it; what it says is added to its files."""
        if self._forked:
            place = self._words, self._folder, self._out, self._err, self._env
            self._process = FORKED.Process(target=run_forked, args=place)
            self._process.start()
            return
        with self._out.open("ab") as out, self._err.open("ab") as err:
            command = [sys.executable, "-m", "deploy", *self._words]
            self._process = subprocess.Popen(command, env=os.environ | self._env, stdout=out, stderr=err)

    def kill(self) -> None:
        """SIGKILL, wherever it is."""
        if self._process is not None and self.exit_code() is None:
            self._process.kill()
            self._process.wait() if isinstance(self._process, subprocess.Popen) else self._process.join()
            self.kills += 1
        self._process = None

    def end(self) -> None:
        """SIGTERM, and time to end well."""
        if self._process is not None and self.exit_code() is None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(20) if isinstance(self._process, subprocess.Popen) else self._process.join(20)
        self.kill()

    def exit_code(self) -> int | None:
        """None while it runs or is away."""
        if self._process is None:
            return None
        return self._process.poll() if isinstance(self._process, subprocess.Popen) else self._process.exitcode

    def revive(self) -> None:
        """Starts it again where it has ended by itself, as a supervisor does."""
        code = self.exit_code()
        if code is not None:
            self.ended[code] += 1
            self.start()

    def last_words(self) -> str:
        """The last lines that it said on stderr."""
        return "\n".join(self._err.read_text(errors="replace").splitlines()[-5:]) if self._err.exists() else ""


class Market:
    """A data folder, a ledger, all processes and all people."""

    def __init__(self, folder: Path, kafka: str, rpc_url: str, wanted: Wanted, *, forked: bool = False) -> None:
        self.wanted, self.folder, self._kafka = wanted, folder, kafka
        self.node = Chain(rpc_url, poll_s=0.05)
        self.keys = Keys({}, self.node.chain_id)
        name = f"market-{wanted.seed}-{time.time_ns()}"
        env = {"KAFKA_BOOTSTRAP_SERVERS": kafka, "CHAIN_RPC_URL": rpc_url, "TALLYROOT_TOPIC": name, "NO_PROXY": "*"}
        self._env = env | {"TALLYROOT_DATA_DIR": str(folder / "data")}
        settings = Settings(data_dir=folder / "data", kafka_bootstrap_servers=kafka, chain_rpc_url=rpc_url, topic=name)
        self.data = DataFolder(folder / "data", settings)
        options = InitOptions(
            currency="EUR", partitions=4, zone="UTC", window_ms=wanted.epoch_ms // 4, epoch_ms=wanted.epoch_ms,
            grace_ms=min(GRACE_MS, wanted.epoch_ms // 4),
        )  # fmt: skip
        self.log = init(self.data, options).log
        self._supplier_keys = [bytes([90 + number]) * 32 for number in range(wanted.suppliers)]
        accounts = [operator_account(key) for key in self._supplier_keys]
        self._commands = f"{name}-commands"
        self.parts = self._parts(forked)
        self.plan: Plan = plan_of(wanted, len(self.parts), accounts, reading_key(DEVICE_KEY))
        self.people: list[Person] = []
        self.customers: list[Customer] = []
        self._closing = threading.Event()
        self._began_s = 0.0

    def _parts(self, forked: bool) -> list[Part]:
        words = {f"worker {number}": ["stream"] for number in range(self.wanted.workers)}
        words |= {"till": ["till", "--config", str(self.folder / "till.toml")]}
        prices = [word for item, micros in PIECE_MICROS.items() for word in ("--price", f"{item}={micros / 10**6:.6f}")]
        delay = ["--deliver-after", "2s" if self.wanted.block_s >= 1 else "0s"]
        words |= {f"supplier {number}": ["supplier", *prices, *delay] for number in range(self.wanted.suppliers)}
        words |= {"settle": ["settle", "--follow"], "watch": ["watch"]} if self.wanted.follows else {}
        env = {name: dict(self._env) for name in words}
        for number, key in enumerate(self._supplier_keys):
            env[f"supplier {number}"]["TALLYROOT_SUPPLIER_KEY"] = key.hex()
        return [Part(name, words[name], env[name], self.folder, forked=forked) for name in words]

    def open(self) -> None:
        """Registers the machines, deploys the ledger, starts everybody."""
        self._register()
        service.deploy_contracts(self.data.data_dir, self.node, self.log, self.keys, delay_s=DELAY_S)
        self.ledger = Ledger.open(self.data.data_dir, self.node)
        admin = AdminClient({"bootstrap.servers": self._kafka})
        admin.create_topics([NewTopic(self._commands, 4, 1)])[self._commands].result(20)
        port = self._write_till()
        for part in self.parts:
            part.start()
        self._gather(port)
        ask(self.node, "anvil_mine", hex(16))
        ask(self.node, "evm_setAutomine", False)
        threading.Thread(target=self._mine, name="miner", daemon=True).start()
        self._await(lambda: self._is_open(port), "the till does not answer")
        self._began_s = time.monotonic()
        for person in self.people:
            person.start()

    def _register(self) -> None:
        registry = Registry(self.log, KafkaLogReader(self._kafka, self.log.topic, 0))
        registry.read(lambda _: None)
        operator = operator_of(self.data)
        found = [msgspec.convert(one, Registration) for one in self.plan.machines]
        records = [signed(self.log, operator, record_of(registration)) for registration in found]
        verdicts = send(self.log, self._kafka, registry, records, time.time_ns() // 10**6, lambda _: None)
        if any(verdicts):
            raise AssertionError(f"machines are refused: {verdicts}")

    def _write_till(self) -> int:
        (port,) = free_ports(1)
        machines = "".join(
            f'[[machines]]\nmachine = "{one["machine"]}"\nplace = "kerb {number}"\n'
            for number, one in enumerate(self.plan.machines)
        )
        (self.folder / "till.toml").write_text(
            f'topic = "{self._commands}"\n[gas]\nkey = "{development_key(GAS)}"\n[http]\nport = {port}\n'
            "[answering]\nanswer_within_s = 1\nrequests_per_minute = 60000\n"
            f"[limits]\nsession_s = 120\ntimeout_s = {60 if self.wanted.block_s >= 1 else 300}\n{machines}"
        )
        return port

    def _gather(self, port: int) -> None:
        wanted, asset = self.wanted, asset_of(self.node, self.ledger.deployment, "1")
        machines = tuple(str(one["machine"]) for one in self.plan.machines)
        till = Till(f"http://127.0.0.1:{port}", self.node.rpc_url, asset, machines, MINTED)
        self.gateways = Gateways(
            self._kafka, self.log, self.plan.machines, self.folder / "spools", self._commands, DEVICE_KEY,
            wanted.seed, 2 * wanted.block_s,
        )  # fmt: skip
        patience_s = 60 * wanted.block_s
        self.customers = [Customer(number, wanted.seed, till, patience_s) for number in range(wanted.payers)]
        thief = Thief(self._kafka, self.log, wanted.seed, 5 * wanted.block_s)
        self.people = [self.gateways, *self.customers, thief]
        for customer in self.customers:
            self.node.transact(self.keys.of("operator"), self.ledger.mint(customer.account, MINTED))
            for account in (customer.account, customer.other.address):
                ask(self.node, "anvil_setBalance", account, hex(10**18))

    def _is_open(self, port: int) -> bool:
        with suppress(requests.RequestException):
            return requests.get(f"http://127.0.0.1:{port}/machines", timeout=5).ok
        return False

    def _mine(self) -> None:
        """Blocks at their time, and now and then some of them undone."""
        reorgs = list(self.plan.reorgs)
        while not self._closing.is_set():
            time.sleep(self.wanted.block_s)
            ask(self.node, "evm_mine")
            if reorgs and self._began_s and time.monotonic() - self._began_s >= reorgs[0].at_s:
                reorg = reorgs.pop(0)
                ask(self.node, "anvil_reorg", reorg.blocks, [])
                self._tell(f"the last {reorg.blocks} blocks of the chain are undone")

    def play(self) -> None:
        """The market's time: kills, funding, claims."""
        kills, away = list(self.plan.kills), dict[int, float]()
        money_s = 0.0
        while (now_s := time.monotonic() - self._began_s) < self.wanted.seconds:
            for number, until_s in list(away.items()):
                if now_s >= until_s:
                    del away[number]
                    self.parts[number].start()
            if kills and now_s >= kills[0].at_s:
                kill = kills.pop(0)
                self.parts[kill.part].kill()
                away[kill.part] = now_s + kill.away_s
                self._tell(f"killed: {self.parts[kill.part].name}")
            if now_s >= money_s:
                money_s = now_s + 30 * self.wanted.block_s
                self._move_money()
                self._heartbeat()
                self._tell(self._so_far())
            self._look_after(away)
            time.sleep(0.05)
        for number in away:
            self.parts[number].start()

    def _look_after(self, away: Mapping[int, float]) -> None:
        for number, part in enumerate(self.parts):
            if number not in away:
                part.revive()
        for person in self.people:
            if person.fault is not None:
                raise person.fault

    def _move_money(self) -> None:
        """The operator sends what is missing; everybody claims."""
        folder = self.data.data_dir
        with suppress(InvalidInput):
            service.fund(folder, self.node, self.log, self.keys)
        with suppress(InvalidInput):
            service.claim_many(folder, self.node, self.keys)

    def close(self) -> None:
        """Nobody buys any more; what is under way comes to its end, seals, is posted and claimed."""
        for person in reversed(self.people):  # the gateways last: sessions may begin until then
            if person is self.gateways:
                self._await(lambda: all(not one.is_alive() for one in self.people[1:]), "customers wait")
            person.is_over.set()
        self.gateways.join(LEFT_S)
        self._look_after({})
        self._tell("the market has closed")
        self._await(self._is_invoiced, "goods that arrived are not invoiced", 0.5)
        self._until_posted(self.log.epoch_of(time.time_ns() // 10**6))
        self._tell("all is posted")
        ask(self.node, "anvil_mine", hex(16))
        self._until_claimed()

    def _is_invoiced(self) -> bool:
        return self._books().invoices.keys() >= self.gateways.received.keys()

    def _until_posted(self, epoch: int) -> None:
        folder, node, log, keys = self.data.data_dir, self.node, self.log, self.keys

        def is_posted() -> bool:
            self._heartbeat()
            if any((last_epoch(folder, number) or 0) < epoch for number in range(log.partitions)):
                return False
            with suppress(InvalidInput):
                service.fund(folder, node, log, keys)
                if not self.wanted.follows:
                    service.settle(folder, node, log, keys)
                planned = service.dry_run(folder, node, log, keys, service.SettleOptions())
                return not planned.posts and not planned.unfinished  # an epoch that owes nobody is not posted
            return False

        self._await(is_posted, f"epoch {epoch} is not posted", 0.5)

    def _until_claimed(self) -> None:
        def is_claimed() -> bool:
            with suppress(InvalidInput):
                if not self.wanted.follows:
                    service.attest(self.data.data_dir, self.node, self.keys)
                    self.node.pass_time(DELAY_S)
                service.claim_many(self.data.data_dir, self.node, self.keys)
            state = self.ledger.state()
            return state.claimed == state.total

        self._await(is_claimed, "not all is claimed", 2 * self.wanted.block_s)

    def _heartbeat(self) -> None:
        """Moves the time of quiet partitions, as workers do once a minute."""
        producer = LogProducer(self._kafka, self.log)
        for partition in range(self.log.partitions):
            producer.send(time.time_ns() // 10**6, None, b"", [("ce_type", b"heartbeat")], partition)
        producer.flush()
        producer.close()

    def _await(self, is_done: Callable[[], bool], what: str, every_s: float = 0.2) -> None:
        deadline = time.monotonic() + LEFT_S
        while not is_done():
            self._look_after({})
            if time.monotonic() > deadline:
                said = "\n".join(f"{part.name}: {part.last_words()}" for part in self.parts)
                raise AssertionError(f"after {LEFT_S} s {what}\n{said}")
            time.sleep(every_s)

    def end(self) -> None:
        """Everything stops, well or badly."""
        for person in self.people:
            person.is_over.set()
        for part in self.parts:
            part.end()
        self._closing.set()
        time.sleep(2 * self.wanted.block_s)
        with suppress(Exception):
            ask(self.node, "evm_setAutomine", True)

    def judge(self, *, slowly: bool) -> tuple[Sheet, list[str]]:
        """The balance sheet, and what is wrong in words. All processes have ended."""
        treasury = Treasury(self.data, trusts_folder=False)
        report = audit(treasury, from_archive=True)
        found = [finding.text for finding in report.findings]
        if slowly:
            found += [each.text for each in audit_slowly(treasury, self._tell, from_archive=False).findings]
        books = self._books()
        customers, _ = arrived(self.ledger)
        found += payment_faults(customers, books)
        found += order_faults(self.data, self.gateways.orders, self.gateways.received, books)
        found += holder_faults(self.ledger, self.data, self._spent())
        known = {payment.session for payment in books.payments.values()}
        found += [f"a till said that {name} is paid" for one in self.customers for name in one.started - known]
        sheet = sheet_of(self.data, self.ledger, books, report)
        return sheet, [*found, *sheet.faults()]

    def _books(self) -> Books:
        reader = KafkaLogReader(self._kafka, self.log.topic, 0)
        try:
            return Books(self.data, reader)
        finally:
            reader.close()

    def _spent(self) -> dict[str, int]:
        left = {
            one.account: sum(self.ledger.balance_of(account) for account in (one.account, one.other.address))
            for one in self.customers
        }
        return {account: MINTED - units for account, units in left.items()}

    def _so_far(self) -> str:
        did = Counter[str]()
        for person in self.people:
            did.update(person.did)
        paid = sum(count for name, count in did.items() if name.endswith((": started", ": returned")))
        posts = len(self.ledger.history().live)
        return f"{did['sessions']} sessions, {paid} payments, {len(self.gateways.orders)} orders, {posts} posts"

    def summary(self) -> list[str]:
        """What was done, and how often."""
        did = Counter[str]()
        for person in self.people:
            did.update(person.did)
        lines = [f"{count:>8,}  {name}" for name, count in sorted(did.items())]
        lines += [f"{part.kills:>8}  kills of {part.name}" for part in self.parts]
        lines += [
            f"{count:>8}  ends of {part.name} with {code}" for part in self.parts for code, count in part.ended.items()
        ]
        return [*lines, f"{len(self.plan.reorgs):>8}  reorganisations"]

    def _tell(self, text: str) -> None:
        at_s = time.monotonic() - self._began_s if self._began_s else 0.0
        print(f"{at_s:>8,.1f} s  {text}", flush=True)


def prove(market: Market, *, slowly: bool) -> tuple[Sheet, list[str]]:
    """Plays a market from its opening to its balance sheet; what is wrong, in words."""
    try:
        market.open()
        market.play()
        market.close()
    finally:
        market.end()
    return market.judge(slowly=slowly)


def main() -> int:
    """Proves what the command line asks for; 1 if something is wrong, and then the folder stays."""
    options = argparse.ArgumentParser(prog="python -m tests.crash.market", description=__doc__)
    options.add_argument("--minutes", type=float, default=30)
    options.add_argument("--machines", type=int, default=50)
    options.add_argument("--suppliers", type=int, default=3)
    options.add_argument("--payers", type=int, default=20)
    options.add_argument("--seed", type=int, default=1)
    given = options.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers end with us
    folder = Path(tempfile.mkdtemp(prefix="tallyroot-market-"))
    kafka = start_kafka(folder / "kafka")
    evm = start_evm(folder / "evm")
    try:
        wanted = long_market(**vars(given))
        market = Market(folder, kafka.bootstrap_servers, evm.rpc_url, wanted)
        sheet, faults = prove(market, slowly=True)
    except BaseException:
        print(f"failed with --seed {given.seed}; the folder is {folder}", flush=True)
        raise
    finally:
        kafka.stop()
        evm.stop()
    for line in (*market.summary(), *sheet.lines(), *faults):
        print(line)
    if faults:
        print(f"failed with --seed {given.seed}; the folder is {folder}")
        return 1
    shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
