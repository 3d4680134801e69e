"""The deployed ledger of a data folder: its addresses (chain.json), its state, its events and its calls."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from files.read import FileMissing, read_json
from files.write import make_folder, write_json
from schemas.errors import InvalidInput
from schemas.log import Log
from schemas.payout import Claim
from settlement.chain.contract import ROLE_HASHES, Call, Trial, artefact, creation_of
from settlement.chain.event_logs import PlainLog
from settlement.chain.node import Chain, plain_log
from settlement.chain.rpc import NodeAway
from settlement.chain.signer import Role
from settlement.head import PostHeader, genesis_head
from settlement.history import Disputed, History, Posted, fold
from settlement.post import PostStanding
from settlement.succession import LedgerStart

Pausable = Literal["claims", "posting"]

CHAIN_FILE = "chain.json"
NEXT_FILE = "chain.next.json"
"""The ledger that a move has deployed, until it takes the place of the one before."""

HEAD_TRIES = 3


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """chain.json: addresses in lower case; `demo_token` if we deployed the token and can mint it.

    `log_digest` is the log's `birth_digest`, hex, or the digest of `start`, which a ledger has that follows another;
    `first_epoch_start_s` is where the first epoch begins that the ledger settles, Unix seconds (0: at any). A ledger
    that has ended names its `successor`.
    """

    chain_id: int
    log_id: str
    currency: str
    epoch_ms: int
    ledger: str
    token: str
    decimals: int
    demo_token: bool
    operator: str
    block: int
    log_digest: str
    first_epoch_start_s: int
    start: LedgerStart | None = None
    successor: str | None = None

    @property
    def initial(self) -> PostStanding:
        """The state before the first post."""
        return PostStanding.initial(self.ledger) if self.start is None else self.start.standing(self.ledger)

    def is_of(self, log: Log) -> bool:
        """Whether the ledger was made for this log, with these first rules."""
        digest = log.birth_digest()
        return self.log_digest == (digest if self.start is None else self.start.digest(digest)).hex()

    @classmethod
    def load(cls, data_dir: Path, name: str = CHAIN_FILE) -> "Deployment":
        """The deployment of a data folder. Raises InvalidInput if there is none yet, or the file is damaged."""
        path = data_dir / name
        try:
            return read_json(path, cls, what="the description of a ledger", remedy="restore it from a copy")
        except FileMissing:
            raise InvalidInput(f"no ledger for {data_dir}: run `tallyroot deploy-contracts` first") from None

    def save(self, data_dir: Path, name: str = CHAIN_FILE) -> None:
        """Writes chain.json."""
        make_folder(data_dir)
        write_json(data_dir / name, self)


class LedgerState(msgspec.Struct, frozen=True):
    """The ledger now: amounts in token units, times in Unix seconds."""

    head: bytes
    next_sequence: int
    attested: int
    total: int
    deposits: int
    claimed: int
    balance: int
    max_rate: int
    quorum: int
    claims_paused_until_s: int
    posting_paused_until_s: int


class Ledger:
    """A SettlementLedger and its token. Raises InvalidInput if the chain or the code is not the one deployed on."""

    def __init__(self, chain: Chain, deployment: Deployment) -> None:
        self.chain = chain
        self.deployment = deployment
        self._delay_s: int | None = None
        if chain.chain_id != deployment.chain_id:
            raise InvalidInput(
                f"wrong chain: the ledger is on chain {deployment.chain_id}, this node serves {chain.chain_id}; "
                "check CHAIN_RPC_URL"
            )
        if deployment.ledger not in chain.verified:
            self._require_our_code()
            chain.verified.add(deployment.ledger)

    @classmethod
    def open(cls, data_dir: Path, chain: Chain) -> "Ledger":
        """The ledger of a data folder. Raises InvalidInput."""
        return cls(chain, Deployment.load(data_dir))

    def _require_our_code(self) -> None:
        """Raises InvalidInput unless what stands there is what our artefact would put there, for the same log.

        Its creation is played again, with its own settings: chain.json may come from who has something to hide.
        """
        d, code = self.deployment, self.chain.code(self.deployment.ledger)
        if not code:
            raise InvalidInput(
                f"the chain has no ledger at {d.ledger} (a development chain that was reset?): "
                "use its old state, or a new data folder"
            )
        wrong = InvalidInput(
            f"what stands at {d.ledger} is not the ledger of this version for the log of this folder: restore"
            " chain.json from a copy, or ask another node (CHAIN_RPC_URL)"
        )
        try:
            settings = (
                d.token,
                d.currency.encode(),
                self.delay_s(),
                0,
                d.first_epoch_start_s,
                bytes.fromhex(d.log_digest),
            )
            hands = (str(self._view("defaultAdmin")), *(f"0x{number:040x}" for number in (1, 2, 3)))
            creation = creation_of(settings, hands[0], hands[1], [hands[2]], [hands[3]], 1)
            made = self.chain.ask(Trial(None, creation.data, ("bytes",)))
        except NodeAway:
            raise
        except InvalidInput:
            raise wrong from None
        if made != code:
            raise wrong

    @property
    def genesis(self) -> bytes:
        """The first head."""
        d = self.deployment
        return genesis_head(
            d.chain_id, d.ledger, d.token, d.currency, bytes.fromhex(d.log_digest), d.first_epoch_start_s
        )

    def state(self) -> LedgerState:
        """The ledger's state now."""
        return LedgerState(
            self.head(), self._view("nextSequence"), self._view("attested"), self._view("total"),
            self._view("deposits"), self._view("claimed"), self.balance_of(self.deployment.ledger),
            self._view("maxRate"), self._view("quorum"), self._view("claimsPausedUntil"),
            self._view("postingPausedUntil"),
        )  # fmt: skip

    def fault_before(self) -> str:
        """Why the ledger that this one follows hasn't ended where it should have; empty if it has, or there is none."""
        start = self.deployment.start
        if start is None:
            return ""
        if self.chain.ask(artefact("SettlementLedger").call(start.predecessor, "attested")) <= start.sequence:
            return ""
        return f"the ledger before, {start.predecessor}, has attested posts after {start.sequence}: both ledgers pay"

    def head(self) -> bytes:
        """The head now."""
        return bytes(self._view("head"))

    def delay_s(self) -> int:
        """Seconds from a post until it may be mature: fixed for the ledger's life."""
        if self._delay_s is None:
            self._delay_s = int(self._view("delay"))
        return self._delay_s

    def quorum(self) -> int:
        """How many auditors must attest a post."""
        return int(self._view("quorum"))

    def attested(self) -> int:
        """The last post that the quorum has attested."""
        return int(self._view("attested"))

    def attested_by(self, auditor: str) -> int:
        """The last post that an auditor has attested since the last dispute."""
        return int(self._view("attestedBy", auditor))

    def history(self) -> History:
        """All posts and disputes, folded, and compared with the ledger's own head.

        Raises InvalidInput if the events do not follow from each other, or the head is not theirs: the node lags, has
        dropped old events, or lies.
        """
        for _ in range(HEAD_TRIES):  # a post may be mined between the two requests
            history = fold(self.genesis, self.events())
            head = self.head()
            if head == history.head:
                return history
            self.chain.forget_logs()
        raise InvalidInput(
            f"this node contradicts itself: it says that the ledger's head is {head.hex()}, and its events lead to "
            f"{history.head.hex()}; ask another node (CHAIN_RPC_URL), one that keeps all events"
        )

    def events(self) -> list[Posted | Disputed]:
        """The events EpochPosted and PostDisputed in the chain's order."""
        found: list[Posted | Disputed] = []
        for name, values, log in self._decoded("EpochPosted", "PostDisputed"):
            if name == "EpochPosted":
                found.append(_posted(values, log))
            else:
                found.append(Disputed(values["sequence"], bytes(values["head"]), log.block))
        return found

    def revoked(self) -> frozenset[int]:
        """The posts that the admin has revoked."""
        return frozenset(values["sequence"] for _, values, _ in self._decoded("PostRevoked"))

    def claims(self) -> list[Claim]:
        """Every payment, in the chain's order; amounts in token units."""
        return [
            Claim(values["account"].lower(), values["sequence"], values["amount"],
                  log.transaction, log.block)
            for _, values, log in self._decoded("PayoutClaimed")
        ]  # fmt: skip

    def claimed_amounts(self) -> dict[str, int]:
        """All that each account has claimed, token units, from the events: one request for any number of accounts."""
        found: dict[str, int] = {}
        for paid in self.claims():
            found[paid.account] = found.get(paid.account, 0) + paid.amount
        return found

    def holders(self) -> dict[Role, tuple[str, ...]]:
        """The holders of each role of the ledger now, in the order of the grants."""
        held: dict[Role, list[str]] = {role: [] for role in ROLE_HASHES}
        names = {hash_: role for role, hash_ in ROLE_HASHES.items()}
        for name, values, _ in self._decoded("RoleGranted", "RoleRevoked"):
            role, account = names.get(bytes(values["role"])), values["account"].lower()
            if role is None or (name == "RoleRevoked" and account not in held[role]):
                raise InvalidInput(
                    f"the node shows a {name} that the ledger can't have emitted: ask another (CHAIN_RPC_URL)"
                )
            if name == "RoleGranted":
                held[role].append(account)
            else:
                held[role].remove(account)
        return {role: tuple(accounts) for role, accounts in held.items()}

    def role_changes(self) -> int:
        """How often a role was granted or revoked, ever."""
        return len(self._decoded("RoleGranted", "RoleRevoked"))

    def happened(self, receipt: Mapping[str, Any], *names: str) -> list[tuple[str, dict[str, Any]]]:
        """The ledger's events of these names in a receipt, with their values."""
        own = [log for log in map(plain_log, receipt["logs"]) if log.address == self.deployment.ledger]
        return [(name, values) for name, values, _ in _events(own, names)]

    def is_active(self, sequence: int) -> bool:
        """Whether a post pays now."""
        return bool(self.chain.ask(self._of_ledger("isActive", sequence), at="pending"))

    def claimed_by(self, account: str) -> int:
        """All that an account has claimed, token units."""
        return int(self._view("claimedBy", account))

    def balance_of(self, account: str) -> int:
        """The account's tokens, in units."""
        return int(self.chain.ask(self._of_token("balanceOf", account)))

    def claimable(self, account: str, sequence: int, cumulative: int, proof: list[bytes]) -> int:
        """What a claim would pay now, token units; 0 if the proof is wrong or the post not active."""
        call = self._of_ledger("claimable", account, sequence, cumulative, proof)
        return int(self.chain.ask(call, at="pending"))

    def post(self, header: PostHeader) -> Call:
        """The call that posts."""
        return self._of_ledger("post", *header.arguments)

    def attest(self, sequence: int, head: bytes) -> Call:
        """The call that attests every post up to a sequence, if the head is still this one."""
        return self._of_ledger("attest", sequence, head)

    def dispute(self, sequence: int, head: bytes) -> Call:
        """The call that disputes a post and all above it, if the head is still this one."""
        return self._of_ledger("dispute", sequence, head)

    def claim(self, account: str, sequence: int, cumulative: int, proof: list[bytes]) -> Call:
        """The call that pays an account what it has not claimed yet."""
        return self._of_ledger("claim", account, sequence, cumulative, proof)

    def claim_many(self, sequence: int, leaves: Sequence[tuple[str, int, list[bytes]]]) -> Call:
        """The call that pays many accounts: (account, cumulative, proof) each."""
        return self._of_ledger("claimMany", sequence, leaves)

    def revoke(self, sequence: int) -> Call:
        """The call that revokes an active post; for the admin."""
        return self._of_ledger("revoke", sequence)

    def pause(self, what: Pausable, duration_s: int) -> Call:
        """The call that pauses claims or posting for this many seconds; for a guardian."""
        return self._of_ledger(f"pause{what.capitalize()}", duration_s)

    def resume(self, what: Pausable) -> Call:
        """The call that ends a pause; for a guardian."""
        return self._of_ledger(f"resume{what.capitalize()}")

    def set_max_rate(self, amount: int) -> Call:
        """The call that changes by how much posts may raise the total for each day that they settle; for the admin."""
        return self._of_ledger("setMaxRate", amount)

    def set_quorum(self, quorum: int) -> Call:
        """The call that changes how many auditors must attest; for the admin."""
        return self._of_ledger("setQuorum", quorum)

    def close(self, recipient: str) -> Call:
        """The call that sends what is owed to nobody, 400 days after the last post; for the admin."""
        return self._of_ledger("close", recipient)

    def recover(self, token: str, recipient: str, amount: int) -> Call:
        """The call that sends tokens of another kind, sent here by mistake; for the admin."""
        return self._of_ledger("recover", token, recipient, amount)

    def change_role(self, role: Role, account: str, *, grant: bool) -> Call:
        """The call that grants an account a role or revokes it; for the admin."""
        return self._of_ledger("grantRole" if grant else "revokeRole", ROLE_HASHES[role], account)

    def transfer(self, recipient: str, amount: int) -> Call:
        """The call that sends tokens of the caller."""
        return self._of_token("transfer", recipient, amount)

    def mint(self, recipient: str, amount: int) -> Call:
        """The call that mints demo tokens; for their owner."""
        return self._of_token("mint", recipient, amount)

    def _of_ledger(self, function: str, *arguments: Any) -> Call:
        return artefact("SettlementLedger").call(self.deployment.ledger, function, *arguments)

    def _of_token(self, function: str, *arguments: Any) -> Call:
        return artefact("DemoDollar").call(self.deployment.token, function, *arguments)

    def _view(self, function: str, *arguments: Any) -> Any:
        return self.chain.ask(self._of_ledger(function, *arguments))

    def _decoded(self, *names: str) -> list[tuple[str, dict[str, Any], PlainLog]]:
        return _events(self.chain.logs(self.deployment.ledger, self.deployment.block), names)


def token_decimals(chain: Chain, token: str) -> int:
    """The decimals of a token. Raises InvalidInput if there is no token at the address."""
    return int(chain.ask(artefact("DemoDollar").call(token, "decimals")))


def _events(logs: Iterable[PlainLog], names: Collection[str]) -> list[tuple[str, dict[str, Any], PlainLog]]:
    """The events of these names, decoded; there may be a hundred thousand claims beside the few posts."""
    ledger = artefact("SettlementLedger")
    wanted = {topic for topic, (name, _) in ledger.events.items() if name in names}
    found = []
    for log in logs:
        event = ledger.event(log.topics, log.data) if log.topics[0] in wanted else None
        if event is not None:
            found.append((*event, log))
    return found


def _posted(values: Any, log: PlainLog) -> Posted:
    header = PostHeader(
        sequence=values["sequence"],
        previous_head=bytes(values["previousHead"]),
        windows_root=bytes(values["windowsRoot"]),
        payouts_root=bytes(values["payoutsRoot"]),
        manifest_hash=bytes(values["manifestHash"]),
        epoch_start_s=values["epochStart"],
        epoch_end_s=values["epochEnd"],
        total=values["total"],
        deposits=values["deposits"],
    )
    return Posted(header, bytes(values["head"]), values["delayEnd"], log.transaction, log.block)
