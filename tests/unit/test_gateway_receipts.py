"""Receipts on disk: there once, whole or set aside, and nothing that no key signs or the log would refuse."""

from pathlib import Path
from typing import Any

import pytest

from tallyroot_gateway import Gateway, InvalidInput
from tallyroot_gateway.receipts import Receipt, Receipts
from tests.support.sim_log import START_MS, private_key

RECEIPT = Receipt("shop", "beans", 1, 4, START_MS)


def test_a_receipt_waits_until_it_is_forgotten_and_is_there_once(tmp_path: Path) -> None:
    receipts = Receipts(tmp_path)
    assert receipts.count == 0 and not (tmp_path / "receipts").exists()
    receipts.keep(RECEIPT)
    receipts.keep(RECEIPT)
    again = Receipts(tmp_path)
    assert again.count == 1 and again.waiting() == receipts.waiting()
    ((name, value),) = again.waiting()
    assert value == b'{"machine":"shop","item":"beans","number":1,"quantity":4,"observed_at":%d}' % START_MS
    again.forget(name)
    assert Receipts(tmp_path).count == 0


def test_what_a_crash_or_a_disk_leaves_is_no_receipt(tmp_path: Path) -> None:
    receipts = Receipts(tmp_path)
    receipts.keep(RECEIPT)
    receipts.keep(Receipt("shop", "beans", 2, 4, START_MS))
    (first, value), (second, _) = receipts.waiting()
    (tmp_path / "receipts" / "x.json.tmp").write_bytes(value[:9])
    (tmp_path / "receipts" / first).write_bytes(value[:-1])
    found = Receipts(tmp_path)
    assert [name for name, _ in found.waiting()] == [second]
    assert len(found.warnings) == 1 and (tmp_path / "receipts" / first).with_suffix(".damaged").exists()


def a_gateway(spool: Path, **options: Any) -> Gateway:
    return Gateway("", log_id="log-1", route="shop", spool=spool, **options)


BAD = [
    ({"machine": "a b"}, "machine"), ({"item": ""}, "item"), ({"number": 0}, "from 1"), ({"number": True}, "integer"),
    ({"quantity": -1}, "quantity"), ({"quantity": 1.0}, "integer"), ({"observed_at": 1_780_000_000}, "seconds"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "why"), BAD)
def test_what_the_log_would_refuse_is_not_taken(tmp_path: Path, change: dict[str, Any], why: str) -> None:
    good = {"machine": "shop", "item": "beans", "number": 1, "quantity": 4, "observed_at": START_MS}
    gateway = a_gateway(tmp_path, key_id="k", private_key=private_key(1))
    with pytest.raises(InvalidInput, match=why):
        gateway.receive(**(good | change))
    gateway.receive(**good)
    assert gateway.status().waiting == 1
    assert gateway.close() == 1
    with pytest.raises(InvalidInput, match="receipts of goods wait"):
        a_gateway(tmp_path)
    again = a_gateway(tmp_path, key_id="k", private_key=private_key(1))
    assert again.close() == 1, "the one that was refused has let the folder go"


def test_a_gateway_without_a_key_receives_nothing(tmp_path: Path) -> None:
    gateway = a_gateway(tmp_path)
    with pytest.raises(InvalidInput, match="by a signature"):
        gateway.receive("shop", "beans", 1, 4)
    assert gateway.close() == 0
