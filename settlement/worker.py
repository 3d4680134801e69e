"""What the command line calls: each function takes the data folder and the chain, and returns what came of it.

Amounts are token units (settlement/results.py). Every function raises InvalidInput, in one line that says what to
do, for whatever a person can mend.
"""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from schemas.errors import InvalidInput
from schemas.log import Log
from schemas.units import DAY_MS, MINUTE_MS, SECOND_MS
from settlement.accrual import account_of
from settlement.adapters.chain import Chain
from settlement.adapters.contract import moment
from settlement.adapters.job import Crash, Settled, SettleJob, SettleOptions
from settlement.adapters.ledger import Deployment, Ledger, token_decimals
from settlement.adapters.overview import last_active, note_funding, post_rows, refresh_tables, shortfall, unposted
from settlement.adapters.signer import DEVELOPMENT_CHAIN_ID, Keys, Role
from settlement.adapters.store import AccountPayout, Store
from settlement.audit import Auditor, AuditReport, LedgerMoney
from settlement.audit_epochs import Recompute
from settlement.history import History
from settlement.leaf import payout_leaf
from settlement.merkle import proves
from settlement.post import token_units
from settlement.results import Attested, Claimed, Funded, PayoutRow, ProofFile, SettlementsReport, Verified
from settlement.statement import Statement, statement

DEVELOPMENT_DELAY_S = MINUTE_MS // SECOND_MS
DELAY_S = 2 * DAY_MS // SECOND_MS
MAX_STEP_WHOLE = 10**9
"""By default one post may raise the total by so many whole tokens."""

__all__ = ["Chain", "Deployment", "Keys", "SettleOptions", "Settled"]


def deploy_contracts(
    data_dir: Path,
    chain: Chain,
    log: Log,
    keys: Keys,
    *,
    token: str | None = None,
    accounts: Mapping[Role, str] | None = None,
    delay_s: int | None = None,
    max_step: int | None = None,
) -> Deployment:
    """Deploys the ledger, and on a development chain without `token` a token; once per data folder.

    `accounts` names roles whose keys are not here. The operator's key pays. Writes chain.json.
    """
    development = chain.chain_id == DEVELOPMENT_CHAIN_ID
    if (data_dir / "chain.json").exists():
        kept = Ledger.open(data_dir, chain).deployment
        if token is not None and kept.token != token.lower():
            raise InvalidInput(f"this folder has a ledger for the token {kept.token}: use a new data folder")
        return kept
    if token is None and not development:
        raise InvalidInput(f"chain {chain.chain_id} is no development chain: name the token that the ledger pays in")
    operator = keys.of("operator")
    paid_in = token.lower() if token else chain.deploy(operator, "DemoDollar", operator.address)[0]
    decimals = token_decimals(chain, paid_in)
    token_units(0, decimals)
    roles: tuple[Role, ...] = ("admin", "poster", "auditor", "guardian")
    holders = [(accounts or {}).get(role) or keys.of(role).address for role in roles]
    ledger, block = chain.deploy(
        operator,
        "SettlementLedger",
        paid_in,
        log.currency.encode(),
        delay_s if delay_s is not None else DEVELOPMENT_DELAY_S if development else DELAY_S,
        max_step if max_step is not None else MAX_STEP_WHOLE * 10**decimals,
        *holders,
    )
    deployment = Deployment(
        chain_id=chain.chain_id, log_id=log.log_id, currency=log.currency, epoch_ms=log.epoch_ms,
        ledger=ledger, token=paid_in, decimals=decimals, demo_token=token is None,
        operator=operator.address, block=block, code_hash=chain.code_hash(ledger),
    )  # fmt: skip
    deployment.save(data_dir)
    return deployment


def fund(data_dir: Path, chain: Chain, log: Log, keys: Keys, amount: int | None = None) -> Funded:
    """Sends tokens of the operator to the ledger; without an amount what is missing for all that is earned.

    A demo token is made as needed.
    """
    ledger = Ledger.open(data_dir, chain)
    state = ledger.state()
    needed = shortfall(state, unposted(data_dir, log, ledger)) if amount is None else amount
    if needed < 0:
        raise InvalidInput("the amount must not be below zero")
    if not needed:
        return Funded(0, state.balance, None)
    operator = keys.of("operator")
    own = ledger.balance_of(operator.address)
    if own < needed and ledger.deployment.demo_token:
        chain.transact(operator, ledger.mint(operator.address, needed - own))
    elif own < needed:
        raise InvalidInput(f"{operator.address} holds {own} token units and needs {needed}: send it some first")
    receipt = chain.transact(operator, ledger.transfer(ledger.deployment.ledger, needed))
    note_funding(data_dir, log, ledger)
    return Funded(needed, ledger.balance_of(ledger.deployment.ledger), "0x" + bytes(receipt["transactionHash"]).hex())


def settle(
    data_dir: Path, chain: Chain, log: Log, keys: Keys, options: SettleOptions | None = None, after: Crash | None = None
) -> Settled:
    """Posts what can be posted; safe to run at any time, again and again. `after` is for crash tests."""
    ledger = Ledger.open(data_dir, chain)
    job = SettleJob(data_dir, log, ledger, keys.of("poster"), after or _go_on)
    note_funding(data_dir, log, ledger)  # a post changes nothing about it, and may fail for just this
    settled = job.settle(options or SettleOptions())
    refresh_tables(data_dir, chain)
    return settled


def settlements(data_dir: Path, chain: Chain, log: Log) -> SettlementsReport:
    """Every post with its state, and what is missing."""
    ledger = Ledger.open(data_dir, chain)
    state = ledger.state()
    earned_since = unposted(data_dir, log, ledger)
    return SettlementsReport(
        tuple(post_rows(ledger)), state.total, state.claimed, state.balance, earned_since,
        shortfall(state, earned_since), ledger.deployment.decimals,
    )  # fmt: skip


def payouts(data_dir: Path, chain: Chain, account: str | None = None) -> list[PayoutRow]:
    """What every account (or one) was ever owed by the posts, has claimed, and can claim now."""
    ledger, store = Ledger.open(data_dir, chain), Store(data_dir)
    history = ledger.history()
    if not history.live:
        return []
    last = _ours(store, history, len(history.live))
    active = last_active(ledger, history)
    paying = _ours(store, history, active) if active else {}
    wanted = [_account(account)] if account is not None else list(last)
    claims: dict[str, int] = {}
    for paid in ledger.claims():
        claims[paid.account] = claims.get(paid.account, 0) + paid.amount
    rows = []
    for name in wanted:
        cumulative, payable = _units(last.get(name)), _units(paying.get(name))
        claimed = claims.get(name, 0)
        rows.append(
            PayoutRow(name, cumulative, claimed, max(0, payable - claimed),
                      cumulative - max(payable, claimed), active)
        )  # fmt: skip
    return rows


def attest(
    data_dir: Path, chain: Chain, keys: Keys, *, head: bytes | None = None, sequence: int | None = None
) -> Attested:
    """Attests every live post, or those up to `sequence`, with the auditor's key.

    `head` is the one that an audit has checked: if the ledger has moved on since, nothing is attested.
    """
    ledger = Ledger.open(data_dir, chain)
    history = ledger.history()
    last = sequence if sequence is not None else len(history.live)
    if not history.live or not 1 <= last <= len(history.live):
        raise InvalidInput("there is no such post to attest: run `tallyroot settle` first")
    attested = ledger.attested()
    if last <= attested:
        raise InvalidInput(f"all posts up to {attested} are attested already")
    seen = head or history.head
    receipt = chain.transact(keys.of("auditor"), ledger.attest(last, seen))
    refresh_tables(data_dir, chain)
    return Attested(last, seen.hex(), "0x" + bytes(receipt["transactionHash"]).hex())


def dispute(data_dir: Path, chain: Chain, keys: Keys, sequence: int) -> str:
    """Kills a post that is not mature, and every later one, with the guardian's key; returns the transaction."""
    ledger = Ledger.open(data_dir, chain)
    receipt = chain.transact(keys.of("guardian"), ledger.dispute(sequence))
    refresh_tables(data_dir, chain)
    return "0x" + bytes(receipt["transactionHash"]).hex()


def claim(data_dir: Path, chain: Chain, keys: Keys, account: str, sequence: int | None = None) -> Claimed:
    """Pays an account all that it can have: under the last active post, or under `sequence`.

    The operator pays the gas.
    """
    ledger = Ledger.open(data_dir, chain)
    history = ledger.history()
    proof_file = proof(data_dir, chain, account, sequence)
    name = proof_file.account
    claimed = ledger.claimed_by(name)
    if not ledger.is_active(proof_file.sequence):
        raise _not_active(ledger, history, proof_file.sequence)
    if int(proof_file.cumulative) <= claimed:
        raise _nothing(ledger, history, name, claimed, proof_file.sequence)
    path = [bytes.fromhex(node[2:]) for node in proof_file.proof]
    call = ledger.claim(name, proof_file.sequence, int(proof_file.cumulative), path)
    receipt = chain.transact(keys.of("operator"), call)
    refresh_tables(data_dir, chain)
    return Claimed(
        name, proof_file.sequence, int(proof_file.cumulative) - claimed, ledger.balance_of(name),
        "0x" + bytes(receipt["transactionHash"]).hex(),
    )  # fmt: skip


def proof(data_dir: Path, chain: Chain, account: str, sequence: int | None = None) -> ProofFile:
    """What `claim` needs for an account: under the last active post, else the last one, or under `sequence`."""
    ledger, store = Ledger.open(data_dir, chain), Store(data_dir)
    history = ledger.history()
    if not history.live:
        raise InvalidInput("nothing is posted yet: run `tallyroot settle` first")
    chosen = sequence if sequence is not None else last_active(ledger, history) or len(history.live)
    posted = history.post(chosen)
    if posted is None:
        raise InvalidInput(f"the ledger has no post {chosen}: see `tallyroot settlements`")
    name = _account(account)
    row = _ours(store, history, chosen).get(name)
    if row is None:
        raise InvalidInput(f"{name} is in no payout of post {chosen}: see `tallyroot payouts`")
    return ProofFile(
        chain_id=chain.chain_id, ledger=ledger.deployment.ledger, sequence=chosen, account=name,
        cumulative=row.cumulative, payouts_root="0x" + posted.header.payouts_root.hex(), proof=row.proof,
    )  # fmt: skip


def read_proof(path: Path) -> ProofFile:
    """The proof in a file that was written as JSON."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=ProofFile)
    except OSError as error:
        raise InvalidInput(f"can't read {path}: {error.strerror}") from None
    except msgspec.MsgspecError as error:
        raise InvalidInput(f"{path} is no proof ({error}): write one with `tallyroot proof --out`") from None


def verify(data_dir: Path, chain: Chain, file: ProofFile) -> Verified:
    """Checks a proof against this folder's ledger on the chain, without this folder's posts."""
    ledger = Ledger.open(data_dir, chain)
    if (file.chain_id, file.ledger.lower()) != (chain.chain_id, ledger.deployment.ledger):
        raise InvalidInput(f"the proof is for the ledger {file.ledger} on chain {file.chain_id}, not for this one")
    posted = ledger.history().post(file.sequence)
    if posted is None:
        return Verified(False, False, 0, 0, f"the ledger has no post {file.sequence}, or it was disputed")
    try:
        account, cumulative = _account(file.account), int(file.cumulative)
        path = [bytes.fromhex(node.removeprefix("0x")) for node in file.proof]
    except ValueError:
        raise InvalidInput("the proof holds something that is no hex or no number: write it anew") from None
    claimed = ledger.claimed_by(account)
    if cumulative < 0 or not proves(posted.header.payouts_root, payout_leaf(account, cumulative), path):
        return Verified(
            False, False, 0, claimed, f"the proof does not lead to the payouts root of post {file.sequence}"
        )
    active = ledger.is_active(file.sequence)
    claimable = ledger.claimable(account, file.sequence, cumulative, path)
    reason = "" if active else str(_not_active(ledger, ledger.history(), file.sequence))
    return Verified(True, active, claimable, claimed, reason)


def audit(data_dir: Path, chain: Chain, log: Log, recompute: Recompute) -> AuditReport:
    """Holds every post on the chain, and its published files, against the epochs that `recompute` gets from the log."""
    ledger = Ledger.open(data_dir, chain)
    auditor = Auditor(log, ledger.genesis, ledger.deployment.decimals)
    report = auditor.run(ledger.events(), Store(data_dir).published, recompute)
    if report.gap:
        raise InvalidInput(report.gap)
    state = ledger.state()
    decimals = ledger.deployment.decimals
    earned, funded = token_units(report.paid_micros, decimals), state.balance + state.claimed
    shortfall = max(0, earned - funded)
    money = LedgerMoney(earned, state.total, funded, state.claimed, shortfall, decimals)
    return msgspec.structs.replace(report, money=money)


def why(data_dir: Path, chain: Chain, account: str) -> Statement:
    """Why an account is owed what it is: every window of the live posts that it has a part in."""
    ledger, store = Ledger.open(data_dir, chain), Store(data_dir)
    posts = []
    for posted in ledger.history().live:
        windows = store.windows(posted.header.sequence)
        if windows is None:
            raise InvalidInput(f"the windows of post {posted.header.sequence} are missing: restore settlement/")
        posts.append((posted.header.sequence, [earning for _, earning in windows]))
    return statement(_account(account), posts)


def _go_on(step: int) -> None:
    """No crash."""


def _ours(store: Store, history: History, sequence: int) -> dict[str, AccountPayout]:
    posted = history.post(sequence)
    if posted is None or store.stored_header(sequence).header.header() != posted.header:
        raise InvalidInput(f"post {sequence} on the ledger is not the one in {store.folder}: restore it from a copy")
    return store.payouts(sequence)


def _units(row: AccountPayout | None) -> int:
    return 0 if row is None else int(row.cumulative)


def _account(text: str) -> str:
    account = account_of(text)
    if account is None:
        raise InvalidInput(f"{text} is no account: give 0x and 40 hex digits (with a checksum that fits, or none)")
    return account


def _not_active(ledger: Ledger, history: History, sequence: int) -> InvalidInput:
    posted = history.post(sequence)
    if posted is None:
        return InvalidInput(f"the ledger has no post {sequence}: it was never made, or it was disputed")
    if sequence in ledger.revoked():
        return InvalidInput(f"post {sequence} was revoked: wait for a later one")
    if sequence > ledger.attested():
        return InvalidInput(f"post {sequence} is not attested yet: an auditor must run `tallyroot attest`")
    return InvalidInput(f"post {sequence} is not active until {moment(posted.delay_end_s)}: claim then")


def _nothing(ledger: Ledger, history: History, account: str, claimed: int, sequence: int) -> InvalidInput:
    later = history.post(sequence + 1)
    until = "" if later is None else f"; more can be in post {sequence + 1} (active from {moment(later.delay_end_s)})"
    return InvalidInput(f"{account} has already claimed {claimed} token units, all of post {sequence}{until}")
