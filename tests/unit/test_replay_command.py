"""What `tallyroot replay` leaves behind and says, without a broker."""

import json
from pathlib import Path

import pytest

from deploy.cli.terminal import Terminal
from deploy.config import Settings
from deploy.data_folder import DataFolder
from deploy.importers.recording import ReplayOptions, replay_into
from deploy.importers.replay import ReplayReport
from schemas.errors import InvalidInput
from streams.core.records import decode_readings
from streams.reference.vectors import read_document
from streams.reference.vectors import replay as replayed

DOCUMENT = (
    b'{"ruleset": {"window_ms": %s, "grace_ms": 0, "horizon_ms": 1, "skew_ms": 0, "epoch_ms": 900000, "partition": 0, '
    b'"partitions": 1}, "log": [{"offset": 0, "timestamp": %s, "type": "heartbeat", "value": null}]}'
)


def test_a_replay_that_finds_no_servers_leaves_no_log_behind(tmp_path: Path) -> None:
    """Else the next one, with another random id, would be told that the folder belongs to another log."""
    place = DataFolder(tmp_path, Settings())
    for _ in range(2):
        with pytest.raises(InvalidInput, match="tallyroot up"):
            replay_into(place, print, [], ReplayOptions())
    assert not list(tmp_path.iterdir())


def test_its_report_is_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    report = ReplayReport(
        records=4, readings=3, machines=1, first_ms=5, last_ms=6, rows=3, left_out=0,
        totals={"energy Wh": 7}, skipped={}, moved_weeks={"a.csv": -2}, notes={},
    )  # fmt: skip
    Terminal(as_json=True).result(report)
    written = json.loads(capsys.readouterr().out)
    assert (written["records"], written["totals"], written["moved_weeks"]) == (4, {"energy Wh": 7}, {"a.csv": -2})


@pytest.mark.parametrize(
    "content",
    [
        b"\x1f\x8b no gzip", b"[]", b"{}", b'{"ruleset": {}, "log": []}', b"\xff",
        DOCUMENT % (b"0", b"1"), DOCUMENT % (b"900000.5", b"1"), DOCUMENT % (b"900000", b"%d" % 2**64),
        DOCUMENT % (b"900000", b"1") + b"[" * 5_000, DOCUMENT.replace(b'"partition": 0, ', b"") % (b"900000", b"1"),
    ],
    ids=["gzip", "list", "empty", "no ruleset", "bytes", "no window", "fraction", "timestamp", "deep", "partition"],
)  # fmt: skip
def test_a_file_that_is_no_log_is_named_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "log.json"
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match="is not a log in the vectors' form"):
        read_document(path)


def test_a_file_that_is_one_is_read(tmp_path: Path) -> None:
    (tmp_path / "log.json").write_bytes(DOCUMENT % (b"900000", b"1"))
    assert replayed(read_document(tmp_path / "log.json"))["counts"]["accepted"] == 1


@pytest.mark.parametrize(
    "value",
    [
        b"NaN", b"[{}, -Infinity]", b"1e400", b"9" * 4_301, b"9" * 4_300, b'{"machine": "\\ud800"}', b'{"\\udc00": 1}',
        b'"\xff"', b"[" * 65 + b"]" * 65, b"-1.5", b'{"machine": "m", "seq": 1E2}', b'"\\ud83d\\ude00"',
    ],
    ids=[
        "nan", "infinity", "far number", "long integer", "longest integer", "half a pair", "as a name", "no utf-8",
        "deep", "fraction", "exponent", "whole pair",
    ],
)  # fmt: skip
def test_a_strange_value_is_judged_as_its_bytes_from_kafka_are(tmp_path: Path, value: bytes) -> None:
    entry = b'{"offset": 1, "timestamp": 1, "type": "reading", "value": %s}' % value
    (tmp_path / "log.json").write_bytes((DOCUMENT % (b"900000", b"1")).replace(b"}]}", b"}, %s]}" % entry))
    result = replayed(read_document(tmp_path / "log.json"))
    judged = decode_readings(value)
    assert result["rejects"] == ([[1, -1, judged]] if isinstance(judged, str) else [[1, 0, "malformed"]])
    assert result["counts"]["entries"] == 2
