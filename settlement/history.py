"""The ledger's events, folded: the live posts, the dead ones, and the head after them."""

from collections.abc import Iterable

from msgspec import Struct, structs

from schemas.errors import InvalidInput
from settlement.head import PostHeader, disputed_head


class Posted(Struct, frozen=True):
    """The event EpochPosted: `head` is the head after it, `delay_end_s` Unix seconds."""

    header: PostHeader
    head: bytes
    delay_end_s: int
    transaction: str
    block: int


class Disputed(Struct, frozen=True):
    """The event PostDisputed: `sequence` and all above it are dead."""

    sequence: int
    head: bytes
    block: int


class History(Struct, frozen=True):
    """Live posts by ascending sequence, dead ones in the order of their posting, and the head after all of it.

    `disputed` is the sequence of a dispute that no post has followed yet.
    """

    head: bytes
    live: tuple[Posted, ...]
    dead: tuple[Posted, ...]
    disputed: int | None = None

    @property
    def next_sequence(self) -> int:
        """The sequence that the next post must carry."""
        return len(self.live) + 1

    def post(self, sequence: int) -> Posted | None:
        """The live post of a sequence, None if there is none."""
        return self.live[sequence - 1] if 1 <= sequence <= len(self.live) else None

    def was_disputed(self, header: PostHeader) -> bool:
        """Whether a dead post equals a header but for the previous head: it must not be posted again."""
        return any(same_post(posted.header, header) for posted in self.dead)


def same_post(a: PostHeader, b: PostHeader) -> bool:
    """Whether two headers are equal but for the previous head."""
    return structs.replace(a, previous_head=b"") == structs.replace(b, previous_head=b"")


def fold(genesis: bytes, events: Iterable[Posted | Disputed]) -> History:
    """Folds events, in the chain's order, from the genesis head.

    Raises InvalidInput if one does not follow: the ledger's contract can't have emitted it, so a node made it up.
    """
    head = genesis
    live: list[Posted] = []
    dead: list[Posted] = []
    disputed: int | None = None
    for event in events:
        if isinstance(event, Posted):
            follows = event.header.previous_head == head and event.header.sequence == len(live) + 1
            head = event.header.head()
            live.append(event)
            disputed = None
        else:
            follows = 1 <= event.sequence <= len(live)
            head = disputed_head(head, event.sequence)
            dead += live[event.sequence - 1 :]
            del live[event.sequence - 1 :]
            disputed = event.sequence
        if not follows or head != event.head:
            raise InvalidInput(
                f"this node shows an event of the ledger, in block {event.block}, that does not follow from those"
                " before it; ask another node (CHAIN_RPC_URL)"
            )
    return History(head, tuple(live), tuple(dead), disputed)
