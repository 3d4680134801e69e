"""A checkpoint continues exactly where it stands, for the log it was made for, or says what differs."""

import random
import shutil
import threading
from itertools import pairwise
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from msgspec import structs

from schemas.arrow import TABLES
from schemas.errors import InvalidInput, InvariantBroken
from schemas.log import Log, Ruleset
from schemas.units import HOUR_MS
from streams.core.log_root import CHUNK_OFFSETS, EMPTY_ROOT
from streams.core.recompute import recompute
from streams.core.state import State
from streams.storage.archive import archive_leaves, chunk_proof, read_archive, read_leaves
from streams.storage.checkpoint import Checkpoint
from streams.storage.checkpoint_identity import FORMAT, CheckpointIdentity
from streams.storage.epoch_files import EpochPaths, epoch_paths, read_manifest, read_windows
from streams.storage.log_reader import in_slices
from streams.worker.partition import Partition
from tests.support import partition_runs as runs
from tests.support.sim_log import HOURLY, START_MS, SimLog, heartbeat, small_log


def opened(data_dir: Path, log: Log = HOURLY, sim: SimLog | None = None, topic_id: str = "topic-1") -> Partition:
    partition = Partition.open(data_dir, log, 0, topic_id, sim or runs.the_log())
    assert partition is not None
    return partition


def all_paths(data_dir: Path) -> list[EpochPaths]:
    found = sorted(data_dir.glob("epochs/*/0.manifest.json"))
    return [EpochPaths(data_dir, path.parent.name, 0) for path in found]


def stored(paths: EpochPaths, name: str) -> pa.Table:
    """A table of an epoch; without rows it has no file."""
    path = paths.table(name)
    return pq.read_table(path) if path.exists() else TABLES[name].empty_table()


def test_slices_of_any_size_give_the_same_files(tmp_path: Path) -> None:
    for size in (1, 7, 1_000):
        runs.run(tmp_path / str(size), slice_size=size)
    first, second, third = (runs.final_files(tmp_path / str(size)) for size in (1, 7, 1_000))
    assert first == second == third


def test_what_runs_beside_the_commits_gives_the_same_files(tmp_path: Path) -> None:
    runs.run(tmp_path / "inside")
    log = runs.the_log()
    partition = Partition.open(tmp_path / "beside", HOURLY, 0, "topic-1", log, background=True)
    assert partition is not None
    runs.feed(partition, log)
    partition.drain()
    assert partition.pending == ()
    partition.close()
    assert runs.final_files(tmp_path / "beside") == runs.final_files(tmp_path / "inside")


def test_manifests_chain_and_count_everything(tmp_path: Path) -> None:
    runs.run(tmp_path)
    log = runs.the_log()
    files = [read_manifest(paths.manifest) for paths in all_paths(tmp_path)]
    manifests = [whole.manifest for whole in files if whole is not None]
    assert len(manifests) == 4
    assert manifests[0].first_offset == 0
    for before, after in pairwise(manifests):
        assert (after.first_offset, after.epoch) == (before.next_offset, before.epoch + 1)
    assert any(manifest.windows == 0 and manifest.first_offset == manifest.next_offset for manifest in manifests)
    assert {manifest.log_root for manifest in manifests if manifest.first_offset == manifest.next_offset} == {
        EMPTY_ROOT.hex()
    }
    assert sum(manifest.windows for manifest in manifests) > 8
    assert sum(manifest.counts.rejected for manifest in manifests) == sum(
        sum(manifest.rejects_by_reason.values()) for manifest in manifests
    )
    records = [record for paths in all_paths(tmp_path) for record in read_archive(paths.archive)]
    assert records == [record for record in log.records if record.offset < manifests[-1].next_offset]


def test_the_log_alone_gives_what_was_published(tmp_path: Path) -> None:
    runs.run(tmp_path)
    results = list(recompute(HOURLY, 0, in_slices(runs.the_log().records, 13)))
    for paths, result in zip(all_paths(tmp_path), results, strict=True):
        whole = read_manifest(paths.manifest)
        assert whole is not None
        assert result.manifest == whole.manifest
        assert read_windows(paths) == result.windows
        assert all(stored(paths, name) == table for name, table in result.tables.items())


def test_files_say_what_the_manifest_says(tmp_path: Path) -> None:
    runs.run(tmp_path)
    for paths in all_paths(tmp_path):
        whole = read_manifest(paths.manifest)
        assert whole is not None
        assert whole.manifest_digest == whole.manifest.digest().hex()
        assert stored(paths, "windows").num_rows == whole.manifest.windows
        rejects = stored(paths, "rejects")
        assert rejects.num_rows == whole.manifest.counts.rejected
        records = stored(paths, "rejected_records")
        assert sorted(set(rejects["offset"].to_pylist())) == records["offset"].to_pylist()
        root, leaves = archive_leaves(paths.archive)
        assert root.hex() == whole.manifest.log_root
        assert [leaf.digest for leaf in leaves] == read_leaves(paths.archive)


def test_a_gateway_can_prove_that_its_reading_was_in(tmp_path: Path) -> None:
    runs.run(tmp_path)
    record = runs.the_log().records[20]
    (paths,) = [paths for paths in all_paths(tmp_path) if record in list(read_archive(paths.archive))]
    whole = read_manifest(paths.manifest)
    proof = chunk_proof(paths.archive, record.offset)
    assert whole is not None
    assert proof.root().hex() == whole.manifest.log_root
    assert record in proof.records()
    with pytest.raises(InvalidInput, match="no record at offset"):
        chunk_proof(paths.archive, 10_000)


def test_a_slice_that_does_not_continue_the_checkpoint_stops(tmp_path: Path) -> None:
    log = runs.the_log()
    partition = opened(tmp_path)
    assert partition.next_offset is None
    with pytest.raises(InvariantBroken, match="is at offset 0"):
        partition.process(3, 5, log.records[3:5])
    partition.process(0, 5, log.records[:5])
    for start in (0, 4, 6):
        with pytest.raises(InvariantBroken, match="is at offset 5"):
            partition.process(start, start + 1, [log.records[start]])
    with pytest.raises(InvariantBroken, match="other offsets"):
        partition.process(5, 6, log.records[5:7])
    partition.close()
    again = opened(tmp_path)
    assert again.next_offset == 5
    again.close()


def test_the_file_itself_compares_the_offset(tmp_path: Path) -> None:
    log = runs.the_log()
    one = opened(tmp_path)
    one.process(0, 5, log.records[:5])
    two = Checkpoint.reader(one._checkpoint)
    two._db.execute("UPDATE position SET next_offset = 4")
    with pytest.raises(InvariantBroken, match="is at offset 4"):
        one.process(5, 6, log.records[5:6])
    with pytest.raises(InvariantBroken, match="after an error"):
        one.process(5, 6, log.records[5:6])
    two.close()
    one.close()


def test_a_gap_of_offsets_moves_the_checkpoint(tmp_path: Path) -> None:
    log = runs.the_log()
    partition = opened(tmp_path)
    partition.process(0, 5, log.records[:5])
    assert partition.process(5, 9, []).next_offset == 9
    assert partition.next_offset == 9
    partition.close()


def test_each_epoch_that_ends_in_a_slice_is_progress(tmp_path: Path) -> None:
    """A backlog of small epochs has hundreds of commits in a slice, and a watchdog that wants to see one a minute."""
    log = runs.the_log()
    partition = opened(tmp_path)
    moved: list[int] = []
    done = partition.process(0, log.end, log.records, moved.append)
    assert len(moved) == len(done.cuts) + 1 > 2
    assert moved == sorted(moved) and moved[-1] == log.end
    partition.close()


def test_a_topic_made_again_is_refused(tmp_path: Path) -> None:
    opened(tmp_path).close()
    with pytest.raises(InvalidInput, match="topic_id topic-1, now it is topic-2"):
        opened(tmp_path, topic_id="topic-2")


@pytest.mark.parametrize(
    "change",
    [
        {"log_id": "other"},
        {"currency": "EUR"},
        {"window_ms": 60_000},
        {"epoch_ms": 86_400_000},
        {"partitions": 2},
        {"timestamp_type": "LogAppendTime"},
    ],
)
def test_another_log_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    opened(tmp_path).close()
    with pytest.raises(InvalidInput, match=f"{next(iter(change))} .*new data folder"):
        opened(tmp_path, structs.replace(HOURLY, **change))


def test_rules_may_change_only_for_epochs_not_yet_judged(tmp_path: Path) -> None:
    partition = opened(tmp_path)
    runs.feed(partition, runs.the_log())
    judged = partition._position.epoch
    assert judged is not None
    partition.close()
    later = structs.replace(HOURLY, rulesets=(Ruleset(), Ruleset(first_epoch=judged + 1, grace_ms=1)))
    opened(tmp_path, later).close()
    for first_epoch in (judged, judged - 3):
        contradicting = structs.replace(HOURLY, rulesets=(Ruleset(), Ruleset(first_epoch=first_epoch, grace_ms=1)))
        with pytest.raises(InvalidInput, match=f"begin at epoch {judged + 1} or later"):
            opened(tmp_path, contradicting)
    with pytest.raises(InvalidInput, match="contradicts"):
        opened(tmp_path, structs.replace(HOURLY, rulesets=(Ruleset(grace_ms=1),)))
    opened(tmp_path).close()


def test_a_manifest_that_says_something_else_stops(tmp_path: Path) -> None:
    runs.run(tmp_path / "first")
    paths = all_paths(tmp_path / "first")[2]
    whole = read_manifest(paths.manifest)
    assert whole is not None
    other = structs.replace(whole, manifest=structs.replace(whole.manifest, net_micros="1", log_root="00"))
    paths.manifest.write_bytes(msgspec.json.encode(other))
    (tmp_path / "first" / "partitions" / "0.duckdb").unlink()
    with pytest.raises(InvariantBroken, match="is final, and the log now has another net_micros, log_root"):
        runs.run(tmp_path / "first")


def test_final_files_that_were_changed_stop(tmp_path: Path) -> None:
    runs.run(tmp_path)
    all_paths(tmp_path)[1].table("windows").write_bytes(b"changed")
    (tmp_path / "partitions" / "0.duckdb").unlink()
    with pytest.raises(InvariantBroken, match="isn't the file"):
        runs.run(tmp_path)


def test_a_lost_checkpoint_is_made_again_from_the_log(tmp_path: Path) -> None:
    runs.run(tmp_path)
    before = runs.final_files(tmp_path)
    (tmp_path / "partitions" / "0.duckdb").unlink()
    runs.run(tmp_path, slice_size=3)
    assert runs.final_files(tmp_path) == before


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    opened(tmp_path).close()
    (tmp_path / "partitions" / "0.duckdb").write_bytes(b"x" * 10_000)
    with pytest.raises(InvalidInput, match=r"is damaged .*remove it to have it rebuilt"):
        opened(tmp_path)


def test_a_flipped_bit_in_a_checkpoint_is_named_or_changes_nothing(tmp_path: Path) -> None:
    """Wherever it is: DuckDB's blocks have checksums, and what it says of one is no traceback."""
    runs.run(tmp_path / "whole")
    final = runs.final_files(tmp_path / "whole")
    whole = (tmp_path / "whole" / "partitions" / "0.duckdb").read_bytes()
    draw, told = random.Random(3), 0
    for number in range(24):
        content = bytearray(whole)
        at = draw.randrange(len(content) if number % 3 else 12_288)
        content[at] ^= 1 << draw.randrange(8)
        folder = tmp_path / str(number)
        shutil.copytree(tmp_path / "whole", folder)
        (folder / "partitions" / "0.duckdb").write_bytes(content if number % 8 else content[:at])
        try:
            runs.run(folder)
        except InvalidInput as error:
            told += "is damaged" in str(error) and "remove it to have it rebuilt" in str(error)
        else:
            told += runs.final_files(folder) == final
    assert told == 24


def test_a_log_that_lost_records_stops_at_the_archive(tmp_path: Path) -> None:
    log = runs.the_log()
    poorer = SimLog(log.records[:9] + log.records[10:], end=log.end)
    partition = opened(tmp_path, sim=poorer)
    with pytest.raises(InvariantBroken, match="from offset 6 on the log holds other records"):
        runs.feed(partition, log)
    partition.close()


def test_a_log_that_was_rewritten_below_the_offset_stops_at_the_next_start(tmp_path: Path) -> None:
    """Its tail was lost and has grown again: the offset is valid, what lies below it is not what was judged."""
    log = runs.the_log()
    partition = opened(tmp_path)
    partition.process(0, log.records[29].offset + 1, log.records[:30])
    partition.close()
    for changed in (log.records[29]._replace(value=b"[]"), log.records[29]._replace(timestamp=START_MS)):
        rewritten = SimLog([*log.records[:29], changed, *log.records[30:]], end=log.end)
        with pytest.raises(InvariantBroken, match=r"other records between the offsets \d+ and \d+ than those"):
            opened(tmp_path, sim=rewritten)
    with pytest.raises(InvariantBroken, match="other records"):
        opened(tmp_path, sim=SimLog(log.records[:29] + log.records[30:], end=log.end))
    again = opened(tmp_path)
    assert again.next_offset == log.records[29].offset + 1
    again.close()


def test_a_log_that_was_rewritten_further_back_stops_at_the_cut(tmp_path: Path) -> None:
    quiet = [heartbeat(offset, START_MS + offset) for offset in range(2 * CHUNK_OFFSETS + 9)]
    ending = heartbeat(len(quiet), START_MS + 2 * HOUR_MS)
    log = SimLog([*quiet, ending])
    partition = opened(tmp_path, sim=log)
    partition.process(0, len(quiet), quiet)
    partition.close()
    quiet[CHUNK_OFFSETS + 3] = quiet[CHUNK_OFFSETS + 3]._replace(key=b"another")
    partition = opened(tmp_path, sim=SimLog([*quiet, ending]))
    with pytest.raises(InvariantBroken, match=f"from offset {CHUNK_OFFSETS} on the log holds other records"):
        partition.process(len(quiet), log.end, [ending])
    partition.close()
    assert not list(tmp_path.glob("epochs/*/0.manifest.json"))


def test_what_fails_beside_the_commits_is_raised(tmp_path: Path) -> None:
    log = runs.the_log()
    poorer = runs.GatedLog(log.records[:9] + log.records[10:], end=log.end)
    poorer.gate = threading.Event()  # else what fails may be raised by a later commit already
    partition = Partition.open(tmp_path, HOURLY, 0, "topic-1", poorer, background=True)
    assert partition is not None
    partition.process(0, log.end, log.records)
    poorer.gate.set()
    with pytest.raises(InvariantBroken, match="from offset 6 on the log holds other records"):
        partition.drain()
    with pytest.raises(InvariantBroken, match="from offset 6 on the log holds other records"):
        partition.close()
    healed = opened(tmp_path)
    assert healed.pending == ()
    assert healed.next_offset == log.end
    healed.close()


def test_a_partition_closed_amid_an_archive_goes_on_later(tmp_path: Path) -> None:
    runs.run(tmp_path / "undisturbed")
    log = runs.the_log()
    slow = runs.GatedLog(log.records, end=log.end)
    slow.gate = threading.Event()
    partition = Partition.open(tmp_path / "closed", HOURLY, 0, "topic-1", slow, background=True)
    assert partition is not None
    partition.process(0, log.end, log.records)
    threading.Timer(0.2, slow.gate.set).start()
    partition.close()
    assert runs.final_files(tmp_path / "closed") != runs.final_files(tmp_path / "undisturbed")
    opened(tmp_path / "closed").close()
    assert runs.final_files(tmp_path / "closed") == runs.final_files(tmp_path / "undisturbed")


def test_rows_keep_their_order_while_older_epochs_leave(tmp_path: Path) -> None:
    log = small_log(machines=5, minutes=130)
    partition = Partition.open(tmp_path, HOURLY, 0, "topic-1", log)
    assert partition is not None
    runs.feed(partition, log, 4)
    partition.close()
    for paths in all_paths(tmp_path):
        table = stored(paths, "windows")
        keys = list(zip(table["machine"].to_pylist(), table["start_ms"].to_pylist(), strict=True))
        assert keys == sorted(keys)


def test_the_state_comes_back_as_it_was(tmp_path: Path) -> None:
    log = runs.the_log()
    partition = opened(tmp_path)
    partition.process(0, log.records[30].offset, log.records[:30])
    digest = partition._state.digest()
    partition.close()
    identity = CheckpointIdentity(format=FORMAT, partition=0, topic_id="topic-1", log=HOURLY)
    checkpoint = Checkpoint(tmp_path / "partitions" / "0.duckdb", identity)
    state: State = checkpoint.state(HOURLY, 0)
    assert state.digest() == digest
    checkpoint.close()


def test_paths_of_an_epoch(tmp_path: Path) -> None:
    paths = epoch_paths(tmp_path, HOURLY, 432_001, 12)
    assert paths.table("windows") == tmp_path / "epochs" / "20190414T010000Z" / "12.windows.parquet"
    assert paths.table("rejected_records").name == "12.rejected_records.parquet"
    assert paths.manifest.name == "12.manifest.json"
    assert paths.archive == tmp_path / "log" / "20190414T010000Z" / "12.parquet"
