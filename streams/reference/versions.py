"""The versions of machines: which is in force, and what the next one may be (rules 22, 23 and 28)."""

from collections import defaultdict

from schemas.units import CARRY_BASE
from streams.reference.entries import Plain, Refused

ITEMS_MAX = 256
ALWAYS = -(10**18)


class Versions:
    """The registrations of each machine, as (in force from, content)."""

    def __init__(self) -> None:
        self.of: dict[str, list[tuple[int, Plain]]] = {}

    def past(self, machine: str) -> list[Plain]:
        """All versions of a machine so far."""
        return [plain for _, plain in self.of.get(machine, [])]

    def at(self, machine: str, moment: int) -> Plain:
        """The version in force at a moment: the highest that has begun."""
        return [plain for start, plain in self.of[machine] if start <= moment][-1]

    def boot(self, machine: str) -> int | None:
        """The last boot that any version gave (rule 10)."""
        boots: list[int] = [plain["boot"] for plain in self.past(machine) if "boot" in plain]
        return boots[-1] if boots else None

    def check_form(self, plain: Plain) -> None:
        """What all versions before ask of a registration's form (rules 23 and 28). Raises Refused."""
        past = self.past(plain["machine"])
        for meter in [meter for old in past for meter in old["meters"]]:
            same = [new for new in plain["meters"] if new["meter"] == meter["meter"]]
            if any((new["kind"], new["unit"]) != (meter["kind"], meter["unit"]) for new in same):
                raise Refused("malformed")
        if len({policy["item"] for one in [*past, plain] for policy in one.get("orders", ())}) > ITEMS_MAX:
            raise Refused("malformed")

    def check_next(self, plain: Plain, now: int) -> None:
        """Whether a registration is the next version, or the last one again (rules 22 and 23). Raises Refused."""
        past = self.past(plain["machine"])
        if past and past[-1] == plain:
            raise Refused("duplicate")
        if plain["version"] != len(past) + 1:
            raise Refused("stale_version")
        if past and now < past[-1]["agreement"].get("locked_until", -1) and breaks_lock(past[-1], plain):
            raise Refused("agreement_locked")

    def add(self, plain: Plain, now: int, window_ms: int, skew_ms: int) -> None:
        """Takes the next version; it is in force from a window's start (rule 22)."""
        machine = plain["machine"]
        rounded_up = -(-plain["effective_from"] // window_ms) * window_ms
        start = max(rounded_up, ((now + skew_ms) // window_ms + 1) * window_ms)
        past = self.of.setdefault(machine, [])
        past.append((start if past else ALWAYS, plain))


def breaks_lock(old: Plain, new: Plain) -> bool:
    """Whether a new version takes what the old one's lock protects (rule 23)."""
    before, after = old["agreement"], new["agreement"]
    if any(after["payees"].get(name, 0) < points for name, points in before["payees"].items()):
        return True
    if after.get("locked_until", -1) < before["locked_until"]:
        return True
    if after.get("pays_trust", 0) > before.get("pays_trust", 0):
        return True
    policies = {policy["item"]: policy for policy in old.get("orders", ())}
    for policy in new.get("orders", ()):
        known = policies.get(policy["item"])
        if known is None or known["supplier"] != policy["supplier"]:
            return True
        if any(policy[name] > known[name] for name in ("unit_price", "quantity", "budget")):
            return True
    had = lowest_prices(old)
    return any(price < min(0, had.get(key, 0)) for key, price in lowest_prices(new).items())


def lowest_prices(version: Plain) -> dict[tuple[str, bool], int]:
    """The lowest price of each meter for 3,600,000 units, and for a session, by (meter, whether of sessions)."""
    found: dict[tuple[str, bool], list[int]] = defaultdict(list)
    for part in [part for element in version["tariff"]["elements"] for part in element["components"]]:
        price = part["price"] * (CARRY_BASE // part["per"] if "per" in part else 1)
        found[part["meter"], "per" not in part].append(price)
    return {key: min(prices) for key, prices in found.items()}
