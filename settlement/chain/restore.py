"""Rebuilds a lost folder of posts: the chain states which epochs each post settled, and `epochs/` holds them."""

from collections.abc import Collection
from pathlib import Path

from schemas.errors import InvalidInput, InvariantBroken
from schemas.log import Log
from schemas.manifest import EpochManifest
from schemas.units import SECOND_MS
from settlement.chain.claims import require_ours
from settlement.chain.job import SettleOptions, choose_run
from settlement.chain.ledger import Ledger
from settlement.chain.node import Chain
from settlement.chain.overview import refresh_tables
from settlement.head import PostHeader
from settlement.history import Posted
from settlement.post import AssembledPost, PostStanding, assemble
from settlement.storage.posts import Store
from settlement.storage.published_epochs import EpochReader


def restore_posts(data_dir: Path, chain: Chain, log: Log, without: Collection[int] = ()) -> tuple[int, ...]:
    """Writes the folder of every live post that has none, if the epochs make exactly the post on the chain.

    `without` names partitions that posts may have left out. Returns the sequences restored. Raises InvalidInput if the
    epochs here don't make the post: then only a copy of the folder helps, or the post is not ours.
    """
    ledger, store = Ledger.open(data_dir, chain), Store(data_dir)
    history = ledger.history()
    standing = initial = ledger.deployment.initial
    restored: list[int] = []
    for posted in history.live:
        sequence = posted.header.sequence
        if store.header(sequence) is not None:
            require_ours(store, history, sequence)
            standing = store.standing(sequence, initial)
            continue
        post = _made_anew(data_dir, log, ledger, standing, posted, without)
        store.save(post, posted.header, 1, ledger.deployment.decimals)
        restored.append(sequence)
        standing = post.after
    refresh_tables(data_dir, chain)
    return tuple(restored)


def last_posted_epoch(data_dir: Path, chain: Chain, log: Log) -> int | None:
    """The number of the last epoch that a live post on the chain settles; None where there is none."""
    live = Ledger.open(data_dir, chain).history().live
    return _last_epoch(live[-1].header, log) if live else None


def _last_epoch(header: PostHeader, log: Log) -> int:
    return header.epoch_end_s // (log.epoch_ms // SECOND_MS) - 1


class _EpochsUpTo(EpochReader):
    """The epochs as of a post: later ones count as not published."""

    def __init__(self, data_dir: Path, log: Log, last: int) -> None:
        super().__init__(data_dir, log)
        self._last = last

    def manifest(self, partition: int, epoch: int) -> EpochManifest | None:
        """The manifest, or None for a later epoch."""
        return None if epoch > self._last else super().manifest(partition, epoch)


def _made_anew(
    data_dir: Path, log: Log, ledger: Ledger, standing: PostStanding, posted: Posted, without: Collection[int]
) -> AssembledPost:
    header, decimals = posted.header, ledger.deployment.decimals
    epochs = _EpochsUpTo(data_dir, log, _last_epoch(header, log))
    for left_out in ((), without) if without else ((),):
        try:
            run, _ = choose_run(epochs, standing, log, SettleOptions(without=frozenset(left_out)))
            post = None if run is None else assemble(standing, run, decimals)
        except InvariantBroken:  # these epochs don't continue the previous post
            post = None
        if post is not None and post.header(header.previous_head, decimals) == header:
            return post
    raise InvalidInput(
        f"the epochs here do not make post {header.sequence}: bring them up to date (`tallyroot stream`), "
        "name the partitions that it left out (--without), or restore settlement/ from a copy; if the post is "
        "not yours, dispute it"
    )
