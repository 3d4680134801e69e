"""Everything that a person may do wrong about money, by the commands as they are typed: one line that says what to do.

The chain is not a development chain here, so that every role needs a key of its own. No output ever shows a key.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from eth_account import Account

from deploy.cli import app as cli
from deploy.cli.dialect import plain
from deploy.config import ENVIRONMENT, Settings
from deploy.data_folder import DataFolder
from deploy.stack.servers import start_evm
from settlement import service
from settlement.chain.ledger import Ledger
from settlement.chain.node import Chain
from settlement.chain.signer import Keys, Signer
from settlement.chain.timelock import Timelock
from tests.chain.relay import relay
from tests.support.odd_token import OddToken
from tests.support.settlement_data import FIRST_EPOCH, LOG, SOLAR, publish_all, window

pytestmark = pytest.mark.chain

CHAIN_ID = 8_453
ROLES = ("operator", "poster", "auditor", "guardian", "admin")
MARKED = {role: f"5ec2e7{number}" * 9 + "7" for number, role in enumerate(ROLES)}
"""Keys that a search for 5ec2e7 finds, whatever shows them."""
ACCOUNTS = {role: str(Account.from_key(key).address) for role, key in MARKED.items()}
DAY = FIRST_EPOCH
WHOLE = 10**6


class Desk:
    """A shell in which commands are typed, on one data folder and one node."""

    def __init__(self, folder: Path, node: Chain, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
        self.folder, self.node = folder, node
        self.monkeypatch, self._capsys = monkeypatch, capsys
        self.shown = ""

    def run(self, *words: str, code: int = 0) -> str:
        """Runs a command; its stdout, or where it fails its one line on stderr."""
        self.monkeypatch.setattr("sys.argv", ["tallyroot", *words, "--data-dir", str(self.folder)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = self._capsys.readouterr()
        self.shown += said.out + said.err
        assert ended.value.code == code, said
        if not code:
            return said.out
        assert said.err.startswith("tallyroot: ")
        assert said.err.count("\n") == 1, said.err
        return said.err

    def fails(self, *words: str) -> str:
        """The one line of a command that fails."""
        return self.run(*words, code=1)

    def as_role(self, role: str, key_of: str | None) -> None:
        """From now on this role's key is that of another role, or none."""
        name = f"TALLYROOT_{role.upper()}_KEY"
        if key_of is None:
            self.monkeypatch.delenv(name)
        else:
            self.monkeypatch.setenv(name, MARKED[key_of])

    def ask(self, method: str, *parameters: object) -> object:
        """A method that only the development node has."""
        session = requests.Session()
        session.trust_env = False
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
        found = session.post(self.node.rpc_url, json=body, timeout=10).json()
        assert "error" not in found, found
        return found["result"]

    def pass_days(self, days: int) -> None:
        self.ask("evm_increaseTime", days * 86_400)
        self.ask("evm_mine")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A node of this module's own: its chain id and its clock are moved."""
    running = start_evm(Path(tmp_path_factory.mktemp("evm")))
    yield running.rpc_url
    running.stop()


@pytest.fixture
def desk(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Desk]:
    monkeypatch.chdir(tmp_path)
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CHAIN_RPC_URL", server)
    desk = Desk(tmp_path / "data", Chain(server, poll_s=0.01), monkeypatch, capsys)
    desk.ask("anvil_setChainId", CHAIN_ID)
    desk.node = Chain(server, poll_s=0.01)
    for role, key in MARKED.items():
        monkeypatch.setenv(f"TALLYROOT_{role.upper()}_KEY", key)
        desk.ask("anvil_setBalance", ACCOUNTS[role], hex(10**18))
    DataFolder(desk.folder, Settings(data_dir=desk.folder)).create_log(LOG)
    publish_all(desk.folder, {DAY: {0: [window("pv-1", DAY, 600_000_000)]}})
    yield desk
    assert "5ec2e7" not in desk.shown
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"5ec2e7" in path.read_bytes().lower()]


def token(desk: Desk, decimals: int = 6) -> str:
    """A token of which the operator has a billion units."""
    made = OddToken(desk.node, Signer.from_key(MARKED["operator"]), decimals)
    made.mint(ACCOUNTS["operator"], 10**9)
    return made.address


@pytest.fixture
def ledger(desk: Desk) -> Desk:
    """A desk with a ledger that is not funded."""
    desk.run("deploy-contracts", "--token", token(desk))
    return desk


def test_a_ledger_on_a_real_chain_is_what_its_record_says(desk: Desk) -> None:
    paid_in, admin = token(desk), "0x" + "ad" * 20
    options = ("--token", paid_in, "--admin", admin, "--delay", "3d", "--max-rate", "1000")
    record = json.loads(desk.run("deploy-contracts", *options, "--json"))
    assert "0x" in desk.shown
    assert plain(Ledger.open(desk.folder, desk.node).deployment) == record
    assert (record["chain_id"], record["token"], record["decimals"]) == (CHAIN_ID, paid_in, 6)
    assert (record["first_epoch_start"], record["operator"]) == ("2019-09-01T00:00:00Z", ACCOUNTS["operator"].lower())
    found = Ledger.open(desk.folder, desk.node)
    assert (found.state().max_rate, found.delay_s()) == (1_000 * WHOLE, 3 * 86_400)
    rows = json.loads(desk.run("roles", "--json"))["roles"]
    expected = {role: ACCOUNTS[role].lower() for role in ("poster", "auditor", "guardian")}
    held = {row["role"]: row["account"] for row in rows}
    timelock = Timelock.at(desk.node, held.pop("admin"))
    assert held == expected
    assert timelock is not None and timelock.delay_s() == 3 * 86_400
    again = json.loads(desk.run("deploy-contracts", "--token", paid_in, "--json"))
    assert again == record
    assert "is not its poster" in desk.fails("deploy-contracts", "--poster", admin)
    assert "has a ledger for the token" in desk.fails("deploy-contracts", "--token", admin)


def test_contracts_that_can_t_be_are_refused_before_gas_is_paid(desk: Desk) -> None:
    assert "name the token" in desk.fails("deploy-contracts")
    paid_in = token(desk)
    block = desk.node.block_number()
    assert "is not an account" in desk.fails("deploy-contracts", "--token", "0x12")
    assert "there is no such contract" in desk.fails("deploy-contracts", "--token", "0x" + "99" * 20)
    desk.as_role("auditor", "poster")
    assert "poster and auditor are both 0x" in desk.fails("deploy-contracts", "--token", paid_in)
    desk.as_role("auditor", None)
    assert "no account for the role auditor: pass --auditor" in desk.fails("deploy-contracts", "--token", paid_in)
    desk.as_role("auditor", "auditor")
    assert "must lie between 172800 s" in desk.fails("deploy-contracts", "--token", paid_in, "--delay", "1h")
    assert "is not a duration" in desk.fails("deploy-contracts", "--token", paid_in, "--delay", "soon")
    assert desk.node.block_number() == block
    for decimals in (2, 24):
        line = desk.fails("deploy-contracts", "--token", token(desk, decimals))
        assert f"a token of {decimals} decimals" in line
        assert "of 6 to 18" in line
    assert not (desk.folder / "chain.json").exists()


def test_without_a_ledger_or_a_node_a_command_says_what_is_missing(
    desk: Desk, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = [("settle",), ("settle", "--dry-run"), ("settlements",), ("payouts",), ("fund",), ("claim", "--all"),
                ("claim", SOLAR), ("proof", SOLAR), ("dispute", "1"), ("pause", "claims", "1d"),
                ("roles",)]  # fmt: skip
    for words in commands:
        assert "run `tallyroot deploy-contracts` first" in desk.fails(*words)
    monkeypatch.setenv("CHAIN_RPC_URL", "http://user:password@127.0.0.1:1/apikey")
    for words in (*commands, ("deploy-contracts",)):
        line = desk.fails(*words)
        assert "no EVM node answers at http://127.0.0.1:1 (ConnectionError)" in line
        assert "apikey" not in line


def test_from_underfunded_to_claimed_each_step_too_early_is_told(ledger: Desk) -> None:
    desk = ledger
    assert "short of 600000000 token units" in desk.fails("settle")
    assert "holds 1000000000 token units and needs 5000000000" in desk.fails("fund", "5000")
    assert "is not an amount" in desk.fails("fund", "1.2345678")
    desk.run("fund")
    assert "nothing is posted yet" in desk.fails("claim", SOLAR)
    assert "nothing is posted yet" in desk.fails("claim", "--all")
    desk.run("settle")
    assert "post 1 is not attested yet" in desk.fails("claim", SOLAR)
    service.attest(desk.folder, desk.node, Keys({"auditor": Signer.from_key(MARKED["auditor"])}, CHAIN_ID))
    assert "post 1 is not active until 20" in desk.fails("claim", SOLAR)
    assert "post 1 is not active until 20" in desk.fails("claim", "--all")
    desk.pass_days(3)
    desk.run("pause", "claims", "2d")
    assert "claims are paused until 20" in desk.fails("claim", SOLAR)
    assert "claims are paused until 20" in desk.fails("claim", "--all")
    desk.pass_days(2)
    assert "is attested and its delay is over" in desk.fails("dispute", "1")
    assert "the ledger has no post 7" in desk.fails("dispute", "7")
    assert "got 300.000000 under post 1" in desk.run("claim", SOLAR)
    assert "has already claimed 300000000 token units, all of post 1" in desk.fails("claim", SOLAR)
    assert "2 accounts got 300.000000 under post 1 in 1 transaction(s); 1 had nothing" in desk.run("claim", "--all")
    assert "name the accounts, or all of them" in desk.fails("claim")
    assert "name one account, or all of them" in desk.fails("proof", "--all")
    assert "is in no payout of post 1" in desk.fails("proof", ACCOUNTS["admin"])
    assert "leave --follow out" in desk.fails("settle", "--dry-run", "--follow")


def test_a_wrong_key_is_named_with_the_role_that_it_lacks(ledger: Desk) -> None:
    desk = ledger
    desk.run("fund")
    desk.as_role("poster", "auditor")
    assert f"wrong key: {ACCOUNTS['auditor'].lower()} is not the poster of the ledger" in desk.fails("settle")
    assert "is not the poster of the ledger" in desk.run("settle", "--dry-run")
    desk.as_role("poster", None)
    assert "no key for the poster: set TALLYROOT_POSTER_KEY, TALLYROOT_POSTER_KEYSTORE or" in desk.fails("settle")
    assert "post 1 would settle 2019-09-01" in desk.run("settle", "--dry-run")
    desk.as_role("poster", "poster")
    desk.run("settle")
    for role, name, words in (
        ("guardian", "guardian", ("dispute", "1")),
        ("guardian", "guardian", ("pause", "claims", "1d")),
        ("admin", "proposer of the admin's timelock", ("max-rate", "5")),
    ):
        desk.as_role(role, "poster")
        assert f"is not the {name}" in desk.fails(*words)
        desk.as_role(role, role)
    by_the_poster = Keys({"auditor": Signer.from_key(MARKED["poster"])}, CHAIN_ID)
    with pytest.raises(service.InvalidInput, match="is not the auditor of the ledger"):
        service.attest(desk.folder, desk.node, by_the_poster)
    assert f"{ACCOUNTS['auditor'].lower()} is the auditor already" in desk.fails(
        "roles", "--grant", f"poster={ACCOUNTS['auditor']}"
    )
    desk.monkeypatch.setenv("TALLYROOT_POSTER_KEY", MARKED["poster"] + "5e")
    assert "must be 32 bytes in hex" in desk.fails("settle")


def test_who_has_no_ether_is_named(ledger: Desk) -> None:
    desk = ledger
    desk.run("fund")
    desk.ask("anvil_setBalance", ACCOUNTS["poster"], hex(10**9))
    line = desk.fails("settle")
    assert f"the poster {ACCOUNTS['poster'].lower()} holds 0.000000001 ether, too little for gas" in line
    assert "(too little)" in desk.run("settle", "--dry-run")
    desk.ask("anvil_setBalance", ACCOUNTS["poster"], hex(10**18))
    desk.run("settle")
    desk.ask("anvil_setBalance", ACCOUNTS["guardian"], "0x0")
    assert "the guardian 0x" in desk.fails("dispute", "1")


def test_another_chain_and_a_node_that_contradicts_itself_are_told(ledger: Desk) -> None:
    desk = ledger
    desk.run("fund")
    desk.run("settle")
    record = json.loads((desk.folder / "chain.json").read_bytes())
    (desk.folder / "chain.json").write_text(json.dumps(record | {"block": desk.node.block_number() + 1}))
    assert "this node contradicts itself" in desk.fails("settlements")  # as one does that forgets old events
    (desk.folder / "chain.json").write_text(json.dumps(record))
    desk.ask("anvil_setChainId", 10)
    assert f"wrong chain: the ledger is on chain {CHAIN_ID}, this node serves 10" in desk.fails("settlements")
    desk.ask("anvil_setChainId", CHAIN_ID)
    desk.ask("anvil_setCode", record["ledger"], "0x6000")
    assert f"what stands at {record['ledger']} is not the ledger of this version" in desk.fails("settle")
    desk.ask("anvil_setCode", record["ledger"], "0x")
    assert f"the chain has no ledger at {record['ledger']}" in desk.fails("settle")


def test_a_node_that_is_behind_is_not_believed(ledger: Desk, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = ledger
    for behind, said in ((5, ""), (900_000, "is 900,000 blocks behind its chain: wait until it has caught up")):
        answer = {"startingBlock": "0x0", "currentBlock": "0x64", "highestBlock": hex(100 + behind)}
        with relay(server, {"eth_syncing": answer}) as url:
            monkeypatch.setenv("CHAIN_RPC_URL", url)
            assert said in (desk.fails("settlements") if said else desk.run("settlements"))


def test_a_fee_spike_and_a_tip_that_can_t_be_are_told(ledger: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = ledger
    desk.run("fund")
    monkeypatch.setenv("TALLYROOT_FEE_CAP_GWEI", "40")
    desk.ask("anvil_setNextBlockBaseFeePerGas", hex(60 * 10**9))
    assert "it would be refused now: gas costs too much: the base fee is 60 gwei now" in desk.run("settle", "--dry-run")
    line = desk.fails("settle")
    assert "the base fee is 60 gwei now" in line
    assert "the cap is 40; wait, or raise TALLYROOT_FEE_CAP_GWEI" in line
    desk.ask("evm_mine")
    for tip, what in (
        ("40", "must be below"),
        ("-1", "must be a number, 0 or more"),
        ("much", "must be a number, 0 or more"),
    ):
        monkeypatch.setenv("TALLYROOT_PRIORITY_FEE_GWEI", tip)
        assert what in desk.fails("settle")
    monkeypatch.setenv("TALLYROOT_PRIORITY_FEE_GWEI", "0.5")
    desk.ask("anvil_setNextBlockBaseFeePerGas", hex(10**9))
    desk.run("settle")
