"""Rows of a value that is an Arrow IPC stream. Skeleton."""

from typing import Any

from schemas.reject import Reason


def decode_arrow(value: bytes) -> list[dict[str, Any]] | Reason:
    """The rows as plain objects, nulls left out, or why the record is one refused entry."""
    raise NotImplementedError
