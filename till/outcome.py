"""What became of a session once a window sealed it: used, collected, refunded; and with what anybody checks that."""

from collections.abc import Sequence

from msgspec import UNSET, Struct, UnsetType

from schemas.payout import ProofFile
from till.purchase import Purchase


class Sealed(Struct, frozen=True, kw_only=True):
    """A session in the sealed window that it closed into; `post` settles that window, and pays once it is active."""

    window_start_ms: int
    window_digest: str
    partition: int
    epoch: int
    paid_micros: int
    used_micros: int
    refund_micros: int
    post: int | None
    is_active: bool


class Outcome(Struct, frozen=True, kw_only=True):
    """Micros: collected + refund = paid, as far as windows have sealed. `payout` is the payer's, under the last post
    that pays; `checks` are commands for whoever has the log or its archive.
    """

    used_micros: int
    collected_micros: int
    refund_micros: int
    windows: list[Sealed]
    checks: list[str]
    payout: ProofFile | UnsetType = UNSET


def outcome_of(purchase: Purchase, windows: Sequence[Sealed], payout: ProofFile | None) -> Outcome:
    """A session's outcome, by every window that has something of it."""
    payer, refund = purchase.authorization.payer, sum(window.refund_micros for window in windows)
    checks = [
        "tallyroot audit --from-archive",
        f"tallyroot sql \"FROM statements JOIN windows USING (machine, start) WHERE session = '{purchase.session}'\"",
    ]
    if payout is not None:
        checks += [
            f"tallyroot why {payer}",
            f"tallyroot proof {payer} --out payout.json",
            "tallyroot verify payout.json",
        ]
    return Outcome(
        used_micros=sum(window.used_micros for window in windows),
        collected_micros=sum(window.paid_micros for window in windows) - refund, refund_micros=refund,
        windows=list(windows), checks=checks, payout=UNSET if payout is None else payout,
    )  # fmt: skip
