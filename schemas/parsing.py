"""Durations, days, times, accounts and amounts as people write them; InvalidInput for what can't be read."""

import re
from datetime import UTC, date, datetime

from schemas.errors import InvalidInput
from schemas.units import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS

DURATION_UNITS_MS = {"s": SECOND_MS, "m": MINUTE_MS, "h": HOUR_MS, "d": DAY_MS, "w": 7 * DAY_MS}
EPOCH_DAY = date(1970, 1, 1).toordinal()


def duration_ms(text: str) -> int:
    """A duration such as 15m, 6h or 30d, in ms."""
    match = re.fullmatch(r"([1-9][0-9]{0,5})([smhdw])", text)
    if match is None:
        raise InvalidInput(f"'{text}' is not a duration: write a number and s, m, h, d or w, such as 1d")
    return int(match[1]) * DURATION_UNITS_MS[match[2]]


def day_number(text: str) -> int:
    """A day such as 2019-09-10, in days since 1970-01-01."""
    try:
        return date.fromisoformat(text).toordinal() - EPOCH_DAY
    except ValueError:
        raise InvalidInput(f"'{text}' is not a day: write it as 2019-09-10") from None


def moment_ms(text: str) -> int:
    """A time such as 2019-09-01T17:00Z in epoch ms, cut to the second, UTC without an offset; digits are epoch ms."""
    if text.isdecimal():
        return int(text)
    try:
        found = datetime.fromisoformat(text.removesuffix(" UTC"))
    except ValueError:
        raise InvalidInput(f"'{text}' is not a time: write it as 2019-09-01T17:00Z, or in epoch ms") from None
    return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()) * SECOND_MS


def token_amount(text: str, decimals: int, what: str = "an amount") -> int:
    """An amount such as 12.50 in units of a token with so many decimals; `what` names it in the error."""
    match = re.fullmatch(r"([0-9]{1,30})(?:\.([0-9]+))?", text)
    if match is None or len(match[2] or "") > decimals:
        raise InvalidInput(f"'{text}' is not {what}: write it with at most {decimals} decimals, such as 12.50")
    return int(match[1]) * int(10**decimals) + int((match[2] or "").ljust(decimals, "0") or "0")


def account(text: str) -> str:
    """An account (0x and 40 hex digits, in any case) in lower case. Its checksum is not looked at: see settlement."""
    if not re.fullmatch(r"0x[0-9a-fA-F]{40}", text):
        raise InvalidInput(f"'{text}' is not an account: write 0x and 40 hex digits")
    return text.lower()


def shares_of(pairs: list[str], whole: int) -> dict[str, int] | None:
    """ACCOUNT=POINTS pairs as account to basis points that add up to `whole`; None for no pairs."""
    points: dict[str, int] = {}
    for pair in pairs:
        name, _, part = pair.partition("=")
        if not re.fullmatch(r"[1-9][0-9]{0,4}", part):
            raise InvalidInput(f"'{pair}' is not a payee: write 0xACCOUNT=POINTS, in basis points")
        points[account(name)] = int(part)
    if points and sum(points.values()) != whole:
        raise InvalidInput(f"the payees' basis points add up to {sum(points.values())}, not to {whole:,}")
    return points or None
