"""Cheats of gateways, machines and strangers: what they send on top of a real partition's records."""

import msgspec

from deploy.attack.cheat import CUSTOMERS, PAYEES, Cheat, Cheater, Outcome
from deploy.attack.partition_copy import CAPACITY_WH, OTHER_KEY, VICTIM_KEY, PartitionCopy
from schemas.reading import ROWS_MAX
from schemas.reject import Reason
from schemas.units import DAY_MS, HOUR_MS, MINUTE_MS
from streams.core.plausible_usage import correction_limit
from streams.core.records import Record

SENTINEL = 2**53 - 1
"""All bits of the largest integer that a reading may hold: what a broken meter shows."""

JUMP = 2**20 + 1
FLOOD = 10_000
POISON = (b"\xff\xfe\x00", b'{"machine":', b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xff\xff\xff\x10\x00\x00\x00", b"")


def gateway_cheats(bed: PartitionCopy) -> list[Cheat]:
    """All cheats, in the order of the table."""
    return [*_numbers(bed), *_clocks(bed), *_values(bed), *_strangers(bed), *_signatures(bed), *_unseen(bed)]


def _cheat(
    name: str, rule: int, reason: Reason, loses: str, bed: PartitionCopy, *records: Record, who: Cheater = "gateway"
) -> Cheat:
    return Cheat(name, who, loses, lambda: bed.judge(*records).refused(rule, reason))


def _numbers(bed: PartitionCopy) -> list[Cheat]:
    target = bed.target
    other_value = target.row(seq=target.seq, register=target.value + 1)

    def resent() -> Outcome:
        judged = bed.judge(Record(0, bed.now_ms, *target.last_record[2:]))
        counts = judged.counts
        if counts.accepted or not counts.duplicate:
            return judged.accepted()
        return judged.watch.outcome("rule 8", f"duplicate: counted once, {counts.duplicate} not again")

    return [
        _cheat("equivocation: two values for one number", 8, "equivocation", CUSTOMERS, bed, bed.reading(other_value)),
        Cheat("a real record sent again", "gateway", CUSTOMERS, resent),
        _cheat(
            "numbers jump, to lose count", 8, "seq_jump", CUSTOMERS, bed, bed.reading(target.row(seq=target.seq + JUMP))
        ),
        _cheat(
            "boots jump, to count again",
            7,
            "boot_jump",
            CUSTOMERS,
            bed,
            bed.reading(target.row(boot=target.boot + JUMP, seq=0)),
        ),
    ]


def _clocks(bed: PartitionCopy) -> list[Cheat]:
    target, horizon_ms, skew_ms = bed.target, bed.log.rulesets[-1].horizon_ms, bed.log.rulesets[-1].skew_ms
    ahead = target.row(observed_at=bed.now_ms + skew_ms + HOUR_MS)
    back = target.row(observed_at=bed.now_ms - horizon_ms - bed.log.window_ms - DAY_MS)

    def kept_back() -> Outcome:
        later_ms = horizon_ms + bed.log.window_ms + DAY_MS
        sent = bed.reading(target.row(seq=target.seq + 2, observed_at=bed.now_ms))
        late = bed.reading(target.row(observed_at=bed.now_ms - MINUTE_MS), after_ms=later_ms)
        return bed.judge(sent, bed.heartbeat(later_ms), late).refused(5, "too_late", honest=2)

    return [
        _cheat("clock ahead by an hour", 5, "from_the_future", PAYEES, bed, bed.reading(ahead)),
        _cheat("clock far back, to bill an old price", 5, "too_late", CUSTOMERS, bed, bed.reading(back)),
        Cheat("a reading kept back past the horizon", "gateway", CUSTOMERS, kept_back),
    ]


def _values(bed: PartitionCopy) -> list[Cheat]:
    target = bed.target
    most = correction_limit(target.capacity_per_hour)
    own = bed.own_row(bed.victim)
    low = {**own, "seq": 2, "register": 999, "observed_at": own["observed_at"] + MINUTE_MS}

    def set_back() -> Outcome:
        records = (_of_victim(bed, own), _of_victim(bed, low))
        return bed.judge(*records).refused(16, "too_low", honest=1)

    return [
        _cheat(
            "sentinel meter: all bits set", 16, "too_high", CUSTOMERS, bed, bed.reading(target.row(register=SENTINEL))
        ),
        _cheat("negative energy", 2, "malformed", PAYEES, bed, bed.reading(target.row(register=-5_000))),
        Cheat("register set back without a boot, to count twice", "machine", CUSTOMERS, set_back),
        _cheat(
            "an impossible rate",
            15,
            "too_high",
            CUSTOMERS,
            bed,
            bed.reading(target.row(register=target.value + 2 * most + 2)),
        ),
        _cheat(
            "a register sent as a quantity", 11, "wrong_kind", CUSTOMERS, bed, bed.reading(_as_quantity(target.row()))
        ),
        _cheat(
            "a meter nobody registered",
            4,
            "unknown_meter",
            CUSTOMERS,
            bed,
            bed.reading(target.row(meter="attack-meter")),
        ),
    ]


def _as_quantity(row: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in row.items() if name != "register"} | {"quantity": 1}


def _strangers(bed: PartitionCopy) -> list[Cheat]:
    nobody = bed.target.row(machine="attack-nobody")
    rows = [{**nobody, "machine": f"attack-nobody-{number}"} for number in range(FLOOD)]
    too_many: list[dict[str, object]] = [{}] * (ROWS_MAX + 1)

    def flood() -> Outcome:
        half = FLOOD // 2  # a value is at most 1 MiB
        judged = bed.judge(bed.reading(*rows[:half]), bed.reading(*rows[half:]))
        found = judged.refused(4, "unknown_machine")
        return found if judged.machines == bed.judge().machines else judged.watch.outcome("", "the state grew")

    poison = [bed.raw(value) for value in POISON]
    return [
        _cheat(
            "an unknown machine",
            4,
            "unknown_machine",
            CUSTOMERS,
            bed,
            bed.reading(nobody),
            who="stranger",
        ),
        Cheat("a flood of unknown machines, to fill the disk", "stranger", "the operator", flood),
        _cheat("poison bytes, to stop the workers", 1, "undecodable", "everybody", bed, *poison, who="stranger"),
        _cheat(
            "a record of too many rows",
            1,
            "too_many_entries",
            "the operator",
            bed,
            bed.reading(*too_many),
            who="stranger",
        ),
    ]


def _of_victim(
    bed: PartitionCopy, row: dict[str, object], key: bytes = VICTIM_KEY, log_id: str | None = None
) -> Record:
    return bed.signed(_unsigned(bed, row), key, log_id)


def _unsigned(bed: PartitionCopy, row: dict[str, object]) -> Record:
    return bed.reading(row, route=bed.victim, after_ms=HOUR_MS + MINUTE_MS)


def _signatures(bed: PartitionCopy) -> list[Cheat]:
    row = bed.own_row(bed.victim)
    right = _of_victim(bed, row)
    kind, (name, signature), key_id = right.headers
    forged = bytes([(signature or b"\0")[0] ^ 1]) + (signature or b"\0")[1:]
    flipped = right._replace(headers=(kind, (name, forged), key_id))
    changed = right._replace(value=msgspec.json.encode({**row, "register": 2_000}))

    def wrong(name: str, record: Record, who: Cheater = "gateway") -> Cheat:
        return _cheat(name, 27, "bad_signature", CUSTOMERS, bed, record, who=who)

    return [
        wrong("an unsigned reading where a signature is required", _unsigned(bed, row), "stranger"),
        wrong("signed with another machine's key", _of_victim(bed, row, OTHER_KEY)),
        wrong("a forged signature", flipped, "stranger"),
        wrong("a right signature on a changed value", changed),
        wrong("a reading signed for another log", _of_victim(bed, row, log_id="attack-test")),
    ]


def _unseen(bed: PartitionCopy) -> list[Cheat]:
    """What nobody can distinguish from the truth."""
    target = bed.target
    lie = _of_victim(bed, bed.own_row(bed.victim, register=CAPACITY_WH))
    trip = {"machine": bed.victim, "meter": "trips", "boot": 1, "observed_at": bed.now_ms + HOUR_MS, "quantity": 1}
    trips = [_of_victim(bed, {**trip, "seq": number}) for number in (1, 2)]
    silence = bed.heartbeat(DAY_MS)
    rewritten = bed.reading(target.row(register=target.value + 1, observed_at=bed.now_ms + HOUR_MS), after_ms=HOUR_MS)
    return [
        Cheat(
            "an unsigned reading rewritten before it is posted", "operator", CUSTOMERS,
            lambda: bed.judge(rewritten).accepted(), "require_signature in the registration",
        ),
        Cheat(
            "a meter that lies under its own key, within its capacity", "machine", CUSTOMERS,
            lambda: bed.judge(lie).accepted(), "a sealed meter, and a second one to compare it with",
        ),
        Cheat(
            "one trip reported twice, under two numbers", "machine", CUSTOMERS,
            lambda: bed.judge(*trips).accepted(), "a capacity near the truth, and customers who get receipts",
        ),
        Cheat(
            "a machine that stops reporting", "machine", PAYEES,
            lambda: bed.judge(silence).accepted(), "a contract that asks for readings: the log shows the silence",
        ),
    ]  # fmt: skip
