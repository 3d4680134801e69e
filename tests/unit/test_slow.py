"""The slow count of an audit: it agrees with what is right, also where rules change and signatures count."""

import msgspec
import pytest

from schemas.log import Log, Ruleset
from schemas.units import MINUTE_MS
from streams.core.recompute import recompute
from streams.core.records import Record, record_type
from streams.core.signature import operator_account, sign_control
from streams.reference.compare import _hold, recompute_and_compare
from streams.reference.recount import PartitionRecount
from tests.support.dirty_logs import dirty_log, small_log
from tests.support.signed_logs import SignedLog

LOG = small_log()
OPERATOR, OTHER = bytes([7]) * 32, bytes([8]) * 32


def counted(log: Log, records: list[Record]) -> list[str]:
    """What the two counts differ in; that they say the same epochs."""
    said: list[str] = []
    slow = list(recompute_and_compare(log, 0, records, (), said.append, lambda _: None))
    assert slow == list(recompute(log, 0, records))
    assert sum(len(result.windows) for result in slow) > 5
    return said


@pytest.mark.parametrize("seed", range(6))
def test_both_count_the_same_of_signed_and_dirty_logs(seed: int) -> None:
    assert counted(LOG, SignedLog(LOG.log_id, seed, share=0.7, dirt=0.3).of(dirty_log(seed, 0.2, 400))) == []


@pytest.mark.parametrize("graces", [(10, 25, 3), (30, 1, 12)])
def test_both_follow_rules_that_change(graces: tuple[int, int, int]) -> None:
    records = dirty_log(3, 0.1, 600)
    first = LOG.epoch_of(records[0].timestamp)
    rules = [
        Ruleset(first_epoch=first + number if number else 0, grace_ms=minutes * MINUTE_MS, skew_ms=number * MINUTE_MS,
                operators=(operator_account(OPERATOR),) if number == 1 else ())
        for number, minutes in enumerate(graces)
    ]  # fmt: skip
    log = msgspec.structs.replace(LOG, rulesets=tuple(rules))
    assert counted(log, [by_operator(record, record.offset % 5 != 0) for record in records]) == []


def by_operator(record: Record, rightly: bool) -> Record:
    """A control record with an operator's signature, or with another's."""
    kind = record_type(record)
    if record.value is None or kind not in ("machine.registered", "usage.corrected"):
        return record
    key = OPERATOR if rightly else OTHER
    signature = sign_control(key, LOG.log_id, record.key or b"", kind, "application/json", record.value)
    return record._replace(headers=[*record.headers, ("signature", signature)])


def test_a_window_that_is_counted_otherwise_is_named() -> None:
    """The naive loop is kept from one record that the epochs were made of."""
    records = dirty_log(1, 0.1, 300)
    right = list(recompute(LOG, 0, records))
    hidden = next(window for result in right for window in result.windows if window.readings).first_offset
    recount = PartitionRecount(LOG, 0).take(record for record in records if record.offset != hidden)
    said: list[str] = []
    for result in right:
        _hold(recount, result, said.append)
    assert "is counted otherwise: " in said[0] or "by the slow count" in said[0]
