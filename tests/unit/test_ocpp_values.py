"""Pure parts of the OCPP gateway: messages, sampled values, signed records, uptime, passwords, commands, the file."""

import base64
import html
import json
import re
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from deploy.machines.form import read_form, registration_of
from tallyroot_gateway import InvalidInput
from tallyroot_gateway.ocpp.commands import Command, command_of, remote_id, tag_of
from tallyroot_gateway.ocpp.config import OcppConfig, check, connectors_of
from tallyroot_gateway.ocpp.discovery import Seen, described
from tallyroot_gateway.ocpp.messages import V16, V201, Answer, Call, decode, time_ms, time_text, unanswerable
from tallyroot_gateway.ocpp.passwords import check_hash, hashed, matches
from tallyroot_gateway.ocpp.signed import is_valid, ocmf_text, signed_registers
from tallyroot_gateway.ocpp.uptime import DAY_MS, Uptime
from tallyroot_gateway.ocpp.values import Sample, samples_of
from tests.support.ocmf_records import PUBLIC_KEY, ocmf

KEBA = (
    'OCMF|{"FV":"1.0","GI":"KEBA_KCP30","GS":"17619300","GV":"2.8.5","PG":"T32","IS":false,"IL":"NONE","IF":["'
    'RFID_NONE","OCPP_NONE","ISO15118_NONE","PLMN_NONE"],"IT":"NONE","ID":"","RD":[{"TM":"2019-08-13T10:03:15,'
    "000+0000 "
    'I","TX":"B","EF":"","ST":"G","RV":0.2596,"RI":"1-b:1.8.0","RU":"kWh"},{"TM":"2019-08-13T10:03:36,000+0000'
    ' R","TX":"E","EF":"","ST":"G","RV":0.2597,"RI":"1-b:1.8.0","RU":"kWh"}]}|{"SD":"304502200E2F107C987A300AC'
    "1695CA89EA149A8CDFA16188AF0A33EE64B67964AA943F9022100889A72B6D65364BEA8562E7F6A0253157ACFF84FE4929A93B596"
    '4D23C4265699"}'
)
"""A charger's record, from the test files of SAFE-eV's transparency software (Apache-2.0)."""

KEBA_KEY = (
    "3059301306072A8648CE3D020106082A8648CE3D030107034200043AEEB45C392357820A58FDFB0857BD77ADA31585C61C430531D"
    "FA53B440AFBFDD95AC887C658EA55260F808F55CA948DF235C2108A0D6DC7D4AB1A5E1A7955BE"
)


@pytest.mark.parametrize(
    ("value", "register"),
    [
        ({"value": "5000"}, 5_000),
        ({"value": "5.0009", "unit": "kWh"}, 5_000),
        ({"value": " 12 ", "unit": "Wh", "measurand": "Energy.Active.Import.Register", "format": "Raw"}, 12),
        ({"value": "1.5E3"}, 1_500),
        ({"value": Decimal("1.0009999999999999999999"), "unitOfMeasure": {"unit": "kWh"}}, 1_000),
        ({"value": 15, "unitOfMeasure": {"unit": "Wh", "multiplier": 2}}, 1_500),
        ({"value": 15, "unitOfMeasure": {"multiplier": -1}}, 1),
        ({"value": 9_007_199_254_740_992}, 2**53),
    ],
)
def test_registers_in_wh_from_any_unit(value: dict[str, Any], register: int) -> None:
    samples, faults = samples_of([{"timestamp": "2026-11-29T10:00:00Z", "sampledValue": [value]}], "Wh")
    assert ([sample.register for sample in samples], faults) == ([register], [])


@pytest.mark.parametrize(
    "value",
    [
        {"value": "-1"}, {"value": "nan"}, {"value": ""}, {}, {"value": None}, {"value": True}, {"value": "1e99"},
        {"value": "1,5"}, {"value": "5", "unit": "W"}, {"value": "5", "unit": "Celcius"}, {"value": 2**53 + 1},
        {"value": 1, "unitOfMeasure": {"multiplier": 99}}, {"value": [1]}, {"value": {"a": 1}},
    ],
)  # fmt: skip
def test_what_is_no_register_is_said(value: dict[str, Any]) -> None:
    samples, faults = samples_of([{"timestamp": "2026-11-29T10:00:00Z", "sampledValue": [value]}], "Wh")
    assert (samples, [fault.reason for fault in faults]) == ([], ["bad_register"])


def test_of_several_values_the_whole_register_at_the_outlet_counts() -> None:
    values = [
        {"value": "1", "phase": "L1"},
        {"value": "2", "location": "Inlet"},
        {"value": "3", "measurand": "Energy.Active.Export.Register"},
        {"value": "4", "measurand": "Energy.Active.Import.Interval"},
        {"value": "5"},
        {"value": "6", "context": "Transaction.End"},
        "odd",
    ]
    samples, faults = samples_of([{"timestamp": "2026-11-29T10:00:00+01:00", "sampledValue": values}], "Wh")
    at_ms = time_ms("2026-11-29T09:00:00Z")
    assert samples == [Sample(at_ms, "Sample.Periodic", 5, None), Sample(at_ms, "Transaction.End", 6, None)]
    assert faults == []
    assert samples_of("odd", "Wh")[1][0].reason == "malformed"
    assert samples_of(None, "Wh") == ([], [])


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1970-01-01T00:00:00.740Z", 740),
        ("2026-11-29T10:00:00", 1_795_946_400_000),
        ("2026-11-29T10:00:00.1234567Z", 1_795_946_400_123),
        ("2026-11-29T10:00:00+02:00", 1_795_939_200_000),
        ("yesterday", None), ("", None), (5, None), (None, None), ("2026-13-29T10:00:00Z", None), ("x" * 9_999, None),
    ],
)  # fmt: skip
def test_times(text: object, ms: int | None) -> None:
    assert time_ms(text) == ms
    if ms is not None:
        assert time_ms(time_text(ms)) == ms


def test_messages() -> None:
    assert decode('[2,"a","Heartbeat",{}]') == Call("a", "Heartbeat", {})
    assert decode('[3,"a",{"x":1.50}]') == Answer("a", {"x": Decimal("1.50")})
    assert decode('[4,"a","NotSupported","no",{}]') == Answer("a", None, "NotSupported no")
    for text in (
        "",
        "{}",
        "[]",
        '[2,3,"Heartbeat",{}]',
        '[2,"a","Heartbeat"]',
        '[3,"a",[]]',
        '[5,"a",{}]',
        "[" * 9_999,
    ):
        with pytest.raises(InvalidInput, match="not "):
            decode(text)
    assert unanswerable(V16, "FirmwareStatusNotification")[0] == "NotSupported"
    assert unanswerable(V201, "StopTransaction")[0] == "NotImplemented"


def test_ocmf_in_any_wrapping() -> None:
    encoded = base64.b64encode(KEBA.encode()).decode()
    envelope = json.dumps({"signedMeterData": encoded, "encodingMethod": "OCMF", "publicKey": "x"})
    for text in (KEBA, f"\n {KEBA}\n", encoded, encoded.rstrip("="), KEBA.encode().hex(), envelope):
        assert ocmf_text(text) == KEBA
    for other in (
        None,
        5,
        "",
        "OCM",
        "{",
        "[]",
        "{}",
        "00",
        "zz",
        base64.b64encode(b"\xff\xfe").decode(),
        "A" * 99_999,
    ):
        assert ocmf_text(other) is None
    assert [(each.kind, each.at_ms, each.register) for each in signed_registers(KEBA, "Wh")] == [
        ("B", 1_565_690_595_000, 259), ("E", 1_565_690_616_000, 259),
    ]  # fmt: skip
    assert ocmf_text(f"{KEBA}|{KEBA_KEY}") == KEBA
    assert is_valid(KEBA, KEBA_KEY) is True
    assert is_valid(KEBA.replace("0.2596", "0.1596"), KEBA_KEY) is False
    assert is_valid(KEBA, "00") is None


def test_ocmf_as_meters_write_it() -> None:
    text = ocmf(
        {"TM": "2026-11-29T10:20:52,000+0200 I", "TX": "B", "RV": "       9.038", "RI": "01-00:01.08.00.FF"},
        {"RV": 1.5, "RI": "1-0:2.8.0"},
        {"TM": "2026-11-29T10:21:22,000+0200 I", "TX": "R", "RV": 9_050, "RU": "Wh", "RI": "01-00:01.08.00.FF"},
        {"RV": "30", "RU": "sec", "RI": "01-00:00.08.06.FF"},
    )
    assert [(each.kind, each.register) for each in signed_registers(text, "Wh")] == [("B", 9_038), ("R", 9_050)]
    assert is_valid(text, PUBLIC_KEY) is True
    several = ocmf(
        {"TM": "2026-11-29T10:20:52,000+0200 I", "TX": "B", "RV": 1, "RI": "1-0:1.8.0"},
        {"TX": "B", "RV": 2, "RI": "1-0:98.8.0"},
        {"TX": "E", "RV": 3, "RI": "1-0:1.8.0"},
    )
    assert [each.register for each in signed_registers(several, "Wh")] == [1_000, 3_000]
    assert [each.register for each in signed_registers(several, "Wh", "1-0:98.8.0")] == [2_000]
    rows = '[{"TM":"2026-11-29T10:20:52,000+0200 I","TX":"B","RV":5,"RU":"kWh"},{"TX":"E","RV":6}]'
    first, last = signed_registers('OCMF|{"RD":' + rows + '}|{"SD":"00"}', "Wh")[0:1] * 2
    assert first == last  # the second one has no unit of its own
    for wrong in (
        "OCMF|",
        "OCMF||",
        "OCMF|{}|{}",
        'OCMF|{"RD":[1]}|{}',
        'OCMF|{"RD":[]}|{}',
        "OCMF|x|{}",
        ocmf() + "x",
    ):
        with pytest.raises(InvalidInput):
            signed_registers(wrong, "Wh")
    with pytest.raises(InvalidInput, match="longer than 8192"):
        signed_registers(ocmf({"TM": "x" * 9_000, "TX": "B", "RV": 1}), "Wh")


def test_uptime_is_that_of_23_cfr_680_116() -> None:
    hour = 3_600_000
    uptime = Uptime(since=0)
    assert uptime.ratio(0, ()) == 1
    uptime.went_down(2 * hour)
    uptime.went_down(3 * hour)
    assert uptime.ratio(4 * hour, ()) == 0.5
    uptime.went_up(5 * hour, [(4 * hour, 9 * hour)])
    assert uptime.ratio(10 * hour, ()) == 0.8
    uptime.went_down(23 * hour)
    uptime.went_up(26 * hour, ())
    assert uptime.outages == {"0": 3 * hour, "1": 2 * hour}
    # After a year the first day has gone.
    assert uptime.ratio(365 * DAY_MS + 1, ()) == pytest.approx(1 - 2 * hour / (364 * DAY_MS))


def test_passwords() -> None:
    written = hashed("s3cret")
    assert check_hash("CP", written) == written
    assert matches(b"s3cret", written)
    assert not matches(b"S3cret", written)
    assert not matches(b"s3cret" * 100, written)
    assert hashed("s3cret") != written
    for wrong in (
        "s3cret",
        "",
        "scrypt$3$00$00",
        written[:-2],
        "scrypt$999999999$00$" + "00" * 32,
        "md5$2$00$" + "00" * 32,
    ):
        with pytest.raises(InvalidInput, match="is no hash"):
            check_hash("CP", wrong)


def test_commands() -> None:
    start = Command(machine="m", command="start", session="s-1", valid_until=5)
    assert command_of(msgspec.json.encode(start)) == start
    assert len(tag_of(start)) == 20
    assert 0 <= remote_id(start) < 2**31
    for wrong in (
        b"", b"{}", b"[]", b"\xff", b'{"machine":"m","command":"start","valid_until":5}',
        b'{"machine":"m","command":"limit","valid_until":5}', b'{"machine":"m","command":"reset","valid_until":5}',
        b'{"machine":"m","command":"stop","valid_until":5,"more":1}',
        b'{"machine":"m","command":"stop","valid_until":5.0}',
        b'{"machine":"m","command":"limit","valid_until":5,"limit_w":-1}',
    ):  # fmt: skip
        with pytest.raises(InvalidInput, match="not a command"):
            command_of(wrong)


def config(text: str) -> OcppConfig:
    """A file's content, checked."""
    raw = tomllib.loads('[log]\nbootstrap_servers = "b"\nlog_id = "l"\n' + text)
    found = msgspec.convert(raw, OcppConfig)
    check(found)
    return found


def test_the_file() -> None:
    found = config(
        '[ocpp]\nsecurity_profile = 0\n[chargers."CP 1".connectors]\n'.replace("CP 1", "CP-1").replace(
            ".connectors]", ']\nmachine = "m"\nconnectors = { 1 = {}, 2 = { availability = "", unit = "kWh" } }'
        )
    )
    first, second = connectors_of(found.chargers["CP-1"]).values()
    assert (first.meter, first.availability, first.route) == ("energy", "availability", "m")
    assert (second.meter, second.availability, second.unit) == ("energy-2", None, "kWh")
    for text, said in (
        ("[ocpp]\nsecurity_profile = 2", "needs TLS"),
        ('[ocpp]\nsecurity_profile = 3\ncertificate = "c"\nprivate_key = "k"', "client_ca"),
        ('[ocpp]\ncertificate = "c"', "from security_profile 2 on"),
        ('[ocpp]\nauthorize = "list"', "nobody could charge"),
        ('[ocpp]\npath = "x"', "path begins"),
        ('[chargers.a]\nmachine = "m"\n[chargers.b]\nmachine = "m"', "both have meter energy of m"),
        ('[chargers.a]\nmachine = "m"\nroute="r"\n[chargers.b]\nmachine = "m"', "two routes"),
        ('[chargers.a]\nmachine = "m"\nconnectors = { 1 = { unit = "W" } }', "none of energy"),
        ('[chargers.a]\nmachine = "m"\nper_transaction = true\nconnectors = { 1 = { signed = true } }', "cumulative"),
        ("\n".join(f'[chargers.a{n}]\nmachine = "m{n}"' for n in range(300)), "more than 256 routes"),
        ('[chargers.a]\nmachine = "m"\nexcluded = [[2026-01-02T00:00:00Z, 2026-01-01T00:00:00Z]]', "pairs of times"),
    ):
        with pytest.raises(InvalidInput, match=said):
            config(text)
    for text in ('[chargers."a/b"]\nmachine = "m"', '[chargers.a]\nmachine = "m"\nconnectors = { 0 = {} }'):
        with pytest.raises(msgspec.ValidationError):
            config(text)


def test_a_registration_to_start_from(tmp_path: Path) -> None:
    seen = Seen(V16)
    seen.note({"chargePointVendor": "V", "chargePointModel": "M\n[[machines]]", "chargePointSerialNumber": "7"})
    seen.said["NumberOfConnectors"] = "2"
    text = described({"CP 1": seen})
    path = tmp_path / "form.toml"
    path.write_text(text.replace("0x...", "0x" + "1" * 40))
    [machine] = read_form(path)
    registration = registration_of(
        machine, currency="EUR", zone=None, version=1, salt="00" * 16, years=range(2026, 2028)
    )
    assert [meter.meter for meter in registration.meters] == ["energy", "availability", "energy-2", "availability-2"]
    assert (registration.machine, registration.route) == ("cp-1", "site-1")
    assert "no charger connected" in described({})


def test_the_records_of_the_field_are_read() -> None:
    """Each record of SAFE-eV's files, also where its signature is wrong; two are empty forms, one is not OCMF."""
    counts: dict[str, int] = {}
    for path in sorted((Path(__file__).parents[1] / "golden" / "ocmf").glob("*.xml")):
        text = html.unescape(path.read_text(encoding="utf-8-sig", errors="replace"))
        for found in re.findall(r"<signedData[^>]*>(.*?)</signedData>", text, re.DOTALL):
            record = ocmf_text(found)
            if record is not None:
                counts[path.name] = counts.get(path.name, 0) + len(signed_registers(record, "Wh"))
    assert len(counts) == 15
    assert all(2 <= count <= 4 for count in counts.values()), counts
