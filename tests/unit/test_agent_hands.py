"""The agent's hands without servers: the policy of the how-to, levels in the log, read from a reader in memory."""

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from agent.ports import Level
from deploy.agent.config import policy_of, read_policy
from deploy.agent.log_hand import LogHand
from schemas.errors import InvalidInput
from schemas.log import Log
from schemas.reading import REGISTERED
from schemas.registration import Registration
from schemas.units import MINUTE_MS
from streams.core.encode import CONTENT_TYPES
from streams.core.records import Record
from streams.core.signature import reading_key, sign_reading
from tests.support.sim_till import registration

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to" / "agents.md"
LOG = Log(log_id="street", currency="EUR", partitions=1)
NOW_MS = 20_000 * 86_400_000
KEY = b"\5" * 32


def taxi(*, is_signed: bool = False) -> Registration:
    """A taxi with a battery."""
    words = msgspec.to_builtins(registration("taxi-7"))
    battery = {"meter": "battery", "unit": "Wh", "kind": "level", "capacity_per_hour": 50_000}
    words["meters"] = [*words["meters"], battery]
    if is_signed:
        words["keys"] = [{"key_id": "k1", "public_key": reading_key(KEY)}]
    return msgspec.convert(words, Registration)


# ---------------------------------------------------------------- the policy's file


def how_to() -> str:
    (found,) = (block for block in re.findall(r"(?ms)^```toml\n(.*?)^```", HOW_TO.read_text()) if "[limits]" in block)
    return found


def test_the_policy_of_the_how_to_is_one(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(how_to())
    policy = policy_of(read_policy(path), taxi(), LOG)
    assert (policy.buy_at, policy.until, policy.unit) == (20_000, 60_000, "Wh")
    assert (policy.price_micros, policy.per, policy.day_micros) == (600_000, 1_000, 60_000_000)
    assert (policy.valid_s, policy.patience_s, policy.avoid_s) == (120, 600, 3_600)
    path.write_text(how_to().replace("# unit", "unit").replace("# worth", "worth").replace("# operator", "operator"))
    with pytest.raises(InvalidInput, match="is not an account"):
        policy_of(read_policy(path), taxi(), LOG)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("20 kWh", "70 kWh", "must be more"), ("battery", "tank", "no level meter tank"),
        ("EUR 0.60 per kWh", "USD 0.60 per kWh", "counts EUR"), ("EUR 0.60 per kWh", "EUR 1 per session", "no limit"),
        ('"2m"', '"5s"', "needs a minute"), ("https://till.example", "till.example", "no till"),
        ("60.00", "many", "amount"),
        ("kinds", "kind", "wrong at"), ("[limits]", "[limits", "not TOML"),
    ],
)  # fmt: skip
def test_a_policy_that_is_wrong_is_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(how_to().replace(old, new))
    with pytest.raises(InvalidInput, match=said):
        policy_of(read_policy(path), taxi(), LOG)


# ---------------------------------------------------------------- levels


class Reader:
    """A partition in memory."""

    def __init__(self, *records: Record) -> None:
        self.records = records

    def range(self, _: int) -> tuple[int, int]:
        return 0, len(self.records)

    def read(self, _: int, first: int, end: int) -> Iterator[Record]:
        return iter(self.records[first:end])


def level(offset: int, value: int, at_ms: int, key: bytes | None = None) -> Record:
    row = {"machine": "taxi-7", "meter": "battery", "boot": 1, "seq": offset, "observed_at": at_ms, "level": value}
    text = msgspec.json.encode(row)
    headers = [("content-type", CONTENT_TYPES["json"].encode())]
    if key is not None:
        signature = sign_reading(key, LOG.log_id, "taxi-7", "reading", CONTENT_TYPES["json"], text)
        headers += [("signature", signature), ("key-id", b"k1")]
    return Record(offset, NOW_MS, b"taxi-7", text, tuple(headers))


def seen(machine: Registration, *records: Record) -> Level | None:
    first = Record(0, NOW_MS, b"taxi-7", msgspec.json.encode(machine), (("ce_type", REGISTERED.encode()),))
    return LogHand(LOG, Reader(first, *records), "taxi-7", "battery", "0x" + "00" * 20).level()  # type: ignore[arg-type]


def test_the_newest_level_counts() -> None:
    records = (level(1, 50, NOW_MS - 2), level(2, 40, NOW_MS - 1), level(3, 60, NOW_MS - 2))
    assert seen(taxi(), *records) == Level(40, NOW_MS - 1)
    assert seen(taxi()) is None


def test_attack_levels_of_others_and_of_the_far_future_are_passed_over() -> None:
    """Where the registration names keys, only what they signed counts."""
    assert seen(taxi(), level(1, 1, NOW_MS + 6 * MINUTE_MS)) is None
    assert seen(taxi(is_signed=True), level(1, 1, NOW_MS), level(2, 2, NOW_MS + 1, b"\6" * 32)) is None
    assert seen(taxi(is_signed=True), level(1, 1, NOW_MS), level(2, 70, NOW_MS + 1, KEY)) == Level(70, NOW_MS + 1)
