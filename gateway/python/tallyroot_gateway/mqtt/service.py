"""Runs the gateway: connects, takes, acknowledges, and comes back after whatever the broker or the network did.

1. A burst of messages is taken in its order, each into the spool of its route.
2. Their routes are synced.
3. Only then are they acknowledged, in the order in which they came.

Where the disk takes nothing more, nothing from there on is acknowledged: the connection ends, and the broker delivers
all of that again, in its order, once there is room.
"""

import asyncio
import json
import logging

import aiomqtt

from tallyroot_gateway.errors import InvalidInput, SpoolFull
from tallyroot_gateway.field.backoff import pauses
from tallyroot_gateway.field.intake import ROUTES_MAX, Intake
from tallyroot_gateway.mqtt.config import MqttConfig
from tallyroot_gateway.mqtt.connection import Connection, leave
from tallyroot_gateway.mqtt.mapping import Mappings
from tallyroot_gateway.mqtt.sparkplug import NAMESPACE, Sparkplug, rebirth, topic_of
from tallyroot_gateway.mqtt.taking import Message, Rejecting, Taking

BURST_MAX = 256
"""How many messages share one sync."""

_log = logging.getLogger("tallyroot.gateway")


class Service:
    """The gateway of one file."""

    def __init__(self, config: MqttConfig, intake: Intake) -> None:
        """Raises InvalidInput for a file that can't be meant."""
        self._options, self._intake = config.mqtt, intake
        mappings = Mappings(config)
        if len(mappings.routes | {node.route for node in config.sparkplug.nodes}) > ROUTES_MAX:
            raise InvalidInput(f"more than {ROUTES_MAX} routes: let the machines of a site share one")
        for route in sorted(mappings.routes):
            intake.note(route, "")  # opens its spool: what can't be used is said now
        rejecting = Rejecting(intake)
        self._taking = Taking(intake, mappings, rejecting)
        self._sparkplug = Sparkplug(intake, config.sparkplug, rejecting)
        self._topics = [*mappings.subscriptions, *self._sparkplug.subscriptions]
        if not self._topics:
            raise InvalidInput("nothing to listen to: name mappings in [mqtt], a [[mapping]] or [[sparkplug.nodes]]")
        host = config.sparkplug.host_id
        self._state_topic = None if host is None else f"{NAMESPACE}/STATE/{host}"
        self._had_session = False
        self._is_refused = False
        """Whether the disk took the last messages not."""
        self._pauses = pauses()

    async def run(self) -> None:
        """Runs until it is cancelled."""
        while True:
            try:
                await self._connected()
            except aiomqtt.MqttError as error:
                self._say(f"the broker {self._options.host}: {error}")
            await asyncio.sleep(next(self._pauses))
            self._intake.metrics.reconnects.inc()

    async def _connected(self) -> None:
        """One connection, until it ends or the disk refuses."""
        since = self._intake.now_ms()
        will = None if self._state_topic is None else aiomqtt.Will(self._state_topic, _state(False, since), 1, True)
        connection = Connection(self._options, self._intake.now_ms, will=will)
        await connection.open()
        self._is_refused = False
        try:
            await self._begin(connection, since)
            self._intake.metrics.connected.set(1)
            while not self._is_refused:
                messages = await connection.burst(BURST_MAX)
                taking = asyncio.create_task(self._burst(connection, messages, since))
                try:
                    await asyncio.shield(taking)
                finally:  # what was begun is acknowledged, also where the gateway ends now
                    await taking
        finally:
            self._intake.metrics.connected.set(0)
            await asyncio.shield(self._end(connection, since))

    async def _begin(self, connection: Connection, since: int) -> None:
        """What follows a connection: what was missed, subscriptions, and that the host is there."""
        if self._had_session and not connection.session_present:
            _log.warning("the broker has forgotten the session: what was published meanwhile is lost")
        self._sparkplug.connected(session_present=connection.session_present)
        own = [] if self._state_topic is None else [self._state_topic]
        refused = await connection.ask_for(self._topics)
        refused += await connection.ask_for(own, is_local=True)
        self._had_session = True
        self._intake.problem = f"the broker lets this client not subscribe to {refused[0]}" if refused else None
        _log.info("connected to %s, %d subscriptions", self._options.host, len(self._topics))
        if refused:
            _log.warning("the broker refuses %d of them, such as %s", len(refused), refused[0])
        if self._state_topic is not None:
            await connection.publish(self._state_topic, _state(True, since), qos=1, retain=True)
        await self._ask_rebirths(connection)

    async def _burst(self, connection: Connection, messages: list[Message], since: int) -> None:
        """Takes messages; acknowledges those that are on disk."""
        routes: set[str] = set()
        taken: list[Message] = []
        try:
            for message in messages:  # 1
                routes |= self._take(message)
                taken.append(message)
        except (InvalidInput, SpoolFull) as error:
            self._refuse(error)
        try:
            await asyncio.gather(*(self._intake.synced(route) for route in sorted(routes)))  # 2
        except InvalidInput as error:
            self._refuse(error)
            taken = []
        if not self._is_refused:
            self._pauses = pauses()
        for message in taken:  # 3
            connection.acknowledge(message)
        if connection.overrun:
            self._intake.metrics.rejected.labels("overrun").inc(connection.overrun)
            connection.overrun = 0
        if self._state_topic is not None and any(map(self._says_offline, messages)):
            await connection.publish(self._state_topic, _state(True, since), qos=1, retain=True)
        await self._ask_rebirths(connection)

    def _take(self, message: Message) -> set[str]:
        if len(message.payload) > self._options.message_bytes:
            self._intake.reject(message.topic, "too_long", f"{len(message.payload):,} bytes", message.payload[:1_024])
            return set()
        if not message.payload:
            return set()  # how a retained message is deleted
        if message.topic.startswith(f"{NAMESPACE}/"):
            topic = topic_of(message.topic)
            return set() if topic is None else self._sparkplug.take(topic, message)
        return self._taking.take(message)

    def _refuse(self, error: Exception) -> None:
        """The disk takes nothing more: the broker keeps what comes."""
        self._is_refused = True
        self._say(str(error))

    async def _ask_rebirths(self, connection: Connection) -> None:
        now = self._intake.now_ms()
        for topic in self._sparkplug.rebirths(now):
            _log.info("asking for a rebirth on %s", topic)
            await connection.publish(topic, rebirth(now), qos=0)

    def _says_offline(self, message: Message) -> bool:
        """Whether a message says that this host is away: the will of a connection before, which came late."""
        if message.topic != self._state_topic:
            return False
        try:
            said = json.loads(message.payload)
        except ValueError:
            return True
        return not isinstance(said, dict) or said.get("online") is not True

    async def _end(self, connection: Connection, since: int) -> None:
        """Says that the host goes, and disconnects; the broker keeps the session."""
        if self._state_topic is not None:
            try:
                await connection.publish(self._state_topic, _state(False, since), qos=1, retain=True)
            except aiomqtt.MqttError:
                pass  # the broker publishes the will
        await leave(connection)

    def _say(self, problem: str) -> None:
        if problem != self._intake.problem:
            _log.warning("%s", problem)
        self._intake.problem = problem


def _state(is_online: bool, since: int) -> bytes:
    return json.dumps({"online": is_online, "timestamp": since}).encode()
