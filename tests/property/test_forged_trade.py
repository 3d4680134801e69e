"""Who has no key changes no money: forged and repeated records of operators, suppliers, machines and payers."""

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from schemas.order import CANCELLED, INVOICED, RECEIVED
from schemas.payment import PAID
from schemas.reading import CORRECTED, HEARTBEAT, REGISTERED
from streams.core.records import JSON, Record, record_type
from streams.core.replay import advance_through
from streams.core.signature import operator_account, sign_control
from streams.core.state import State
from tests.property.test_sent_again import SPREAD, orders_of, windows_of, with_copies
from tests.support.dirty_logs import dirty_log, small_log
from tests.support.forged import forged

OPERATOR = b"\x0e" * 32
RULES = structs.replace(small_log().rulesets[0], operators=(operator_account(OPERATOR),))
LOG = structs.replace(small_log(), rulesets=(RULES,))
OF_OPERATORS = (REGISTERED, CORRECTED, PAID, CANCELLED)
SIGNED = (*OF_OPERATORS, INVOICED, RECEIVED)
SHARE = 0.3
"""Of the signed records, so many are forged."""


def signed_log(seed: int) -> list[Record]:
    """Clean, with a signature of the operator wherever one must be, and a long silence after it."""
    records = [_signed(record) for record in dirty_log(seed, 0.0, 120, boots=False, log_id=LOG.log_id)]
    last = records[-1]
    silence = Record(last.offset + 1, last.timestamp + 20 * 86_400_000, b"", b"", [("ce_type", HEARTBEAT.encode())])
    return [*records, silence]


def _signed(record: Record) -> Record:
    kind = record_type(record)
    if kind not in OF_OPERATORS:
        return record
    signature = sign_control(OPERATOR, LOG.log_id, record.key or b"", kind, JSON, record.value or b"")
    return record._replace(headers=[*record.headers, ("signature", signature)])


def with_forgeries(records: list[Record], draw: random.Random, made: Counter[str]) -> list[Record]:
    """Forgeries of signed records anywhere after them; `made` counts them. They bring no news of the time."""
    by_offset = {record.offset: record for record in records}
    for record in records:
        kind = record_type(record)
        if kind not in SIGNED or draw.random() > SHARE:
            continue
        name, false = forged(draw, record, kind, LOG.log_id)
        after = draw.choice([other for other in records if other.offset >= record.offset])
        moment = min(record.timestamp, after.timestamp)
        offset = after.offset + draw.randrange(1, SPREAD)
        if offset not in by_offset:
            by_offset[offset] = false._replace(offset=offset, timestamp=moment)
            made[f"{name}: {kind}"] += 1
    return [by_offset[offset] for offset in sorted(by_offset)]


@settings(max_examples=10)
@given(st.integers(0, 10**6))
def test_forged_and_repeated_records_change_no_window_order_or_deposit(seed: int) -> None:
    records, draw, made = signed_log(seed), random.Random(seed), Counter[str]()
    once = [record._replace(offset=record.offset * SPREAD) for record in records]
    straight, robbed = State.new(LOG, 0), State.new(LOG, 0)
    alone = advance_through(straight, once)
    refused = {reject.offset for part in alone for reject in part.rejects}
    sent = [record for record in records if record.offset * SPREAD not in refused and record_type(record) != HEARTBEAT]
    stolen = with_forgeries(with_copies(records, sent, draw), draw, made)
    attacked = advance_through(robbed, stolen)
    assert windows_of(attacked) == windows_of(alone)
    assert orders_of(attacked) == orders_of(alone)
    assert robbed.deposits_micros() == straight.deposits_micros()
    assert sum(part.counts.accepted for part in attacked) == sum(part.counts.accepted for part in alone)


def test_the_logs_hold_what_is_worth_forging() -> None:
    made, taken = Counter[str](), Counter[str]()
    for seed in range(20):
        records = signed_log(seed)
        with_forgeries(records, random.Random(seed), made)
        parts = advance_through(State.new(LOG, 0), records)
        refused = {reject.offset for part in parts for reject in part.rejects}
        taken.update(record_type(record) for record in records if record.offset not in refused)
    assert {name.partition(": ")[2] for name in made} == set(SIGNED)
    assert len(made) > 3 * len(SIGNED) and min(taken[kind] for kind in SIGNED) > 10
