"""A chain in memory with the ledger's rules, and nodes that answer for it, lie about it, or leave.

Blocks, a pool, finality by depth, reorganisations above it. What is dropped may still be somewhere and come back. An
auditor attests what is right as soon as it is posted; a guardian's disputes are mined with everything else.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from schemas.errors import InvalidInput
from schemas.keccak import keccak
from settlement.chain.contract import Call
from settlement.chain.ledger import Deployment
from settlement.chain.node import Sent
from settlement.chain.signer import Signer
from settlement.head import HeaderFile, PostHeader, disputed_head
from settlement.history import Disputed, History, Posted, fold
from settlement.posting import Fees, Mined

FINAL_DEPTH = 6
DELAY_BLOCKS = 20
BLOCK_S = 12.0
TIP = 2
KIND_BASE_FEE = 20
GENESIS = b"g" * 32
LEDGER = "0x" + "1e" * 20


class Transaction(msgspec.Struct, frozen=True):
    """Signed bytes: those of a post, or of something else (`header` None) that uses the nonce."""

    nonce: int
    max_fee: int
    priority_fee: int
    header: HeaderFile | None

    @property
    def hash(self) -> str:
        """Stands for the real one: of all that is signed."""
        return "0x" + keccak(msgspec.json.encode(self)).hex()


class SimMined(msgspec.Struct, frozen=True):
    """A transaction in a block, and whether it did what it should."""

    transaction: Transaction
    succeeded: bool


class Dispute(msgspec.Struct, frozen=True):
    """A dispute in a block: the guardian's transaction names a sequence and no head."""

    sequence: int


class SimulatedChain:
    """Blocks with the poster's and the guardian's transactions; the ledger's state is what they come to."""

    def __init__(self, draw: random.Random, is_right: Callable[[PostHeader], bool] = lambda header: True) -> None:
        self._draw = draw
        self._is_right = is_right
        self.blocks: list[list[SimMined | Dispute]] = [[]]
        self.pool: dict[int, Transaction] = {}
        self.disputes: list[int] = []
        self.stolen: set[int] = set()
        """Nonces that somebody else's transaction has used, also where a reorganisation took it back."""
        self.elsewhere: list[Transaction] = []
        self.stuck: set[str] = set()
        self.base_fee = KIND_BASE_FEE
        self.refusal = ""
        self.bad_luck = 0.0
        self.strict = draw.random() < 0.5
        """Whether nodes refuse what is under the base fee; others keep it."""
        self.final = 0
        self.finals: dict[int, bytes] = {}
        self.happened: Counter[str] = Counter()

    def history(self, block: int) -> History:
        """The ledger's events up to a block, folded."""
        return fold(GENESIS, self._events(block))

    @property
    def latest(self) -> History:
        """The ledger's history up to the last block."""
        return self.history(len(self.blocks) - 1)

    def mature(self) -> list[Posted]:
        """The live posts that can't be disputed any more: all of them right, in their order."""
        found: list[Posted] = []
        for posted in self.latest.live:
            if not self._is_right(posted.header) or len(self.blocks) - 1 - posted.block < DELAY_BLOCKS:
                break
            found.append(posted)
        return found

    def mined(self) -> list[tuple[int, SimMined]]:
        """The poster's transactions with their blocks."""
        return [
            (number, one)
            for number, content in enumerate(self.blocks)
            for one in content
            if isinstance(one, SimMined)
        ]  # fmt: skip

    def nonce(self, block: int) -> int:
        """The poster's next nonce after a block."""
        return sum(number <= block for number, _ in self.mined())

    def receipt(self, hash_: str) -> Mined | None:
        """Where a transaction was mined."""
        return next((Mined(n, one.succeeded) for n, one in self.mined() if one.transaction.hash == hash_), None)

    def refuses(self, header: PostHeader) -> str:
        """Why the ledger would refuse a post now; empty where it would not."""
        history = self.latest
        last = history.live[-1].header if history.live else None
        if header.previous_head != history.head:
            return "the ledger's head has moved on"
        if header.sequence != history.next_sequence:
            return "the ledger expects another post"
        if last is not None and (header.epoch_start_s < last.epoch_end_s or header.total < last.total):
            return "these epochs are posted already"
        return self.refusal

    def take(self, transaction: Transaction) -> str:
        """Puts a transaction into the pool; gives what a node says where it doesn't."""
        hash_ = transaction.hash
        old = self.pool.get(transaction.nonce)
        if self.receipt(hash_) is not None or (old is not None and old.hash == hash_):
            return "already known"
        if transaction.nonce < self.nonce(len(self.blocks) - 1):
            return "nonce too low"
        if self.strict and transaction.max_fee < self.base_fee:
            return "too cheap"
        if old is not None and not (
            transaction.max_fee * 10 >= old.max_fee * 11 and transaction.priority_fee * 10 >= old.priority_fee * 11
        ):
            return "replacement transaction underpriced"
        self.elsewhere += [] if old is None else [old]  # a proposer may still have it
        self.pool[transaction.nonce] = transaction
        return ""

    def mine(self) -> None:
        """A block with what the pool has for it, in the order of nonces; disputes come before that or after."""
        content: list[SimMined | Dispute] = []
        self.blocks.append(content)
        if self.disputes and self._draw.random() < 0.5:
            self._mine_disputes(content)
        while (found := self.pool.get(self.nonce(len(self.blocks) - 1))) is not None:
            if found.max_fee < self.base_fee or found.hash in self.stuck:
                break
            del self.pool[found.nonce]
            refused = found.header is not None and bool(self.refuses(found.header.header()))
            unlucky = found.header is not None and self._draw.random() < self.bad_luck
            self.happened["reverted"] += refused or unlucky
            content.append(SimMined(found, not (refused or unlucky)))
            self.stolen |= {found.nonce} if found.header is None else set()
        self._mine_disputes(content)
        self.pool = {nonce: one for nonce, one in self.pool.items() if nonce >= self.nonce(len(self.blocks) - 1)}
        self.final = max(self.final, len(self.blocks) - 1 - FINAL_DEPTH)
        self._check_final()

    def reorganise(self) -> None:
        """Takes back some blocks above the final one; their transactions wait again, are dropped, or gone for now."""
        depth = self._draw.randint(1, FINAL_DEPTH)
        keep = max(self.final + 1, len(self.blocks) - depth)
        taken = [one for content in self.blocks[keep:] for one in content]
        length = len(self.blocks) - keep
        del self.blocks[keep:]
        for one in taken:
            comes_back = self._draw.random() < 0.5
            if isinstance(one, Dispute):
                self.happened["dispute taken back"] += 1
                self.disputes += [one.sequence] if comes_back else []
                continue
            self.happened["taken back"] += 1
            if comes_back:
                self.pool.setdefault(one.transaction.nonce, one.transaction)
            else:
                self.elsewhere.append(one.transaction)
        for _ in range(length + 1):
            if self._draw.random() < 0.5:
                self.mine()
            else:
                self.blocks.append([])

    def drop(self) -> None:
        """The pool forgets a transaction, or one that it forgot comes back."""
        if self.pool and self._draw.random() < 0.7:
            self.elsewhere.append(self.pool.pop(self._draw.choice(sorted(self.pool))))
        elif self.elsewhere:
            self.take(self.elsewhere.pop(self._draw.randrange(len(self.elsewhere))))

    def foreign(self) -> None:
        """Somebody else uses the key."""
        nonce = self.nonce(len(self.blocks) - 1)
        self.pool[nonce] = Transaction(nonce, 10**6 + len(self.blocks), 10**6, None)

    def be_kind(self) -> None:
        """Nothing hinders any more."""
        self.stuck.clear()
        self.base_fee, self.refusal, self.bad_luck = KIND_BASE_FEE, "", 0.0

    def _events(self, block: int) -> Iterator[Posted | Disputed]:
        head = GENESIS
        for number, content in enumerate(self.blocks[: block + 1]):
            for one in content:
                if isinstance(one, Dispute):
                    head = disputed_head(head, one.sequence)
                    yield Disputed(one.sequence, head, number)
                elif one.succeeded and one.transaction.header is not None:
                    header = one.transaction.header.header()
                    head = header.head()
                    yield Posted(header, head, 0, one.transaction.hash, number)

    def _mine_disputes(self, content: list[SimMined | Dispute]) -> None:
        """The ledger refuses to dispute what is mature, or isn't there."""
        for sequence in self.disputes:
            if len(self.mature()) < sequence <= len(self.latest.live):
                content.append(Dispute(sequence))
                self.happened["dispute"] += 1
            else:
                self.happened["dispute refused"] += 1
        self.disputes.clear()

    def _check_final(self) -> None:
        """What was final once is so for ever: a check of the simulation itself."""
        number = self.final
        head = self.history(number).head
        assert self.finals.setdefault(number, head) == head


class Poster(Signer):
    """The poster's account; a simulated node makes the bytes."""

    @property
    def address(self) -> str:
        """Any account."""
        return "0x" + "50" * 20

    def sign_digest(self, digest: bytes, meaning: object) -> Any:
        """Never asked for."""
        raise NotImplementedError


class SimulatedNode:
    """What one host asks of the chain. `trouble` is called before and after each answer, with the method's name.

    `sending` is shown every transaction that arrives.
    """

    fee_cap = 300
    poll_s = BLOCK_S

    def __init__(
        self, chain: SimulatedChain, trouble: Callable[[str], None], sending: Callable[[Transaction], None]
    ) -> None:
        self.chain = chain
        self._trouble = trouble
        self._sending = sending
        self.lag = 0
        self.hidden: set[str] = set()
        self._told_nonce = 0

    @property
    def at(self) -> int:
        """The block that it takes for the latest."""
        return max(0, len(self.chain.blocks) - 1 - self.lag)

    def block_number(self) -> int:
        """The latest block, as it says."""
        self._trouble("block")
        return self.at

    def final_block(self) -> int:
        """The last block that no reorganisation takes."""
        self._trouble("final")
        return min(self.chain.final, self.at)

    def nonce(self, account: str) -> int:
        """The next nonce at the latest block."""
        self._trouble("nonce")
        self._told_nonce = self.chain.nonce(self.at)
        return self._told_nonce

    def receipt(self, transaction: str) -> Mined | None:
        """Where a transaction was mined, unless it is kept back."""
        self._trouble("receipt")
        found = self.chain.receipt(transaction)
        return None if found is None or transaction in self.hidden or found.block > self.at else found

    def knows(self, transaction: str) -> bool:
        """Whether it is mined or waits."""
        self._trouble("knows")
        return self.chain.receipt(transaction) is not None or any(
            waiting.hash == transaction for waiting in self.chain.pool.values()
        )

    def base_fee(self) -> int:
        """The latest block's base fee."""
        self._trouble("base fee")
        return self.chain.base_fee

    def fees(self) -> Fees:
        """Twice the base fee, and a tip."""
        self._trouble("fees")
        return Fees(2 * self.chain.base_fee + TIP, TIP)

    def ask(self, call: Call, sender: str | None = None) -> None:
        """The post as a call: raises InvalidInput with what the ledger refuses."""
        self._trouble("ask")
        refused = self.chain.refuses(header_of(call))
        if refused:
            raise InvalidInput(refused)

    def signed(self, signer: Signer, call: Call, nonce: int, fees: Fees) -> tuple[bytes, str]:
        """Bytes and hash, if the ledger would take the post now."""
        self.ask(call, signer.address)
        assert nonce == self._told_nonce, "a nonce that is not the poster's next one"
        made = Transaction(nonce, fees.max_fee, fees.priority_fee, HeaderFile.of(header_of(call)))
        return msgspec.json.encode(made), made.hash

    def send_raw(self, raw: bytes) -> Sent:
        """Takes bytes; the answer may be lost on the way."""
        self._trouble("send")
        transaction = msgspec.json.decode(raw, type=Transaction)
        self._sending(transaction)
        said = self.chain.take(transaction)
        self._trouble("sent")
        if said:
            self.chain.happened[said] += 1
        if said == "nonce too low":
            return "nonce too low"
        if said == "too cheap":
            return "too cheap"
        if said not in ("", "already known"):
            raise InvalidInput(f"the EVM node refuses: {said}")
        return "sent"


class SimulatedLedger:
    """The ledger as a node shows it."""

    def __init__(self, node: SimulatedNode, deployment: Deployment) -> None:
        self.chain = node
        self.deployment = deployment
        self._trouble = node._trouble

    def history(self) -> History:
        """All posts, folded, up to the block that the node takes for the latest."""
        self._trouble("history")
        return self.chain.chain.history(self.chain.at)

    def post(self, header: PostHeader) -> Call:
        """The call that posts."""
        return Call(LEDGER, msgspec.json.encode(HeaderFile.of(header)))


def header_of(call: Call) -> PostHeader:
    """The header that a call posts."""
    return msgspec.json.decode(call.data, type=HeaderFile).header()
