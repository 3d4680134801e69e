"""What was answered to a request with an Idempotency-Key, so that its repetition gets the same answer.

An answer is a note of the delivery that it is about: both are on disk, or neither. A route keeps its last ones in a
ring; a key that has left it is still known to the spool, and then its repetition is told only that it was taken.
"""

import hashlib
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from tallyroot_gateway.field.intake import Intake

SLOTS = 512
"""How many answers a route keeps."""

NOTE_BYTES = 512
"""An answer that is longer is kept without its numbers: all notes stand at the head of each file of the spool."""

_NEXT = "http:next"


class Numbers(Struct, frozen=True):
    """The numbers that a meter's readings were given: `boot`, and `first_seq` to `last_seq` in their order."""

    machine: str
    meter: str
    boot: int
    first_seq: int
    last_seq: int


class Taken(Struct, frozen=True):
    """What became of a request: readings that were taken, events that were known before, and the numbers given."""

    taken: int
    known: int
    numbers: list[Numbers]


class Answer(Struct, frozen=True, array_like=True):
    """A key, the SHA-256 of what came with it, and what was answered."""

    key: str
    content: str
    taken: Taken


class Answers:
    """The answers of all routes, read back from the spools."""

    def __init__(self, intake: Intake, routes: set[str]) -> None:
        """Raises InvalidInput for a spool that is in use."""
        self._by_key: dict[str, Answer] = {}
        self._routes: dict[str, str] = {}
        self._next: dict[str, int] = {}
        self._kept: dict[tuple[str, int], str] = {}
        for route in sorted(routes):
            self._next[route] = int(intake.note(route, _NEXT) or 0)
            for slot in range(min(SLOTS, self._next[route])):
                text = intake.note(route, f"http:{slot}")
                if text is not None:
                    self._keep(route, slot, msgspec.json.decode(text, type=Answer))

    def find(self, key: str) -> Answer | None:
        """The answer to a key, if it is among the last."""
        return self._by_key.get(key)

    def route_of(self, key: str) -> str:
        """The route of a key that `find` has found."""
        return self._routes[key]

    def notes(self, route: str, answer: Answer) -> dict[str, str]:
        """The notes by which the next delivery of a route keeps its answer."""
        number = self._next[route]
        return {f"http:{number % SLOTS}": _text(_shortened(answer)), _NEXT: str(number + 1)}

    def add(self, route: str, answer: Answer) -> None:
        """The delivery was written with what `notes` returned."""
        number = self._next[route]
        self._next[route] = number + 1
        self._keep(route, number % SLOTS, _shortened(answer))

    def _keep(self, route: str, slot: int, answer: Answer) -> None:
        before = self._kept.get((route, slot))
        if before is not None:
            self._by_key.pop(before, None)
            self._routes.pop(before, None)
        self._kept[route, slot] = answer.key
        self._by_key[answer.key], self._routes[answer.key] = answer, route


def _shortened(answer: Answer) -> Answer:
    """An answer as it is kept."""
    if len(_text(answer)) <= NOTE_BYTES:
        return answer
    return replace(answer, taken=replace(answer.taken, numbers=[]))


def _text(answer: Answer) -> str:
    return msgspec.json.encode(answer).decode()


def content_hash(media: str, body: bytes) -> str:
    """What tells one content from another."""
    return hashlib.sha256(media.encode() + b"\0" + body).hexdigest()[:32]


def numbers_of(readings: Any) -> list[Numbers]:
    """The numbers of readings, by meter: within one delivery a meter's follow each other."""
    found: dict[tuple[str, str], Numbers] = {}
    for one in readings:
        meter = one.machine, one.meter
        first = found[meter].first_seq if meter in found else one.seq
        found[meter] = Numbers(one.machine, one.meter, one.boot, first, one.seq)
    return list(found.values())
