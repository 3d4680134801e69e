"""An EVM node over JSON-RPC: reads, raw transactions, and waiting."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, cast

from eth_typing import ChecksumAddress
from eth_utils.address import to_checksum_address
from web3 import Web3
from web3.exceptions import (
    ContractLogicError,
    TransactionNotFound,
    Web3Exception,
)
from web3.middleware import ExtraDataToPOAMiddleware
from web3.types import TxParams

from schemas.errors import InvalidInput
from settlement.chain.contract import Call, artefact, decode_refusal, refusal
from settlement.chain.event_logs import EventLogs, PlainLog, Topics
from settlement.chain.rpc import NodeAway, NodeRefuses, Nodes, RpcCounts
from settlement.chain.signer import DEVELOPMENT_CHAIN_ID, Signer
from settlement.posting import GWEI, Fees, Mined, gwei, too_dear

MINED_TIMEOUT_S = 180.0
SYNCED_BLOCKS = 10
"""How many blocks a usable node may be behind: some always are a few."""
TIP_PARTS = 10
"""The tip that a node suggests is used up to 1/10 of the cap: the node may be wrong, or lie."""

ODD = (ValueError, TypeError, LookupError, AttributeError, OverflowError)
"""What web3 raises over an answer that passed for one of its method."""

UNDERPRICED = ("replacement transaction underpriced", "replacementnotallowed", "replacement not allowed")
"""How geth, Reth, Besu, Erigon and Nethermind refuse a replacement that offers too little."""

BUMP_BLOCKS = 5
"""A transaction that was not mined in so many blocks is replaced by one that offers more."""

Sent = Literal["sent", "nonce too low", "too cheap", "underpriced"]
"""`underpriced`: another transaction with this nonce waits, and the node wants more to replace it."""

Moment = Literal["latest", "pending"]


class Chain:
    """A node, or several of one chain, their URLs separated by commas.

    Fees are in wei per gas: at most `fee_cap`; without `priority_fee` the tip is what the node suggests. On chains
    without the tag `finalized` a block is final below `final_depth` others.
    """

    def __init__(
        self, rpc_url: str, *, fee_cap: int = 500 * GWEI, priority_fee: int | None = None, final_depth: int = 64,
        poll_s: float = 0.1, counts: RpcCounts | None = None,
    ) -> None:  # fmt: skip
        self.rpc_url = rpc_url
        self.fee_cap = fee_cap
        self._priority_fee = priority_fee
        self._final_depth = final_depth
        self.verified: set[str] = set()
        """Ledgers whose code was compared with ours: it can't change while this process lives."""
        self.poll_s = poll_s
        self.log_folder: Path | None = None
        """Where event logs are remembered from one command to the next; nowhere for who doesn't trust the folder."""
        self._event_logs: dict[tuple[str, int, Topics], EventLogs] = {}
        self._receipt_logs: dict[str, list[PlainLog]] = {}
        self.counts = counts or RpcCounts()
        self._nodes = Nodes(rpc_url, self.counts)
        self._web3 = Web3(self._nodes)
        self._web3.middleware_onion.inject(ExtraDataToPOAMiddleware, layer=0)
        self._web3.middleware_onion.remove("validation")  # it asks for the chain's id at every call
        self._eth = self._web3.eth
        with self.speaking():
            self.chain_id = int(self._eth.chain_id)
        self._require_synced()

    def _require_synced(self) -> None:
        """Raises InvalidInput if the node is many blocks behind: it would show an old ledger."""
        with self.speaking():
            try:
                found = self._eth.syncing
            except Web3Exception:  # not every node has the method
                return
        behind = 0 if isinstance(found, bool) else int(found.get("highestBlock", 0)) - int(found.get("currentBlock", 0))
        if behind > SYNCED_BLOCKS:
            raise InvalidInput(
                f"the EVM node at {self._nodes.shown} is {behind:,} blocks behind its chain: wait until it has"
                " caught up, or ask another one (CHAIN_RPC_URL)"
            )

    @contextmanager
    def speaking(self) -> Iterator[None]:
        """Turns errors of the node and refusals of the contracts into InvalidInput."""
        try:
            yield
        except ContractLogicError as error:
            raise explained(error) from None
        except Web3Exception as error:
            message = _message(error)
            if "insufficient funds" in message.lower():
                raise InvalidInput("the sender has too little ether for gas: send it some") from None
            raise NodeRefuses(f"the EVM node refuses: {message}") from None
        except ODD as error:  # web3 met an answer that it can't decode
            raise NodeAway(
                f"the EVM node at {self._nodes.shown} answers oddly ({type(error).__name__}): name another in"
                " CHAIN_RPC_URL"
            ) from None

    def block_number(self) -> int:
        """The number of the latest block."""
        with self.speaking():
            return int(self._eth.block_number)

    def latest_block(self) -> tuple[int, str]:
        """The number and the hash (0x-hex) of the latest block."""
        with self.speaking():
            block = self._eth.get_block("latest")
            return int(block["number"]), "0x" + bytes(block["hash"]).hex()

    def time_s(self, *, at: Moment = "latest") -> int:
        """The latest block's time, Unix seconds; with `pending` that of the next one, if the node supports it."""
        with self.speaking():
            try:
                return int(self._eth.get_block(at)["timestamp"])
            except Web3Exception:
                return int(self._eth.get_block("latest")["timestamp"])

    def block_time_s(self, number: int) -> int:
        """A block's time, Unix seconds."""
        with self.speaking():
            return int(self._eth.get_block(number)["timestamp"])

    def final_block(self) -> int:
        """The last block that no reorganisation can undo (-1: none yet): by its tag, else by depth."""
        with self.speaking():
            try:
                return int(self._eth.get_block("finalized")["number"])
            except Web3Exception:
                return int(self._eth.block_number) - self._final_depth

    def nonce(self, account: str) -> int:
        """The account's next nonce at the latest block; pending transactions don't count."""
        return self._nonce(account, "latest")

    def has_waiting(self, account: str) -> bool:
        """Whether a transaction of the account waits at the node to be mined."""
        return self._nonce(account, "pending") > self._nonce(account, "latest")

    def _nonce(self, account: str, at: Moment) -> int:
        with self.speaking():
            return int(self._eth.get_transaction_count(checksum(account), at))

    def receipt(self, transaction: str) -> Mined | None:
        """The block and success of a mined transaction; None if it is not mined."""
        with self.speaking():
            try:
                found = self._eth.get_transaction_receipt(_hash(transaction))
            except TransactionNotFound:
                return None
            return Mined(int(found["blockNumber"]), found["status"] == 1)

    def knows(self, transaction: str) -> bool:
        """Whether the node has a transaction, mined or pending."""
        with self.speaking():
            try:
                self._eth.get_transaction(_hash(transaction))
            except TransactionNotFound:
                return False
            return True

    def base_fee(self) -> int:
        """The next block's base fee, wei per gas; if the node lacks the method, that of the latest block."""
        with self.speaking():
            try:
                return int(self._eth.fee_history(1, "latest", [])["baseFeePerGas"][-1])
            except (Web3Exception, LookupError):
                return int(self._eth.get_block("latest").get("baseFeePerGas", 0))

    def fees(self) -> Fees:
        """The fees to offer now: twice the base fee and the tip."""
        tip = self._priority_fee
        if tip is None:
            with self.speaking():
                tip = min(int(self._eth.max_priority_fee), self.fee_cap // TIP_PARTS)
        return Fees(2 * self.base_fee() + tip, tip)

    def code(self, address: str) -> bytes:
        """The code at an address; empty if there is none."""
        with self.speaking():
            return bytes(self._eth.get_code(checksum(address)))

    def ether(self, account: str) -> int:
        """The account's balance in wei."""
        with self.speaking():
            return int(self._eth.get_balance(checksum(account)))

    def logs(self, address: str, first_block: int, topics: Topics = ()) -> list[PlainLog]:
        """All event logs of a contract with these topics from a block on, in the chain's order."""
        known = self._event_logs.get((address, first_block, topics))
        if known is None:
            known = EventLogs(self, address, first_block, self.log_folder, topics)
            self._event_logs[address, first_block, topics] = known
        return known.all()

    def logs_of(self, transaction: str) -> list[PlainLog]:
        """The event logs of a mined transaction; none where the node has no such one, or it failed.

        What lies in a final block is asked for once.
        """
        known = self._receipt_logs.get(transaction)
        if known is not None:
            return known
        with self.speaking():
            try:
                receipt = self._eth.get_transaction_receipt(_hash(transaction))
            except TransactionNotFound:
                return []
            found = [plain_log(log) for log in receipt["logs"]]
            block = int(receipt["blockNumber"])
        if block <= self.final_block():
            self._receipt_logs[transaction] = found
        return found

    def forget_logs(self) -> None:
        """Lets the next call of `logs` read all of them again."""
        for known in self._event_logs.values():
            known.forget()

    def logs_between(self, address: str, first: int, last: int, topics: Topics = ()) -> list[PlainLog]:
        """The event logs of a contract with these topics in the blocks `first` to `last`. The node may refuse so many
        blocks.
        """
        asked: dict[str, Any] = {"address": checksum(address), "fromBlock": first, "toBlock": last}
        if topics:
            asked["topics"] = [None if topic is None else "0x" + topic.hex() for topic in topics]
        with self.speaking():
            found = self._eth.get_logs(cast(Any, asked))
            return [plain_log(log) for log in found]

    def logs_about(self, address: str, topics: Sequence[bytes], first: int, last: int) -> list[PlainLog]:
        """Those among them that begin with these topics."""
        with self.speaking():
            found = self._eth.get_logs({
                "address": checksum(address), "fromBlock": cast(Any, first), "toBlock": cast(Any, last),
                "topics": [cast(Any, "0x" + topic.hex()) for topic in topics],
            })  # fmt: skip
            return [plain_log(log) for log in found]

    def events_of(self, transaction: str) -> list[PlainLog]:
        """The event logs of a mined transaction, of all contracts; none if it is not mined."""
        with self.speaking():
            try:
                return [plain_log(log) for log in self._eth.get_transaction_receipt(_hash(transaction))["logs"]]
            except TransactionNotFound:
                return []

    def block_hash(self, number: int) -> str:
        """A block's hash, 0x-hex. Raises InvalidInput if there is no such block."""
        with self.speaking():
            return "0x" + bytes(self._eth.get_block(number)["hash"]).hex()

    def ask(self, call: Call, sender: str | None = None, *, at: Moment = "latest") -> Any:
        """The one value that a call returns. Raises InvalidInput with the contract's refusal.

        `pending` evaluates it as of now; on chains that mine only on demand, the latest block may be hours old.
        """
        with self.speaking():
            returned = bytes(self._eth.call(_transaction(call, sender), at))
        return call.result(returned) if call.returns else None

    def gas(self, call: Call, sender: str | None = None, *, at: Moment = "latest") -> int:
        """What a call would cost. Raises InvalidInput with the contract's refusal."""
        with self.speaking():
            return int(self._eth.estimate_gas(_transaction(call, sender), at))

    def signed(
        self, signer: Signer, call: Call, nonce: int, fees: Fees, *, at: Moment = "latest", gas_max: int | None = None
    ) -> tuple[bytes, str]:  # fmt: skip
        """Raw bytes and hash of a signed call or creation.

        Raises InvalidInput with the contract's refusal, or where it costs more gas than `gas_max`.
        """
        gas = self.gas(call, signer.address, at=at)
        if gas_max is not None and gas > gas_max:
            raise InvalidInput(f"the call would cost {gas:,} gas, and may cost {gas_max:,}")
        return signer.sign(
            {
                **({} if call.to is None else {"to": checksum(call.to)}),
                "data": call.data,
                "value": 0,
                # A call's gas can grow a little until it is mined; unused gas is not paid.
                "gas": gas * 6 // 5,
                "nonce": nonce,
                "maxFeePerGas": fees.max_fee,
                "maxPriorityFeePerGas": fees.priority_fee,
                "chainId": self.chain_id,
                "type": 2,
            }
        )

    def send_raw(self, raw: bytes) -> Sent:
        """Sends signed bytes to the node, once. Bytes that the node has already count as sent."""
        try:
            with self.speaking():
                self._eth.send_raw_transaction(raw)
        except InvalidInput as error:
            text = str(error).lower()
            if "already known" in text or "already imported" in text:
                return "sent"
            if "nonce too low" in text or "nonce is too low" in text:
                return "nonce too low"
            if "less than block base fee" in text:
                return "too cheap"
            if any(words in text for words in UNDERPRICED):
                return "underpriced"
            raise
        return "sent"

    def transact(self, signer: Signer, call: Call) -> Mapping[str, Any]:
        """Signs, sends and waits for one transaction outside the journal; returns its receipt.

        What is not mined in BUMP_BLOCKS blocks, and what waits there already with its nonce, is replaced by one that
        offers more, up to the cap. Only for calls that the contract makes safe to repeat. Raises InvalidInput with the
        contract's refusal.
        """
        nonce, fees, sent = self.nonce(signer.address), self._affordable(), []
        deadline = time.monotonic() + MINED_TIMEOUT_S
        while True:
            raw, transaction = self._signed_now(signer, call, nonce, fees)
            answer = self.send_raw(raw)
            if answer == "too cheap":
                raise InvalidInput("the base fee has risen meanwhile: run this again")
            if answer != "nonce too low":
                sent.append(transaction)
            elif not sent:
                raise InvalidInput(f"{signer.address} is in use by another process: run this again")
            until = time.monotonic() if answer == "underpriced" else deadline
            receipt = self._mined_of(sent, until)
            if receipt is not None:
                return receipt
            more = fees.replaced(self.fees(), self.fee_cap)
            if more is None or time.monotonic() > deadline:
                raise InvalidInput(self._waits(transaction, nonce, fees))
            fees = more

    def _signed_now(self, signer: Signer, call: Call, nonce: int, fees: Fees) -> tuple[bytes, str]:
        """A call signed as of the next block, or, where what waits there of this account makes it refused, of the last:
        it takes the place of what waits.
        """
        try:
            return self.signed(signer, call, nonce, fees, at="pending")
        except NodeAway:
            raise
        except InvalidInput:
            if not self.has_waiting(signer.address):
                raise
            return self.signed(signer, call, nonce, fees)

    def _mined_of(self, transactions: Sequence[str], deadline: float) -> Mapping[str, Any] | None:
        """The receipt of whichever is mined, within BUMP_BLOCKS blocks and before the deadline; else None.

        Raises InvalidInput if it failed.
        """
        first_block = self.block_number()
        while True:
            for transaction in transactions:
                receipt = self.receipt(transaction)
                if receipt is None:
                    continue
                if not receipt.succeeded:
                    raise InvalidInput(f"transaction {transaction} was refused when it was mined: run this again")
                with self.speaking():
                    return cast(Mapping[str, Any], self._eth.get_transaction_receipt(_hash(transaction)))
            if time.monotonic() > deadline or self.block_number() >= first_block + BUMP_BLOCKS:
                return None
            time.sleep(self.poll_s)

    def _waits(self, transaction: str, nonce: int, fees: Fees) -> str:
        return (
            f"transaction {transaction} with nonce {nonce} waits at the node: it offers {gwei(fees.max_fee)} gwei, the"
            f" base fee is {gwei(self.base_fee())} and the cap {gwei(self.fee_cap)}; run this again to replace it with"
            " one that offers more, with a higher TALLYROOT_FEE_CAP_GWEI if need be"
        )

    def _affordable(self) -> Fees:
        """The fees to offer, up to the cap. Raises InvalidInput if that is not enough."""
        wanted, base_fee = self.fees(), self.base_fee()
        least = base_fee + wanted.priority_fee
        fees = wanted.within(self.fee_cap, least)
        if fees is None:
            raise InvalidInput(too_dear(base_fee, least, self.fee_cap))
        return fees

    def deploy(self, signer: Signer, name: str, *arguments: Any) -> tuple[str, int]:
        """Deploys a contract of settlement/abi; returns its address in lower case and its block."""
        receipt = self.transact(signer, artefact(name).creation(*arguments))
        return str(receipt["contractAddress"]).lower(), int(receipt["blockNumber"])

    def keep_time(self) -> None:
        """Mines a block on a development chain whose last one is older than a second: it mines only what is sent,
        and what a contract is asked is asked as of its last block.
        """
        if self.chain_id == DEVELOPMENT_CHAIN_ID and self.time_s() + 1 < time.time():
            with self.speaking():
                self._web3.provider.make_request(cast(Any, "evm_mine"), [])

    def pass_time(self, seconds: int) -> None:
        """Advances a development chain's clock and mines a block. Raises InvalidInput on any other chain."""
        self._develop(("evm_increaseTime", [seconds]), ("evm_mine", []))

    def mine(self, blocks: int) -> None:
        """Mines blocks on a development chain. Raises InvalidInput on any other chain."""
        self._develop(("anvil_mine", [hex(blocks)]))

    def _develop(self, *requests: tuple[str, list[Any]]) -> None:
        if self.chain_id != DEVELOPMENT_CHAIN_ID:
            raise InvalidInput(f"time can only be moved on a development chain, not on chain {self.chain_id}")
        with self.speaking():
            for method, parameters in requests:
                self._web3.provider.make_request(cast(Any, method), parameters)


def plain_log(log: Any) -> PlainLog:
    """A log as web3 decodes it, of a range or a receipt."""
    topics = tuple(bytes(topic) for topic in log["topics"])
    transaction = "0x" + bytes(log["transactionHash"]).hex()
    return PlainLog(
        str(log["address"]).lower(), topics, bytes(log["data"]), int(log["blockNumber"]), int(log["logIndex"]),
        transaction,
    )  # fmt: skip


def explained(error: ContractLogicError) -> InvalidInput:
    """A contract's revert as InvalidInput."""
    data = error.data if isinstance(error.data, str) else None
    found = decode_refusal(data)
    if found is None:
        return InvalidInput(f"the contract refuses: {_message(error)}")
    return refusal(*found)


def checksum(address: str) -> ChecksumAddress:
    """An address with the checksum that web3 requires."""
    return to_checksum_address(address)


def _transaction(call: Call, sender: str | None) -> TxParams:
    transaction: dict[str, Any] = {"data": "0x" + call.data.hex()}
    if call.to is not None:
        transaction["to"] = checksum(call.to)
    if sender is not None:
        transaction["from"] = checksum(sender)
    return cast(TxParams, transaction)


def _hash(transaction: str) -> Any:
    return cast(Any, transaction)


def _message(error: Web3Exception) -> str:
    response = getattr(error, "rpc_response", None)
    details = response.get("error") if isinstance(response, dict) else None
    message = details.get("message") if isinstance(details, dict) else getattr(error, "message", None)
    return " ".join(str(message or error).split())
