"""Topic patterns, paths into JSON, devices' times, the shipped mappings, and what becomes of copies."""

import random
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from tallyroot_gateway.errors import InvalidInput
from tallyroot_gateway.field.units import decode_json
from tallyroot_gateway.mqtt.mapping import SHIPPED, Finding, Mappings, Refusal, shipped
from tallyroot_gateway.mqtt.patterns import path_of, pattern_of, value_at
from tallyroot_gateway.mqtt.times import device_time, zone_of
from tests.support.mqtt_gateways import NOW_MS, bench, config_of, refused

ZONE = {"mqtt": {"mappings": [*SHIPPED], "zone": "Europe/Berlin"}}


def test_a_pattern_names_levels_and_is_a_subscription() -> None:
    pattern = pattern_of("shellies/{device}/emeter/{channel}/total")
    assert pattern.subscription == "shellies/+/emeter/+/total"
    assert pattern.match("shellies/em-1/emeter/0/total") == {"device": "em-1", "channel": "0"}
    assert pattern.match("shellies/em-1/emeter/0/power") is None
    assert pattern.match("shellies/em-1/emeter/0") is None
    assert pattern_of("a/+/b").match("a/x/b") == {}


@pytest.mark.parametrize("text", ["", "a/#", "a/b+/c", "{a}/{a}", "x{device}", "{Device}", "a/{}", "/".join("a" * 40)])
def test_a_pattern_that_cannot_be_meant_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="topic"):
        pattern_of(text)


def test_a_path_is_keys_and_places() -> None:
    document = decode_json('{"a": {"switch:0": [{"total": 1.50}, 7]}, "b": null}')
    assert path_of("a.switch:0[0].total") == ("a", "switch:0", 0, "total")
    assert str(value_at(document, path_of("a.switch:0[0].total"))) == "1.50"
    for missing in ("a.switch:0[2]", "a.switch:0.total", "a[0]", "b.c", "c", "a.switch:0[1].total"):
        assert value_at(document, path_of(missing)) is None


@pytest.mark.parametrize("text", ["", ".a", "a.", "a..b", "a[", "a[-1]", "a[x]", "a]b", "[0]", "a[0]b", "a" * 300])
def test_a_path_that_cannot_be_meant_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="path"):
        path_of(text)


@pytest.mark.parametrize(
    ("written", "zone", "ms"),
    [
        ("2026-11-18T11:06:40Z", None, NOW_MS),
        ("2026-11-18T12:06:40+01:00", None, NOW_MS),
        ("2026-11-18T12:06:40.5+0100", None, NOW_MS + 500),
        ("2026-11-18 12:06:40", "Europe/Berlin", NOW_MS),
        ("2026-11-18T16:36:40", "+05:30", NOW_MS),
        ("2026-11-18T11:06:40", "UTC", NOW_MS),
        (1_795_000_000, None, NOW_MS),
        (1_795_000_000_250, None, NOW_MS + 250),
        ("1.79e9", None, None),
        ("yesterday", None, None),
        ("2026-13-18T11:06:40Z", None, None),
        ("2026-11-18T12:06:40", None, None),
        ("2026-11-18T12:06:40+99:00", None, None),
        (True, None, None),
        (10**15, None, None),
        (-5, None, None),
        ({}, None, None),
    ],
)
def test_a_device_s_time_is_read_or_refused(written: Any, zone: str | None, ms: int | None) -> None:
    where = None if zone is None else zone_of(zone)
    if ms is None:
        with pytest.raises(InvalidInput):
            device_time(written, where, NOW_MS)
    else:
        assert device_time(written, where, NOW_MS) == (ms, True)


def test_seconds_with_a_fraction_are_exact() -> None:
    assert device_time(decode_json("1795000000.437"), None, 0).ms == NOW_MS + 437


def test_the_hour_that_comes_twice_is_the_one_nearer_to_arrival_and_tells_nothing_apart() -> None:
    berlin = zone_of("Europe/Berlin")
    first, second = 1_792_888_200_000, 1_792_891_800_000  # 2026-10-25T00:30Z and an hour later
    assert device_time("2026-10-25T02:30:00", berlin, first + 5_000) == (first, False)
    assert device_time("2026-10-25T02:30:00", berlin, second + 5_000) == (second, False)


def test_an_unknown_zone_is_refused() -> None:
    for name in ("Europe/Atlantis", "../etc/passwd", "+15:00", ""):
        with pytest.raises(InvalidInput):
            zone_of(name)


TASMOTA = (
    b'{"Time":"2026-11-18T12:06:40","ENERGY":{"TotalStartTime":"2018-10-30T21:25:56","Total":176.494,"Yesterday":1.909,'
    b'"Today":0.679,"Power":0}}'
)
SHELLY_PLUS = (
    b'{"src":"shellyplus1pm-1","dst":"x/events","method":"NotifyStatus","params":{"ts":1795000000.43,"switch:0":{"id":0,'
    b'"aenergy":{"by_minute":[0,0,0],"minute_ts":1794999960,"total":19.307}}}}'
)
SAID = [
    ("tele/plug-3/SENSOR", TASMOTA, "plug-3", Fraction(176_494), NOW_MS),
    ("shellies/shellyem-1/emeter/1/total", b"12345.6", "shellyem-1/1", Fraction("12345.6"), None),
    ("shellies/shellyplug-s-1/relay/0/energy", b"90", "shellyplug-s-1/0", Fraction(3, 2), None),
    ("shellyplus1pm-1/events/rpc", SHELLY_PLUS, "shellyplus1pm-1/0", Fraction("19.307"), NOW_MS + 430),
    ("shellypro4pm-1/status/switch:1", b'{"id":1,"output":true,"aenergy":{"total":0.1}}', "shellypro4pm-1/1",
     Fraction(1, 10), None),
    ("zigbee2mqtt/socket", b'{"energy":4.22,"last_seen":"2026-11-18T12:06:40+01:00","linkquality":98,"state":"ON"}',
     "socket", Fraction(4_220), NOW_MS),
]  # fmt: skip
"""Messages as the devices' documents and users show them."""


def read(topic: str, payload: bytes, device: str = "d", **tables: Any) -> tuple[list[Finding], list[Refusal]]:
    devices = {device: {"machine": "m-1", "route": "site-1"}}
    return Mappings(config_of(Path(), devices=devices, **{**ZONE, **tables})).read(topic, payload, NOW_MS)


@pytest.mark.parametrize(("topic", "payload", "device", "value", "at"), SAID, ids=lambda part: str(part)[:30])
def test_a_shipped_mapping_reads_what_its_devices_say(
    topic: str, payload: bytes, device: str, value: Fraction, at: int | None
) -> None:
    (finding,), refusals = read(topic, payload, device)
    assert (finding.machine, finding.route, finding.device) == ("m-1", "site-1", device)
    assert [(found.meter, found.kind, found.value) for found in finding.values] == [("energy", "register", value)]
    assert (None if finding.time is None else finding.time.ms) == at
    assert not refusals


def test_every_shipped_mapping_is_a_file() -> None:
    assert {path.stem for path in Path("gateway/python/tallyroot_gateway/mqtt").glob("*.toml")} == set(SHIPPED)
    assert all(shipped(name) for name in SHIPPED)
    with pytest.raises(InvalidInput, match="there is no 'sonoff', but tasmota"):
        shipped("sonoff")


def test_a_message_of_several_channels_is_a_finding_for_each() -> None:
    payload = b'{"params":{"ts":1795000000,"switch:0":{"aenergy":{"total":1}},"switch:2":{"aenergy":{"total":2}}}}'
    devices = {f"strip/{number}": {"machine": f"m-{number}", "route": "site-1"} for number in range(4)}
    findings, refusals = Mappings(config_of(Path(), devices=devices, **ZONE)).read("strip/events/rpc", payload, NOW_MS)
    assert [(finding.machine, finding.values[0].value) for finding in findings] == [("m-0", 1), ("m-2", 2)]
    assert not refusals


@pytest.mark.parametrize(
    ("topic", "payload", "reason"),
    [
        ("tele/plug-9/SENSOR", b'{"Time":"2026-11-18T12:06:40","ENERGY":{"Total":1}}', "unknown_device"),
        ("tele/d/SENSOR", b'{"Time":"2026-11-18T12:06:40","ENERGY":{"Total":[681.772,113.992]}}', "not_a_reading"),
        ("tele/d/SENSOR", b'{"Time":"2026-11-18T12:06:40","ENERGY":{"Total":NaN}}', "not_a_reading"),
        ("tele/d/SENSOR", b'{"Time":"soon","ENERGY":{"Total":1}}', "not_a_reading"),
        ("tele/d/SENSOR", b"\xff{", "not_a_reading"),
        ("tele/d/SENSOR", b"[" * 100_000, "not_a_reading"),
        ("zigbee2mqtt/d", b'{"energy":true}', "not_a_reading"),
        ("zigbee2mqtt/d", b'{"energy":1e999}', "not_a_reading"),
        ("zigbee2mqtt/d", b'{"energy":' + b"9" * 5_000 + b"}", "not_a_reading"),
        ("other/d", b"1", "unmapped"),
    ],
)
def test_what_cannot_be_used_has_a_reason(topic: str, payload: bytes, reason: str) -> None:
    findings, refusals = read(topic, payload)
    assert not findings
    assert {refusal.reason for refusal in refusals} == {reason}


def test_what_has_none_of_the_values_is_no_reading_and_no_fault() -> None:
    for payload in (b'{"linkquality":98}', b'{"energy":null}', b"{}", b"[]", b"7"):
        assert read("zigbee2mqtt/d", payload) == ([], [])


METER = {"meter": "energy", "value": "total", "unit": "kWh"}


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        ({"topic": "a/{device}", "meters": [{**METER, "kind": "quantity"}]}, "name the path of an id or a time"),
        ({"topic": "a/{device}", "meters": [{**METER, "unit": "kW"}]}, "kW is no Wh"),
        ({"topic": "a/{device}", "meters": [{**METER, "unit": "furlong"}]}, "unknown unit"),
        ({"topic": "a/{device}", "meters": [{"meter": "energy", "unit": "Wh"}]}, "JSON needs value"),
        ({"topic": "a/{device}", "format": "text", "meters": [METER]}, "plain text has none"),
        ({"topic": "a/+", "meters": [METER]}, "needs {device}, which is no level"),
        ({"topic": "a/{d}", "machine": "{d}", "meters": [METER]}, "say the route too"),
        ({"topic": "a/{device}", "zone": "Nowhere", "meters": [METER]}, "zone 'Nowhere'"),
        ({"topic": "a/{device}", "meters": [{**METER, "kind": "level", "restarts": True}]}, "only a register restarts"),
    ],
)
def test_a_mapping_that_cannot_be_meant_is_refused(mapping: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        Mappings(config_of(Path(), mapping=[mapping]))


def test_tasmota_needs_a_zone() -> None:
    with pytest.raises(InvalidInput, match="say zone"):
        Mappings(config_of(Path(), mqtt={"mappings": ["tasmota"]}))


# What becomes of copies

SITE = {"topic": "site/{device}", "machine": "{device}", "route": "site-1", "meters": [METER]}
TIMED = {"mapping": [{**SITE, "time": "at"}]}


def said(total: float, at: int = NOW_MS, **more: Any) -> dict[str, Any]:
    return {"total": total, "at": at, **more}


def test_a_delivery_with_a_time_counts_once_also_over_a_restart(tmp_path: Path) -> None:
    with bench(tmp_path, **TIMED) as gateway:
        assert gateway.hand("site/m-1", said(1.5))
        assert not gateway.hand("site/m-1", said(1.5))
        gateway.restart()
        assert not gateway.hand("site/m-1", said(1.5), repeated=True)
        assert gateway.hand("site/m-1", said(1.5, NOW_MS + 1))
        assert [(row["register"], row["observed_at"]) for row in gateway.rows()] == [(1500, NOW_MS), (1500, NOW_MS + 1)]


def test_a_retained_message_counts_by_its_own_time_alone(tmp_path: Path) -> None:
    with bench(tmp_path, **TIMED) as gateway:
        assert gateway.hand("site/m-1", said(1.0, NOW_MS - 9), retained=True)  # never seen: it is news
        assert gateway.hand("site/m-1", said(2.0))
        gateway.restart()
        assert not gateway.hand("site/m-1", said(1.0, NOW_MS - 9), retained=True)
        assert not gateway.hand("site/m-1", said(9.0), retained=True)
        assert not gateway.hand("site/m-1", {"total": 9.0}, retained=True)
        assert gateway.hand("site/m-1", said(3.0, NOW_MS + 9), retained=True)
        assert refused(gateway.intake, "retained") == 2
        assert refused(gateway.intake, "retained_without_time") == 1
        assert [row["register"] for row in gateway.rows()] == [1000, 2000, 3000]


def test_a_register_without_a_time_that_comes_again_is_dropped(tmp_path: Path) -> None:
    with bench(tmp_path, mapping=[SITE]) as gateway:
        for total in (1.0, 2.0, 3.0, 3.0):  # the last one shows that the meter stands still
            assert gateway.hand("site/m-1", {"total": total})
        gateway.restart()
        for total in (2.0, 3.0):
            assert not gateway.hand("site/m-1", {"total": total}, repeated=True)
        assert not gateway.hand("site/m-1", {"total": 3.0}, prompt=False)  # what a killed broker had saved, unmarked
        assert gateway.hand("site/m-1", {"total": 4.0}, repeated=True)
        assert [row["register"] for row in gateway.rows()] == [1000, 2000, 3000, 3000, 4000]


def test_a_quantity_counts_by_its_id_or_by_a_time_that_names_one_moment(tmp_path: Path) -> None:
    meters = [{"meter": "trips", "kind": "quantity", "value": "trips", "unit": "count", "to": "count"}]
    mapping = {**SITE, "meters": meters, "id": "n", "time": "at", "zone": "Europe/Berlin"}
    with bench(tmp_path, mapping=[mapping]) as gateway:
        assert gateway.hand("site/m-1", {"trips": 1, "n": "a"})
        assert not gateway.hand("site/m-1", {"trips": 1, "n": "a", "at": "2026-11-18T12:06:40"})
        assert gateway.hand("site/m-1", {"trips": 1, "n": "b"})
        assert gateway.hand("site/m-1", {"trips": 1, "at": "2026-11-18T12:06:40"})
        assert not gateway.hand("site/m-1", {"trips": 1})
        assert not gateway.hand("site/m-1", {"trips": 1, "at": "2026-10-25T02:30:00"})  # it comes twice that night
        assert not gateway.hand("site/m-1", {"trips": 1, "at": "1970-01-01T00:00:13"})  # the same after each start
        assert not gateway.hand("site/m-1", {"trips": 1.5, "n": "c"})
        assert refused(gateway.intake, "no_identity") == 3
        assert len(gateway.rows()) == 3


def test_a_register_that_restarts_is_made_cumulative_also_over_a_restart_of_ours(tmp_path: Path) -> None:
    tables = {"mqtt": {"mappings": ["shelly-gen1"]}, "devices": {"plug/0": {"machine": "m-1", "route": "site-1"}}}
    topic = "shellies/plug/relay/0/energy"
    with bench(tmp_path, **tables) as gateway:
        for shown in ("60", "130", "130"):  # watt-minutes
            gateway.hand(topic, shown)
        gateway.restart()
        for shown in ("170", "30", "100"):  # the plug has restarted
            gateway.hand(topic, shown)
        assert not gateway.hand(topic, "30", repeated=True)
        assert [row["register"] for row in gateway.rows()] == [1, 2, 2, 2, 3, 4]


def test_a_clock_that_is_not_set_or_ahead_is_not_believed(tmp_path: Path) -> None:
    with bench(tmp_path, **TIMED) as gateway:
        gateway.hand("site/m-1", said(1.0, 13))
        gateway.hand("site/m-1", said(2.0, NOW_MS + 3_600_000))
        gateway.hand("site/m-1", said(3.0, NOW_MS - 7_000))
        rows = gateway.rows()
        assert [(row["observed_at"], row.get("reconstructed", False)) for row in rows] == [
            (NOW_MS, False), (NOW_MS, True), (NOW_MS - 7_000, False),
        ]  # fmt: skip
        offset = gateway.intake.metrics.registry.get_sample_value(
            "tallyroot_gateway_clock_offset_seconds", {"device": "m-1"}
        )
        assert offset == -7.0


def test_a_clock_far_ahead_does_not_shut_out_what_follows(tmp_path: Path) -> None:
    mapping = {**SITE, "time": "at", "meters": [{**METER, "restarts": True}]}
    with bench(tmp_path, mapping=[mapping]) as gateway:
        assert gateway.hand("site/m-1", said(1.0, NOW_MS + 10**10))
        assert gateway.hand("site/m-1", said(2.0, NOW_MS))
        assert not gateway.hand("site/m-1", said(1.5, NOW_MS - 9))  # late: it has not begun again
        assert gateway.hand("site/m-1", said(0.5, NOW_MS + 9))
        assert [row["register"] for row in gateway.rows()] == [1000, 2000, 2500]


def test_whatever_is_said_nothing_breaks(tmp_path: Path) -> None:
    chance = random.Random(17)
    devices = {device: {"machine": "m-1", "route": "site-1"} for _, _, device, _, _ in SAID}
    with bench(tmp_path, devices=devices, **ZONE) as gateway:
        for _ in range(3_000):
            topic, payload, *_ = chance.choice(SAID)
            spoiled = bytearray(payload)
            for _ in range(chance.randrange(1, 4)):
                at = chance.randrange(len(spoiled) + 1)
                spoiled[at : at + chance.randrange(3)] = chance.randbytes(chance.randrange(3))
            gateway.hand(topic, bytes(spoiled) or b"x", retained=chance.random() < 0.2, repeated=chance.random() < 0.2)
        assert all(row["register"] >= 0 for row in gateway.rows())


def test_what_is_usual_is_kept_once_and_counted_always(tmp_path: Path) -> None:
    tables = {"mqtt": {"mappings": ["zigbee2mqtt"]}}
    with bench(tmp_path, **tables) as gateway:
        for number in range(100):
            gateway.hand(f"zigbee2mqtt/device-{number % 2}", {"energy": 1})
        assert refused(gateway.intake, "unknown_device") == 100
        assert [refusal["reason"] for refusal in gateway.refusals()] == ["unknown_device"] * 2
