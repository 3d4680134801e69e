"""Dry runs: what a settlement would do, without doing it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from schemas.errors import InvalidInput, InvariantBroken
from schemas.log import Log
from settlement.chain.claims import require_ours
from settlement.chain.job import SettleOptions, choose_run, same_again
from settlement.chain.ledger import Ledger, LedgerState
from settlement.chain.node import Chain
from settlement.chain.overview import unsettled_sums
from settlement.chain.signer import Keys, Signature, Signer
from settlement.head import PostHeader
from settlement.history import History
from settlement.post import AssembledPost, assemble, token_units
from settlement.posting import too_dear
from settlement.results import DryRun, PayeeChange, PlannedDue, PlannedPost
from settlement.storage.journal import Journal
from settlement.storage.posts import Store
from settlement.storage.published_epochs import EpochReader

POST_GAS = 121_000
"""Gas of a whole post transaction, by the gas table: if the ledger would refuse it, no node returns an estimate."""


def dry_run(data_dir: Path, chain: Chain, log: Log, keys: Keys, options: SettleOptions) -> DryRun:
    """What `settle` would post now. Sends nothing, writes nothing, needs no key.

    Raises InvalidInput if `settle` would not start: a foreign post, a dispute, a damaged file.
    """
    ledger, store = Ledger.open(data_dir, chain), Store(data_dir)
    history, state = ledger.history(), ledger.state()
    for posted in history.live:
        require_ours(store, history, posted.header.sequence)
    if history.disputed is not None and not options.restate:
        raise InvalidInput(
            f"post {history.disputed} was disputed: find out why, correct it, then settle with --restate"
        )
    posts, waiting_for = _planned(data_dir, log, ledger, history, options)
    poster = keys.of("poster").address if keys.has("poster") else (*ledger.holders()["poster"], "")[0]
    refusal, gas = _tried(ledger, poster, posts[0][0]) if posts else ("", 0)
    if posts and history.was_disputed(posts[0][0]):
        refusal = same_again(posts[0][0].sequence)
    fees, base_fee = chain.fees(), chain.base_fee()
    least = base_fee + fees.priority_fee
    if posts and not refusal and fees.within(chain.fee_cap, least) is None:
        refusal = too_dear(base_fee, least, chain.fee_cap)
    decimals = ledger.deployment.decimals
    planned = tuple(_planned_post(header, post, state, decimals) for header, post in posts)
    changes, gone = _differences(store, len(history.live), posts, decimals)
    standing = posts[-1][1].after if posts else store.standing(len(history.live), ledger.deployment.initial)
    return DryRun(
        posts=planned, waiting_for=waiting_for, unfinished=_unfinished(store.folder / "journal.sqlite"),
        refusal=refusal, gas=gas, cost_wei=gas * len(posts) * (base_fee + fees.priority_fee),
        most_wei=gas * len(posts) * min(fees.max_fee, chain.fee_cap),
        poster=poster, poster_wei=chain.ether(poster) if poster else 0,
        shortfall=planned[-1].shortfall if planned else 0, changes=changes, gone=gone,
        dues=tuple(due for header, post in posts for due in _planned_dues(header.sequence, post, decimals)),
        unsettled=unsettled_sums(standing.balances), decimals=decimals,
    )  # fmt: skip


def _planned(
    data_dir: Path, log: Log, ledger: Ledger, history: History, options: SettleOptions
) -> tuple[list[tuple[PostHeader, AssembledPost]], str]:
    """The posts in order, each on the head and the balances that the previous one leaves, and what is waited for."""
    decimals = ledger.deployment.decimals
    epochs = EpochReader(data_dir, log)
    standing, head = Store(data_dir).standing(len(history.live), ledger.deployment.initial), history.head
    posts: list[tuple[PostHeader, AssembledPost]] = []
    reason = ""
    while options.max_posts is None or len(posts) < options.max_posts:
        run, reason = choose_run(epochs, standing, log, options)
        post = None if run is None else assemble(standing, run, decimals)
        if post is None:
            break
        header = post.header(head, decimals)
        posts.append((header, post))
        standing, head = post.after, header.head()
    return posts, reason


class _Estimate(Signer):
    """A Signer in place of the poster's: records the gas of what it should sign, and signs nothing."""

    def __init__(self, address: str) -> None:
        self._address = address
        self.gas = 0

    @property
    def address(self) -> str:
        """The poster."""
        return self._address

    def sign_digest(self, digest: bytes, meaning: Mapping[str, object]) -> Signature:
        """Raises InvariantBroken."""
        raise InvariantBroken("a dry run signs nothing")

    def sign(self, transaction: Mapping[str, Any]) -> tuple[bytes, str]:
        """Records the gas; returns no bytes."""
        self.gas = int(transaction["gas"])
        return b"", ""


def _tried(ledger: Ledger, poster: str, header: PostHeader) -> tuple[str, int]:
    """(why the ledger would refuse the post, or empty; its gas)."""
    if not poster:
        return "the ledger has no poster: see `tallyroot roles`", POST_GAS
    chain, estimate = ledger.chain, _Estimate(poster)
    try:
        chain.signed(estimate, ledger.post(header), chain.nonce(poster), chain.fees())
    except InvalidInput as error:
        return str(error), POST_GAS
    return "", estimate.gas


def _planned_post(header: PostHeader, post: AssembledPost, state: LedgerState, decimals: int) -> PlannedPost:
    before, after = post.before.balances, post.after.balances
    return PlannedPost(
        sequence=header.sequence,
        first_epoch=post.manifest.first_epoch,
        last_epoch=post.manifest.last_epoch,
        windows=len(post.windows),
        windows_root=header.windows_root.hex(),
        payouts_root=header.payouts_root.hex(),
        manifest_hash=header.manifest_hash.hex(),
        added=token_units(int(post.manifest.totals.paid), decimals),
        expenses=token_units(after.dues_of("expense") - before.dues_of("expense"), decimals),
        refunds=token_units(after.dues_of("refund") - before.dues_of("refund"), decimals),
        total=header.total,
        deposits=header.deposits,
        shortfall=max(0, header.total + header.deposits - state.claimed - state.balance),
    )


def _planned_dues(sequence: int, post: AssembledPost, decimals: int) -> Iterator[PlannedDue]:
    for _, earning in post.windows:
        for due in earning.dues:
            if due.account in post.after.balances.cumulative:  # others are unsettled
                amount = token_units(due.micros, decimals)
                yield PlannedDue(sequence, earning.machine, due.kind, due.ref, due.account, amount)


def _differences(
    store: Store, last: int, posts: list[tuple[PostHeader, AssembledPost]], decimals: int
) -> tuple[tuple[PayeeChange, ...], tuple[PayeeChange, ...]]:
    """(accounts whose amount grows, accounts that the last post paid and these don't)"""
    if not posts:
        return (), ()
    before, after = posts[0][1].before.balances.payouts(), posts[-1][1].after.balances.payouts()
    paid_last = {account: int(row.amount_micros) for account, row in store.payouts(last).items()} if last else {}
    changes = []
    for account, micros in after.items():
        old, amount = before.get(account, 0), paid_last.get(account, 0)
        if micros != old or amount:
            changes.append(PayeeChange(account, *(token_units(value, decimals) for value in (old, micros, amount))))
    grown = sorted((change for change in changes if change.after != change.before), key=_growth)
    return tuple(grown), tuple(change for change in changes if change.after == change.before)


def _growth(change: PayeeChange) -> tuple[int, str]:
    return change.before - change.after, change.account


def _unfinished(path: Path) -> tuple[int, ...]:
    if not path.exists():  # to open it would make it
        return ()
    with Journal(path) as journal:
        return tuple(p.header.sequence for p in journal.open() if p.state not in ("mined", "final"))
