"""A gateway's spool: numbers are given once, whatever ends the process, and nothing goes in silence."""

import os
from pathlib import Path

import msgspec
import pytest

from tallyroot_gateway import InvalidInput, Reading, SpoolFull
from tallyroot_gateway.spool import BOOT_UNIT_MS, BOOTS_BEGIN_MS, Place, Spool, _line

NOW_MS = BOOTS_BEGIN_MS + 1_000 * BOOT_UNIT_MS + 777


def opened(folder: Path, now_ms: int = NOW_MS, **options: int) -> Spool:
    return Spool(folder, "log-1", "site-1", now_ms=now_ms, **options)


def put(spool: Spool, meter: str = "energy", register: int = 5) -> Reading:
    reading = Reading("m1", meter, spool.boot, spool.next_seq("m1", meter), NOW_MS, register=register)
    spool.append([reading])
    return reading


def rows(spool: Spool, place: Place | None = None) -> list[Reading]:
    found, _ = spool.read(spool.acked if place is None else place, 10_000, 1 << 20)
    return [msgspec.json.decode(row, type=Reading) for row in found]


def killed(spool: Spool) -> None:
    """What the end of a process lets go of; nothing is written any more."""
    os.close(spool._lock)


def test_a_new_spool_numbers_by_the_clock(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    assert (spool.boot, spool.next_seq("m1", "energy")) == (1_000, 778)
    assert [put(spool).seq, put(spool).seq, put(spool, "import").seq] == [778, 779, 778]


def test_after_a_kill_it_goes_on_with_the_same_boot_and_the_next_number(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    sent = [put(spool, register=number) for number in range(10)]
    killed(spool)
    again = opened(tmp_path, NOW_MS + 10**9)
    assert (again.boot, again.count, rows(again)) == (1_000, 10, sent)
    assert put(again).seq == sent[-1].seq + 1
    assert again.warnings == []


def test_after_a_close_what_kafka_has_is_not_sent_again(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    sent = [put(spool, register=number) for number in range(5)]
    _, place = spool.read(spool.acked, 3, 1 << 20)
    spool.forget(place, 3)
    spool.close()
    again = opened(tmp_path)
    assert (again.count, rows(again)) == (2, sent[3:])
    assert put(again).seq == sent[-1].seq + 1


def test_restarts_without_readings_leave_one_segment(tmp_path: Path) -> None:
    for _ in range(5):
        opened(tmp_path).close()
    spool = opened(tmp_path)
    assert len(list(tmp_path.glob("*.readings"))) == 1
    assert (spool.boot, spool.next_seq("m1", "energy")) == (1_000, 778)


def test_a_line_cut_off_was_never_produced(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    sent = [put(spool, register=number) for number in range(3)]
    killed(spool)
    (path,) = tmp_path.glob("*.readings")
    path.write_bytes(path.read_bytes()[:-7])
    again = opened(tmp_path)
    assert (again.boot, rows(again), again.warnings) == (1_000, sent[:2], [])
    assert put(again).seq == sent[2].seq


def test_damage_is_set_aside_and_said_and_begins_a_higher_boot(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    sent = [put(spool, register=number) for number in range(3)]
    killed(spool)
    (path,) = tmp_path.glob("*.readings")
    data = bytearray(path.read_bytes())
    data[-80] ^= 1
    path.write_bytes(data)
    again = opened(tmp_path)
    assert (again.boot, rows(again)) == (1_001, sent[:2])
    assert "is damaged from byte" in again.warnings[0]
    assert path.with_suffix(".damaged").exists()


def test_wherever_it_is_damaged_no_number_is_given_twice(tmp_path: Path) -> None:
    spool = opened(tmp_path / "whole")
    sent = [put(spool, register=number) for number in range(3)]
    spool.close()
    (path,) = (tmp_path / "whole").glob("*.readings")
    data = path.read_bytes()
    for place in range(0, len(data) - 1, 9):  # of the last line the end may be missing: it is as if it was cut off
        folder = tmp_path / str(place)
        folder.mkdir()
        (folder / path.name).write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        again = opened(folder)
        found = rows(again)
        assert found == sent[: len(found)]
        assert (put(again).boot, len(again.warnings)) == (1_001, 1)
        killed(again)


def test_a_lost_folder_begins_a_boot_above_all_before(tmp_path: Path) -> None:
    before = opened(tmp_path / "a")
    later = opened(tmp_path / "b", NOW_MS + BOOT_UNIT_MS)
    assert later.boot == before.boot + 1
    soon = opened(tmp_path / "c", NOW_MS + 50)
    assert soon.boot == before.boot
    assert soon.next_seq("m1", "energy") == before.next_seq("m1", "energy") + 50


def test_a_registered_boot_is_the_least(tmp_path: Path) -> None:
    opened(tmp_path).close()
    assert opened(tmp_path, least_boot=70_000).boot == 70_000


def test_segments_go_once_kafka_has_them_and_carry_the_numbers_on(tmp_path: Path) -> None:
    spool = opened(tmp_path, limit_bytes=1 << 14)
    sent = []
    for number in range(500):
        sent.append(put(spool, register=number))
        if number % 50 == 49:
            found, place = spool.read(spool.acked, 10_000, 1 << 20)
            spool.forget(place, len(found))
    assert len(list(tmp_path.glob("*.readings"))) <= 2
    assert [reading.seq for reading in sent] == list(range(778, 1_278))
    killed(spool)
    assert opened(tmp_path).next_seq("m1", "energy") == 1_278


def test_a_full_spool_refuses_and_takes_no_number(tmp_path: Path) -> None:
    spool = opened(tmp_path, limit_bytes=1 << 14)
    while spool.end.offset and sum(path.stat().st_size for path in tmp_path.glob("*.readings")) < (1 << 14) - 120:
        put(spool)
    with pytest.raises(SpoolFull, match="this reading was not taken"):
        put(spool)
    expected = spool.next_seq("m1", "energy")
    found, place = spool.read(spool.acked, 10_000, 1 << 20)
    assert len(found) == spool.count == expected - 778
    spool.forget(place, len(found))
    assert put(spool).seq == expected


def test_the_last_registers_outlast_kills_and_segments(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    put(spool, register=9)
    killed(spool)
    spool = opened(tmp_path)
    put(spool, "import", register=2)
    assert spool.last_register("m1", "energy") == 9
    found, place = spool.read(spool.acked, 10_000, 1 << 20)
    spool.forget(place, len(found))
    spool.close()
    again = opened(tmp_path)
    assert len(list(tmp_path.glob("*.readings"))) == 1
    assert [again.last_register("m1", meter) for meter in ("energy", "import", "trips")] == [9, 2, None]


def test_a_meter_that_begins_again_gets_a_higher_boot_and_the_others_keep_their_registers(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    before = [put(spool, register=9), put(spool, "import", register=2)]
    spool.begin_boot("m1", "energy", NOW_MS + 5)
    assert (spool.boot, spool.last_register("m1", "energy"), spool.last_register("m1", "import")) == (1_001, None, 2)
    after = [put(spool, register=1), put(spool, "import", register=3)]
    assert [(reading.boot, reading.seq) for reading in after] == [(1_001, 783), (1_001, 783)]
    killed(spool)
    again = opened(tmp_path)
    assert (again.boot, rows(again), again.warnings) == (1_001, before + after, [])
    assert (again.last_register("m1", "energy"), put(again).seq) == (1, 784)


def test_killed_right_after_a_boot_began_no_number_is_used_again(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    put(spool, register=9)
    spool.begin_boot("m1", "energy", NOW_MS + 5)
    killed(spool)
    again = opened(tmp_path)
    assert (again.boot, again.last_register("m1", "energy"), put(again).seq) == (1_001, None, 783)


def test_a_later_quarter_s_boot_is_that_quarter(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.begin_boot("m1", "energy", NOW_MS + 3 * BOOT_UNIT_MS + 1)
    assert (spool.boot, spool.next_seq("m1", "energy")) == (1_003, 779)


def test_a_boot_that_cant_be_written_does_not_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = opened(tmp_path)
    first = put(spool, register=9)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(Path, "replace", full)
        with pytest.raises(InvalidInput, match=r"No space left on device.: this reading was not taken"):
            spool.begin_boot("m1", "energy", NOW_MS)
    assert (spool.boot, spool.last_register("m1", "energy")) == (first.boot, 9)
    assert put(spool, register=10).seq == first.seq + 1


def test_a_full_spool_begins_no_boot(tmp_path: Path) -> None:
    spool = opened(tmp_path, limit_bytes=1 << 14)

    def begin_many() -> None:
        for _ in range(1_000):
            spool.begin_boot("m1", "energy", NOW_MS)

    with pytest.raises(SpoolFull):
        begin_many()
    assert sum(path.stat().st_size for path in tmp_path.glob("*.readings")) < 1 << 14
    put(spool)


def test_a_head_behind_its_lines_uses_no_number_again(tmp_path: Path) -> None:
    """A segment whose head could not be made durable may stay on the disk while lines go on into the one before."""
    spool = opened(tmp_path, segment_bytes=300)
    put(spool, register=1)
    killed(spool)
    first, *_ = sorted(tmp_path.glob("*.readings"))
    behind = first.with_name("000000000002.readings")
    behind.write_bytes(first.read_bytes().splitlines(keepends=True)[0])
    again = opened(tmp_path)
    assert (again.last_register("m1", "energy"), put(again).seq) == (1, 779)


def test_a_spool_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    opened(tmp_path).close()
    (path,) = tmp_path.glob("*.readings")
    head = msgspec.json.decode(path.read_bytes()[9:]) | {"spool": 3}
    path.write_bytes(_line(msgspec.json.encode(head)))
    with pytest.raises(InvalidInput, match="has format 3: use the version that wrote it"):
        opened(tmp_path)
    assert path.exists()


def test_read_goes_over_segments_in_bounds(tmp_path: Path) -> None:
    spool = opened(tmp_path, segment_bytes=300)
    sent = [put(spool, register=number) for number in range(20)]
    assert len(list(tmp_path.glob("*.readings"))) > 5
    place, found = spool.acked, []
    while batch := spool.read(place, 3, 250):
        if not batch[0]:
            break
        assert sum(map(len, batch[0])) <= 250
        found += [msgspec.json.decode(row, type=Reading) for row in batch[0]]
        place = batch[1]
    assert found == sent


def test_one_gateway_a_folder(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    with pytest.raises(InvalidInput, match="another gateway has the spool"):
        opened(tmp_path)
    spool.close()
    with pytest.raises(InvalidInput, match="belongs to the route site-1"):
        Spool(tmp_path, "log-1", "site-2", now_ms=NOW_MS)


def test_a_clock_before_2020_begins_no_spool(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="set the clock first"):
        opened(tmp_path, 5_000)
