"""A meter that signs, from the form that names its key to the file that a driver checks."""

import json
import re
from pathlib import Path

import msgspec
import pytest
from click.testing import Result
from msgspec import UNSET
from typer.testing import CliRunner

from deploy.cli.app import app
from deploy.explain.why_readings import window_readings
from deploy.machines.form import read_form, registration_of
from deploy.machines.meter_keys import meter_key_of, public_key_info
from deploy.machines.register import facts
from schemas.errors import InvalidInput
from schemas.registration import MeterKey, Registration
from streams.core.evidence import is_verified
from streams.core.records import Record
from tests.golden.test_ocmf import key_of
from tests.support.ocmf import meter_key, register, signed, values_of
from tests.support.sim_log import HOURLY, SimLog, heartbeat, registration
from tests.unit.test_receipt import at, fill

FORM = """
payees = [{ account = "0x1111111111111111111111111111111111111111", share = "100 %" }]
tariff = ["EUR 0.39 per kWh"]
[[machines]]
id = "charger-1"
kind = "ev_charger"
[machines.meters.energy]
counts = "register"
unit = "Wh"
capacity = "22 kW"
"""


def form_of(tmp_path: Path, *lines: str) -> Registration:
    path = tmp_path / "machines.toml"
    path.write_text(FORM + "\n".join(lines))
    [machine] = read_form(path)
    return registration_of(machine, currency="EUR", zone="UTC", version=1, salt="", years=range(2025, 2030))


@pytest.mark.parametrize("name", ["test_ocmf_keba_kcp30.xml", "OCMF_Test_Data_00.xml", "second_key_fail_ocmf.xml"])
def test_a_form_takes_the_key_as_a_label_has_it(tmp_path: Path, name: str) -> None:
    """In hex, in blocks of hex, in base64."""
    for value in values_of(name):
        text = " ".join(value.key_text.split())
        made = form_of(tmp_path, f'signed_by = "{text}"', 'obis = "1-b:1.8.0"')
        known = key_of(value)
        assert known is not None
        assert made.is_valid()
        assert made.meters[0].meter_key == msgspec.structs.replace(known, obis="1-b:1.8.0")
        assert f"({known.curve}, 1-b:1.8.0)" in facts(made, "EUR")["meter energy"]
        assert meter_key_of(public_key_info(known), None) == known


def test_a_label_may_show_the_bare_point() -> None:
    key = meter_key("secp384r1")
    for text in (f"secp384r1 {key.public_key}", f"secp384r1 {key.public_key[2:].upper()}"):
        assert meter_key_of(text, None) == MeterKey("secp384r1", key.public_key, UNSET)


@pytest.mark.parametrize(
    "lines, message",
    [
        (('signed_by = "7"',), "meter energy: signed_by: '7' is no public key on one of brainpoolP256r1"),
        (('signed_by = "secp256r1 04' + "00" * 64 + '"',), "is no public key"),
        (('obis = "1-b:1.8.0"',), "obis names one of the registers that a meter signs"),
        (('signed_by = "302a300506032b6570032100' + "11" * 32 + '"',), "is no public key"),  # Ed25519
    ],
)
def test_what_is_no_key_is_refused_in_one_line(tmp_path: Path, lines: tuple[str, ...], message: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(message)):
        form_of(tmp_path, *lines)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A session of 2 kWh, signed at both ends, and a reading that nobody signed."""
    begin, end = register(at(1), "B", 1_000), register(at(21), "E", 3_000)
    first = registration("m0", 0)
    document = json.loads(first.value or b"")
    document["meters"][0]["meter_key"] = msgspec.to_builtins(meter_key("secp256k1"))
    of_session = {"machine": "m0", "meter": "energy", "boot": 1, "session": "a-b"}
    rows = [
        {"seq": 1, "observed_at": at(1), "register": 1_000, "session_start": True,
         "evidence": signed("secp256k1", begin)},
        {"seq": 2, "observed_at": at(21), "register": 3_000, "session_end": True,
         "evidence": signed("secp256k1", begin, end)},
        {"seq": 3, "observed_at": at(40), "register": 3_100},
    ]  # fmt: skip
    records = [first._replace(value=json.dumps(document).encode())]
    for offset, row in enumerate(rows, 1):
        whole = of_session | {"session_started_at": at(1)} | row
        records.append(Record(offset, row["observed_at"], b"m0", json.dumps(whole).encode(), []))
    data_dir = tmp_path_factory.mktemp("signed")
    fill(data_dir, HOURLY, 0, SimLog([*records, heartbeat(9, at(200))], end=10))
    (data_dir / "log.json").write_bytes(msgspec.json.encode(HOURLY))
    return data_dir


def receipt(folder: Path, seq: int, out: Path) -> Result:
    words = ["receipt", "m0", "energy", "1", str(seq), "--ocmf", str(out), "--data-dir", str(folder), "--json"]
    return CliRunner().invoke(app, words)


def test_a_driver_checks_the_session_without_us(folder: Path, tmp_path: Path) -> None:
    said = json.loads(receipt(folder, 2, tmp_path / "session.xml").output)
    assert [(one["context"], one["verified"]) for one in said["signed_values"]] == [
        ("Transaction.Begin", True), ("Transaction.End", True),
    ]  # fmt: skip
    content = (tmp_path / "session.xml").read_text()
    found = re.findall(
        r'encoding="plain">(OCMF\|[^<]*)</signedData>\s*<publicKey encoding="plain">([0-9A-F]+)<', content
    )
    assert len(found) == 2
    for text, key in found:
        assert is_verified(text, meter_key_of(key, None))


def test_what_no_meter_signed_has_no_such_file(folder: Path, tmp_path: Path) -> None:
    raised = receipt(folder, 3, tmp_path / "session.xml").exception
    assert isinstance(raised, InvalidInput)
    assert "carries nothing that its meter signed" in str(raised)
    assert not (tmp_path / "session.xml").exists()


def test_why_says_what_the_meter_itself_signed(folder: Path) -> None:
    for minutes, proven in ((20, [True]), (39, [False])):
        [found] = [one for one in window_readings(folder, HOURLY, "m0", at(minutes)) if one.readings]
        assert [one.proven for one in found.readings] == proven
        assert (found.window.trust, found.window.flags) == ((2, ("proven",)) if proven[0] else (0, ()))


def test_a_level_is_no_meter_that_a_price_could_mean(tmp_path: Path) -> None:
    """What a charger says of its availability doesn't make a price per session ambiguous."""
    lines = (
        "moves = []",
        "[machines.meters.availability]",
        'counts = "level"',
        'unit = "count"',
        'capacity = "1 count/h"',
    )
    path = tmp_path / "machines.toml"
    path.write_text(FORM.replace('"EUR 0.39 per kWh"', '"EUR 0.39 per kWh", "EUR 0.50 per session"') + "\n".join(lines))
    [machine] = read_form(path)
    made = registration_of(machine, currency="EUR", zone="UTC", version=1, salt="", years=range(2025, 2030))
    assert [part.meter for element in made.tariff.elements for part in element.components] == ["energy", "energy"]
