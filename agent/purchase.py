"""A purchase of a machine: from a signed authorisation until what was not used has come back."""

from typing import Literal

from msgspec import Struct

from till.authorization import Authorization
from till.purchase import Place
from till.wire import Requirements

State = Literal["signed", "paid", "void", "over", "settled"]
"""`signed`: the authorisation may be used by whoever has it. `void`: it never was, and can't be any more. `paid`: a
final transfer used it. `over`: the need is done with, the refund has not come. `settled`: the refund can be claimed.
"""

UNDER_WAY: tuple[State, ...] = ("signed", "paid")


class Purchase(Struct, frozen=True, kw_only=True):
    """One purchase, known by its number. Times with _s are Unix seconds of the chain.

    `session` and `sold` (the machine) are what the till answered, until the log says what was really sold.
    `began` is the level when it was bought, `level` the highest that was seen since, `rose_s` when it last rose, and
    `seen_ms` the time of the newest level when it was over: only a newer one says that there is need again.
    `avoid_until_s`: nothing is bought there before.
    """

    number: int
    till: str
    machine: str
    units: int
    amount_micros: int
    accepted: Requirements
    authorization: Authorization
    secret: str
    signed_s: int
    first_block: int
    began: int
    level: int
    rose_s: int
    seen_ms: int
    state: State = "signed"
    session: str = ""
    sold: str = ""
    place: Place | None = None
    is_recorded: bool = False
    stop_s: int | None = None
    refund_micros: int = 0
    avoid_until_s: int = 0
    note: str = ""

    @property
    def is_misused(self) -> bool:
        """Whether the log has the payment for another machine: the till handed our authorisation on."""
        return self.is_recorded and self.sold != self.machine

    @property
    def counted_micros(self) -> int:
        """What it counts in a budget: all of it, until nobody can use it, or the refund can be claimed."""
        return 0 if self.state == "void" else self.amount_micros - self.refund_micros
