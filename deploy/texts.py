"""Amounts and moments as people read them: for reading, never for adding."""

from datetime import UTC, datetime

from schemas.units import DAY_MS, MINUTE_MS, SECOND_MS, is_simulated


def money(micros: int, currency: str) -> str:
    """Micros as an amount with two decimals, rounded towards zero."""
    sign, whole = ("-", -micros) if micros < 0 else ("", micros)
    return f"{sign}{whole // 1_000_000:,}.{whole % 1_000_000 // 10_000:02d} {currency}"


def units(amount: int, decimals: int) -> str:
    """Token units as whole tokens, exact."""
    whole, part = divmod(abs(amount), 10**decimals)
    return f"{'-' if amount < 0 else ''}{whole:,}.{part:0{decimals}d}"


def machine_text(machine: str) -> str:
    """A machine's id where its income is shown: a simulated one is marked."""
    return f"{machine} (simulated)" if is_simulated(machine) else machine


def moment_text(moment_ms: int) -> str:
    """Epoch ms as 2019-09-01 17:05 UTC."""
    return datetime.fromtimestamp(moment_ms // SECOND_MS, UTC).strftime("%Y-%m-%d %H:%M UTC")


def day_text(moment_ms: int) -> str:
    """Epoch ms as its day, with the time where it is not midnight, with seconds where it is no whole minute."""
    clock = "" if moment_ms % DAY_MS == 0 else " %H:%M" if moment_ms % MINUTE_MS == 0 else " %H:%M:%S"
    return datetime.fromtimestamp(moment_ms // SECOND_MS, UTC).strftime(f"%Y-%m-%d{clock}")


def span_text(span_ms: int) -> str:
    """A span as its two largest units, such as 4 d 23 h, rounded down; at least 0 min."""
    minutes = span_ms // MINUTE_MS
    days, hours, rest = minutes // 1_440, minutes // 60 % 24, minutes % 60
    parts = [f"{days} d" if days else "", f"{hours} h" if hours else "", f"{rest} min" if rest and not days else ""]
    return " ".join(part for part in parts if part) or f"{rest} min"
