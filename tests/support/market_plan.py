"""What a market of machines is made of, all drawn from a seed: machines, what they order, who is killed when.

No process and no server: `tests/crash/market.py` plays it.
"""

import random
from collections.abc import Sequence
from typing import Any, NamedTuple

from schemas.units import SECOND_MS

ITEMS = ("fuse", "cable")
PIECE_MICROS = {"fuse": 110_003, "cable": 330_007}
"""What suppliers ask for a piece; a machine may offer more."""

METERS: list[dict[str, Any]] = [
    {"meter": "energy", "unit": "Wh", "kind": "register", "capacity_per_hour": 7_200_000},
    {"meter": "parking", "unit": "count", "kind": "quantity", "capacity_per_hour": 3_600},
    *({"meter": item, "unit": "count", "kind": "level", "capacity_per_hour": 1_000} for item in ITEMS),
]
KEY_ID = "k"
MACHINES_PER_SITE = 5
BLOCKS_TO_FINAL = 8
"""A chain is taken back less far."""


class Wanted(NamedTuple):
    """A market's size and length; `begin_s` is what it is left alone for, so that there is something to lose."""

    machines: int
    suppliers: int
    payers: int
    seed: int
    seconds: float
    kills: int
    reorgs: int
    block_s: float
    epoch_ms: int
    begin_s: float
    workers: int = 2
    follows: bool = True
    """Whether processes of their own settle and watch; else the market does that, once it has closed."""


class Kill(NamedTuple):
    """A part (its place among the parts that run), `at_s` after the opening, and away for so long."""

    at_s: float
    part: int
    away_s: float


class Reorg(NamedTuple):
    """So many of the chain's last blocks are undone, with what was paid in them."""

    at_s: float
    blocks: int


class Plan(NamedTuple):
    """Everything of a market that isn't left to its processes."""

    machines: list[dict[str, Any]]
    kills: list[Kill]
    reorgs: list[Reorg]


def plan_of(wanted: Wanted, parts: int, suppliers: Sequence[str], public_key: str) -> Plan:
    """The plan of a seed. Each part is killed about as often as any other."""
    draw = random.Random(wanted.seed)
    payees = ["0x" + f"{draw.getrandbits(160):040x}" for _ in range(max(3, wanted.machines // 4))]
    machines = [registration(draw, number, payees, suppliers, public_key) for number in range(wanted.machines)]
    order = [part for _ in range(wanted.kills // parts + 1) for part in draw.sample(range(parts), parts)]
    kills = [
        Kill(at_s, order[number], draw.choice((0.0, 0.0, 0.5, 3.0)) * min(1.0, wanted.block_s))
        for number, at_s in enumerate(_moments(draw, wanted, wanted.kills))
    ]
    reorgs = [Reorg(at_s, draw.randint(1, BLOCKS_TO_FINAL - 1)) for at_s in _moments(draw, wanted, wanted.reorgs)]
    return Plan(machines, kills, reorgs)


def _moments(draw: random.Random, wanted: Wanted, count: int) -> list[float]:
    return sorted(draw.uniform(wanted.begin_s, wanted.seconds) for _ in range(count))


def registration(
    draw: random.Random, number: int, payees: Sequence[str], suppliers: Sequence[str], public_key: str
) -> dict[str, Any]:
    """A charger that sells energy, lets cars park, and orders its own spares from suppliers."""
    energy = {"meter": "energy", "price": draw.randint(250_001, 590_009), "per": 1_000}
    start = {"meter": "energy", "price": draw.randint(1, 400_003), "per_session": True}
    parking = {"meter": "parking", "price": draw.randint(50_001, 300_007), "per": 1}
    shared = draw.sample(payees, draw.randint(1, 3))
    points = [10_000 // len(shared) - draw.randint(0, 99) for _ in shared[1:]]
    policies = []
    for item in ITEMS:
        quantity, price = draw.randint(2, 9), PIECE_MICROS[item] + draw.choice((0, 0, 5, 20_000))
        policies.append({
            "item": item, "meter": item, "reorder_at": draw.randint(1, 3), "quantity": quantity, "unit_price": price,
            "supplier": draw.choice(suppliers), "budget": draw.choice((2, 5, 1_000)) * quantity * price,
        })  # fmt: skip
    return {
        "machine": f"charger-{number}", "route": f"site-{number // MACHINES_PER_SITE}", "version": 1,
        "kind": "charger", "effective_from": 0, "meters": METERS,
        "tariff": {"elements": [{"components": [energy, start, parking]}], "offsets": [[0, 0]]},
        "agreement": {"payees": dict(zip(shared, [10_000 - sum(points), *points], strict=True))},
        "keys": [{"key_id": KEY_ID, "public_key": public_key}], "require_signature": True, "orders": policies,
    }  # fmt: skip


def long_market(minutes: float, machines: int, suppliers: int, payers: int, seed: int) -> Wanted:
    """A market in which somebody is killed every ten seconds or so, and the chain is taken back every four minutes."""
    seconds = minutes * 60
    return Wanted(
        machines, suppliers, payers, seed, seconds, kills=max(1, int(seconds / 10)), reorgs=max(1, int(seconds / 240)),
        block_s=1.0, epoch_ms=120 * SECOND_MS, begin_s=15.0,
    )  # fmt: skip
