"""What a device hands over together is taken whole and once, wherever the process ends."""

import os
import shutil
from itertools import count
from pathlib import Path

import msgspec
import pytest

from tallyroot_gateway import Gateway, InvalidInput, NewReading, Reading
from tallyroot_gateway.spool import KEYS_MAX, Spool
from tests.support.gateway_spools import NOW_MS
from tests.unit.test_gateway_spool import killed, opened, rows
from tests.unit.test_gateway_spool_kills import Work, is_killed


def deliver(spool: Spool, *registers: int, key: str | None = None, notes: dict[str, str | None] | None = None) -> None:
    first = spool.next_seq("m1", "energy")
    readings = [
        Reading("m1", "energy", spool.boot, first + number, NOW_MS, register=register)
        for number, register in enumerate(registers)
    ]
    spool.append(readings, key, notes)


def test_a_delivery_cut_off_anywhere_was_not_taken(tmp_path: Path) -> None:
    spool = opened(tmp_path / "whole")
    deliver(spool, 1, key="first", notes={"session": "a", "state": "charging"})
    before = spool.end.offset
    deliver(spool, 2, 3, 4, key="second", notes={"session": None, "state": "idle"})
    after = spool.end.offset
    killed(spool)
    for size in range(before, after + 1):
        folder = tmp_path / str(size)
        shutil.copytree(tmp_path / "whole", folder)
        (path,) = folder.glob("*.readings")
        path.write_bytes(path.read_bytes()[:size])
        again = opened(folder)
        is_whole = size == after
        assert again.warnings == []
        assert [reading.register for reading in rows(again)] == ([1, 2, 3, 4] if is_whole else [1])
        assert (again.has_key("first"), again.has_key("second")) == (True, is_whole)
        assert (again.note("session"), again.note("state")) == ((None, "idle") if is_whole else ("a", "charging"))
        assert again.next_seq("m1", "energy") == (782 if is_whole else 779)
        again.close()


def test_keys_and_notes_outlive_the_segments_that_held_them(tmp_path: Path) -> None:
    spool = opened(tmp_path, segment_bytes=300)
    for number in range(20):
        deliver(spool, number, key=f"key-{number}", notes={"last": str(number)})
        found, place = spool.read(spool.acked, 100, 1 << 20)
        spool.forget(place, len(found))
    assert len(list(tmp_path.glob("*.readings"))) <= 2
    killed(spool)
    again = opened(tmp_path)
    assert again.note("last") == "19"
    assert all(again.has_key(f"key-{number}") for number in range(20))


def test_notes_alone_fill_no_disk(tmp_path: Path) -> None:
    spool = opened(tmp_path, limit_bytes=1 << 14)
    for number in range(2_000):
        spool.append([], None, {"heartbeat": str(number)})
    assert sum(path.stat().st_size for path in tmp_path.glob("*.readings")) < 1 << 14
    killed(spool)
    assert opened(tmp_path).note("heartbeat") == "1999"


def test_the_oldest_keys_are_forgotten(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    for number in range(KEYS_MAX + 2):
        spool.append([], f"key-{number}")
    killed(spool)
    again = opened(tmp_path)
    assert [again.has_key(f"key-{number}") for number in (1, 2, KEYS_MAX + 1)] == [False, True, True]


def test_after_damage_the_next_segment_s_head_says_what_was_noted(tmp_path: Path) -> None:
    spool = opened(tmp_path, segment_bytes=300)
    for number in range(6):
        deliver(spool, number, key=f"key-{number}", notes={"last": str(number)})
    killed(spool)
    first, *_ = sorted(tmp_path.glob("*.readings"))
    head, line, *rest = first.read_bytes().splitlines(keepends=True)
    first.write_bytes(b"".join([head, line[:20] + b"X" + line[21:], *rest]))
    again = opened(tmp_path)
    assert len(again.warnings) == 1
    assert (again.note("last"), again.has_key("key-0"), again.has_key("key-5")) == ("5", True, True)


class Deliveries(Work):
    """Three deliveries, one of them repeated, as a device that heard no answer would."""

    def run(self) -> None:
        for _ in range(2):
            spool = Spool(self.folder, "log-1", "site-1", now_ms=NOW_MS, segment_bytes=400)
            for number in range(3):
                if not spool.has_key(f"key-{number}"):
                    deliver(spool, 10 * number, 10 * number + 1, key=f"key-{number}", notes={"last": str(number)})
                spool.sync()
                self.acknowledged = number + 1
            spool.close()


def test_wherever_it_is_killed_a_delivery_is_taken_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in count():
        work = Deliveries(tmp_path / str(step))
        work.folder.mkdir()
        was_killed = is_killed(work, step, monkeypatch)
        acknowledged = work.acknowledged
        again = Spool(work.folder, "log-1", "site-1", now_ms=NOW_MS + 5)
        registers = [reading.register for reading in rows(again)]
        taken = len(registers) // 2
        assert taken >= acknowledged
        assert registers == [0, 1, 10, 11, 20, 21][: 2 * taken]
        assert again.note("last") == (str(taken - 1) if taken else None)
        again.close()
        work.run()  # the device repeats what it heard no answer to
        final = Spool(work.folder, "log-1", "site-1", now_ms=NOW_MS + 9)
        assert [reading.register for reading in rows(final)] == [0, 1, 10, 11, 20, 21]
        final.close()
        if not was_killed:
            assert step > 30
            return


def test_a_gateway_takes_all_of_a_delivery_or_nothing(tmp_path: Path) -> None:
    with Gateway("127.0.0.1:9", log_id="log-1", route="site-1", spool=tmp_path, now_ms=lambda: NOW_MS) as gateway:
        good = NewReading(machine="m1", meter="energy", observed_at=NOW_MS, register=5)
        with pytest.raises(InvalidInput, match="register: use 0 to"):
            gateway.deliver([good, msgspec.structs.replace(good, register=-1)], key="k", notes={"n": "1"})
        with pytest.raises(InvalidInput, match="register: 4 is below 5"):
            gateway.deliver([good, msgspec.structs.replace(good, register=4)], key="k")
        assert (gateway.status().waiting, gateway.note("n")) == (0, None)
        fell = msgspec.structs.replace(good, register=4, may_fall=True, evidence="OCMF|{}|{}")
        taken = gateway.deliver([good, fell], key="k", notes={"n": "1"})
        assert [(reading.seq, reading.register) for reading in taken] == [(778, 5), (779, 4)]
        assert (gateway.deliver([good], key="k"), gateway.note("n"), gateway.status().waiting) == ([], "1", 2)
        gateway.sync()
        assert gateway.close(0) == 2


def test_what_a_killed_process_left_is_synced_before_its_keys_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a loss of power after the restart could take the readings and leave the key under which they come again."""
    spool = opened(tmp_path)
    deliver(spool, 1, key="first")
    before = max(tmp_path.glob("*.readings"))
    killed(spool)
    synced: list[int] = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (synced.append(os.fstat(file).st_ino), fsync(file)))
    inode = before.stat().st_ino
    opened(tmp_path).close()
    assert synced[0] == inode
