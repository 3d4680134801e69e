"""A worker that dies at any moment leaves nothing lost, nothing doubled and no other bytes than one that doesn't."""

import random
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.arrow import TABLES, orders_from
from schemas.errors import InvalidInput
from schemas.order import Order
from streams.kafka.outbox_topic import OrderMessage, RejectedMessage
from streams.worker.partition import Partition
from tests.support import partition_runs as runs
from tests.support.forked import FORKED
from tests.support.sim_log import HOURLY

pytestmark = pytest.mark.crash


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("undisturbed")
    runs.run(folder)
    files = runs.final_files(folder)
    kinds = Counter(Path(name).name.removeprefix("0.") for name in files)
    assert kinds["manifest.json"] == kinds["leaves"] == kinds["parquet"] == 4
    assert {name.removesuffix(".parquet") for name in kinds} >= set(TABLES)
    return files


def in_child(work: Callable[..., None], *args: Any) -> int:
    child = start(work, *args)
    child.join(60)
    assert child.exitcode in (0, runs.DIED)
    return child.exitcode


def assert_sent_once(data_dir: Path) -> None:
    """Each refused record and each order was sent once, as the epochs' files have it; the checkpoint has none left."""
    records, rows = (
        pa.concat_tables([pq.read_table(path) for path in sorted(data_dir.glob(f"epochs/*/0.{name}.parquet"))])
        for name in ("rejected_records", "rejects")
    )
    sent = runs.FileTopic(data_dir / "rejected", RejectedMessage).messages()
    assert sent
    said = [msgspec.json.decode(message.rejected) for message in sent]
    found = [
        {"offset": m.offset, "timestamp_ms": m.timestamp_ms, "key": m.key, "value": m.value}
        | {"value_size": s["value_size"], "value_sha256": bytes.fromhex(s["value_sha256"])}
        for m, s in zip(sent, said, strict=True)
    ]
    assert found == records.to_pylist()
    reasons = [(each["offset"], *reason) for each in said for reason in each["reasons"]]
    assert reasons == [tuple(row.values()) for row in rows.to_pylist()]
    with duckdb.connect(str(data_dir / "partitions" / "0.duckdb"), read_only=True) as db:
        assert db.execute("SELECT epoch FROM rejected_records SEMI JOIN cuts USING (epoch)").fetchall() == []
        assert db.execute("SELECT * FROM unsent_orders").fetchall() == []
    orders = pa.concat_tables([pq.read_table(path) for path in sorted(data_dir.glob("epochs/*/0.orders.parquet"))])
    placed = runs.FileTopic(data_dir / "orders", OrderMessage).messages()
    assert [msgspec.json.decode(message.value, type=Order) for message in placed] == orders_from(orders)
    assert [message.key for message in placed] == [b"shop"]


def start(work: Callable[..., None], *args: Any) -> BaseProcess:
    child = FORKED.Process(target=work, args=args)
    child.start()
    return child


def test_killed_once_at_every_step_of_one_run(tmp_path: Path, undisturbed: dict[str, str]) -> None:
    seen = tmp_path / "seen"
    while in_child(runs.die_at_new_step, tmp_path / "data", seen) == runs.DIED:
        assert len(seen.read_text().splitlines()) < 200
    names = {line.rpartition(" ")[0] for line in seen.read_text().splitlines()}
    assert names == {
        "1 committed", "2 live", "2b sent", "2b acknowledged", *(f"3 {table}" for table in TABLES),
        "4 archive written", "4 archive published", "4 manifest", "5 dropped",
    }  # fmt: skip
    assert runs.final_files(tmp_path / "data") == undisturbed
    assert_sent_once(tmp_path / "data")


@pytest.mark.parametrize("count", [3, 11, 16])
def test_killed_with_more_commits_before_the_epochs_are_final(
    tmp_path: Path, undisturbed: dict[str, str], count: int
) -> None:
    assert in_child(runs.die_before_draining, tmp_path) == runs.DIED
    assert not runs.final_files(tmp_path).keys() & {name for name in undisturbed if name.endswith(".json")}
    assert in_child(runs.die_after, tmp_path, count) == runs.DIED
    runs.run(tmp_path)
    assert runs.final_files(tmp_path) == undisturbed


def test_killed_at_random_moments(tmp_path: Path, undisturbed: dict[str, str]) -> None:
    seed = random.randrange(1_000_000)
    chance = random.Random(seed)
    for _ in range(8):
        child = start(runs.run_slowly, tmp_path)
        time.sleep(chance.uniform(0.05, 0.5))
        child.kill()
        child.join()
    runs.run(tmp_path)
    assert runs.final_files(tmp_path) == undisturbed, f"seed {seed}"
    assert_sent_once(tmp_path)


def test_a_second_process_gets_no_partition_until_the_first_is_dead(tmp_path: Path) -> None:
    held = tmp_path / "held"
    child = start(runs.hold, tmp_path / "data", held)
    while not held.exists():
        time.sleep(0.01)
    log = runs.the_log()
    assert Partition.open(tmp_path / "data", HOURLY, 0, log.topic_id(), log) is None
    child.kill()
    child.join()
    partition = Partition.open(tmp_path / "data", HOURLY, 0, log.topic_id(), log)
    assert partition is not None
    partition.close()


def test_a_checkpoint_that_another_program_reads_is_named(tmp_path: Path) -> None:
    runs.run(tmp_path)
    opened = tmp_path / "opened"
    child = start(runs.read_checkpoint, tmp_path, opened)
    while not opened.exists():
        time.sleep(0.01)
    log = runs.the_log()
    with pytest.raises(InvalidInput, match="end the program that has it open"):
        Partition.open(tmp_path, HOURLY, 0, log.topic_id(), log)
    child.kill()
    child.join()
    runs.run(tmp_path)
