"""Commands to chargers, from the topic `machine.commands`: its key is the machine's route, its value JSON.

    {"machine": "charger-1", "command": "start", "session": "s-1", "valid_until": 1790000000000}
    {"machine": "charger-1", "command": "stop", "session": "s-1", "valid_until": 1790000000000}
    {"machine": "charger-1", "command": "limit", "limit_w": 7400, "valid_until": 1790000000000}

1. A command waits until its charger is connected, or it expires.
2. It is noted as acted on, on disk.
3. It is sent; only then the group's offset may pass it.
So each is acted on once: one that is killed between 2 and 3 is lost, and its session is never begun twice.
"""

import asyncio
import hashlib
import logging
import threading
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition
from msgspec import Meta, Struct

from tallyroot_gateway.errors import InvalidInput, SpoolFull
from tallyroot_gateway.field.config import Id
from tallyroot_gateway.field.intake import key_of
from tallyroot_gateway.ocpp.central_system import CentralSystem
from tallyroot_gateway.ocpp.charger import ACTED_MAX, Charger
from tallyroot_gateway.ocpp.link import Link
from tallyroot_gateway.ocpp.messages import V16
from tallyroot_gateway.ocpp.transactions import Transaction

WAITING_MAX = 1_000
"""How many commands may wait for their chargers; beyond, no more are read."""

RETRY_SECONDS = 1.0
PROFILE_ID = 17_001
"""The charging profile that a limit sets, and the next one replaces."""

_log = logging.getLogger("tallyroot.gateway")


class Command(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One command. Times are epoch ms; `session` is the till's, and becomes the readings'.

    `start` needs a session. `stop` stops it, or what is open on the connector if it names none. `limit` needs limit_w,
    of the transaction that is open, or of the next ones.
    """

    machine: Id
    command: Literal["start", "stop", "limit"]
    valid_until: Annotated[int, Meta(ge=0, le=2**53)]
    session: Id | None = None
    id_tag: Annotated[str, Meta(min_length=1, max_length=20)] | None = None
    connector: Annotated[int, Meta(ge=1, le=999)] = 1
    limit_w: Annotated[int, Meta(ge=0, le=10**7)] | None = None


def command_of(value: bytes) -> Command:
    """The command of a record. Raises InvalidInput for what isn't one."""
    try:
        command = msgspec.json.decode(value, type=Command)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidInput(f"not a command: {error}") from None
    if command.command == "start" and command.session is None:
        raise InvalidInput("not a command: start needs a session")
    if command.command == "limit" and command.limit_w is None:
        raise InvalidInput("not a command: limit needs limit_w")
    return command


def tag_of(command: Command) -> str:
    """The card that a remote start names: of its session, so that the transaction is known by it."""
    if command.id_tag is not None:
        return command.id_tag
    return "S" + hashlib.sha256((command.session or "").encode()).hexdigest()[:19].upper()


class Commands:
    """Sends commands to the chargers of a central system."""

    def __init__(self, central: CentralSystem) -> None:
        self._central = central
        self._by_machine: dict[str, list[Charger]] = {}
        for charger in central.chargers.values():
            self._by_machine.setdefault(charger.machine, []).append(charger)

    async def act(self, value: bytes, identity: str) -> str:
        """Acts on a record's value, known by an identity; returns what became of it, in a word."""
        intake = self._central.intake
        try:
            command = command_of(value)
        except InvalidInput as error:
            intake.reject("machine.commands", "malformed", str(error), value)
            return self._count("malformed")
        chargers = self._by_machine.get(command.machine, [])
        charger = next((each for each in chargers if command.connector in each.connectors), None)
        if charger is None:
            return self._count("another_gateway")
        while intake.now_ms() < command.valid_until:
            link = charger.link
            if link is not None:
                return self._count(await self._send(charger, link, command, identity, value))
            await asyncio.sleep(RETRY_SECONDS)
        return self._count("expired")

    def say(self, problem: str | None) -> None:
        """What is wrong with the topic, for /health; None if nothing is."""
        self._central.intake.problem = problem

    async def _send(self, charger: Charger, link: Link, command: Command, identity: str, value: bytes) -> str:
        async with charger.lock:
            general = charger.general()
            if identity in general.acted:
                return "acted_before"
            general.acted = [*general.acted, identity][-ACTED_MAX:]
            step = charger.step(command.connector)
            if command.command == "start":
                tags = (tag_of(command), f"remote:{remote_id(command)}")
                step.port.expect(tags, command.session or "", command.valid_until)
            await charger.take(command.connector, step, None, general=general)
            transaction = _open(step.port.transactions, command)
        try:
            action, payload = _call(link.version, command, transaction)
            answer = await link.call(action, payload)
        except InvalidInput as error:
            self._central.intake.reject(charger.id, "command_failed", str(error), value)
            return "failed"
        if answer.get("status") != "Accepted":
            said = f"{action} was answered with {str(answer.get('status'))[:40]}"
            self._central.intake.reject(charger.id, "command_refused", said, value)
            return "refused"
        return "accepted"

    def _count(self, outcome: str) -> str:
        self._central.counts.commands.labels(outcome).inc()
        return outcome


class CommandConsumer:
    """Reads the topic in a thread of its own and has its commands acted on in the event loop."""

    def __init__(self, commands: Commands, properties: Mapping[str, str], topic: str) -> None:
        """`properties` are librdkafka's, with the group's id; offsets are committed here."""
        self._commands, self._topic = commands, topic
        self._loop = asyncio.get_running_loop()
        self._consumer = Consumer(
            {**properties, "enable.auto.commit": False, "auto.offset.reset": "earliest", "log.connection.close": False}
        )
        self._waiting: dict[tuple[int, int], asyncio.Task[None]] = {}
        self._acted: dict[int, int] = {}
        self._is_open = True
        self._thread = threading.Thread(target=self._run, name="machine-commands", daemon=True)
        self._thread.start()

    async def close(self) -> None:
        """Stops reading. Commands that still wait are read again by the next start."""
        self._is_open = False
        await asyncio.to_thread(self._thread.join)
        for task in [*self._waiting.values()]:
            task.cancel()
        await asyncio.gather(*self._waiting.values(), return_exceptions=True)

    def _run(self) -> None:
        try:
            self._consumer.subscribe([self._topic])
            while self._is_open:
                if len(self._waiting) < WAITING_MAX:
                    message = self._consumer.poll(0.2)
                    error = None if message is None else message.error()
                    if error is not None:
                        self._commands.say(f"commands are not read: {error.str()}")
                    elif message is not None:
                        self._commands.say(None)
                        asyncio.run_coroutine_threadsafe(self._begin(message), self._loop).result(60)
                else:
                    threading.Event().wait(0.2)
                self._commit()
        except (KafkaException, TimeoutError, RuntimeError) as failed:
            _log.error("no more commands are read: %s", failed)
            self._commands.say(f"no more commands are read: {failed}")
        finally:
            self._consumer.close()

    async def _begin(self, message: Message) -> None:
        partition, offset = message.partition() or 0, message.offset() or 0
        identity = key_of("command", self._topic, partition, offset)
        self._waiting[partition, offset] = asyncio.create_task(
            self._finish(partition, offset, message.value() or b"", identity)
        )

    async def _finish(self, partition: int, offset: int, value: bytes, identity: str) -> None:
        try:
            outcome = await self._commands.act(value, identity)
            _log.info("command %d/%d: %s", partition, offset, outcome)
        except (InvalidInput, SpoolFull) as error:
            _log.error("command %d/%d was not acted on: %s", partition, offset, error)
        self._acted[partition] = max(offset, self._acted.get(partition, 0))
        del self._waiting[partition, offset]

    def _commit(self) -> None:
        """Commits up to the first that still waits, in each partition."""
        acted, waiting = dict(self._acted), list(self._waiting)
        offsets = []
        for partition, last in acted.items():
            first_waiting = min((offset for number, offset in waiting if number == partition), default=last + 1)
            offsets.append(TopicPartition(self._topic, partition, min(first_waiting, last + 1)))
        if offsets:
            try:
                self._consumer.commit(offsets=offsets, asynchronous=False)
                self._acted = {number: last for number, last in self._acted.items() if acted.get(number) != last}
            except KafkaException as error:
                _log.warning("commands acted on were not committed: %s", error)


def remote_id(command: Command) -> int:
    """The number that a station repeats in the transaction that a remote start begins (2.0.1)."""
    return int(hashlib.sha256((command.session or "").encode()).hexdigest()[:7], 16)


def _open(transactions: list[Transaction], command: Command) -> Transaction | None:
    open_ones = [each for each in transactions if not each.is_ended]
    if command.session is not None and command.command == "stop":
        open_ones = [each for each in open_ones if each.session == command.session]
    return open_ones[-1] if open_ones else None


def _call(version: str, command: Command, transaction: Transaction | None) -> tuple[str, dict[str, Any]]:
    """Action and payload. Raises InvalidInput for a stop of what is not open."""
    is_16 = version == V16
    if command.command == "start":
        if is_16:
            return "RemoteStartTransaction", {"connectorId": command.connector, "idTag": tag_of(command)}
        token = {"idToken": tag_of(command), "type": "Central"}
        start = {"evseId": command.connector, "remoteStartId": remote_id(command), "idToken": token}
        return "RequestStartTransaction", start
    if command.command == "limit":
        return "SetChargingProfile", _limit(command, transaction, is_16=is_16)
    if transaction is None:
        raise InvalidInput("stop: no such transaction is open")
    if is_16:
        return "RemoteStopTransaction", {"transactionId": int(transaction.id)}
    return "RequestStopTransaction", {"transactionId": transaction.id}


def _limit(command: Command, transaction: Transaction | None, *, is_16: bool) -> dict[str, Any]:
    schedule: dict[str, Any] = {
        "chargingRateUnit": "W",
        "chargingSchedulePeriod": [{"startPeriod": 0, "limit": command.limit_w}],
    }
    profile: dict[str, Any] = {
        ("chargingProfileId" if is_16 else "id"): PROFILE_ID,
        "stackLevel": 0,
        "chargingProfilePurpose": "TxDefaultProfile" if transaction is None else "TxProfile",
        "chargingProfileKind": "Relative",
        "chargingSchedule": schedule if is_16 else [{"id": 1, **schedule}],
    }
    if transaction is not None:
        profile["transactionId"] = int(transaction.id) if is_16 else transaction.id
    if is_16:
        return {"connectorId": command.connector, "csChargingProfiles": profile}
    return {"evseId": command.connector, "chargingProfile": profile}
