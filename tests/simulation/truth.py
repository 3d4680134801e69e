"""What the epochs of a simulated log truly owe, what the workers' files say of it, and which posts follow from it."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from schemas.window import Due
from settlement.audit.recount import Recount, root_of
from settlement.head import PostHeader
from tests.support.settlement_data import FIRST_EPOCH, LOG, publish, window

DECIMALS = 6


class Truth:
    """Net, dues and deposits of every epoch, micros; some nets are told falsely until somebody adjusts the files."""

    def __init__(self, folders: Iterable[Path], ledger: str) -> None:
        self._folders = tuple(folders)
        self._false: set[int] = set()
        self._epochs: list[tuple[int, Sequence[Due], int]] = []
        self._recount = Recount(ledger)
        self._roots: dict[int, tuple[bytes, int, int]] = {}

    @property
    def epochs(self) -> int:
        """How many there are."""
        return len(self._epochs)

    def publish(self, net: int, told: int, dues: Sequence[Due], deposits: int) -> None:
        """One more epoch, the same in every folder: it owes `net` and `dues`, and the files say `told` for the net."""
        place = len(self._epochs)
        self._epochs.append((net, dues, deposits))
        self._recount.take(window("pv-1", FIRST_EPOCH + place, net, dues=dues))
        root = root_of(self._recount.payout_leaves(DECIMALS).values())
        self._roots[place + 1] = (root, self._recount.total(), deposits)
        self._write(place, told)
        if told != net:
            self._false.add(place)

    def mend(self) -> int:
        """From now on the files say what is true; how many were false."""
        mended = len(self._false)
        for place in self._false:
            self._write(place, self._epochs[place][0])
        self._false.clear()
        return mended

    def is_right(self, header: PostHeader) -> bool:
        """Whether a post owes every account what the epochs up to its end truly owe it, once."""
        return (header.payouts_root, header.total, header.deposits) == self._roots[epochs_of(header)]

    def _write(self, place: int, net: int) -> None:
        epoch, (_, dues, deposits) = FIRST_EPOCH + place, self._epochs[place]
        for folder in self._folders:
            publish(folder, 0, epoch, [window("pv-1", epoch, net, dues=dues)], deposits=deposits)
            for partition in range(1, LOG.partitions):
                publish(folder, partition, epoch)


def epochs_of(header: PostHeader) -> int:
    """How many epochs are settled once a post is made."""
    return header.epoch_end_s * 1_000 // LOG.epoch_ms - FIRST_EPOCH
