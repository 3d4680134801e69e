"""A ledger as a watcher shows it beside its verdicts: what can still be disputed, disputes, roles, announced steps."""

from msgspec import Struct

from settlement.chain.ledger import Ledger
from settlement.history import Disputed, fold


class UnfinishedPost(Struct, frozen=True):
    """A live post that can still be disputed: how many auditors have attested it, and the end of its delay (Unix
    seconds).
    """

    sequence: int
    attestations: int
    delay_end_s: int


class LedgerSight(Struct, frozen=True, kw_only=True):
    """A ledger at one moment.

    `posts` are live, `attested` of them by the quorum; `disputes` and `role_changes` are all ever, the grants of the
    deployment among these; `is_disputed` until a post follows a dispute; `announced` steps of the admin wait.
    """

    posts: int
    attested: int
    quorum: int
    unfinished: tuple[UnfinishedPost, ...]
    disputes: int
    is_disputed: bool
    role_changes: int
    announced: int


def sight_of(ledger: Ledger, announced: int) -> LedgerSight:
    """A ledger as its node shows it now, with so many announced steps. Raises InvalidInput."""
    events = ledger.events()
    history, attested, now_s = fold(ledger.genesis, events), ledger.attested(), ledger.chain.time_s(at="pending")
    posts = {
        post.header.sequence: post.delay_end_s
        for post in history.live
        if post.header.sequence > attested or post.delay_end_s > now_s
    }
    by_auditor = [ledger.attested_by(auditor) for auditor in ledger.holders()["auditor"]] if posts else []
    return LedgerSight(
        posts=len(history.live),
        attested=attested,
        quorum=ledger.quorum(),
        unfinished=tuple(
            UnfinishedPost(sequence, sum(last >= sequence for last in by_auditor), delay_end_s)
            for sequence, delay_end_s in posts.items()
        ),
        disputes=sum(isinstance(event, Disputed) for event in events),
        is_disputed=history.disputed is not None,
        role_changes=ledger.role_changes(),
        announced=announced,
    )
