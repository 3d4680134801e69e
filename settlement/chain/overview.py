"""The state of posts and money, from the chain and the posts' folder, for reports and analysts."""

import time
from collections.abc import Iterable
from pathlib import Path

from msgspec import Struct

from schemas.log import Log
from schemas.payout import (
    CLAIMS,
    PAYOUTS,
    SETTLEMENTS,
    ChainSeen,
    Funding,
    PostState,
    Settlement,
    UnsettledReason,
    rows_table,
)
from schemas.units import DAY_MS, SECOND_MS
from settlement.accrual import Balances
from settlement.chain.job import SettleOptions, choose_run
from settlement.chain.ledger import Ledger, LedgerState
from settlement.chain.node import Chain
from settlement.history import History
from settlement.post import token_units
from settlement.results import PostRow, Runway, SkippedInPost, UnsettledSum
from settlement.storage.posts import Store
from settlement.storage.published_epochs import EpochReader

RUNWAY_S = 30 * DAY_MS // SECOND_MS
DAY_S = DAY_MS // SECOND_MS


def refresh_tables(data_dir: Path, chain: Chain) -> None:
    """Rebuilds settlement/{settlements,payouts,claims}.parquet from the chain and the posts, as of its last block."""
    ledger, store = Ledger.open(data_dir, chain), Store(data_dir)
    block = chain.block_number()
    seen = ChainSeen(block, chain.block_time_s(block))
    rows = post_rows(ledger)
    live = [row.settlement.sequence for row in rows if row.settlement.state != "disputed"]
    store.write_table("settlements", rows_table([row.settlement for row in rows], SETTLEMENTS))
    store.write_table("payouts", rows_table(list(store.payout_rows(live)), PAYOUTS))
    store.write_table("claims", rows_table([claim for claim in ledger.claims() if claim.block <= block], CLAIMS))
    store.write_seen(seen)  # last: the tables hold at least what this says


def post_rows(ledger: Ledger) -> list[PostRow]:
    """Every post ever made, dead ones too, in the order of their blocks."""
    history, attested, revoked = ledger.history(), ledger.attested(), ledger.revoked()
    active_to = last_active(ledger, history)  # posts mature in order
    epoch_s = ledger.deployment.epoch_ms // SECOND_MS
    factor = 10 ** (ledger.deployment.decimals - 6)
    rows = []
    for posted in sorted((*history.dead, *history.live), key=lambda posted: posted.block):
        header = posted.header
        live = posted in history.live
        settlement = Settlement(
            sequence=header.sequence,
            first_epoch=header.epoch_start_s // epoch_s,
            last_epoch=header.epoch_end_s // epoch_s - 1,
            windows_root=header.windows_root.hex(),
            payouts_root=header.payouts_root.hex(),
            head=posted.head.hex(),
            transaction=posted.transaction,
            state=_post_state(header.sequence, header.sequence in revoked, attested, active_to) if live else "disputed",
            total_micros=header.total // factor,
            deposits_micros=header.deposits // factor,
            posted_block=posted.block,
        )
        rows.append(PostRow(settlement, posted.delay_end_s, header.total))
    return rows


def _post_state(sequence: int, revoked: bool, attested: int, active_to: int) -> PostState:
    if revoked:
        return "revoked"
    if sequence > attested:
        return "pending"
    return "active" if sequence <= active_to else "attested"


class Books(Struct, frozen=True):
    """All published epochs, posted or not: what those since the last post add to its total, and the deposits at their
    last cuts, in token units; all dues ever, by kind, and what nobody can be paid, in micros.
    """

    unposted: int
    deposits: int
    expenses_micros: int
    refunds_micros: int
    unsettled: tuple[UnsettledSum, ...]


def books(data_dir: Path, log: Log, ledger: Ledger) -> Books:
    """The books as of the last published epochs that all partitions have."""
    standing = Store(data_dir).standing(len(ledger.history().live), ledger.deployment.initial)
    run, _ = choose_run(EpochReader(data_dir, log), standing, log, SettleOptions())
    balances, deposits = standing.balances.copy(), dict(standing.partition_deposits)
    for partition, items in () if run is None else run.epochs.items():
        for item in items:
            deposits[partition] = int(item.manifest.deposits_micros)
            for earning in item.earnings:
                balances.accrue(earning)
    added = sum(balances.cumulative.values()) - sum(standing.balances.cumulative.values())
    decimals = ledger.deployment.decimals
    return Books(
        token_units(added, decimals), token_units(sum(deposits.values()), decimals), balances.dues_of("expense"),
        balances.dues_of("refund"), unsettled_sums(balances),
    )  # fmt: skip


def skipped_in_posts(data_dir: Path, log: Log, sequences: Iterable[int]) -> tuple[SkippedInPost, ...]:
    """What the posts leave out because an operator had it skipped, of those whose files are here."""
    store, reader = Store(data_dir), EpochReader(data_dir, log)
    return tuple(
        SkippedInPost(sequence, each)
        for sequence in sequences
        if store.header(sequence) is not None
        for each in reader.skipped(store.manifest(sequence))
    )


def unsettled_sums(balances: Balances) -> tuple[UnsettledSum, ...]:
    """What nobody can be paid, by reason and payee."""
    sums: dict[tuple[UnsettledReason, str], int] = {}
    for (reason, _, payee), micros in balances.unsettled.items():
        sums[reason, payee] = sums.get((reason, payee), 0) + micros
    return tuple(UnsettledSum(*key, micros) for key, micros in sorted(sums.items()) if micros)


def shortfall(state: LedgerState, books: Books) -> int:
    """Token units that the ledger lacks for all that is earned, posted or not, and for the deposits beside it."""
    return max(0, state.total + books.unposted + books.deposits - state.claimed - state.balance)


def runway(history: History, state: LedgerState, books: Books) -> Runway:
    """How many days the free funds last at the pace of the posts that end within 30 days before the last one's end."""
    free = max(0, state.balance + state.claimed - state.total - books.unposted - books.deposits)
    if not history.live:
        return Runway(free, 0, None)
    end = history.live[-1].header.epoch_end_s
    late = [posted.header for posted in history.live if posted.header.epoch_end_s > end - RUNWAY_S]
    before = history.post(late[0].sequence - 1)
    added = late[-1].total - (0 if before is None else before.header.total)
    per_day = added * DAY_S // (end - late[0].epoch_start_s)
    return Runway(free, per_day, free // per_day if per_day else None)


def note_funding(data_dir: Path, log: Log, ledger: Ledger) -> None:
    """Writes settlement/funding.json, from which workers make metrics without access to the chain."""
    state, found, history = ledger.state(), books(data_dir, log, ledger), ledger.history()
    amounts = {
        "earned": state.total + found.unposted,
        "funded": state.balance + state.claimed,
        "claimed": state.claimed,
        "deposits": found.deposits,
        "shortfall": shortfall(state, found),
    }
    Store(data_dir).write_funding(
        Funding(
            **{name: str(amount) for name, amount in amounts.items()},
            decimals=ledger.deployment.decimals,
            at_ms=time.time_ns() // 1_000_000,
            posts=len(history.live),
            last_post_s=history.live[-1].delay_end_s - ledger.delay_s() if history.live else None,
            runway_days=runway(history, state, found).days,
        )
    )


def last_active(ledger: Ledger, history: History) -> int:
    """The last post that pays now; 0 if none does."""
    return next((s for s in range(len(history.live), 0, -1) if ledger.is_active(s)), 0)
