"""One connection to a broker, by MQTT 5: a session that the broker keeps, and nothing acknowledged by itself.

A new connection is a new object: the number of a message (`mid`) means something on its own connection only, and an
acknowledgement of another's would take away a message that nobody has taken.

aiomqtt acknowledges each message before it hands it over, and forgets which were marked DUP (its issue #345); what is
needed of paho underneath is reached through the two parts of it that are overridden here.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import Any, cast

import aiomqtt
import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from tallyroot_gateway.errors import InvalidInput
from tallyroot_gateway.mqtt.config import BrokerOptions, password_of
from tallyroot_gateway.mqtt.taking import Message

QUEUE_MAX = 2_000
"""How many messages of QoS 0, which nothing holds back, may wait here; what comes beyond is dropped and counted."""

PROMPT_AFTER_MS = 30_000
"""What arrives so soon after a connection may have waited at the broker, or be sent again."""

CONNECT_SECONDS = 10.0
RETAINED_TO_NEW = SubscribeOptions.RETAIN_SEND_IF_NEW_SUB
PORT, TLS_PORT = 1883, 8883

_log = logging.getLogger("tallyroot.gateway")


class Connection(aiomqtt.Client):
    """Open it once, and `leave` it."""

    def __init__(
        self,
        options: BrokerOptions,
        now_ms: Callable[[], int],
        *,
        will: aiomqtt.Will | None = None,
        is_guest: bool = False,
    ) -> None:
        """`is_guest` is for who only looks: a session of its own that ends with the connection.

        Raises InvalidInput for files that can't be read.
        """
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 0 if is_guest else options.session_expiry_s
        properties.ReceiveMaximum = options.receive_maximum
        properties.MaximumPacketSize = options.message_bytes + 1_024
        super().__init__(
            options.host,
            (TLS_PORT if options.tls else PORT) if options.port is None else options.port,
            username=options.username,
            password=password_of(options),
            identifier="" if is_guest else options.client_id,
            protocol=aiomqtt.ProtocolVersion.V5,
            clean_start=is_guest,
            keepalive=options.keepalive_s,
            timeout=CONNECT_SECONDS,
            properties=properties,
            tls_context=_tls(options),
            will=will,
        )
        self._client.manual_ack_set(True)
        self._now_ms = now_ms
        self._connected_ms = now_ms()
        self.session_present = False
        self.overrun = 0
        """How many messages of QoS 0 found the queue full."""

    async def open(self) -> None:
        """Connects. Raises MqttError where the broker doesn't answer or lets nobody in; nothing stays open then."""
        try:
            await self.__aenter__()
        except BaseException:
            self._client._sock_close()
            raise

    async def ask_for(self, topics: list[str], *, qos: int = 1, is_local: bool = False) -> list[str]:
        """Subscribes; returns the topics that the broker refused. Retained messages come to new subscriptions only.

        With `is_local` also what this client publishes comes, and the will of its connection before.
        """
        refused = []
        for topic in topics:
            wanted = SubscribeOptions(qos=qos, noLocal=not is_local, retainHandling=RETAINED_TO_NEW)
            codes = await self.subscribe(topic, options=wanted)
            if any(isinstance(code, ReasonCode) and code.is_failure for code in codes):
                refused.append(topic)
        return refused

    async def burst(self, most: int) -> list[Message]:
        """The next message, and those that wait behind it, at most so many. Raises MqttError once disconnected."""
        first = await anext(aiter(self.messages))
        found = [cast(Message, first)]
        while len(found) < most and not self._queue.empty():
            found.append(cast(Message, self._queue.get_nowait()))
        return found

    def acknowledge(self, message: Message) -> None:
        """Tells the broker that it may forget a message; once disconnected it comes again."""
        if message.qos and not self._disconnected.done():
            self._client.ack(message.mid, message.qos)

    def _on_connect(
        self, client: paho.Client, userdata: Any, flags: Any, reason_code: Any, properties: Any = None
    ) -> None:
        self.session_present = bool(flags.session_present)
        self._connected_ms = self._now_ms()
        super()._on_connect(client, userdata, flags, reason_code, properties)

    def _on_disconnect(
        self, client: paho.Client, userdata: Any, flags: Any, reason_code: Any, properties: Any = None
    ) -> None:
        if not self._connected.done():  # else ten seconds pass until it is noticed
            self._connected.set_exception(aiomqtt.MqttError("it ended the connection without an answer"))
        super()._on_disconnect(client, userdata, flags, reason_code, properties)

    def _on_message(self, client: paho.Client, userdata: Any, message: paho.MQTTMessage) -> None:
        if message.qos == 0 and self._queue.qsize() >= QUEUE_MAX:
            self.overrun += 1
            return
        now = self._now_ms()
        arrived = Message(
            topic=message._topic.decode("utf-8", "replace"),
            payload=bytes(message.payload),
            qos=message.qos,
            mid=message.mid,
            is_retained=bool(message.retain),
            is_repeated=bool(message.dup),
            arrived_ms=now,
            is_prompt=not message.retain and not message.dup and now >= self._connected_ms + PROMPT_AFTER_MS,
        )
        self._queue.put_nowait(cast(Any, arrived))


def _tls(options: BrokerOptions) -> ssl.SSLContext | None:
    """How the broker proves who it is, and the gateway too where it has a certificate."""
    if not options.tls:
        if options.ca_file or options.cert_file or options.key_file:
            raise InvalidInput("[mqtt] names files of TLS: say tls = true too")
        return None
    try:
        context = ssl.create_default_context(cafile=options.ca_file)
        if options.cert_file is not None:
            context.load_cert_chain(options.cert_file, options.key_file)
    except (OSError, ssl.SSLError) as error:
        raise InvalidInput(f"[mqtt] can't use the files of TLS: {error.strerror or error}") from None
    return context


async def leave(connection: Connection) -> None:
    """Disconnects in order, which keeps the session; a broker that doesn't answer is not waited for."""
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            await connection.__aexit__(None, None, None)
        if connection._disconnected.done() and not connection._disconnected.cancelled():
            connection._disconnected.exception()  # looked at, so that asyncio doesn't complain
    except (aiomqtt.MqttError, TimeoutError):
        _log.warning("the broker did not answer the goodbye")
