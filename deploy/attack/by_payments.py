"""An operator's record of what a customer paid, for a refund of money that came once, or never.

The worker is the real one and accepts each: the log alone can't tell. The machines are the attack's own, registered in
the middle of the longest partition, whose other records stay as they are.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import count, islice
from typing import Any

import msgspec

from deploy.attack.by_skipping import HonestLog, archived_log, judge_log, signed_here, with_operator
from deploy.attack.cheat import CUSTOMERS, Cheat, Outcome
from deploy.attack.ledger_copy import LedgerCopy
from deploy.data_folder import LOG_FILE
from schemas.log import Log
from schemas.payment import PAID
from schemas.reading import REGISTERED
from schemas.units import MINUTE_MS
from settlement.chain.node import plain_log
from settlement.chain.transfers import TRANSFER
from streams.core.murmur2 import partition_of
from streams.core.records import LogRecord, Record

PAID_MICROS = 10**6
BLOCKS_TO_FINAL = 16

Payments = Callable[[LedgerCopy], Sequence[Mapping[str, Any]]]
"""What is recorded for the first machine, the second and so on."""


def payment_cheats(court: LedgerCopy) -> Iterator[Cheat]:
    """Before a post is settled; each has a ledger and a folder of its own."""
    cheats: dict[str, Payments] = {
        "a payment that nobody made, to be refunded": _invented,
        "one transfer as the payment of two machines": _reused,
    }
    for name, payments in cheats.items():
        yield Cheat(name, "operator", CUSTOMERS, partial(_recorded, court, payments))


def _invented(place: LedgerCopy) -> Sequence[Mapping[str, Any]]:
    return [_record(place, block=max(0, place.node.final_block()), transaction="0x" + "d4" * 32, log_index=0)]


def _reused(place: LedgerCopy) -> Sequence[Mapping[str, Any]]:
    operator, to = place.keys.of("operator"), place.ledger.deployment.ledger
    amount = PAID_MICROS * 10 ** (place.decimals - 6)
    place.node.transact(operator, place.ledger.mint(operator.address, amount))
    receipt = place.node.transact(operator, place.ledger.transfer(to, amount))
    log = next(log for log in map(plain_log, receipt["logs"]) if log.topics[0] == TRANSFER)
    paid = _record(place, block=log.block, transaction=log.transaction, log_index=log.index)
    return [paid, paid]


def _record(place: LedgerCopy, **at: Any) -> Mapping[str, Any]:
    return {"payer": place.keys.of("operator").address, "amount": PAID_MICROS, **at}


def _recorded(court: LedgerCopy, payments: Payments) -> Outcome:
    """The watcher's outcome, by the archive and the chain, once a post has settled these payments."""
    folder = court.folder.with_name("paid")
    try:
        log = with_operator(court.log)
        is_signed = any(rules.operators for rules in court.log.rulesets)
        logs = [archived_log(court.folder, partition) for partition in range(log.partitions)]
        number = max(range(len(logs)), key=lambda at: len(logs[at]))
        folder.mkdir()
        (folder / LOG_FILE).write_bytes(msgspec.json.encode(log))
        place = LedgerCopy(folder, log, court.node)
        place.node.pass_time(1)
        cheats = payments(place)
        for _ in range(BLOCKS_TO_FINAL):
            place.node.pass_time(1)
        for partition, records in enumerate(logs):
            whole = records if is_signed else [signed_here(log, record) for record in records]
            whole = _with(log, number, whole, cheats) if partition == number else whole
            judge_log(folder, log, partition, HonestLog(whole))
        place.post(place.header())
        return place.watched()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _with(
    log: Log, partition: int, records: Sequence[LogRecord], payments: Sequence[Mapping[str, Any]]
) -> list[LogRecord]:
    """The records with machines, and a payment for each, after the first half."""
    middle = len(records) // 2
    now_ms, offset = max(record.timestamp for record in records[:middle]), records[middle].offset
    names = (
        name for number in count() if partition_of((name := f"paid-{number}").encode(), log.partitions) == partition
    )
    documents: list[tuple[str, str, Mapping[str, Any]]] = []
    for machine, payment in zip(islice(names, len(payments)), payments, strict=True):
        session = {"session": "s", "version": 1, "valid_until": now_ms + MINUTE_MS}
        documents += [
            (machine, REGISTERED, _registration(machine)),
            (machine, PAID, {"machine": machine, **session, **payment}),
        ]
    added = [
        signed_here(
            log,
            Record(offset + place, now_ms, name.encode(), msgspec.json.encode(said), [("ce_type", kind.encode())]),
        )
        for place, (name, kind, said) in enumerate(documents)
    ]
    later = [
        Record(record.offset + len(added), record.timestamp, record.key, record.value, record.headers)
        for record in records[middle:]
    ]
    return [*records[:middle], *added, *later]


def _registration(machine: str) -> Mapping[str, Any]:
    price = {"meter": "observations", "price": 1, "per": 1}
    return {
        "machine": machine, "route": machine, "version": 1, "kind": "sensor", "effective_from": 0,
        "meters": [{"meter": "observations", "unit": "count", "kind": "quantity", "capacity_per_hour": 60}],
        "tariff": {"elements": [{"components": [price]}], "offsets": [[0, 0]]},
        "agreement": {"payees": {"0x" + "d4" * 20: 10_000}},
    }  # fmt: skip
