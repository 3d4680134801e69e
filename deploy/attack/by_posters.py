"""Cheats against the chain: by the poster's key, a claimant, the admin, and all of them together."""

from collections.abc import Callable, Iterator
from functools import partial

from msgspec import structs

from deploy.attack.cheat import FUNDER, PAYEES, Cheat, Cheater, Outcome, Stopwatch
from deploy.attack.ledger_copy import DELAY_S, LedgerCopy, paying
from deploy.texts import units
from schemas.units import SECOND_MS
from settlement import service
from settlement.chain.contract import Call
from settlement.chain.signer import Signer, development_signer
from settlement.chain.timelock import timelock_of
from settlement.head import PostHeader
from settlement.leaf import payout_leaf
from settlement.merkle import MerkleTree

STRANGER = 8
"""The development node's account of this number has no role."""

YEAR_S = 365 * 86_400


def poster_cheats(court: LedgerCopy) -> Iterator[Cheat]:
    """Cheats before anything is settled. Each leaves the ledger as it was: to be run in this order, one by one."""
    posts: dict[str, Callable[[LedgerCopy], PostHeader]] = {
        "the total inflated": _inflated,
        "an account of the poster's own": _own_account,
        "a window raised": _raised,
        "a window left out": _left_out,
        "the days of another post": _later,
        "a one-leaf root for all free money": _all_free_money,
    }
    for name, make in posts.items():
        court.post(make(court))
        yield Cheat(name, "poster", FUNDER if make is _all_free_money else PAYEES, court.watched)
    yield Cheat("proofs withheld, so that nobody can claim", "poster", PAYEES, lambda: _withheld(court))
    yield Cheat("a stolen poster key, and a year of waiting", "poster", FUNDER, lambda: _unattested(court))
    yield Cheat("a stale root after a dispute", "poster", FUNDER, lambda: _stale(court))


def _inflated(court: LedgerCopy) -> PostHeader:
    header = court.header()
    return structs.replace(header, total=header.total + 10)


def _own_account(court: LedgerCopy) -> PostHeader:
    return court.header(lambda window: [structs.replace(window, terms=paying(court.thief, window.terms))])


def _raised(court: LedgerCopy) -> PostHeader:
    return court.header(lambda window: [structs.replace(window, net_micros=window.net_micros + 10**6)])


def _left_out(court: LedgerCopy) -> PostHeader:
    return court.header(lambda window: [])


def _later(court: LedgerCopy) -> PostHeader:
    header, more_s = court.header(), court.log.epoch_ms // SECOND_MS
    return structs.replace(header, epoch_start_s=header.epoch_start_s + more_s, epoch_end_s=header.epoch_end_s + more_s)


def _all_free_money(court: LedgerCopy) -> PostHeader:
    header, amount = court.header(), court.free
    return structs.replace(header, payouts_root=payout_leaf(court.thief, amount), total=amount)


def _withheld(court: LedgerCopy) -> Outcome:
    """The watcher waits first: files may be late."""
    header = court.header()
    court.post(header)
    (court.store.folder / "posts" / str(header.sequence) / "payouts.json").unlink()
    first = court.watched()
    court.node.pass_time(DELAY_S // 2)
    second = court.watched()
    return Outcome(second.by, second.said, first.took_us + second.took_us)


def _unattested(court: LedgerCopy) -> Outcome:
    """Nothing is paid that no auditor has attested, however long a thief waits."""
    header = _all_free_money(court)
    court.post(header)
    court.node.pass_time(YEAR_S)
    claim = court.ledger.claim(court.thief, header.sequence, header.total, [])
    found = court.refused(claim, development_signer(STRANGER), "is not active")
    service.dispute(court.folder, court.node, court.keys, header.sequence)
    return found


def _stale(court: LedgerCopy) -> Outcome:
    """The thief's root follows a wrong one; a dispute ends both, and the right post replaces them."""
    header = court.header()
    court.post(structs.replace(header, total=header.total + 10))
    theft = structs.replace(
        header, sequence=header.sequence + 1, previous_head=court.ledger.head(), total=court.free,
        epoch_start_s=header.epoch_end_s, epoch_end_s=header.epoch_end_s + 1,
        payouts_root=payout_leaf(court.thief, court.free),
    )  # fmt: skip
    court.post(theft)
    service.dispute(court.folder, court.node, court.keys, header.sequence)
    court.settle()
    claim = court.ledger.claim(court.thief, theft.sequence, theft.total, [])
    return court.refused(claim, development_signer(STRANGER), "is not active")


def claim_cheats(court: LedgerCopy) -> Iterator[Cheat]:
    """Cheats once post 1 is settled: claims, roles, limits. To be run in this order."""
    stranger = development_signer(STRANGER)
    ledger, payees = court.ledger, service.payouts(court.folder, court.node)
    payee, rows = payees[0], [(row.account, row.cumulative) for row in payees]
    false = payout_leaf(court.thief, court.free)
    forged = MerkleTree([false, *(payout_leaf(*row) for row in rows)])
    own = MerkleTree(payout_leaf(*row) for row in rows).proof(payout_leaf(payee.account, payee.cumulative))
    calls = {
        "a claim with a proof of one's own tree": ledger.claim(court.thief, 1, court.free, forged.proof(false)),
        "a claim of more, with the right proof": ledger.claim(payee.account, 1, payee.cumulative + 1, own),
        "another's payout claimed for oneself": ledger.claim(court.thief, 1, payee.cumulative, own),
    }
    for name, call in calls.items():
        yield Cheat(name, "stranger", FUNDER, partial(court.refused, call, stranger, "the proof does not lead"))
    honest = ledger.claim(payee.account, 1, payee.cumulative, own)
    court.node.transact(stranger, honest)
    yield Cheat("a claim twice", "stranger", FUNDER, lambda: court.refused(honest, stranger, "has already claimed"))
    yield from _limits(court)
    yield Cheat(
        "poster and auditor together, and a guardian who sleeps", "all roles", FUNDER, lambda: _all(court),
        "roles held by people who don't know each other; a quorum of auditors; a low maxRate; `watch`",
    )  # fmt: skip


def _limits(court: LedgerCopy) -> Iterator[Cheat]:
    """What the contract itself refuses, whoever calls."""
    ledger, admin, poster = court.ledger, court.keys.of("admin"), court.keys.of("poster")
    stranger = development_signer(STRANGER)

    def refused(name: str, who: Cheater, loses: str, call: Call, signer: Signer, why: str) -> Cheat:
        return Cheat(name, who, loses, partial(court.refused, call, signer, why))

    one, too_much = ledger.post(_next(court, 1)), ledger.post(_next(court, court.free + 1))
    yield refused("a post by a stranger", "stranger", FUNDER, one, stranger, "is not the poster")
    own = ledger.attest(1, ledger.head())
    yield refused("a poster who attests his own post", "poster", FUNDER, own, poster, "is not the auditor")
    yield refused("a post of more money than there is", "poster", PAYEES, too_much, poster, "is short of")
    revocation = ledger.revoke(1)
    yield refused("the admin's key without its timelock", "operator", PAYEES, revocation, admin, "is not the admin")
    yield Cheat("the admin revokes an honest post to pay himself", "operator", PAYEES, lambda: _by_admin(court))
    beyond = ledger.post(_next(court, ledger.state().max_rate))
    yield refused("a post beyond maxRate", "poster", FUNDER, beyond, poster, "raises the total")
    yield Cheat("the post swapped while the auditor looks", "poster", FUNDER, lambda: _swapped(court))


def _by_admin(court: LedgerCopy) -> Outcome:
    """The first step of taking what is owed: revoke the post that owes it, then roles, a post and an attestation of his
    own. All of it goes through the timelock, so the first step is announced for as long as payees need to claim.
    """
    timelock, watch = timelock_of(court.ledger), Stopwatch()
    if timelock is None:
        return watch.outcome("", "the admin has no timelock")
    revocation = court.ledger.revoke(1)
    court.node.transact(court.keys.of("admin"), timelock.next_call(revocation)[0])
    alarm = next((part.text for part in court.look() if "has announced" in part.text), "")
    step = next(timelock.announced(court.ledger.deployment.block))
    execution = timelock.execution_of(revocation)
    early = court.refused(execution, development_signer(STRANGER), "timelock doesn't hold")
    service.cancel_announced(court.folder, court.node, court.keys, step.id)
    court.node.pass_time(DELAY_S + 1)
    late = court.refused(execution, development_signer(STRANGER), "timelock doesn't hold")
    is_caught = bool(alarm) and early.is_caught and late.is_caught and court.ledger.is_active(1)
    return watch.outcome("watch, guardian" if is_caught else "", f"watch: {alarm.partition(';')[0]}; cancelled")


def _next(court: LedgerCopy, amount: int) -> PostHeader:
    """A post after all others that pays a thief this amount."""
    last = court.ledger.history().live[-1].header
    return structs.replace(
        last, sequence=last.sequence + 1, previous_head=court.ledger.head(), epoch_start_s=last.epoch_end_s,
        epoch_end_s=last.epoch_end_s + 1, total=last.total + amount, payouts_root=payout_leaf(court.thief, amount),
    )  # fmt: skip


def _swapped(court: LedgerCopy) -> Outcome:
    """An attestation names the head that the audit saw."""
    seen = court.ledger.head()
    header = _next(court, 1)
    court.post(header)
    found = court.refused(court.ledger.attest(header.sequence, seen), court.keys.of("auditor"), "head has moved on")
    service.dispute(court.folder, court.node, court.keys, header.sequence)
    return found


def _all(court: LedgerCopy) -> Outcome:
    """All keys together can take the free money, up to maxRate a day: roles must be different people's."""
    watch = Stopwatch()
    header = _next(court, court.free)
    amount = header.total - court.ledger.state().total
    court.post(header)
    service.attest(court.folder, court.node, court.keys)
    court.node.pass_time(DELAY_S + 1)
    claim = court.ledger.claim(court.thief, header.sequence, amount, [])
    found = court.refused(claim, development_signer(STRANGER), why="")
    if found.is_caught:
        return found
    return watch.outcome("", f"contract: PAID {units(amount, court.decimals)}")
