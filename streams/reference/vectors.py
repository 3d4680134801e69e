"""Reads a log in the vectors' form, and prints its result in the same form.

    python -m streams.reference FILE          what the slow text makes of it
    python -m streams.reference FILE --core   what the core makes of it

FILE is JSON, plain or gzipped: {"ruleset", "log"}. A record there is `{"offset", "timestamp", "type", "value"}`, with
`trust` where a device signs and `signer` where a supplier does; its key is the route of its machine. The value
`"<undecodable>"` stands for bytes that are not JSON. A value that only some JSON libraries read, such as NaN or half a
surrogate pair, is passed on like any other, and refused like the same bytes from Kafka.
"""

import argparse
import gzip
import json
import math
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec

from schemas.errors import InvalidInput
from schemas.log import Log, Ruleset
from schemas.manifest import Counts
from schemas.reading import REGISTERED
from schemas.registration import Registration
from schemas.reject import Reject
from schemas.units import CARRY_BASE, Count, Positive, Trust
from schemas.window import Window
from streams.core.advance import Advanced
from streams.core.machines import Version
from streams.core.records import JSON, SIGNATURE, LogRecord, Record, decode_control
from streams.core.replay import advance_through
from streams.core.sealing import open_windows
from streams.core.state import State
from streams.core.trust import Signatures, Trusting
from streams.reference.entries import GivenEntry, Plain
from streams.reference.recount import PartitionRecount, plain_windows

UNDECODABLE = "<undecodable>"

DIGITS_MAX = 4_300
"""Integers with more digits are out of range for the stream's decoder, and Python's own refuses to read them."""

Document = dict[str, Any]


class Rules(msgspec.Struct, frozen=True):
    """The rules of a document: what a log fixes for its life, and which of its partitions this is."""

    window_ms: Positive
    grace_ms: Count
    horizon_ms: Count
    skew_ms: Count
    epoch_ms: Positive
    partition: Count
    partitions: Positive


class Given(msgspec.Struct, frozen=True):
    """One record of a document; `timestamp` is epoch ms, `trust` is null for a signature that does not verify."""

    offset: Count
    timestamp: Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
    type: str
    value: Any
    trust: Trust | None = 0
    signer: str | None = None

    @property
    def body(self) -> bytes:
        """The bytes of the value."""
        return (UNDECODABLE if self.value == UNDECODABLE else json.dumps(self.value, separators=(",", ":"))).encode()


def read_document(path: Path) -> Document:
    """A document in the vectors' form, plain or gzipped. Raises InvalidInput if the file is not one."""
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
        # Bytes that are not UTF-8 become half a surrogate pair, which is valid only inside a value.
        text = content.decode("utf-8", "surrogateescape")
        document: Document = json.loads(text, parse_int=_integer)
        log_of(document)
        records_of(document)
    except (
        OSError, EOFError, zlib.error, ValueError, msgspec.DecodeError, KeyError, TypeError, RecursionError
    ) as error:  # fmt: skip
        raise InvalidInput(f"{path} is not a log in the vectors' form ({error}): pass a JSON file of one") from error
    return document


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= DIGITS_MAX else math.inf


def log_of(document: Document) -> Log:
    """The log's identity and its one ruleset."""
    rules = msgspec.convert(document["ruleset"], Rules)
    return Log(
        log_id="replay",
        partitions=rules.partitions,
        window_ms=rules.window_ms,
        epoch_ms=rules.epoch_ms,
        rulesets=(
            Ruleset(grace_ms=rules.grace_ms, horizon_ms=rules.horizon_ms, skew_ms=rules.skew_ms),
        ),
    )  # fmt: skip


def recounted(document: Document) -> Document:
    """What the slow text makes of a document: its expected part."""
    recount = PartitionRecount(log_of(document), document["ruleset"]["partition"])
    for given in msgspec.convert(document["log"], list[Given]):
        entry = GivenEntry(given.offset, given.timestamp, given.type, given.body, given.trust, given.signer)
        recount.take_entry(entry)
    counts = {"accepted": recount.accepted, "duplicate": recount.duplicate, "rejected": len(recount.rejects)}
    return {
        "windows": [recounted_form(window, recount.log.window_ms) for window in recount.sealed],
        "open": [recounted_form(window, recount.log.window_ms) for window in recount.open_windows()],
        "rejects": [list(reject) for reject in recount.rejects],
        "counts": {"entries": sum(counts.values()), **counts},
        "orders": [order.terms for order in recount.orders.placed],
        "deposits": recount.deposits(),
        "stream_time": recount.now,
    }


def recounted_form(window: Plain, window_ms: int) -> Document:
    """A window of the recount as the vectors write it."""
    as_they_are = ("gross", "expenses", "uncollected", "net", "collected", "lines", "sessions", "dues")
    first, last = window["offsets"]
    return {
        "machine": window["machine"],
        "start": window["start"],
        "end": window["start"] + window_ms,
        "mends": None if window["adjusts"] < 0 else window["adjusts"],
        **{name: window[name] for name in as_they_are},
        "carry_in": int(window["carry_in"] * CARRY_BASE),
        "carry_out": int(window["carry_out"] * CARRY_BASE),
        "registration_version": window["version"],
        "readings": window["readings"],
        "first_offset": first,
        "last_offset": last,
        "skipped": window["skipped"],
        "flags": window["flags"],
        "trust": window["trust"],
    }


class GivenTrust(msgspec.Struct, frozen=True):
    """A device's signature that was judged before."""

    trust: int | None

    def trust_by(self, version: Version) -> int | None:
        """The trust given, under any version."""
        return self.trust


class GivenSignatures(Signatures):
    """Signatures that were judged before: by offset."""

    def __init__(self, document: Document) -> None:
        super().__init__("replay")
        self._given = {given.offset: given for given in msgspec.convert(document["log"], list[Given])}

    def of_device(self, record: LogRecord) -> Trusting | None:
        """The trust given; None for 0, which is unsigned."""
        trust = self._given[record.offset].trust
        return None if trust == 0 else GivenTrust(trust)

    def account_of(self, record: LogRecord) -> str | None:
        """The signer given."""
        return self._given[record.offset].signer


def new_state(document: Document) -> State:
    """The core's state before the first record of a document."""
    return State.new(log_of(document), document["ruleset"]["partition"], GivenSignatures(document))


def records_of(document: Document) -> list[Record]:
    """The records of a document, values as JSON. A registration lies at its own route, others at their machine's."""
    routes: dict[str, str] = {}
    records = []
    for given in msgspec.convert(document["log"], list[Given]):
        value = given.value
        machine = str(value.get("machine")) if isinstance(value, dict) else ""
        route = routes.get(machine, machine)
        if given.type == REGISTERED and isinstance(value, dict) and isinstance(value.get("route"), str):
            route = value["route"]
            if value.get("version") == 1 and not isinstance(decode_control(given.body, JSON, Registration), str):
                routes.setdefault(machine, route)  # a well-formed first version is always accepted
        key = route.encode("utf-8", "surrogatepass")
        # Where a device signed, a header says that it did; `GivenSignatures` says with which outcome.
        signed = [] if given.trust == 0 else [(SIGNATURE, b"judged before")]
        headers = [("ce_type", given.type.encode()), *signed]
        records.append(Record(given.offset, given.timestamp, key, given.body, headers))
    return records


def result_of(state: State, parts: Sequence[Advanced]) -> Document:
    """The expected part of a document. `state` is the state after the parts."""
    counts = Counts()
    for part in parts:
        counts += part.counts
    return {
        "windows": [window_form(window) for part in parts for window in part.windows],
        "open": [window_form(window) for window in open_windows(state)],
        "rejects": [reject_form(reject) for part in parts for reject in part.rejects],
        "counts": msgspec.to_builtins(counts),
        "orders": [msgspec.to_builtins(order) for part in parts for order in part.orders],
        "deposits": state.deposits_micros(),
        "stream_time": state.stream_time_ms,
    }


def window_form(window: Window) -> Document:
    """A window as the vectors write it."""
    [plain] = plain_windows([window])
    return recounted_form(plain, window.end_ms - window.start_ms)


def reject_form(reject: Reject) -> list[object]:
    """A reject as the vectors write it."""
    return [reject.offset, reject.row, reject.reason]


def replay(document: Document) -> Document:
    """What the core makes of a document, as `result_of`."""
    state = new_state(document)
    parts = advance_through(state, records_of(document))
    return result_of(state, parts)


def main(arguments: Sequence[str]) -> int:
    """Prints the result of one file; returns the exit code: 1 if the file is not a log. A wrong call exits with 2."""
    options = argparse.ArgumentParser(prog="python -m streams.reference", description="Prints what a log comes to.")
    options.add_argument("file", type=Path, metavar="FILE", help="a log in the vectors' form, plain or gzipped")
    options.add_argument("--core", action="store_true", help="by the core, not by the slow text")
    wanted = options.parse_args(arguments)
    try:
        document = read_document(wanted.file)
    except InvalidInput as error:
        sys.stderr.write(f"{error}\n")
        return 1
    result = replay(document) if wanted.core else recounted(document)
    sys.stdout.write(json.dumps(result, ensure_ascii=False, separators=(",", ":")) + "\n")
    return 0
