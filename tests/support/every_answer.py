"""Every command with `--json`, really run on one demo's servers, and what it answers held against its schema."""

import json
import time
from pathlib import Path
from typing import Any

from eth_account import Account

from deploy.cli.answers import ANSWERS, answer_schema
from deploy.config import load_settings
from deploy.data_folder import DataFolder, demo_account
from deploy.machines.form import example
from deploy.money.treasury import Treasury
from settlement.chain.contract import artefact
from settlement.chain.ledger import Ledger
from settlement.chain.shares import Shares
from settlement.chain.signer import DEVELOPMENT_MNEMONIC, development_signer
from settlement.chain.timelock import Timelock
from tests.crash.unreadable import send_unreadable
from tests.support.commands import tallyroot
from tests.support.ingested import filled_in
from tests.support.json_schema import faults
from tests.support.kafka_log import end_offset

DAY_S = 86_400
WEEK_S = 7 * DAY_S
BUYER = development_signer(8).address
OWNER = demo_account("owner")
SYMBOL = "YOU10"
"""The shares that the demo issues; all of them are the node's account 7's."""


class EveryAnswer:
    """Runs commands in a demo's folder, and in folders beside it that use its servers."""

    def __init__(self, place: Path, demo: dict[str, Any]) -> None:
        self.place, self.run = place, {"demo"}
        self.machine: str = demo["cheat"]["machine"]
        self.env: dict[str, str] = {"TALLYROOT_SUPPLIER_KEY": "1" * 64}

    def ask(self, *words: str, folder: str = "data", code: int = 0) -> Any:
        """The last line of what a command answers, which must follow its schema."""
        done = tallyroot(*words, "--data-dir", folder, "--json", cwd=self.place, code=code, env=self.env)
        answer = json.loads(done.stdout.splitlines()[-1])
        command = " ".join(words[:2]) if words[0] == "shares" else words[0]
        assert faults(answer, answer_schema(command)) == [], (words, answer)
        self.run.add(command)
        return answer

    def _of_a_gateway(self) -> None:
        """What a gateway prints of its own file; the folder fills in where its log is."""
        token = '[[tokens]]\nname = "t"\nsha256 = "' + "ab" * 32 + '"\nmachines = ["m"]\n'
        (self.place / "gateway.toml").write_text('[[machines]]\nid = "m"\n' + token)
        assert "[[machines]]" in self.ask("gateway", "http", "--config", "gateway.toml", "--discover")["discovered"]

    def _of_an_agent(self, folder: str) -> None:
        """A robot that would buy bearings of a till that is away."""
        (self.place / "robot.toml").write_text(example("robot"))
        self.ask("register", "robot.toml", folder=folder)
        self.ask("deploy-contracts", folder=folder)
        (self.place / "policy.toml").write_text(
            f'tills = ["http://127.0.0.1:9"]\n[key]\nkey = "{"2" * 64}"\n[need]\nmeter = "bearings"\nbuy_at = "20"\n'
            'until = "100"\n[limits]\nprice = "EUR 2 per bearing"\n'
            'per_purchase = "9"\nper_day = "9"\nper_30_days = "9"\n'
        )
        self.ask("agent", "--machine", "robot-1", "--policy", "policy.toml", "--once", folder=folder)

    def missing(self) -> set[str]:
        """Commands that have not answered yet; `attack` answers in its own test, for it takes a minute."""
        return set(ANSWERS) - self.run - {"attack"}

    def treasury(self) -> Treasury:
        """The demo's folder, for what no command does."""
        return Treasury(DataFolder(self.place / "data", load_settings()))

    def of_readers(self) -> None:
        """What only looks."""
        self._of_quick_readers()
        for words in (("merge",), ("backup", "copies"), ("prune", "--dry-run", "--kept-in", "copies")):
            self.ask(*words)
        self.ask("restore", "copies", folder="restored")
        account = Account.from_mnemonic(DEVELOPMENT_MNEMONIC, account_path="m/44'/60'/0'/0/9")
        till = f'[gas]\nkey = "{account.key.hex()}"\n[[machines]]\nmachine = "{self.machine}"\n'
        (self.place / "till.toml").write_text(till)
        self.ask("till", "--config", "till.toml", "--offers")

    def _of_quick_readers(self) -> None:
        for words in (
            ("status",), ("config",), ("config", "--value", "CHAIN_RPC_URL"), ("machines",),
            ("machines", "show", self.machine),
            ("settlements",), ("payouts",), ("payouts", OWNER), ("audit",), ("audit", "--from-archive"), ("settle",),
            ("settle", "--dry-run"), ("sql", "FROM windows LIMIT 3"), ("statement", OWNER), ("proof", OWNER),
            ("proof", "--all", "--out", "proofs"), ("verify", f"proofs/{OWNER}.json"), ("restore-posts",), ("roles",),
            ("report", "--machine", self.machine), ("skip-range", "--list"), ("stream", "--until-caught-up"),
            ("check-gateway", "--records", "5"), ("orders",), ("peaq-events", "--out", "peaq.jsonl"),
            ("supplier", "--once", "--price", "bearing=1.20"),
            ("shares", "machine", self.machine), ("shares", "holders", SYMBOL),
            ("shares", "income", SYMBOL), ("up",),
        ):  # fmt: skip
            self.ask(*words)
        self._of_a_gateway()
        last = self.ask("why", OWNER)["rows"][-1]
        (window,) = self.ask("why", OWNER, "--window", last["machine"], last["start"])["windows"]
        reading = window["readings"][-1]
        self.ask("receipt", last["machine"], reading["meter"], str(reading["boot"]), str(reading["seq"]))

    def of_shares(self) -> None:
        """A holder sells a few of the demo's shares to another, and income comes in that nobody awaited."""
        other = ("--as", "8")
        self.ask("shares", "offer", SYMBOL, "--price", "0.02", "--cap", "20", "--until", "2035-12-31", "--as", "7")
        self.ask("shares", "buy", SYMBOL, "10", "--demo-tokens", *other)
        self.ask("shares", "transfer", SYMBOL, OWNER, "1", *other)
        self.ask("shares", "register", SYMBOL, "--points", "1000", "--until", "2037-01-01")
        self.ask("shares", "issue", self.machine, "--supply", "10", "--symbol", "MORE")
        treasury = self.treasury()
        shares = Shares.open(treasury.data_dir, treasury.chain, SYMBOL)
        mint = Ledger.open(treasury.data_dir, treasury.chain).mint(shares.address, 1_000_000)
        treasury.chain.transact(treasury.keys.of("operator"), mint)
        self.ask("shares", "collect", SYMBOL)
        treasury.chain.pass_time(WEEK_S)
        self.ask("shares", "withdraw", SYMBOL, *other)

    def of_treasurers(self) -> None:
        """The same log is settled once more, by a new ledger."""
        self._put_away("settlement", "chain.json", "shares.json")
        self.ask("deploy-contracts")
        self.ask("settle", "--epochs", "1")
        self.ask("dispute", "3")
        self.ask("attest")
        self.ask("settle", "--restate")
        self.ask("watch", "--once", "--from-archive")
        self.treasury().chain.pass_time(601)
        self.ask("claim", OWNER)
        self.ask("claim", "--all")
        self.ask("fund", "1")
        self.ask("max-rate", "1000000")
        self.ask("pause", "claims", "1d")
        self.ask("unpause", "claims")
        self.ask("quorum", "1")
        self.ask("roles", "--grant", f"auditor={BUYER}")
        self.ask("revoke", "1", "--print-call")
        self.ask("revoke", "1")

    def of_operators(self) -> None:
        """New logs on the demo's broker: machines of one's own, files of one's own, a made-up fleet."""
        servers = self.ask("status")["servers"]
        self.env = {"KAFKA_BOOTSTRAP_SERVERS": servers["kafka"], "CHAIN_RPC_URL": servers["chain"]}
        steps = {"own": self._own, "recorded": self._recorded, "replayed": self._replayed, "fleet": self._fleet}
        for name, step in steps.items():
            self.env["TALLYROOT_TOPIC"] = name
            step(name)
        self.env = {}

    def _own(self, folder: str) -> None:
        (self.place / "form.toml").write_text(example("ev_charger"))
        self.ask("init", "--currency", "EUR", folder=folder)
        self.ask("register", "form.toml", folder=folder)
        self.ask("register", "form.toml", "--dry-run", folder=folder)
        self.ask(
            "correct",
            "charger-1",
            "energy",
            "--usage",
            "+300",
            "--at",
            "2026-01-01T00:00Z",
            "--reason",
            "forgotten",
            "--dry-run",
            folder=folder,
        )
        self.ask("retire", "charger-2", folder=folder)
        self._of_an_agent(folder)
        data = DataFolder(self.place / folder, load_settings())
        kafka, log = self.env["KAFKA_BOOTSTRAP_SERVERS"], data.log()
        end = end_offset(kafka, log, 0)
        send_unreadable(kafka, log, 0, 1, time.time_ns() // 1_000_000)
        words = (str(end), str(end + 1), "--reason", "no client reads it")
        self.ask("skip-range", "0", *words, folder=folder)

    def _recorded(self, folder: str) -> None:
        self.ask("init", "--from", "2019-08-01", folder=folder)
        self.ask("ingest", "sessions.csv", "--map", "acn-sessions", "--register-form", "machines.toml", folder=folder)
        form = self.place / "machines.toml"
        form.write_text(filled_in(form.read_text("utf-8")), "utf-8")
        self.ask("register", "machines.toml", folder=folder)
        self.ask("ingest", "sessions.csv", "--map", "acn-sessions", folder=folder)

    def _replayed(self, folder: str) -> None:
        self.env["TALLYROOT_OPERATOR_KEY"] = "0x" + self.treasury().data.operator_key().hex()
        payees = ("--payee", f"{OWNER}=10000")
        self.ask("replay", "acn-sessions", "sessions.csv", *payees, folder=folder)

    def _fleet(self, folder: str) -> None:
        self.ask("simulate", "--machines", "1", "--days", "1", "--payee", f"{OWNER}=10000", folder=folder)

    def of_the_end(self) -> None:
        """What ends a ledger; one whose admin announces what it does; what ends the servers."""
        treasury, operator = self.treasury(), development_signer(1)
        ledger = Ledger.open(treasury.data_dir, treasury.chain)
        other, _ = treasury.chain.deploy(operator, "DemoDollar", operator.address)
        mint = artefact("DemoDollar").call(other, "mint", ledger.deployment.ledger, 5)
        treasury.chain.transact(operator, mint)
        self.ask("recover-token", other, "5", "--to", BUYER)
        treasury.chain.pass_time(401 * DAY_S)
        self.ask("close-ledger", "--to", BUYER)
        self.ask("move-ledger")
        self._put_away("chain.json")
        guardian = treasury.keys.of("guardian").address
        timelock, block = treasury.chain.deploy(operator, "LedgerTimelock", DAY_S, [operator.address], [guardian])
        self.ask("deploy-contracts", "--admin", timelock)
        schedule, _ = Timelock(treasury.chain, timelock).next_call(
            Ledger.open(treasury.data_dir, treasury.chain).set_quorum(1)
        )
        treasury.chain.transact(operator, schedule)
        (step,) = Timelock(treasury.chain, timelock).announced(block)
        self.ask("cancel-announced", step.id)
        self.ask("down")

    def _put_away(self, *names: str) -> None:
        for name in names:
            (self.place / "data" / name).rename(self.place / f"old-{time.time_ns()}-{name}")
