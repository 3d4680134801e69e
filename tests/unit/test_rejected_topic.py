"""What is refused: sent once and beside the commits, shown before its epoch is final, and never much larger."""

import time
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pytest

from schemas.reject import KEPT_BYTES
from schemas.units import HOUR_MS
from streams.core.records import Record
from streams.kafka.outbox_topic import RejectedMessage
from streams.storage.analytics import make_analytics
from streams.worker.partition import Partition
from tests.support.partition_runs import FileTopic, feed, the_log
from tests.support.sim_log import HOURLY, START_MS, SimLog, heartbeat, registration, small_log


def opened(data_dir: Path, log: SimLog, rejected: FileTopic[RejectedMessage] | None, **options: Any) -> Partition:
    partition = Partition.open(data_dir, HOURLY, 0, "topic-1", log, rejected=rejected, **options)
    assert partition is not None
    return partition


def offsets(topic: FileTopic[RejectedMessage]) -> list[int]:
    return [message.offset for message in topic.messages()]


def held(data_dir: Path) -> list[int]:
    """The offsets of the refused records in the checkpoint. Nobody may have it open."""
    with duckdb.connect(str(data_dir / "partitions" / "0.duckdb"), read_only=True) as db:
        return [row[0] for row in db.execute('SELECT "offset" FROM rejected_records ORDER BY ALL').fetchall()]


def query(data_dir: Path, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(make_analytics(data_dir, HOURLY)), read_only=True) as db:
        return db.execute(sql).fetchall()


def test_kafka_away_stops_no_commit_and_no_epoch_and_nothing_is_forgotten(tmp_path: Path) -> None:
    log = the_log()
    topic = FileTopic(tmp_path / "topic", RejectedMessage)
    topic.is_away = True
    partition = opened(tmp_path / "data", log, topic)
    feed(partition, log)
    assert partition.pending == (), "the epochs are final"
    partition.close()
    kept = held(tmp_path / "data")
    assert kept and offsets(topic) == []
    topic.is_away = False
    opened(tmp_path / "data", log, topic).close()
    assert offsets(topic) == kept
    assert held(tmp_path / "data") == []


def test_beside_the_commits_a_slow_topic_is_waited_for_by_drain_alone(tmp_path: Path) -> None:
    log = the_log()
    topic = FileTopic(tmp_path / "topic", RejectedMessage, lambda _: time.sleep(0.2))
    partition = opened(tmp_path / "data", log, topic, background=True)
    feed(partition, log)
    partition.drain()
    sent = offsets(topic)
    assert sent == sorted(set(sent)) and sent
    assert [row[0] for row in query(tmp_path / "data", 'SELECT DISTINCT "offset" FROM rejects ORDER BY 1')] == sent
    partition.close()
    assert held(tmp_path / "data") == []


def test_what_stops_the_sender_stops_the_partition(tmp_path: Path) -> None:
    def fail(_: str) -> None:
        raise RuntimeError("broken")

    log = the_log()
    partition = opened(tmp_path / "data", log, FileTopic(tmp_path / "topic", RejectedMessage, fail), background=True)

    def work() -> None:
        feed(partition, log)
        partition.drain()

    with pytest.raises(RuntimeError, match="broken"):
        work()
    partition.close()


def test_a_reject_shows_once_before_and_after_its_epoch_is_final(tmp_path: Path) -> None:
    whole = small_log(machines=2, minutes=70, silent_hours=2)
    sql = 'SELECT "offset", "row", reason, "key", "value", value_sha256, epoch, final FROM rejects ORDER BY ALL'
    moments = count(0.0, 5.0)
    log = whole
    partition = opened(tmp_path, log, None, seconds=partial(next, moments))
    seen: list[list[tuple[Any, ...]]] = []
    finals = set()
    for start, next_offset, records in log.pieces(20):
        partition.process(start, next_offset, records)
        for _ in range(2):  # time goes by, nothing comes
            partition.process(next_offset, next_offset, [])
        found = query(tmp_path, sql)
        rows = [row[:-1] for row in found]
        assert len({row[:2] for row in rows}) == len(rows)
        finals |= {row[-1] for row in found}
        if seen:
            assert seen[-1] == rows[: len(seen[-1])], "what was shown stays as it was"
        seen.append(rows)
    for _ in range(25):  # the boundary passes all that is final
        partition.process(log.end, log.end, [])
    assert [row[:-1] for row in query(tmp_path, sql)] == seen[-1]
    partition.close()
    assert len(seen[0]) < len(seen[-1])
    assert finals == {False, True}


def test_a_record_of_ten_thousand_refused_rows_stays_within_its_size(tmp_path: Path) -> None:
    rows = [b"0"] * 10_000
    wide = b"[" + b",".join(rows) + b"]"
    long = b"[" + b" " * 900_000 + b",".join(rows) + b"]"
    records: list[Record] = [registration("m", 0)]
    records += [Record(1 + place, START_MS, b"k", value, []) for place, value in enumerate([wide, long] * 10)]
    records += [heartbeat(30, START_MS + HOUR_MS * 2)]
    log = SimLog(records)
    topic = FileTopic(tmp_path / "topic", RejectedMessage)
    partition = opened(tmp_path / "data", log, topic)
    partition.process(0, 30, records[:-1])
    live = sum(path.stat().st_size for path in (tmp_path / "data" / "live").rglob("*.rejects.parquet"))
    partition.process(30, 31, records[-1:])
    partition.close()
    messages: list[RejectedMessage] = topic.messages()
    assert [len(m.value) for m in messages] == [min(len(v), KEPT_BYTES) for v in [wide, long] * 10]
    for message in messages:
        said = msgspec.json.decode(message.rejected)
        assert said["reasons"] == [[row, "malformed"] for row in range(10_000)]
        assert len(message.rejected) + len(message.value) < 400_000, "any broker takes it"
        assert len(message.rejected) < 12 * said["value_size"]
    small = 10 * len(wide)
    assert live < small + 10 * KEPT_BYTES
    for name in ("rejects", "rejected_records"):
        sizes = [path.stat().st_size for path in (tmp_path / "data" / "epochs").rglob(f"0.{name}.parquet")]
        assert sum(sizes) < small + 10 * KEPT_BYTES
    assert (tmp_path / "data" / "partitions" / "0.duckdb").stat().st_size < 20 * small


def test_a_batch_is_bounded_by_bytes_and_by_entries(tmp_path: Path) -> None:
    wide = b"[" + b",".join([b"0"] * 10_000) + b"]"
    records: list[Record] = [Record(place, START_MS, b"k", wide, []) for place in range(20)]
    records += [Record(20 + place, START_MS, b"k", b"x" * KEPT_BYTES, []) for place in range(150)]
    log = SimLog(records)
    batches: list[int] = []
    topic = FileTopic(tmp_path / "topic", RejectedMessage, lambda _: batches.append(len(topic.messages())))
    partition = opened(tmp_path / "data", log, topic)
    partition.process(0, log.end, records)
    partition.close()
    assert offsets(topic) == list(range(170))
    steps = [after - before for before, after in zip([0, *batches], batches, strict=False)]
    assert steps[0] <= 14 and max(steps) <= 129
