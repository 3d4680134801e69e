"""Payouts of accounts, their proofs, and claims: from the posts' folder and the ledger."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from files.read import read_json
from files.write import write_json
from schemas.errors import InvalidInput
from schemas.payout import ProofFile
from settlement.accrual import account_of
from settlement.chain.contract import moment
from settlement.chain.ledger import Ledger
from settlement.chain.node import Chain
from settlement.chain.overview import last_active, refresh_tables
from settlement.chain.paying import gas_of, hash_of, transact
from settlement.chain.signer import Keys, Signer
from settlement.history import History
from settlement.leaf import payout_leaf
from settlement.merkle import proves
from settlement.post import token_units
from settlement.results import Claimed, ClaimedMany, Paid, PayoutRow, Verified
from settlement.storage.posts import AccountPayout, Store

CLAIMS_PER_CALL = 100
"""100 first claims cost 6 million gas, below every chain's limit for one transaction (EIP-7825)."""


def payouts(data_dir: Path, chain: Chain, account: str | None = None) -> list[PayoutRow]:
    """By account (or for one): the cumulative amount posted, claimed, and claimable now."""
    ledger, store = Ledger.open(data_dir, chain), Store(data_dir)
    history = ledger.history()
    if not history.live:
        return []
    last = _ours(store, history, len(history.live))
    active = last_active(ledger, history)
    paying = _ours(store, history, active) if active else {}
    wanted = [account_name(account)] if account is not None else list(last)
    claims, decimals = ledger.claimed_amounts(), ledger.deployment.decimals
    rows = []
    for name in wanted:
        cumulative, payable = _units(last.get(name)), _units(paying.get(name))
        claimed = claims.get(name, 0)
        rows.append(
            PayoutRow(
                name, cumulative, *_dues(last.get(name), decimals), claimed, max(0, payable - claimed),
                cumulative - max(payable, claimed), active,
            )
        )  # fmt: skip
    return rows


class NotActive(InvalidInput):
    """A post pays only once its delay has passed: from `until_s` on (Unix seconds)."""

    def __init__(self, message: str, until_s: int) -> None:
        super().__init__(message)
        self.until_s = until_s


def claim(
    data_dir: Path, chain: Chain, keys: Keys, account: str, sequence: int | None = None, gas: Signer | None = None
) -> Claimed:
    """Pays an account all that it can claim: under the last active post, or under `sequence`.

    `gas` pays the gas, or the operator.
    """
    ledger = Ledger.open(data_dir, chain)
    history = ledger.history()
    proof_file = proof(data_dir, chain, account, sequence)
    name = proof_file.account
    claimed = ledger.claimed_by(name)
    if not ledger.is_active(proof_file.sequence):
        raise _not_active(ledger, history, proof_file.sequence)
    if int(proof_file.cumulative) <= claimed:
        raise _nothing(history, name, claimed, proof_file.sequence)
    path = _nodes(proof_file.proof)
    call = ledger.claim(name, proof_file.sequence, int(proof_file.cumulative), path)
    sender = keys.of("operator") if gas is None else gas
    with gas_of(chain, "operator" if gas is None else "account", sender):
        receipt = chain.transact(sender, call)
    refresh_tables(data_dir, chain)
    return Claimed(
        name, proof_file.sequence, int(proof_file.cumulative) - claimed, ledger.balance_of(name),
        hash_of(receipt),
    )  # fmt: skip


def claim_many(
    data_dir: Path, chain: Chain, keys: Keys, accounts: Sequence[str] | None = None, batch: int = CLAIMS_PER_CALL
) -> ClaimedMany:
    """Pays many accounts, or all, what they can claim under the last active post, in calls of `batch` accounts.

    Accounts without anything to claim are skipped. An account that the token refuses to pay (a blacklisted one) keeps
    its claim, is named in `returned`, and does not affect the others. The operator pays the gas. If a later call fails,
    the earlier ones stay paid: run it again.
    """
    ledger, store = Ledger.open(data_dir, chain), Store(data_dir)
    history = ledger.history()
    if not history.live:
        raise InvalidInput("nothing is posted yet: run `tallyroot settle` first")
    sequence = last_active(ledger, history)
    if not sequence:
        raise _not_active(ledger, history, 1)  # posts mature in order
    paying = _ours(store, history, sequence)
    wanted = list(paying) if accounts is None else list(dict.fromkeys(map(account_name, accounts)))
    unknown = [name for name in wanted if name not in paying]
    if unknown:
        raise InvalidInput(f"{unknown[0]} is in no payout of post {sequence}: see `tallyroot payouts`")
    claims = ledger.claimed_amounts()
    due = [name for name in wanted if _units(paying[name]) > claims.get(name, 0)]
    paid: list[Paid] = []
    returned: list[Paid] = []
    transactions: list[str] = []
    for start in range(0, len(due), batch):
        names = due[start : start + batch]
        leaves = [(name, _units(paying[name]), _nodes(paying[name].proof)) for name in names]
        try:
            receipt = transact(chain, keys, "operator", ledger.claim_many(sequence, leaves))
        except InvalidInput as error:
            raise InvalidInput(f"{len(paid)} accounts were paid, then: {error}" if paid else str(error)) from None
        transactions.append(hash_of(receipt))
        for name, values in ledger.happened(receipt, "PayoutClaimed", "PayoutReturned"):
            rows = paid if name == "PayoutClaimed" else returned
            rows.append(Paid(values["account"].lower(), values["amount"]))
    refresh_tables(data_dir, chain)
    done = {row.account for row in (*paid, *returned)}
    already = tuple(name for name in wanted if name not in done)
    amount = sum(row.amount for row in paid)
    return ClaimedMany(sequence, amount, tuple(paid), tuple(returned), already, tuple(transactions))


def proof(data_dir: Path, chain: Chain, account: str, sequence: int | None = None) -> ProofFile:
    """The proof for an account's `claim`: under the last active post, else the last one, or under `sequence`."""
    name = account_name(account)
    for found in proofs(data_dir, chain, sequence, only=name):
        return found
    raise InvalidInput(f"{name} is in no payout of that post: see `tallyroot payouts`")


def proofs(
    data_dir: Path, chain: Chain, sequence: int | None = None, *, only: str | None = None
) -> Iterator[ProofFile]:
    """Yields the proofs of all accounts of a post (see `proof`), or of one; the payouts are read once."""
    ledger, store = Ledger.open(data_dir, chain), Store(data_dir)
    history = ledger.history()
    if not history.live:
        raise InvalidInput("nothing is posted yet: run `tallyroot settle` first")
    chosen = sequence if sequence is not None else last_active(ledger, history) or len(history.live)
    posted = history.post(chosen)
    if posted is None:
        raise InvalidInput(f"the ledger has no post {chosen}: see `tallyroot settlements`")
    rows = _ours(store, history, chosen)
    if only is not None and only not in rows:
        raise InvalidInput(f"{only} is in no payout of post {chosen}: see `tallyroot payouts`")
    root = "0x" + posted.header.payouts_root.hex()
    for name in rows if only is None else [only]:
        yield ProofFile(
            chain_id=chain.chain_id, ledger=ledger.deployment.ledger, sequence=chosen, account=name,
            cumulative=rows[name].cumulative, payouts_root=root, proof=rows[name].proof,
        )  # fmt: skip


def write_proof(path: Path, file: ProofFile) -> None:
    """Writes a proof as JSON. Raises InvalidInput if the file can't be written."""
    try:
        write_json(path, file)
    except OSError as error:
        raise InvalidInput(f"can't write {path}: {error.strerror}") from None


def read_proof(path: Path) -> ProofFile:
    """The proof in a file that `write_proof` wrote. Raises InvalidInput."""
    return read_json(path, ProofFile, what="a proof", remedy="write one with `tallyroot proof --out`")


def verify(data_dir: Path, chain: Chain, file: ProofFile) -> Verified:
    """Checks a proof against this folder's ledger on the chain, without this folder's posts."""
    ledger = Ledger.open(data_dir, chain)
    if (file.chain_id, file.ledger.lower()) != (chain.chain_id, ledger.deployment.ledger):
        raise InvalidInput(
            f"the proof is for the ledger {file.ledger} on chain {file.chain_id}, not for this one: use its own data"
            " folder"
        )
    history = ledger.history()
    posted = history.post(file.sequence)
    if posted is None:
        return Verified(False, False, 0, 0, f"the ledger has no post {file.sequence}, or it was disputed")
    try:
        account, cumulative, path = account_name(file.account), int(file.cumulative), _nodes(file.proof)
    except ValueError:
        raise InvalidInput(
            "the proof holds a value that is not hex or not a number: write it again with `tallyroot proof --out`"
        ) from None
    claimed = ledger.claimed_by(account)
    if cumulative < 0 or not proves(posted.header.payouts_root, payout_leaf(account, cumulative), path):
        return Verified(
            False, False, 0, claimed, f"the proof does not lead to the payouts root of post {file.sequence}"
        )
    active = ledger.is_active(file.sequence)
    claimable = ledger.claimable(account, file.sequence, cumulative, path)
    reason = "" if active else str(_not_active(ledger, history, file.sequence))
    return Verified(True, active, claimable, claimed, reason)


def account_name(text: str) -> str:
    """An account in the spelling of the posts (lower case). Raises InvalidInput if it is not an account."""
    account = account_of(text)
    if account is None:
        raise InvalidInput(
            f"{text} is not an account: write 0x and 40 hex digits (with a valid checksum, or in one case)"
        )
    return account


def require_ours(store: Store, history: History, sequence: int) -> None:
    """Raises InvalidInput if a post on the ledger is not the one in the posts' folder."""
    posted = history.post(sequence)
    if posted is None or store.stored_header(sequence).header.header() != posted.header:
        raise InvalidInput(f"post {sequence} on the ledger is not the one in {store.folder}: restore it from a copy")


def _ours(store: Store, history: History, sequence: int) -> dict[str, AccountPayout]:
    require_ours(store, history, sequence)
    return store.payouts(sequence)


def _units(row: AccountPayout | None) -> int:
    return 0 if row is None else int(row.cumulative)


def _dues(row: AccountPayout | None, decimals: int) -> tuple[int, int]:
    """What of the cumulative amount was paid as expenses and as refunds, token units."""
    if row is None:
        return 0, 0
    return token_units(int(row.expenses_micros), decimals), token_units(int(row.refunds_micros), decimals)


def _nodes(proof: Sequence[str]) -> list[bytes]:
    return [bytes.fromhex(node.removeprefix("0x")) for node in proof]


def _not_active(ledger: Ledger, history: History, sequence: int) -> InvalidInput:
    posted = history.post(sequence)
    if posted is None:
        return InvalidInput(f"the ledger has no post {sequence}: it was never made, or it was disputed")
    if sequence in ledger.revoked():
        return InvalidInput(f"post {sequence} was revoked: wait for a later one")
    if sequence > ledger.attested():
        return InvalidInput(f"post {sequence} is not attested yet: an auditor must run `tallyroot attest`")
    return NotActive(
        f"post {sequence} is not active until {moment(posted.delay_end_s)}: claim then", posted.delay_end_s
    )


def _nothing(history: History, account: str, claimed: int, sequence: int) -> InvalidInput:
    later = history.post(sequence + 1)
    until = "" if later is None else f"; more can be in post {sequence + 1} (active from {moment(later.delay_end_s)})"
    return InvalidInput(f"{account} has already claimed {claimed} token units, all of post {sequence}{until}")
