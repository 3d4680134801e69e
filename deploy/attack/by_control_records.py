"""Cheats with control records: registrations and corrections, by strangers and by the operator itself."""

from typing import Any

from deploy.attack.cheat import CUSTOMERS, PAYEES, Cheat, Cheater
from deploy.attack.partition_copy import CAPACITY_WH, INVESTOR, OWNER, STRANGER_KEY, THIEF, PartitionCopy
from schemas.reading import CORRECTED
from schemas.reject import Reason
from schemas.units import DAY_MS
from streams.core.plausible_usage import correction_limit
from streams.core.records import SIGNATURE, Record
from streams.core.signature import SIGNATURE_BYTES

CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
STARVED = {OWNER: 9_999, INVESTOR: 1}


def control_cheats(bed: PartitionCopy) -> list[Cheat]:
    """All cheats, in the order of the table."""
    return [*_forged(bed), *_versions(bed), *_corrections(bed), *_unseen(bed)]


def _cheat(
    name: str,
    who: Cheater,
    rule: int,
    reason: Reason,
    loses: str,
    bed: PartitionCopy,
    *records: Record,
    honest: int = 0,
) -> Cheat:
    return Cheat(name, who, loses, lambda: bed.judge(*records).refused(rule, reason, honest))


def _theft(bed: PartitionCopy, version: int = 2) -> dict[str, Any]:
    """The neighbour's next version, which pays a thief: its agreement isn't locked."""
    return bed.registration(bed.other, version, agreement={"payees": {THIEF: 10_000}})


def _forged(bed: PartitionCopy) -> list[Cheat]:
    theft, payees = _theft(bed), PAYEES
    right = bed.control(theft, route=bed.other)
    moved = bed.control(bed.registration(bed.name("moved")), route=bed.other)._replace(key=bed.name("moved").encode())
    return [
        _cheat(
            "a registration by a stranger", "stranger", 27, "bad_signature", payees, bed,
            bed.control(theft, route=bed.other, signer=STRANGER_KEY),
        ),
        _cheat(
            "an unsigned registration", "stranger", 27, "bad_signature", payees, bed,
            right._replace(headers=right.headers[:1]),
        ),
        _cheat(
            "a stale control record: the operator's own, from a test log", "stranger", 27, "bad_signature", payees, bed,
            bed.control(theft, route=bed.other, log_id="attack-test"),
        ),
        _cheat("a signature moved to another key", "stranger", 27, "bad_signature", payees, bed, moved),
        _cheat("the signature's high-s twin", "stranger", 27, "bad_signature", payees, bed, _high_s(right)),
    ]  # fmt: skip


def _high_s(record: Record) -> Record:
    """The same signature's other form, which most libraries take as well."""
    signature = dict(record.headers)[SIGNATURE] or bytes(SIGNATURE_BYTES)
    s = CURVE_ORDER - int.from_bytes(signature[32:64], "big")
    twin = signature[:32] + s.to_bytes(32, "big") + bytes([27 + 28 - signature[64]])
    return record._replace(headers=(*record.headers[:1], (SIGNATURE, twin)))


def _versions(bed: PartitionCopy) -> list[Cheat]:
    locked_until = bed.now_ms + 365 * DAY_MS
    starved = bed.registration(bed.victim, 2, agreement={"payees": STARVED, "locked_until": locked_until})
    dropped = bed.registration(bed.victim, 2, agreement={"payees": {OWNER: 5_000, INVESTOR: 5_000}})
    away = bed.registration(bed.other, 2, route=bed.victim)
    twice = (bed.control(bed.registration(bed.other, 2), route=bed.other), bed.control(_theft(bed), route=bed.other))
    investors = "the investors"
    return [
        _cheat(
            "double registration: two contents for one version", "operator", 22, "stale_version", PAYEES, bed,
            *twice, honest=1,
        ),
        _cheat("a version left out", "operator", 22, "stale_version", "auditors", bed,
               bed.control(_theft(bed, 3), route=bed.other)),
        _cheat("an agreement lowered under its lock", "operator", 23, "agreement_locked", investors, bed,
               bed.control(starved, route=bed.victim)),
        _cheat("a lock dropped before its day", "operator", 23, "agreement_locked", investors, bed,
               bed.control(dropped, route=bed.victim)),
        _cheat("a machine moved to another route", "operator", 23, "wrong_partition", CUSTOMERS, bed,
               bed.control(away, route=bed.victim)),
    ]  # fmt: skip


def _corrections(bed: PartitionCopy) -> list[Cheat]:
    def correction(version: int, difference: int) -> Record:
        document = {
            "machine": bed.other, "version": version, "meter": "energy", "observed_at": bed.now_ms,
            "difference": difference, "reason": "attack",
        }  # fmt: skip
        return bed.control(document, CORRECTED, route=bed.other)

    who = CUSTOMERS
    return [
        _cheat("a correction beyond what the meter can do", "operator", 25, "too_high", who, bed,
               correction(1, correction_limit(CAPACITY_WH) + 1)),
        _cheat("one credit note, and another under its number", "operator", 25, "stale_version", who, bed,
               correction(1, -1), correction(1, 1_000), honest=1),
    ]  # fmt: skip


def _unseen(bed: PartitionCopy) -> list[Cheat]:
    """What the operator's key may do: everybody can see it in the log, and nothing rejects it."""
    theft = bed.control(_theft(bed), route=bed.other)
    again = bed.name("again")
    return [
        Cheat(
            "the operator pays himself: another agreement, where none was locked", "operator", PAYEES,
            lambda: bed.judge(theft).accepted(), "an agreement that is locked (locked_until)",
        ),
        Cheat(
            "a machine that comes back under another name", "operator", "the investors",
            lambda: bed.judge(bed.control(bed.registration(again), route=again)).accepted(),
            "investors who read new registrations: all are in the log",
        ),
    ]  # fmt: skip
