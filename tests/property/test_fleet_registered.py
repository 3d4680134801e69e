"""Machines that are registered in thousands, by texts that differ in a few words, are what each record makes them."""

import json
import random
from typing import Any

import msgspec
import numpy as np
import pytest

from schemas.log import Log, Ruleset
from schemas.reading import HEARTBEAT, REGISTERED
from schemas.units import DAY_MS, HOUR_MS, MINUTE_MS
from streams.core import registering
from streams.core.advance import advance
from streams.core.kernel import registrations
from streams.core.murmur2 import partition_of
from streams.core.records import JSON, Record
from streams.core.replay import advance_through
from streams.core.signature import operator_account, sign_control
from streams.core.state import State
from streams.reference.recount import PartitionRecount
from tests.fuzz.spoiled import spoiled_bytes
from tests.support.written_log import registration

START_MS = 19_000 * DAY_MS
OPERATOR, STRANGER = b"\1" * 32, b"\2" * 32
RECORDS = 300


def contents(draw: random.Random) -> dict[str, Any]:
    """What machines of a fleet have in common."""
    meters = [
        {"meter": f"energy-{k}", "unit": "Wh", "kind": "register", "capacity_per_hour": draw.randint(1, 9)}
        | ({"opening_register": draw.randint(0, 9)} if draw.random() < 0.5 else {})
        for k in range(draw.randint(0, 3))
    ]
    meters.append({"meter": "trips", "unit": "count", "kind": "quantity", "capacity_per_hour": 60})
    changes: dict[str, Any] = {"meters": meters, "effective_from": draw.choice((0, START_MS + 7))}
    if draw.random() < 0.2:
        changes |= {"boot": 5}
    if draw.random() < 0.2:
        changes |= {"retired": draw.random() < 0.5}
    return registration(draw.choice((1, 1, 1, 1, 2)), **changes)


def fleet(draw: random.Random, log: Log) -> list[Record]:
    """Registrations of a few fleets in no order, some twice, some wrong, some spoiled; clocks go on and back."""
    fleets, records, now_ms = [contents(draw) for _ in range(draw.randint(1, 5))], list[Record](), START_MS
    for offset in range(RECORDS):
        now_ms += draw.choice((0, 0, 0, 0, 0, 1, -1, MINUTE_MS))
        now_ms += 26 * HOUR_MS if draw.random() < 0.004 else 0
        if draw.random() < 0.03:
            records.append(Record(offset, now_ms, b"m", b"", [("ce_type", HEARTBEAT.encode())]))
            continue
        name = f"m{draw.randint(0, RECORDS)}"
        route = draw.choice((name, name, name, f"site-{draw.randint(0, 5)}", "*", "a:b"))
        plain = draw.choice(fleets) | {"machine": name, "route": route}
        plain |= {"salt": draw.choice((f"{draw.getrandbits(128):032x}", "", "A" * 32))} if draw.random() < 0.4 else {}
        value = msgspec.json.encode(plain) if draw.random() < 0.8 else json.dumps(plain).encode()
        if draw.random() < 0.04:
            value = spoiled_bytes(draw, value)
        key = route.encode() if draw.random() < 0.95 else b"elsewhere"
        headers = [("ce_type", REGISTERED.encode())]
        if draw.random() < 0.1:
            headers.append(
                ("content-type", draw.choice((JSON, "Application/JSON; charset=utf-8", "text/plain")).encode())
            )
        if log.rulesets[0].operators and draw.random() < 0.9:
            content_type = dict(headers).get("content-type", JSON.encode())
            who = OPERATOR if draw.random() < 0.95 else STRANGER
            signed = sign_control(who, log.log_id, key, REGISTERED, content_type, value)
            headers.append(("signature", signed))
        records.append(Record(offset, now_ms, key, value, headers))
    return records


@pytest.mark.parametrize("seed", range(16))
def test_a_fleet_is_registered_as_record_by_record(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(seed)
    monkeypatch.setattr(registering, "AHEAD", draw.choice((1, 7, 1_024)))
    operators = (operator_account(OPERATOR),) if seed % 3 == 0 else ()
    log = Log(log_id="fleet", partitions=draw.choice((1, 1, 2)), rulesets=(Ruleset(operators=operators),))
    records = fleet(draw, log)
    state, alone = State.new(log, 0), State.new(log, 0)
    together = advance_through(state, records)
    for record in records:
        advance_through(alone, [record])
        if record.offset % 40 == 0:  # No text is known to a state that was loaded.
            alone = State.load(log, 0, alone.tables())
    assert state.digest() == alone.digest()
    rejects = [(one.offset, one.row, one.reason) for part in together for one in part.rejects]
    recount = PartitionRecount(log, 0).take(records)
    assert rejects == recount.rejects
    assert sum(part.counts.accepted for part in together) == recount.accepted
    assert sum(part.counts.duplicate for part in together) == recount.duplicate


def test_a_known_text_is_not_decoded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log(log_id="fleet", partitions=1)
    headers = [("ce_type", REGISTERED.encode())]
    values = [msgspec.json.encode(registration(machine=f"m{k}", route=f"m{k}")) for k in range(100)]
    records = [Record(k, START_MS, b"m%d" % k, value, headers) for k, value in enumerate(values)]
    state, judged = State.new(log, 0), list[object]()
    register = registering.Newcomers.register
    monkeypatch.setattr(registering.Newcomers, "register", lambda self, r: judged.append(r) or register(self, r))
    advance(state, records)
    assert len(judged) == 2 and len(state.machines) == 100


@pytest.mark.parametrize("size", range(65))
def test_a_key_s_partition_is_that_of_the_definition(size: int) -> None:
    draw = random.Random(size)
    for _ in range(20):
        key, before, partitions = draw.randbytes(size), draw.randbytes(3), draw.randint(1, 1_024)
        buffer = np.frombuffer(before + key, np.uint8).copy()
        assert registrations.partition_of(buffer, 3, size, partitions) == partition_of(key, partitions)
