"""The bench itself, with a load of less than two seconds: what it measures is done right. No time is asserted."""

from collections import Counter
from pathlib import Path

import msgspec
import pytest

from deploy.stack.toolchain import jar_entries
from schemas.reading import HEARTBEAT, REGISTERED
from streams.core.records import Record
from streams.reference.recount import PartitionRecount
from streams.storage.analytics import make_analytics
from tests.bench.__main__ import CONTENDERS, STOCK, Bench, Contender, _options, summary
from tests.bench.curve import together
from tests.bench.dirt import OUTCOMES, DirtyReadings
from tests.bench.java_peers import COMPILER, JOBS, PEERS, SHARED, lock_of
from tests.bench.large_partition import of_partition
from tests.bench.load import REGISTRATIONS, log_of, registration_of
from tests.bench.peers import are_right
from tests.bench.queries import LOG as QUERIES_LOG
from tests.bench.queries import make_folder, run_queries
from tests.bench.readings import PARTITIONS, START_MS, Readings

SMOKE = ("tallyroot-arrow-signed", "tallyroot-json-dirty100", "tallyroot-registrations", STOCK, "count-only")


def test_the_smallest_bench_is_right(kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CONTENDERS, "tallyroot-registrations", Contender(REGISTRATIONS, 1, machines=600))
    bench = Bench(kafka, tmp_path, readings=6_000, machines=60)
    bench.prepare(SMOKE)
    for name in SMOKE:
        result = bench.run(name)
        assert result["contender"] == name
        assert result["correct"], result


def test_a_partition_of_the_bench_is_cut_and_opened_again(kafka: str, tmp_path: Path) -> None:
    assert of_partition(kafka, tmp_path, 50)["correct"]


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_dirt_comes_to_what_the_rules_say(share: float) -> None:
    readings = Readings(40, 4_000)
    dirty = DirtyReadings(readings, share)
    logs: list[list[Record]] = [[] for _ in range(PARTITIONS)]
    headers = [("ce_type", REGISTERED.encode())]
    for name, owner in zip(readings.names, readings.partitions.tolist(), strict=True):
        value = msgspec.json.encode(registration_of(name.decode()))
        logs[owner].append(Record(len(logs[owner]), START_MS, name, value, headers))
    for partition, moment, key, value in dirty.singles():
        logs[partition].append(Record(len(logs[partition]), moment, key, value))
    duplicates, rejects, machines = 0, Counter[str](), {}
    for partition, records in enumerate(logs):
        records.append(Record(len(records), readings.end_ms, b"", b"", [("ce_type", HEARTBEAT.encode())]))
        naive = PartitionRecount(log_of("json", 1, 1), partition).take(records)
        duplicates += naive.duplicate
        rejects.update(reason for _, _, reason in naive.rejects)
        for window in naive.sealed:
            count, usage, _ = machines.get(window["machine"], (0, 0, 0))
            used = sum(line["usage"] for line in window["lines"])
            machines[window["machine"]] = count + window["readings"], usage + used, 0
    assert (duplicates, rejects, machines) == (dirty.duplicates, dirty.rejects, dirty.by_machine())
    assert set(rejects) == (set(OUTCOMES.values()) if share else set())
    if not share:
        clean = {name: (count, usage, 0) for name, (count, usage, _) in readings.by_machine().items()}
        assert machines == clean


def test_every_encoding_holds_the_same_rows() -> None:
    readings = Readings(7, 100)
    singles = Counter(value for *_, value in readings.singles())
    rows = [row for *_, value in readings.batches(10, "json") for row in msgspec.json.decode(value)]
    assert Counter(msgspec.json.encode(row) for row in rows) == singles
    assert sum(count for count, _, _ in readings.by_machine().values()) == 100


def test_a_summary_is_the_median_and_one_wrong_round_is_wrong() -> None:
    rounds = [
        {"contender": "a", "readings": 5, "readings_per_cpu_second": rate, "correct": rate != 9} for rate in (1, 9, 2)
    ]
    found = summary(rounds)
    assert (found["readings_per_cpu_second"], found["readings_per_cpu_second_range"]) == (2, [1, 9])
    assert not found["correct"]


def test_two_workers_count_only_while_both_work() -> None:
    assert together([[(0.0, 100), (2.0, 10), (4.0, 10)], [(1.0, 100), (2.0, 10), (3.0, 10), (9.0, 10)]]) == 40 / 3
    assert together([[(0.0, 5), (1.0, 5)], [(2.0, 5), (3.0, 5)]]) == 0


def test_the_ten_queries_run_on_a_folder_of_the_bench(tmp_path: Path) -> None:
    made = make_folder(tmp_path, 2_000, 25)
    results = run_queries(make_analytics(tmp_path, QUERIES_LOG), 1)
    assert made == 25 * 96 and len(results) == 10
    assert all(result["rows"] for result in results), results


@pytest.mark.parametrize("name", PEERS)
def test_the_lock_of_a_java_peer_names_each_jar_once(name: str) -> None:
    coordinates = [coordinate for _, coordinate in jar_entries(lock_of(name))]
    jars = [coordinate.rsplit(":", 1)[0] for coordinate in coordinates]
    assert len(set(jars)) == len(jars), "two versions of one jar"
    wanted = {each for endpoint in PEERS[name].endpoints for each in endpoint.split("+")}
    assert wanted | {COMPILER} <= set(coordinates)
    releases = {
        coordinate.split(":")[2] for coordinate in coordinates if coordinate.startswith("org.apache.flink:flink-r")
    }
    assert len(releases) <= 1, "a jar of Flink from another release"
    assert all((JOBS / f"{job}.java").exists() for job in (*SHARED, PEERS[name].job))


def test_java_peers_run_only_when_they_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["bench"])
    assert not set(PEERS) & {*_options().contenders, *_options().peers}
    monkeypatch.setattr("sys.argv", ["bench", "--peers", *PEERS])
    assert _options().peers == list(PEERS)


def test_a_peer_s_sums_are_looked_at_machine_by_machine() -> None:
    load = {"machines": {"m-1": (2, 0, 70), "m-2": (1, 0, 5)}}
    right = {"m-1": (2, 70), "m-2": (1, 5), "": (4, 0)}
    assert are_right(right, load)
    for wrong in ({"m-1": (2, 71)}, {"m-2": (2, 5)}, {"m-3": (1, 5)}):
        assert not are_right(right | wrong, load)
    assert not are_right({"m-1": (2, 70)}, load)
