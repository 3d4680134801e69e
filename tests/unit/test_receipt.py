"""What became of one reading, from the archive alone: no broker runs here."""

import shutil
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from deploy.cli.answers import answer_schema
from deploy.cli.app import app
from deploy.cli.dialect import plain
from deploy.explain.reading_rows import ReadingName
from deploy.explain.receipt import LogProof, ReadingPlace, ReadingReceipt, find_reading
from schemas.errors import InvalidInput
from schemas.log import Log
from schemas.units import HOUR_MS, MINUTE_MS
from streams.core.murmur2 import partition_of
from streams.core.records import ARROW, JSON, Record
from streams.storage.epoch_files import epoch_paths, read_manifest, read_windows
from streams.worker.partition import Partition
from tests.support.json_schema import faults
from tests.support.sim_log import HOURLY, START_MS, SimLog, heartbeat, reading, registration

TWO = msgspec.structs.replace(HOURLY, partitions=2)
HERE, ELSEWHERE = (
    next(name for name in (f"m{number}" for number in range(99)) if partition_of(name.encode(), 2) == partition)
    for partition in (0, 1)
)
"""A machine of each of two partitions."""


def at(minutes: float) -> int:
    return START_MS + int(minutes * MINUTE_MS)


def arrow_record(offset: int, timestamp: int, rows: list[dict[str, Any]]) -> Record:
    table = pa.Table.from_pylist(rows)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return Record(offset, timestamp, b"gateway", sink.getvalue().to_pybytes(), [("content-type", ARROW.encode())])


def row(seq: int, minutes: float, register: Any, machine: str = "m0") -> dict[str, Any]:
    return {
        "machine": machine,
        "meter": "energy",
        "boot": 1,
        "seq": seq,
        "observed_at": at(minutes),
        "register": register,
    }


def json_record(offset: int, timestamp: int, rows: Any) -> Record:
    return Record(offset, timestamp, b"m0", msgspec.json.encode(rows), [("content-type", JSON.encode())])


def the_log() -> SimLog:
    """Two hours of a machine that is taken, doubted, resent and late, then silence up to the third cut."""
    records = [
        registration("m0", 0),
        reading("m0", 1, at(1), 1, 1_000),
        json_record(2, at(6), [row(2, 5, 1_500), row(3, 6, 1_600), row(2, 5, 1_500)]),
        json_record(3, at(7), row(4, 7, "1700")),
        json_record(4, at(8), row(4, 7, 1_700)),
        json_record(5, at(9), row(5, 8, 10**9)),
        json_record(6, at(10), b'{"machine":"m1"}'.decode()),
        Record(
            7,
            at(10),
            b"m0",
            b'{"machine":"\\u006d0","meter":"energy","boot":1,"seq":6,"observed_at":%d,"register":2000}' % at(10),
        ),
        arrow_record(2_000, at(40), [row(7, 40, 3_000), row(8, 40, 3_000, "ghost")]),
        json_record(2_001, at(85), row(9, 45, 3_200)),
        json_record(2_002, at(86), row(3, 6, 1_600)),
        json_record(2_003, at(87), row(10, 86, 4_000)),
        heartbeat(5_000, at(150)),
        heartbeat(5_001, at(151)),
    ]
    return SimLog(records, end=5_002)


def fill(data_dir: Path, log: Log, partition: int, records: SimLog) -> None:
    opened = Partition.open(data_dir, log, partition, records.topic_id(), records)
    assert opened is not None
    opened.process(0, records.end, records.records)
    opened.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data_dir = tmp_path_factory.mktemp("receipts")
    fill(data_dir, HOURLY, 0, the_log())
    (data_dir / "log.json").write_bytes(msgspec.json.encode(HOURLY))
    return data_dir


def found(folder: Path, seq: int, machine: str = "m0") -> ReadingReceipt:
    return find_reading(folder, HOURLY, ReadingName(machine, "energy", 1, seq))


def spots(receipt: ReadingReceipt) -> list[tuple[int, int, str, str | None]]:
    return [(place.offset, place.row, place.verdict, place.reason) for place in receipt.places]


def usage(places: Sequence[ReadingPlace]) -> list[tuple[int, int, int]]:
    return [
        (line.usage, line.price_micros, line.per)
        for place in places
        if place.window is not None
        for line in place.window.billed
    ]


def test_every_place_of_a_reading_has_its_verdict(folder: Path) -> None:
    assert spots(found(folder, 1)) == [(1, 0, "accepted", None)]
    assert spots(found(folder, 2)) == [(2, 0, "accepted", None), (2, 2, "duplicate", None)]
    assert spots(found(folder, 3)) == [(2, 1, "accepted", None), (2_002, 0, "duplicate", None)]
    assert spots(found(folder, 4)) == [(3, 0, "rejected", "malformed"), (4, 0, "accepted", None)]
    assert spots(found(folder, 5)) == [(5, 0, "rejected", "too_high")]
    assert spots(found(folder, 6)) == [(7, 0, "accepted", None)]  # Its machine's name is written with an escape.
    assert spots(found(folder, 7)) == [(2_000, 0, "accepted", None)]
    assert spots(found(folder, 8, "ghost")) == [(2_000, 1, "rejected", "unknown_machine")]
    assert [found(folder, seq).verdict for seq in (2, 4, 5)] == ["accepted", "accepted", "rejected"]
    assert found(folder, 5).reason == "too_high"


def test_an_accepted_reading_has_its_window_and_what_it_bills(folder: Path) -> None:
    first, second, late = (found(folder, seq).places for seq in (1, 2, 9))
    assert usage(first) == []
    assert usage(second) == [(500, 300_000, 1_000)]
    assert usage(late) == [(200, 300_000, 1_000)]
    for places, start_ms, adjusts_ms in ((first, at(0), None), (second, at(0), None), (late, at(75), at(30))):
        window = places[0].window
        assert window is not None
        assert (window.start_ms, window.adjusts_ms) == (start_ms, adjusts_ms)
        paths = epoch_paths(folder, HOURLY, HOURLY.epoch_of(start_ms), 0)
        files = read_manifest(paths.manifest)
        assert files is not None
        sealed = read_windows(paths)
        (kept,) = (one for one in sealed if (one.start_ms, one.adjusts_ms) == (start_ms, adjusts_ms))
        assert (window.digest, window.manifest_digest) == (kept.digest.hex(), files.manifest_digest)


def test_what_all_readings_bill_is_what_the_windows_earn(folder: Path) -> None:
    """The receipts of all accepted readings, added up by fractions, against the published sums."""
    seen = [line for seq in (1, 2, 3, 4, 5, 6, 7, 9, 10) for line in usage(found(folder, seq).places)]
    earned = sum(Fraction(part * micros, per) for part, micros, per in seen)
    manifests = [read_manifest(path) for path in sorted(folder.glob("epochs/*/0.manifest.json"))]
    assert sum(part for part, _, _ in seen) == 4_000 - 1_000
    assert earned == sum(int(files.manifest.gross_micros) for files in manifests if files is not None)


def test_a_proof_leads_to_the_log_root_of_the_manifest(folder: Path) -> None:
    receipt = found(folder, 3)
    assert [place.proof for place in receipt.places] == [0, 1]
    for place in receipt.places:
        proof = receipt.proofs[place.proof]
        files = read_manifest(folder / "epochs" / proof.epoch / "0.manifest.json")
        assert files is not None
        assert (proof.log_root, proof.manifest_digest) == (files.manifest.log_root, files.manifest_digest)
        (record,) = (record for record in proof.records() if record.offset == place.offset)
        assert b'"seq":3' in (record.value or b"")


def test_a_proof_of_something_else_is_refused(folder: Path) -> None:
    proof = found(folder, 3).proofs[0]
    other = proof.chunk.replace(b"1600".hex(), b"1601".hex())
    for change in ({"chunk": other}, {"chunk": "x"}, {"log_root": "00" * 32}, {"index": 9}):
        with pytest.raises(InvalidInput):
            msgspec.structs.replace(proof, **change).records()


def test_two_places_in_one_chunk_share_a_proof(folder: Path) -> None:
    receipt = found(folder, 4)
    assert len(receipt.proofs) == 1
    assert {place.proof for place in receipt.places} == {0}


def test_a_reading_that_is_nowhere(folder: Path, tmp_path: Path) -> None:
    for name in (
        ReadingName("m0", "energy", 1, 99),
        ReadingName("m0", "energy", 2, 1),
        ReadingName("m", "energy", 1, 1),
    ):
        with pytest.raises(InvalidInput, match="no reading"):
            find_reading(folder, HOURLY, name)
    with pytest.raises(InvalidInput, match="no reading"):
        find_reading(tmp_path, HOURLY, ReadingName("m0", "energy", 1, 1))


def test_a_changed_archive_gives_no_receipt(folder: Path, tmp_path: Path) -> None:
    """An earlier record was changed: the verdict would follow from it, so there is none."""
    copy = shutil.copytree(folder, tmp_path / "copy")
    path = min(copy.glob("log/*/0.parquet"))
    table = pq.read_table(path)
    values = [value.replace(b"1500", b"1400") if value else value for value in table.column("value").to_pylist()]
    pq.write_table(table.set_column(table.schema.names.index("value"), table.schema.field("value"), [values]), path)
    with pytest.raises(InvalidInput, match="its manifest"):
        find_reading(copy, HOURLY, ReadingName("m0", "energy", 1, 9))
    path.write_bytes(b"no Parquet")
    with pytest.raises(InvalidInput, match="can't be read"):
        find_reading(copy, HOURLY, ReadingName("m0", "energy", 1, 9))
    path.unlink()
    with pytest.raises(InvalidInput, match="missing"):
        find_reading(copy, HOURLY, ReadingName("m0", "energy", 1, 9))


def test_a_window_whose_epoch_has_not_ended_has_no_digest_yet(tmp_path: Path) -> None:
    records = [registration("m0", 0), reading("m0", 1, at(61), 1, 0), heartbeat(2, at(71)), heartbeat(3, at(72))]
    fill(tmp_path, HOURLY, 0, SimLog(records))
    window = found(tmp_path, 1).places[0].window
    assert window is not None
    assert (window.start_ms, window.digest, window.manifest_digest) == (at(60), None, None)


def test_all_partitions_are_looked_through(tmp_path: Path) -> None:
    """Whoever sends a machine's reading to another machine's partition finds it there, refused."""
    ends = [heartbeat(10, START_MS + 2 * HOUR_MS), heartbeat(11, START_MS + 2 * HOUR_MS)]
    stray = reading(HERE, 1, at(1), 1, 0)
    fill(tmp_path, TWO, 0, SimLog([registration(HERE, 0), stray, *ends]))
    fill(tmp_path, TWO, 1, SimLog([registration(ELSEWHERE, 0), stray, *ends]))
    receipt = find_reading(tmp_path, TWO, ReadingName(HERE, "energy", 1, 1))
    assert [(place.partition, place.verdict, place.reason) for place in receipt.places] == [
        (0, "accepted", None),
        (1, "rejected", "unknown_machine"),
    ]
    assert len(receipt.proofs) == 2


def test_a_record_refused_as_a_whole(tmp_path: Path) -> None:
    large = json_record(1, at(1), [row(1, 1, 0)] * 10_001)
    fill(tmp_path, HOURLY, 0, SimLog([registration("m0", 0), large, heartbeat(2, at(130)), heartbeat(3, at(131))]))
    assert spots(found(tmp_path, 1)) == [(1, -1, "rejected", "too_many_entries")]


def test_the_command(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "receipt.json"
    words = ["receipt", "m0", "energy", "1", "2", "--data-dir", str(folder)]
    shown = CliRunner().invoke(app, [*words, "--out", str(out)])
    assert shown.exit_code == 0
    for text in ("accepted", "duplicate", "500 at 300000 micros per 1000", "log root 0x"):
        assert text in shown.output
    written = msgspec.json.decode(out.read_bytes(), type=ReadingReceipt)
    assert written == found(folder, 2)
    as_json = CliRunner().invoke(app, [*words, "--json"])
    answer = msgspec.json.decode(as_json.output)
    assert (answer, faults(answer, answer_schema("receipt"))) == (plain(written), [])
    nowhere = CliRunner().invoke(app, ["receipt", "m0", "energy", "1", "99", "--data-dir", str(folder)])
    assert isinstance(nowhere.exception, InvalidInput)
    unwritable = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "no folder" / "receipt.json")])
    assert isinstance(unwritable.exception, InvalidInput) and "choose another --out" in str(unwritable.exception)


def test_a_proof_is_a_document_of_text_and_integers(folder: Path) -> None:
    proof = found(folder, 2).proofs[0]
    assert msgspec.json.decode(msgspec.json.encode(proof), type=LogProof) == proof
