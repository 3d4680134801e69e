"""The operations of settlement, for the command line: settle, attest, dispute, audit, claim, fund, and their reports.

Each takes the data folder and, except for files alone, the chain, and returns a struct of settlement/results.py;
amounts are token units. Each raises InvalidInput, with one line that says what to do, for errors that the caller can
fix.
"""

from pathlib import Path

import msgspec

from files.foreign import PlainFiles
from schemas.errors import InvalidInput
from schemas.log import Log
from settlement.accrual import Balances
from settlement.audit.audit import AuditReport, LedgerMoney
from settlement.audit.sources import Sources
from settlement.audit.verdict import Finding
from settlement.chain.claims import (
    account_name,
    claim,
    claim_many,
    payouts,
    proof,
    proofs,
    read_proof,
    verify,
    write_proof,
)
from settlement.chain.driver import Crash
from settlement.chain.forecast import dry_run
from settlement.chain.job import Settled, SettleJob, SettleOptions
from settlement.chain.ledger import Deployment, Ledger
from settlement.chain.move import move_ledger
from settlement.chain.node import Chain
from settlement.chain.overview import (
    books,
    note_funding,
    post_rows,
    refresh_tables,
    runway,
    shortfall,
    skipped_in_posts,
)
from settlement.chain.paying import gas_of, hash_of, transact
from settlement.chain.restore import last_posted_epoch, restore_posts
from settlement.chain.shares import Shares
from settlement.chain.signer import Keys, Signer
from settlement.chain.transfers import LedgerTransfers
from settlement.chain.treasury import (
    call_as_role,
    cancel_announced,
    deploy_contracts,
    fund,
    pay_ledger,
    refresh_if_here,
    roles,
)
from settlement.chain.watcher import auditor_of
from settlement.post import payouts_tree, token_units, windows_tree
from settlement.results import Attested, SettlementsReport
from settlement.statement import Statement, statement
from settlement.storage.posts import Store
from settlement.storage.published_post import published_in

__all__ = [
    "Chain",
    "Deployment",
    "Keys",
    "Ledger",
    "SettleOptions",
    "Settled",
    "attest",
    "audit",
    "call_as_role",
    "cancel_announced",
    "claim",
    "claim_many",
    "collect",
    "deploy_contracts",
    "dispute",
    "dry_run",
    "fund",
    "last_posted_epoch",
    "move_ledger",
    "pay_ledger",
    "payouts",
    "proof",
    "proofs",
    "read_proof",
    "restore_posts",
    "roles",
    "settle",
    "settlements",
    "verify",
    "why",
    "write_proof",
]  # fmt: skip


def settle(
    data_dir: Path, chain: Chain, log: Log, keys: Keys, options: SettleOptions | None = None, after: Crash | None = None
) -> Settled:
    """Posts what can be posted; safe to repeat at any time. `after` is for crash tests."""
    ledger = Ledger.open(data_dir, chain)
    poster = keys.of("poster")
    job = SettleJob(data_dir, log, ledger, poster, after or _go_on)
    note_funding(data_dir, log, ledger)  # before: a post may fail for missing funds
    with gas_of(chain, "poster", poster):
        settled = job.settle(options or SettleOptions())
    if settled.posts:
        note_funding(data_dir, log, ledger)  # after: the pace of the posts has changed
    refresh_tables(data_dir, chain)
    return settled


def settlements(data_dir: Path, chain: Chain, log: Log) -> SettlementsReport:
    """Every post with its state, and the ledger's shortfall."""
    ledger = Ledger.open(data_dir, chain)
    state, found, now_s = ledger.state(), books(data_dir, log, ledger), chain.time_s(at="pending")
    return SettlementsReport(
        posts=tuple(post_rows(ledger)), total=state.total, claimed=state.claimed, balance=state.balance,
        unposted=found.unposted, deposits=found.deposits, expenses_micros=found.expenses_micros,
        refunds_micros=found.refunds_micros, shortfall=shortfall(state, found), decimals=ledger.deployment.decimals,
        runway=runway(ledger.history(), state, found),
        paused_until_s=state.claims_paused_until_s if state.claims_paused_until_s > now_s else 0,
        posting_paused_until_s=state.posting_paused_until_s if state.posting_paused_until_s > now_s else 0,
        quorum=state.quorum,
        unsettled=found.unsettled,
        skipped=skipped_in_posts(data_dir, log, range(1, len(ledger.history().live) + 1)),
    )  # fmt: skip


def attest(
    data_dir: Path, chain: Chain, keys: Keys, *, head: bytes | None = None, sequence: int | None = None
) -> Attested:
    """Attests every live post, or those up to `sequence`, with the auditor's key.

    `head` is the one that an audit has checked: if the ledger has moved on since, it refuses the attestation.
    """
    ledger = Ledger.open(data_dir, chain)
    history = ledger.history()
    last = sequence if sequence is not None else len(history.live)
    if not history.live or not 1 <= last <= len(history.live):
        raise InvalidInput("there is no such post to attest: run `tallyroot settle` first")
    attested = max(ledger.attested(), ledger.attested_by(keys.of("auditor").address))
    if last <= attested:
        raise InvalidInput(f"all posts up to {attested} are attested already")
    seen = head or history.head
    receipt = transact(chain, keys, "auditor", ledger.attest(last, seen))
    refresh_if_here(data_dir, chain)
    return Attested(last, seen.hex(), hash_of(receipt))


def collect(data_dir: Path, chain: Chain, shares: Shares, signer: Signer) -> tuple[int, str]:
    """Claims for shares what an active post owes them, and records all that arrived: token units, and the transaction.

    The ledger pays here too, so the analysts' tables follow.
    """
    owed = payouts(data_dir, chain, shares.address)
    is_due = bool(owed and owed[0].claimable)
    done = shares.collect(signer, proof(data_dir, chain, shares.address, owed[0].sequence) if is_due else None)
    refresh_if_here(data_dir, chain)
    return done


def dispute(data_dir: Path, chain: Chain, keys: Keys, sequence: int) -> str:
    """Disputes a post that is not mature, and every later one, with the guardian's key; returns the transaction."""
    ledger = Ledger.open(data_dir, chain)
    receipt = transact(chain, keys, "guardian", ledger.dispute(sequence, ledger.history().head))
    refresh_if_here(data_dir, chain)
    return hash_of(receipt)


def audit(data_dir: Path, chain: Chain, log: Log, sources: Sources) -> AuditReport:
    """Compares every post on the chain, and its published files, with the epochs that `sources` derive from
    the log.
    """
    ledger = Ledger.open(data_dir, chain)
    auditor = auditor_of(ledger, log)
    report = auditor.run(
        ledger.events(),
        sources.published or published_in(PlainFiles(data_dir)),
        sources,
        money_in=LedgerTransfers(ledger),
    )
    if report.gap and report.ok:
        raise InvalidInput(report.gap)
    if report.gap:  # the findings before the gap count
        gap = Finding(kind="evidence", sequence=0, text=f"the rest was not audited: {report.gap}", about="files")
        report = msgspec.structs.replace(report, findings=(*report.findings, gap))
    state = ledger.state()
    if state.head.hex() != report.head and report.ok:
        raise InvalidInput("the ledger has moved on, or this node leaves events out: audit again, or ask another node")
    decimals = ledger.deployment.decimals
    if fault := ledger.fault_before():
        found = Finding(kind="before", sequence=0, text=fault)
        report = msgspec.structs.replace(report, ok=False, findings=(*report.findings, found))
    earned = token_units(report.paid_micros - report.before_micros, decimals)
    deposits = token_units(report.deposits_micros, decimals)
    funded = state.balance + state.claimed
    missing = max(0, earned + deposits - funded)
    money = LedgerMoney(earned, state.total, deposits, funded, state.claimed, missing, decimals)
    return msgspec.structs.replace(report, money=money)


def why(data_dir: Path, chain: Chain, account: str) -> Statement:
    """The statement of an account: every window of the live posts that it has a part in, or that owes it a due.

    Raises InvalidInput where the windows here do not lead to both roots of a post: the windows root covers their nets,
    the payouts root what their dues come to.
    """
    ledger, store = Ledger.open(data_dir, chain), Store(data_dir)
    posts, balances = [], Balances(ledger=ledger.deployment.ledger)
    for posted in ledger.history().live:
        windows = store.windows(posted.header.sequence)
        if windows is None:
            raise InvalidInput(f"the windows of post {posted.header.sequence} are missing: restore settlement/")
        earnings = [earning for _, earning in windows]
        for earning in earnings:
            balances.accrue(earning)
        roots = windows_tree(earnings).root, payouts_tree(balances.payouts(), ledger.deployment.decimals).root
        if roots != (posted.header.windows_root, posted.header.payouts_root):
            raise InvalidInput(f"the windows of post {posted.header.sequence} are not those on the chain: restore them")
        posts.append((posted.header.sequence, earnings))
    return statement(account_name(account), posts, ledger.deployment.ledger)


def _go_on(step: int) -> None:
    """No crash."""
