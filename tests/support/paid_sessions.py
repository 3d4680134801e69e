"""Customers who pay a ledger for sessions by EIP-3009, and the small log in which an operator says so."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from eth_account import Account

from schemas.keccak import keccak
from schemas.payment import PAID
from schemas.units import MINUTE_MS
from settlement.chain.contract import artefact
from settlement.chain.ledger import Ledger
from settlement.chain.node import Chain, plain_log
from settlement.chain.signer import Keys
from settlement.chain.transfers import TRANSFER
from streams.core.records import Record
from streams.worker.partition import Partition
from tests.support.archived_log import LOG, MACHINES, START_MS, records_of
from tests.support.sim_log import SimLog
from tests.support.watched_folder import ask

AUTHORIZATION = [
    {"name": "from", "type": "address"}, {"name": "to", "type": "address"}, {"name": "value", "type": "uint256"},
    {"name": "validAfter", "type": "uint256"}, {"name": "validBefore", "type": "uint256"},
    {"name": "nonce", "type": "bytes32"},
]  # fmt: skip
NEVER_S = 2**40
Payment = Mapping[str, Any]


class Customer:
    """Somebody with tokens and no ether: the operator sends what this one signs."""

    def __init__(self, ledger: Ledger, name: str, whole: int = 1_000) -> None:
        self._ledger, self._chain, self._name = ledger, ledger.chain, name
        self._account = Account.from_key(keccak(f"{name} of {ledger.deployment.ledger}".encode()))
        self._operator = Keys({}, self._chain.chain_id).of("operator")
        self._paid = 0
        self.address = str(self._account.address).lower()
        self._chain.transact(self._operator, ledger.mint(self.address, whole * 10**6))

    def pay(self, micros: int) -> dict[str, Any]:
        """Pays the ledger; returns what a record has to say of it."""
        token, to = self._ledger.deployment.token, self._ledger.deployment.ledger
        self._paid += 1
        nonce = keccak(f"{self._name} {self._paid}".encode())
        signed = Account.sign_typed_data(
            self._account.key,
            {"name": "Demo Dollar", "version": "1", "chainId": self._chain.chain_id, "verifyingContract": token},
            {"TransferWithAuthorization": AUTHORIZATION},
            {"from": self.address, "to": to, "value": micros, "validAfter": 0, "validBefore": NEVER_S, "nonce": nonce},
        )
        r, s = (number.to_bytes(32, "big") for number in (signed.r, signed.s))
        arguments = (self.address, to, micros, 0, NEVER_S, nonce, signed.v, r, s)
        call = artefact("DemoDollar").call(token, "transferWithAuthorization", *arguments)
        receipt = self._chain.transact(self._operator, call)
        (log,) = (log for log in map(plain_log, receipt["logs"]) if log.topics[0] == TRANSFER)
        place = {"block": log.block, "transaction": log.transaction, "log_index": log.index}
        return place | {"payer": self.address, "amount": micros}


def make_final(node: Chain) -> None:
    """Mines so many blocks that what was paid can't be undone."""
    ask(node, "anvil_mine", hex(16))


def fill_paid(folder: Path, payments: Mapping[int, Sequence[Payment]]) -> None:
    """The small log's archives and epochs, with these payments of its machines, by partition."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "log.json").write_bytes(msgspec.json.encode(LOG))
    for partition, machine in enumerate(MACHINES):
        log = with_payments(records_of(machine, 2), machine, payments.get(partition, ()))
        opened = Partition.open(folder, LOG, partition, log.topic_id(), log)
        assert opened is not None
        opened.process(0, log.end, log.records)
        opened.close()


def with_payments(log: SimLog, machine: str, payments: Sequence[Payment]) -> SimLog:
    """The log with payments right after the machine's registration; their sessions end unused."""
    registered, *rest = log.records
    paid = [
        Record(
            1 + number, registered.timestamp, machine.encode(),
            msgspec.json.encode(
                {"machine": machine, "version": 1 + number, "session": f"s-{number}"}
                | {"valid_until": START_MS + 30 * MINUTE_MS} | dict(payment)
            ),
            [("ce_type", PAID.encode())],
        )
        for number, payment in enumerate(payments)
    ]  # fmt: skip
    return SimLog([registered, *paid, *(record._replace(offset=record.offset + len(paid)) for record in rest)])
