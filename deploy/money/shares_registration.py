"""Makes the shares of a machine a payee in the log, locked: the operator's next registration of the machine."""

import msgspec
from msgspec import Struct

from deploy.data_folder import DataFolder
from deploy.machines.registry import Registry
from schemas.errors import InvalidInput
from schemas.reading import REGISTERED
from schemas.registration import Agreement
from settlement.shares import points_of
from streams.core.encode import signed_headers
from streams.core.records import JSON, Record
from streams.core.signature import operator_account, sign_control
from streams.kafka.producer import LogProducer
from streams.kafka.reader import KafkaLogReader


class SharesRegistered(Struct, frozen=True):
    """The registration that the log now has: its version, and basis points by payee."""

    machine: str
    version: int
    payees: dict[str, int]


def register_shares(
    data: DataFolder, machine: str, shares: str, *, points: int, locked_until_ms: int, giver: str | None
) -> SharesRegistered:
    """Sends the registration; its agreement comes into force at the next window that no reading can lie in yet.

    Raises InvalidInput where the key is not the operator's, the machine is unknown, or the log would reject it.
    """
    log, servers, key = data.log(), data.kafka_servers(), data.operator_key()
    operators = log.rulesets[-1].operators
    if operators and operator_account(key) not in operators:
        raise InvalidInput(f"{operator_account(key)} does not operate this log: set TALLYROOT_OPERATOR_KEY")
    reader = KafkaLogReader(servers, log.topic, 0, data.skipped_ranges())
    registry = Registry(log, reader, {machine})
    try:
        registry.read(lambda _: None)
    finally:
        reader.close()
    known = registry.machine(machine)
    if known is None:
        raise InvalidInput(f"no such machine: {machine} is not registered in the topic {log.topic}")
    last = known.last.registration
    now_ms = registry.stream_time_ms(registry.partition_of(last.route)) or 0
    agreement = shared_agreement(last.agreement, shares, points, locked_until_ms, giver)
    registration = msgspec.structs.replace(
        last, version=last.version + 1, agreement=agreement, effective_from=now_ms
    )  # fmt: skip
    value = msgspec.json.encode(registration)
    route = registration.route.encode()
    signature = sign_control(key, log.log_id, route, REGISTERED, JSON, value)
    headers = (("ce_type", REGISTERED.encode()), *signed_headers(JSON, operator_account(key), signature))
    refused, _ = registry.judge(Record(0, now_ms, route, value, headers), now_ms)
    if refused is not None:
        raise InvalidInput(f"the log would reject it ({refused}): under a locked agreement no part may fall")
    producer = LogProducer(servers, log)
    try:
        producer.send(now_ms, route, value, headers)
        producer.flush()
    finally:
        producer.close()
    return SharesRegistered(machine, registration.version, agreement.payees)


def shared_agreement(before: Agreement, shares: str, points: int, locked_until_ms: int, giver: str | None) -> Agreement:
    """The agreement in which the giver (else the largest payee) passes on the points that the shares lack.

    Raises InvalidInput where the points are out of range, or the giver has too few.
    """
    if not 1 <= points <= 10_000:
        raise InvalidInput("points are 1 to 10,000 basis points of the machine's income")
    payees = dict(before.payees)
    missing = points - points_of(before, shares)
    others = {name: part for name, part in payees.items() if name.lower() != shares}
    chosen = giver if giver is not None else max(sorted(others), key=lambda name: others[name], default="")
    if missing < 0 or others.get(chosen, 0) < missing:
        raise InvalidInput(
            f"{chosen or 'nobody'} has {others.get(chosen, 0)} basis points and can't pass on {missing}: choose --from"
        )
    parts = others | {chosen: others[chosen] - missing} if missing else others
    kept = {name: part for name, part in parts.items() if part}
    return Agreement(kept | {shares: points}, locked_until=locked_until_ms, pays_trust=before.pays_trust)
