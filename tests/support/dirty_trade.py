"""What the machines of a dirty log buy, and what their customers pay before a session, rightly and wrongly.

A machine here doesn't know which of its levels placed an order: it guesses, and is right often enough.
"""

import random
from typing import Any

from schemas.units import COUNT_MAX, DAY_MS, HOUR_MS, MINUTE_MS
from streams.core.signature import operator_account

Plain = dict[str, Any]

SUPPLIERS = tuple(bytes([number]) * 32 for number in (11, 12))
"""The private keys of those who sell."""

ITEMS = ("beans", "filters")
PAYERS = tuple("0x" + digit * 40 for digit in "de")
TERMS_MS = (20 * MINUTE_MS, HOUR_MS, 5 * HOUR_MS, DAY_MS, 7 * DAY_MS)


class Trade:
    """The orders and payments of one machine."""

    def __init__(self, draw: random.Random) -> None:
        self.draw = draw
        self.policies: dict[str, Plain] = {}
        self.numbers = dict.fromkeys(ITEMS, 0)
        """The last order of each item, as guessed."""
        self.missing: dict[str, list[str]] = {item: [] for item in ITEMS}
        """What the last order still waits for."""
        self.version = 0
        self.block = 1
        self.paid: dict[str, Plain] = {}
        """The last payment for each session."""

    def new_policies(self) -> list[Plain]:
        """The orders of a registration."""
        return [
            {
                "item": item, "meter": "stock", "reorder_at": self.draw.choice((0, 1, 3)),
                "quantity": self.draw.choice((1, 4, 100)), "unit_price": self.draw.choice((0, 7, 250_000)),
                "supplier": operator_account(self.draw.choice(SUPPLIERS)),
                "budget": self.draw.choice((0, 500, 60_000_000, COUNT_MAX)),
            }
            for item in self.draw.sample(ITEMS, self.draw.randint(0, 2))
        ]  # fmt: skip

    def note_level(self, level: int) -> None:
        """Guesses which orders a level places."""
        for item, policy in self.policies.items():
            if level <= policy["reorder_at"] and not self.missing[item]:
                self.numbers[item] += 1
                self.missing[item] = ["receipt", "invoice"]

    def draw_item(self) -> str:
        """An item, one that was ordered if there is any."""
        ordered = [item for item in ITEMS if self.numbers[item]]
        return self.draw.choice(ordered or ITEMS)

    def order(self, item: str) -> Plain:
        """The fields that name the last order of an item, or one around it."""
        number = self.numbers[item] + (self.draw.choice((-1, 1)) if self.draw.random() < 0.2 else 0)
        return {"item": item, "number": max(1, number)}

    def receipt(self, item: str, now_ms: int) -> Plain:
        """What arrived."""
        self._note(item, "receipt")
        return self.order(item) | {
            "quantity": self.draw.choice((0, 1, 4, 4, 100, 1_000)),
            "observed_at": now_ms - self.draw.choice((0, 0, MINUTE_MS, 6 * MINUTE_MS)),
        }

    def invoice(self, item: str) -> Plain:
        """What the supplier asks for."""
        self._note(item, "invoice")
        price = self.policies.get(item, {}).get("unit_price", 0)
        return self.order(item) | {
            "quantity": self.draw.choice((0, 1, 4, 4, 100)),
            "unit_price": max(0, price - self.draw.choice((0, 0, 1, 5))),
            "reference": f"INV-{self.draw.randrange(5)}",
        }

    def cancellation(self, item: str) -> Plain:
        """The end of an order."""
        self.missing[item] = []
        return self.order(item) | {"reason": "no longer needed é"}

    def payment(self, session: str, now_ms: int) -> Plain:
        """A payment for a session: its first, or a top-up of the one before."""
        self.version += 1
        self.block += self.draw.choice((0, 1, 1, 5))
        before = self.paid.get(session)
        if before is None or self.draw.random() < 0.2:
            before = {"payer": self.draw.choice(PAYERS), "valid_until": now_ms + self.draw.choice(TERMS_MS)}
        self.paid[session] = {
            "version": self.version, "session": session, "payer": before["payer"],
            "amount": self.draw.choice((1, 400, 5_000_000, 10**9, COUNT_MAX)), "valid_until": before["valid_until"],
            "block": self.block, "transaction": "0x" + f"{self.version:064x}", "log_index": self.version,
        }  # fmt: skip
        return self.paid[session]

    def _note(self, item: str, part: str) -> None:
        if part in self.missing[item]:
            self.missing[item].remove(part)

    # What is wrong

    def changes_of_order(self, now_ms: int) -> Plain:
        """Fields that make a receipt, an invoice or a cancellation wrong, or right and unusual."""
        return self.draw.choice(
            (
                {"number": 0}, {"number": 99}, {"number": 1}, {"item": "nothing"}, {"item": "bad id"}, {"quantity": -1},
                {"quantity": COUNT_MAX}, {"unit_price": COUNT_MAX}, {"unit_price": None}, {"reason": ""},
                {"observed_at": now_ms + HOUR_MS}, {"observed_at": now_ms - DAY_MS}, {"reference": ""},
                {"machine": "ghost"}, {"surplus": 1}, {},
            )
        )  # fmt: skip

    def changes_of_payment(self, now_ms: int) -> Plain:
        """Fields that make a payment wrong, or right and unusual."""
        return self.draw.choice(
            (
                {"version": 0}, {"version": 99}, {"version": max(1, self.version - 1)}, {"block": 0, "log_index": 0},
                {"log_index": -1}, {"amount": 0}, {"amount": COUNT_MAX + 1}, {"payer": "0x" + "D" * 40},
                {"transaction": "0x"}, {"valid_until": now_ms}, {"valid_until": now_ms - 1}, {"session": ""},
                {"valid_until": now_ms + 7 * DAY_MS + 1}, {"machine": "ghost"}, {"surplus": []}, {},
            )
        )  # fmt: skip
