"""What the parts of a log come to, one after the other: it mustn't depend on where they were cut."""

from collections.abc import Sequence
from typing import Any

from streams.core.advance import Advanced


def all_of(parts: Sequence[Advanced]) -> dict[str, list[Any]]:
    """Windows, orders and what was refused, in order."""
    found: dict[str, list[Any]] = {"windows": [], "orders": [], "rejects": [], "rejected_records": []}
    for part in parts:
        found["windows"] += part.windows
        found["orders"] += part.orders
        for name, table in part.refused.tables().items():
            found[name] += table.to_pylist()
    return found
