"""Made-up sealed windows with all that one can hold, for what stores, reads and hashes them."""

import random

from schemas.registration import Agreement
from schemas.units import COUNT_MAX
from schemas.window import FLAGS, Due, Line, Statement, Window

LARGEST = 2**63 - 1
AGREEMENTS = (
    Agreement({"0x" + "a1" * 20: 10_000}),
    Agreement({"owner": 7_000, "0x" + "b2" * 20: 3_000}, pays_trust=1),
    Agreement({"owner": 7_000, "0x" + "b2" * 20: 3_000}, locked_until=1_700_000_000_000),
)


def random_window(draw: random.Random, machine: str = "m0", start_ms: int = 0, adjusts_ms: int | None = None) -> Window:
    """A window whose figures don't add up: nothing here is asked to."""

    def amount() -> int:
        return draw.choice((0, -1, draw.randint(-LARGEST, LARGEST), draw.randint(0, 10**9)))

    def account() -> str:
        return f"0x{draw.getrandbits(160):040x}"

    lines = tuple(
        Line(f"m{place}", draw.choice(("Wh", "s")), draw.randint(1, 9), draw.randint(-COUNT_MAX, COUNT_MAX), amount(),
             draw.choice((0, 1, 1_000)), amount())
        for place in range(draw.choice((0, 1, 1, 3)))
    )  # fmt: skip
    sessions = tuple(
        Statement(draw.choice(("s1", "s1", "café")), account(), draw.randint(1, COUNT_MAX), draw.randint(0, COUNT_MAX),
                  draw.randint(0, COUNT_MAX))
        for _ in range(draw.choice((0, 0, 2)))
    )  # fmt: skip
    dues = tuple(
        Due(
            draw.choice(("expense", "refund")), account(), draw.choice(("bearing/12", "s1")), draw.randint(1, COUNT_MAX)
        )
        for _ in range(draw.choice((0, 0, 3)))
    )
    return Window(
        machine=machine, start_ms=start_ms, end_ms=start_ms + 900_000, adjusts_ms=adjusts_ms,
        utc_offset_s=draw.randint(-86_400, 86_400), gross_micros=amount(), expenses_micros=amount(),
        uncollected_micros=amount(), net_micros=amount(), collected_micros=amount(), lines=lines, sessions=sessions,
        dues=dues, carry_in=draw.randrange(3_600_000), carry_out=draw.randrange(3_600_000),
        registration_version=draw.randint(1, 4), agreement=draw.choice(AGREEMENTS), readings=draw.randint(0, 99),
        first_offset=draw.choice((-1, 7)), last_offset=draw.choice((-1, COUNT_MAX)), skipped=draw.randint(0, 9),
        flags=tuple(flag for flag in FLAGS if draw.random() < 0.3), trust=draw.randint(0, 2),
    ).sealed("00" * 16)  # fmt: skip


def random_windows(draw: random.Random, count: int) -> list[Window]:
    """Windows of several machines, plain ones and adjustments, each key once, in no order."""
    found = {}
    for _ in range(count):
        start_ms = 10**12 + 900_000 * draw.randrange(6)
        adjusts_ms = draw.choice((None, None, start_ms - 900_000 * draw.randint(1, 3)))
        machine = draw.choice(("m0", "m1", "M2", "m-10"))
        found[machine, start_ms, adjusts_ms] = random_window(draw, machine, start_ms, adjusts_ms)
    windows = list(found.values())
    draw.shuffle(windows)
    return windows
