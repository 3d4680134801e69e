"""Vectors with random changes: logs that nobody knows the result of, for texts that must agree on it."""

import copy
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from streams.reference.vectors import Document, read_document

FILES = sorted((Path(__file__).parents[1] / "golden" / "vectors").glob("*.json.gz"))

DAY_MS = 86_400_000
STEPS = (1, -1, 2, -2, 60_000, -60_000, 900_000, -900_000, DAY_MS, -DAY_MS, 35 * DAY_MS, -35 * DAY_MS, 2**20, 2**53)
ODD = (0, 1, -1, 2**53, 2**53 + 1, -(2**53), True, False, None, 1.5, "", "m0", [], {})
SIGNERS = ("0x" + "a" * 40, "0x" + "b" * 40, None)


def mutated(seed: int) -> Document:
    """A vector's log with some of its records changed, moved, repeated or left out; without what is expected."""
    draw = random.Random(seed)
    document = read_document(draw.choice(FILES))
    log = document["log"]
    share = draw.choice((0.01, 0.05, 0.2))
    changed: list[dict[str, Any]] = []
    for record in log:
        fate = draw.random() / share
        if fate >= 1:
            changed.append(record)
        elif fate < 0.1:
            continue
        elif fate < 0.25:
            changed += [record, copy.deepcopy(record)]
        elif fate < 0.4 and changed:
            changed.insert(draw.randrange(len(changed)), record)
        else:
            changed.append(_changed(record, log, draw))
    for offset, record in enumerate(changed):
        record["offset"] = offset
    return {"ruleset": document["ruleset"], "log": changed}


def _changed(record: dict[str, Any], log: list[dict[str, Any]], draw: random.Random) -> dict[str, Any]:
    record = copy.deepcopy(record)
    for _ in range(draw.choice((1, 1, 2))):
        what = draw.random()
        if what < 0.1:
            record["timestamp"] += draw.choice(STEPS[:12])
        elif what < 0.15:
            record["trust"] = draw.choice((0, 1, 2, None))
        elif what < 0.2:
            record["signer"] = draw.choice(SIGNERS)
        else:
            leaves = list(_leaves(record["value"]))
            if leaves:
                holder, key = draw.choice(leaves)
                holder[key] = _other(holder[key], key, log, draw)
    return record


def _other(value: Any, key: Any, log: list[dict[str, Any]], draw: random.Random) -> Any:
    if draw.random() < 0.1:
        return draw.choice(ODD)
    if draw.random() < 0.4:
        others = [holder[name] for holder, name in _leaves(draw.choice(log)["value"]) if name == key]
        if others:
            return draw.choice(others)
    if type(value) is int:
        return value + draw.choice(STEPS)
    return not value if isinstance(value, bool) else value


def _leaves(value: Any) -> Iterator[tuple[Any, Any]]:
    """Where the scalars of a value stand, as (dict or list, key or index)."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        if isinstance(part, dict | list):
            yield from _leaves(part)
        else:
            yield value, key
