"""A gateway looks at what it is given: the caller learns at once what is wrong, and a refused reading has no number."""

import os
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from tallyroot_gateway import Gateway, InvalidInput
from tallyroot_gateway.reading import NEWEST_MS, OLDEST_MS, fault_of
from tests.support.gateway_faults import FAULTS, GOOD

NOBODY = "127.0.0.1:1"
"""Where nothing answers."""


def opened(folder: Path, **options: Any) -> Gateway:
    return Gateway(NOBODY, log_id="l", route="taxi-1", spool=folder, **options)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with opened(tmp_path_factory.mktemp("spool")) as gateway:
        yield gateway
        gateway.close(0)


@pytest.mark.parametrize(("given", "words"), FAULTS, ids=[words for _, words in FAULTS])
def test_a_fault_is_said_in_one_line(gateway: Gateway, given: dict[str, Any], words: str) -> None:
    before = gateway.send(**GOOD)
    with pytest.raises(InvalidInput) as raised:
        gateway.send(**(GOOD | given))
    assert str(raised.value) == f"this reading was not taken: {words}"
    after = gateway.send(**GOOD)
    assert (after.boot, after.seq) == (before.boot, before.seq + 1)


@pytest.mark.parametrize("value", [True, False, 1.0, b"5", [5]])
def test_only_an_integer_is_an_integer(value: object) -> None:
    for name in ("register", "observed_at"):
        assert "use an integer" in (fault_of(GOOD | {"boot": 1, "seq": 1, name: value}) or "")


def test_every_millisecond_of_the_century_is_a_time() -> None:
    for ms in (OLDEST_MS, NEWEST_MS - 1):
        assert fault_of(GOOD | {"boot": 1, "seq": 1, "observed_at": ms}) is None


def test_a_clock_that_is_not_set_is_said(tmp_path: Path) -> None:
    now_ms = [OLDEST_MS + 10**12]
    gateway = opened(tmp_path, now_ms=lambda: now_ms[0])
    now_ms[0] = 5_000
    with pytest.raises(InvalidInput, match="observed_at: 5000 is before the year 2000: set the clock"):
        gateway.send("taxi-1", "trips", quantity=1)
    gateway.close(0)


def test_a_register_that_rolls_over_stays_in_its_boot(tmp_path: Path) -> None:
    gateway = opened(tmp_path)
    first = gateway.send("m", "energy", register=65_000)
    after = gateway.send("m", "energy", register=12, rolls_over=True)
    assert (after.boot, after.seq) == (first.boot, first.seq + 1)
    with pytest.raises(InvalidInput, match="11 is below 12"):
        gateway.send("m", "energy", register=11)
    with pytest.raises(InvalidInput, match="rolls_over: use true or false"):
        gateway.send("m", "energy", register=13, rolls_over=1)  # type: ignore[arg-type]
    gateway.close(0)


def test_a_register_that_falls_is_refused_until_it_is_said_to_be_reset(tmp_path: Path) -> None:
    gateway = opened(tmp_path)
    first = gateway.send("m", "energy", register=9)
    gateway.send("m", "import", register=70)
    gateway.send("n", "energy", register=3)
    with pytest.raises(InvalidInput, match=r"register: 5 is below 9, the last of m's energy: .* say so with reset"):
        gateway.send("m", "energy", register=5)
    assert gateway.send("m", "energy", register=9).seq == first.seq + 1
    again = gateway.send("m", "energy", register=5, reset=True)
    assert again.boot > first.boot
    assert gateway.status().boot == again.boot
    with pytest.raises(InvalidInput, match="4 is below 5"):
        gateway.send("m", "energy", register=4)
    # The other meters did not begin again.
    with pytest.raises(InvalidInput, match="69 is below 70"):
        gateway.send("m", "import", register=69)
    assert gateway.send("m", "import", register=70).boot == again.boot
    assert gateway.close(0) == 6


def test_a_restart_remembers_every_meter_s_last_register(tmp_path: Path) -> None:
    gateway = opened(tmp_path)
    gateway.send("m", "energy", register=9)
    gateway.send("m", "energy", quantity=1)
    gateway.close(0)
    for _ in range(2):  # the second restart has it from the first line of a segment
        gateway = opened(tmp_path)
        with pytest.raises(InvalidInput, match="8 is below 9"):
            gateway.send("m", "energy", register=8)
        gateway.close(0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"log_id": "a b"}, "log_id: use 1 to 64 of A-Z a-z 0-9 . _ : * -, not 'a b'"),
        ({"route": ""}, "route: use 1 to 64"),
        ({"key_id": "k"}, "needs both key_id and private_key"),
        ({"key_id": "k", "private_key": b"x"}, "give its 32 bytes"),
        ({"partitions": 0}, "partitions: use an integer from 1 to 1024, not 0"),
        ({"format": "xml"}, "format: use json or arrow, not 'xml'"),
        ({"batch_rows": 10_001}, "batch_rows: use an integer from 1 to 10000, not 10001"),
        ({"sync": "never"}, "sync: use batch or reading, not 'never'"),
    ],
)
def test_an_option_that_cant_be_right_is_said(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        Gateway(NOBODY, **({"log_id": "l", "route": "r", "spool": tmp_path} | options))
    assert words in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_while_kafka_is_away_readings_still_outlast_a_loss_of_power(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = opened(tmp_path)
    for _ in range(2):
        synced = Event()
        with monkeypatch.context() as disk:
            disk.setattr(os, "fsync", lambda _file, synced=synced: synced.set())
            gateway.send("m", "energy", register=9)
            assert synced.wait(30)
    assert gateway.close(0) == 2


def test_a_folder_that_cant_be_written_is_said() -> None:
    with pytest.raises(InvalidInput, match=r"the spool /dev/null/spool can't be used .Not a directory.: name a folder"):
        opened(Path("/dev/null/spool"))
