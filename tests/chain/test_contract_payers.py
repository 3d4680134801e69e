"""Payers that are contracts (EIP-1271), on a real token: their own code says what they signed, within a till's gas."""

from pathlib import Path
from typing import Any

import pytest
from eth_abi.abi import encode
from msgspec import structs

from deploy.till.chain_hand import ChainHand, asset_of
from settlement.chain.contract import Call
from settlement.chain.ledger import Deployment
from settlement.chain.node import Chain
from settlement.chain.signer import development_signer
from tests.support.odd_token import compiled, creation
from tests.support.sim_till import ALICE, BOB, LEDGER, Street, account, payment_of
from tests.support.watched_folder import ask
from till import wire
from till.authorization import Authorization
from till.wire import Payment, Requirements

pytestmark = pytest.mark.chain

FIVE = 5_000_000


class Wallets:
    """A token that asks contracts, a wallet of Alice's, and a till on that chain with a log in memory."""

    def __init__(self, folder: Path, node: Chain) -> None:
        self.node, self.signer = node, development_signer(1)
        self.contracts = compiled("test/Wallets.sol")
        self.token = self.made("WalletDollar")
        self.wallet = self.made("Wallet", ["address"], [account(ALICE)])
        self.send(self.token, "WalletDollar", "mint(address,uint256)", self.wallet, 3 * FIVE)
        self.send(self.token, "WalletDollar", "mint(address,uint256)", account(ALICE), FIVE)
        deployment = Deployment(
            chain_id=node.chain_id, log_id="street", currency="USD", epoch_ms=1, ledger=LEDGER, token=self.token,
            decimals=6, demo_token=False, operator=account(BOB), block=0, log_digest="", first_epoch_start_s=0,
        )  # fmt: skip
        self.street = Street(folder)
        self.street.asset = asset_of(node, deployment, "1")
        self.street.chain = ChainHand(node, self.street.asset, development_signer(9))  # type: ignore[assignment]
        self.street.clock.now_s = float(node.time_s(at="pending"))
        self.street.restart()

    def made(self, name: str, types: tuple[str, ...] | list[str] = (), arguments: Any = ()) -> str:
        made = self.node.transact(self.signer, creation(self.contracts[name], types, arguments))
        return str(made["contractAddress"]).lower()

    def send(self, to: str, contract: str, signature: str, *arguments: Any) -> None:
        selector = bytes.fromhex(self.contracts[contract]["evm"]["methodIdentifiers"][signature])
        types = signature[signature.index("(") + 1 : -1].split(",")
        self.node.transact(self.signer, Call(to, selector + encode(types, arguments)))

    def payment(self, wanted: Requirements, nonce: int, **changes: Any) -> Payment:
        """The wallet's: its owner's signature behind the owner's address."""
        now_s = self.node.time_s(at="pending")
        plain = Authorization.of(payment_of(wanted, ALICE, nonce, now_s, asset=self.street.asset))
        unsigned = structs.replace(plain, payer=self.wallet)
        signature = changes.get("signer", ALICE).sign_msg_hash(unsigned.digest(self.street.asset)).to_bytes()
        raw = bytes.fromhex(account(ALICE)[2:]) + signature[:64] + bytes([27 + signature[64]])
        return structs.replace(unsigned, signature="0x" + raw.hex()).payment(wanted)


def test_a_contract_s_wallet_buys_and_thieves_of_its_gas_do_not(tmp_path: Path, node: Chain) -> None:
    wallets = Wallets(tmp_path, node)
    street, till = wallets.street, wallets.street.till
    wanted = till.price("drone")
    assert till.refused(wallets.payment(wanted, 1, signer=BOB), "drone") == wire.SIMULATION, "not the owner's"
    stranger = structs.replace(Authorization.of(wallets.payment(wanted, 1)), payer=account(BOB)).payment(wanted)
    assert till.refused(stranger, "drone") == wire.SIGNATURE, "Bob is no contract"
    wallets.send(wallets.wallet, "Wallet", "setBurns(uint256)", 1_000_000)
    assert till.refused(wallets.payment(wanted, 1), "drone") == wire.SIMULATION, "the till would pay a million gas"
    wallets.send(wallets.wallet, "Wallet", "setBurns(uint256)", 0)
    opened = [till.buy(wallets.payment(wanted, 1), "drone")]
    now_s = node.time_s(at="pending")
    opened.append(till.buy(payment_of(wanted, ALICE, 2, now_s, asset=street.asset), "drone"))
    for _ in range(40):
        if not till.cashier.go_on():
            break
        ask(node, "anvil_mine")
    assert [till.desk.status("drone", each.session).state for each in opened] == ["started", "started"]
    assert {payment.payer for payment in street.log.accepted} == {wallets.wallet, account(ALICE)}
    assert street.chain.balance(LEDGER) == 2 * FIVE
