"""A batch that no client can read stops a worker until an operator has signed for it; then all agree on the rest."""

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from deploy.cli.app import app
from deploy.explain import audit_sources as evidence
from files.foreign import PlainFiles
from schemas.errors import InvalidInput
from schemas.log import Log, Ruleset
from schemas.manifest import SkippedRange
from schemas.units import HOUR_MS
from settlement.audit.sources import ArchiveEnds, SourceMissing
from streams.core.signature import operator_account
from streams.core.skipped_ranges import SkippedBatches, sign_skipped_range
from streams.kafka.reader import KafkaLogReader
from streams.kafka.topics import create_topic
from streams.storage.skipped_ranges_file import FILE, add_skipped_range, adopt_skipped_ranges, load_skipped_ranges
from tests.crash.unreadable import send_unreadable
from tests.support.kafka_log import Sender, a_log, outcome, readings
from tests.support.sim_log import START_MS, registration
from tests.support.workers import Workers

pytestmark = [pytest.mark.crash, pytest.mark.kafka]

KEY = b"\x07" * 32
OTHER = b"\x08" * 32


def operated(name: str) -> Log:
    """A log of one partition that the key's account operates."""
    return a_log(name, partitions=1, rulesets=(Ruleset(operators=(operator_account(KEY),)),))


@pytest.fixture
def poisoned(kafka: str, request: pytest.FixtureRequest) -> Log:
    """A log with three hours of readings, in whose second hour three records can't be read."""
    log = operated(f"poisoned-{request.node.name[5:30]}")
    create_topic(kafka, log)
    sender = Sender(kafka, log)
    sender.send([registration("m0", 0), *readings(1, machines=1)])
    sender.kafka.flush(10)
    send_unreadable(kafka, log, 0, 3, START_MS + HOUR_MS)
    sender.send(readings(2, machines=1, start_ms=START_MS + HOUR_MS))
    sender.end(START_MS + 4 * HOUR_MS)
    return log


@pytest.fixture
def workers(kafka: str, tmp_path: Path) -> Iterator[Workers]:
    workers = Workers(kafka, tmp_path)
    yield workers
    workers.kill()


def test_it_stops_a_worker_until_an_operator_signs(
    kafka: str, poisoned: Log, workers: Workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = workers.start(poisoned, session_seconds=2.0)
    assert stopped.wait() == 70
    (line,) = stopped.said().splitlines()
    assert "`tallyroot skip-range 0 61 64 --reason TEXT`" in line

    (tmp_path / "log.json").write_bytes(msgspec.json.encode(poisoned))
    monkeypatch.setenv("TALLYROOT_OPERATOR_KEY", "0x" + KEY.hex())
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka)
    store = str(tmp_path / "store")
    monkeypatch.setenv("TALLYROOT_STORE", store)
    asked = ["skip-range", "0", "61", "64", "--reason", "a gateway in C", "--json", "--data-dir", str(tmp_path)]
    said = CliRunner().invoke(app, asked)
    assert said.exit_code == 0, said.output
    added = json.loads(said.stdout)["added"]
    workers.catch_up(poisoned)
    elsewhere = Workers(kafka, tmp_path / "elsewhere").start(poisoned, until_caught_up=True, store=store)
    assert elsewhere.wait() == 0, elsewhere.said()
    assert outcome(tmp_path / "elsewhere").manifests == outcome(tmp_path).manifests

    manifests = {path: files.manifest for path, files in outcome(tmp_path).manifests.items()}
    naming = [manifest for manifest in manifests.values() if manifest.skipped_ranges]
    assert [msgspec.to_builtins(each) for manifest in naming for each in manifest.skipped_ranges] == [added]
    assert naming[0].first_offset <= 61 < 64 <= naming[0].next_offset
    skipped = load_skipped_ranges(tmp_path, poisoned)
    assert [path.name for path in (tmp_path / "log").glob("*/*.skipped")] == ["0.skipped"]
    for batches, found in (
        (read := {}, evidence.from_log(poisoned, audit_reader(kafka, poisoned, skipped), 0, skipped, read)),
        (kept := {}, evidence.from_archive(poisoned, PlainFiles(tmp_path), 0, kept)),
    ):
        seen = []
        with suppress(ArchiveEnds):
            seen += (manifest for manifest, *_ in found)
        assert seen == list(manifests.values())
        assert [(batch.first_offset, batch.next_offset) for batch in batches.values()] == [(61, 64)]
        assert evidence.refuting({0: batches})(skipped[0]) == ""
    assert read == kept

    # What is final can't be taken back, and nothing can be added to it.
    late = sign_skipped_range(KEY, poisoned, 0, 3, 5, "too late")
    with pytest.raises(InvalidInput, match=r"comes too late: a worker has counted all before offset \d+"):
        add_skipped_range(tmp_path, poisoned, late)
    with pytest.raises(InvalidInput, match=r"contradicts .* which is final"):
        adopt_skipped_ranges(tmp_path, poisoned, [late])
    (tmp_path / FILE).unlink()
    refused = workers.start(poisoned)
    assert refused.wait() == 1
    assert "the offsets 61 to 64 of partition 0 contradicts" in refused.said()


def test_good_readings_are_never_skipped(kafka: str, poisoned: Log, workers: Workers, tmp_path: Path) -> None:
    """An operator's signature hid 2,000 of 3,185 good readings, and every checker stayed green."""
    signed = sign_skipped_range(KEY, poisoned, 0, 5, 21, "inconvenient")
    add_skipped_range(tmp_path, poisoned, signed)
    worker = workers.start(poisoned)
    assert worker.wait() == 70
    assert "the skipped range of the offsets 5 to 21 of partition 0 covers records that can be read" in worker.said()
    batches = SkippedBatches()
    found = evidence.from_log(poisoned, audit_reader(kafka, poisoned, [signed]), 0, [signed], batches)
    with pytest.raises(SourceMissing, match="to skip these records, let an operator sign"):  # the poison is still there
        list(found)
    refused = evidence.refuting({0: batches})(signed)
    assert refused == "at the offset 5 there is no batch that can't be read"


def test_the_command_refuses_what_can_be_read(
    kafka: str, poisoned: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "log.json").write_bytes(msgspec.json.encode(poisoned))
    monkeypatch.setenv("TALLYROOT_OPERATOR_KEY", "0x" + KEY.hex())
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka)
    for first, next_offset in ((5, 21), (61, 70)):
        asked = ["skip-range", "0", str(first), str(next_offset), "--reason", "why", "--data-dir", str(tmp_path)]
        said = CliRunner().invoke(app, asked)
        assert "covers records that can be read" in str(said.exception)
    assert not (tmp_path / FILE).exists()


def audit_reader(kafka: str, log: Log, skipped: Sequence[SkippedRange]) -> KafkaLogReader:
    return KafkaLogReader(kafka, log.topic, 0, skipped, is_auditing=True)


def test_an_exception_that_covers_half_of_it_is_not_enough(poisoned: Log, workers: Workers, tmp_path: Path) -> None:
    add_skipped_range(tmp_path, poisoned, sign_skipped_range(KEY, poisoned, 0, 61, 63, "half"))
    worker = workers.start(poisoned)
    assert worker.wait() == 70
    assert "between the offsets 61 and 64" in worker.said()


def test_only_an_operator_signs_for_one_log_and_one_range(tmp_path: Path) -> None:
    log, other = operated("one"), operated("other")
    signed = sign_skipped_range(KEY, log, 0, 5, 7, "why")
    assert add_skipped_range(tmp_path, log, signed) == add_skipped_range(tmp_path, log, signed) == (signed,)
    with pytest.raises(InvalidInput, match="not by an operator"):
        sign_skipped_range(OTHER, log, 0, 5, 7, "why")
    wrong: list[tuple[Log, SkippedRange]] = [
        (other, signed),
        (log, msgspec.structs.replace(signed, next_offset=8)),
        (log, msgspec.structs.replace(signed, reason="another")),
        (log, msgspec.structs.replace(signed, signature="00" * 65)),
    ]
    for place, (its_log, each) in enumerate(wrong):
        folder = tmp_path / str(place)
        folder.mkdir()
        (folder / FILE).write_bytes(msgspec.json.encode([each]))
        with pytest.raises(InvalidInput, match="not by an operator"):
            load_skipped_ranges(folder, its_log)
    with pytest.raises(InvalidInput, match="overlaps"):
        add_skipped_range(tmp_path, log, sign_skipped_range(KEY, log, 0, 6, 9, "why"))
    with pytest.raises(InvalidInput, match="partition that the log doesn't have"):
        sign_skipped_range(KEY, log, 1, 6, 9, "why")
    with pytest.raises(InvalidInput, match="below"):
        sign_skipped_range(KEY, log, 0, 9, 9, "why")
