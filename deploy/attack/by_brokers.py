"""Cheats of whoever has a foot in the log's broker: others in the group, open transactions, stamps, its disk."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import partial

from confluent_kafka import KafkaError, KafkaException, Message

from deploy.attack.cheat import CUSTOMERS, PAYEES, Cheat, Outcome, Stopwatch
from deploy.attack.log_copy import PATIENCE_S, LogCopy
from schemas.reading import HEARTBEAT
from schemas.units import DAY_MS

HIDDEN = 5


def broker_cheats(copy: LogCopy) -> Iterator[Cheat]:
    """All cheats, to be run in this order: a worker reads on until the last one puts the broker's disk back."""
    copy.send(second_half=False)
    with copy.disk_put_back():
        copy.send(second_half=True)
        copy.catch_up()
        copy.run_worker()
        yield Cheat(
            "another program in the workers' group, that reads nothing", "stranger", PAYEES, partial(_group, copy)
        )
        yield Cheat("an open transaction, to hide what is behind it", "gateway", PAYEES, partial(_transaction, copy))
        if copy.log.timestamp_type == "CreateTime":
            yield Cheat(
                "a record stamped a day ahead, to end the day early", "gateway", CUSTOMERS, partial(_ahead, copy)
            )
        copy.stop_worker()
    yield Cheat(
        "the log's disk put back from a copy, and filled with other records", "host", PAYEES, partial(_disk, copy)
    )


def _group(copy: LogCopy) -> Outcome:
    watch, began_well = Stopwatch(), copy.waited(copy.is_well)
    with closing(copy.stranger()) as stranger:
        stranger.subscribe([copy.log.topic])

        def is_said() -> bool:
            stranger.poll(0.1)
            return copy.fault().startswith("uncovered")

        said = copy.fault() if began_well and copy.waited(is_said) else ""
    return watch.outcome("worker" if said else "", f"worker: {said or 'well'}")


def _transaction(copy: LogCopy) -> Outcome:
    copy.waited(copy.is_well)
    watch, producer = Stopwatch(), copy.producer(**{"transactional.id": "attack"})
    producer.init_transactions(PATIENCE_S)
    producer.begin_transaction()
    _beat(copy, producer.produce, copy.last_ms)
    producer.flush(PATIENCE_S)
    other = copy.producer()
    for _ in range(HIDDEN):
        _beat(copy, other.produce, copy.last_ms)
    other.flush(PATIENCE_S)
    hidden = copy.hidden() if copy.waited(lambda: copy.hidden() > HIDDEN) else 0
    with suppress(KafkaException):  # the broker may have ended it
        producer.abort_transaction(PATIENCE_S)
    return watch.outcome("worker" if hidden else "", f"worker: {hidden} records of the log can't be read yet")


def _ahead(copy: LogCopy) -> Outcome:
    watch, errors, producer = Stopwatch(), list[str](), copy.producer()

    def told(error: KafkaError | None, _: Message) -> None:
        errors.append("" if error is None else error.str())

    _beat(copy, producer.produce, int(time.time() * 1_000) + DAY_MS, on_delivery=told)
    producer.flush(PATIENCE_S)
    return watch.outcome("broker" if any(errors) else "", f"broker: {errors[0] if any(errors) else 'taken'}")


def _disk(copy: LogCopy) -> Outcome:
    watch = Stopwatch()
    copy.send(second_half=True, tail=b" ")
    producer = copy.producer()
    for _ in range(3 * HIDDEN):  # more than were there before
        _beat(copy, producer.produce, copy.last_ms)
    producer.flush(PATIENCE_S)
    said = copy.catch_up()
    return watch.outcome("worker" if "other records between the offsets" in said else "", f"worker: {said}")


def _beat(copy: LogCopy, produce: Callable[..., None], at_ms: int, **more: object) -> None:
    produce(copy.log.topic, b"", None, 0, timestamp=at_ms, headers=[("ce_type", HEARTBEAT.encode())], **more)
