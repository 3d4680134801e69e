"""`--discover`: which chargers connect, what they say of themselves, and a registration to start from.

Nothing that a charger delivers is acknowledged meanwhile, so it keeps it for the gateway.
"""

import asyncio
from typing import Any

import msgspec
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from tallyroot_gateway.errors import InvalidInput
from tallyroot_gateway.field.rejects import RAW_MAX
from tallyroot_gateway.gateway import wall_ms
from tallyroot_gateway.ocpp.access import tls_of
from tallyroot_gateway.ocpp.config import OcppConfig, check
from tallyroot_gateway.ocpp.link import Link
from tallyroot_gateway.ocpp.messages import SUBPROTOCOLS, V16, Answer, Call, decode, error, result, time_text

SEEN_MAX = 1_000
SAID_MAX = 80

_KEYS = ("NumberOfConnectors", "MeterValuesSampledData", "MeterValueSampleInterval", "MeterPublicKey1")


class Seen:
    """What a charger said of itself."""

    def __init__(self, version: str) -> None:
        self.version = version
        self.said: dict[str, str] = {}

    def note(self, payload: dict[str, Any]) -> None:
        """Keeps the texts of a BootNotification."""
        station = payload.get("chargingStation")
        for name, value in (station if isinstance(station, dict) else payload).items():
            if isinstance(value, str) and len(self.said) < 20:
                self.said[str(name)[:SAID_MAX]] = "".join(c for c in value if c.isprintable())[:SAID_MAX]


async def discover(config: OcppConfig) -> None:
    """Listens for `discover_s`, then prints what connected. Raises InvalidInput where it can't listen."""
    check(config)
    options = config.ocpp
    seen: dict[str, Seen] = {}

    async def hear(connection: ServerConnection) -> None:
        path = "" if connection.request is None else connection.request.path
        name = path.partition("?")[0].rpartition("/")[2][:48]
        if len(seen) < SEEN_MAX:
            await _hear(connection, seen.setdefault(name, Seen(str(connection.subprotocol))))

    subprotocols = [Subprotocol(name) for name in SUBPROTOCOLS]
    try:
        server = await serve(
            hear, options.host, options.port, ssl=tls_of(config), subprotocols=subprotocols, max_size=RAW_MAX
        )
    except OSError as failed:
        raise InvalidInput(f"can't listen on {options.host}:{options.port} ({failed.strerror})") from None
    port = next(iter(server.sockets)).getsockname()[1]
    print(f"# listening on port {port} for {options.discover_s:.0f} s", flush=True)
    try:
        await asyncio.sleep(options.discover_s)
    finally:
        server.close()
        print(described(seen), flush=True)


def described(seen: dict[str, Seen]) -> str:
    """A registration (the form that `tallyroot register` takes) and the gateway's tables for what was seen."""
    if not seen:
        return "# no charger connected: let one connect to this address, with its id as the last part"
    lines = ['zone = "Europe/Berlin"', 'site = "site-1"', 'payees = [{ account = "0x...", share = "100 %" }]']
    most = max(map(_connectors, seen.values()))
    prices = ", ".join(f'"energy{_suffix(number)}: EUR 0.39 per kWh"' for number in range(1, most + 1))
    lines += [f"tariff = [{prices}]", ""]
    for name, charger in sorted(seen.items()):
        machine = _machine(name)
        lines += [f"# {name}, {charger.version}: " + ", ".join(f"{key} {text}" for key, text in charger.said.items())]
        lines += ["[[machines]]", f'id = "{machine}"', 'kind = "ev_charger"']
        for number in range(1, _connectors(charger) + 1):
            suffix = _suffix(number)
            lines += [f"[machines.meters.energy{suffix}]", 'counts = "register"', 'unit = "Wh"', 'capacity = "22 kW"']
            lines += [f"[machines.meters.availability{suffix}]", 'counts = "level"', 'unit = "count"']
            lines += ['capacity = "1 count/h"']
        lines += ["", "# and in the gateway's file:", f"# [chargers.{msgspec.json.encode(name).decode()}]"]
        lines += [f'# machine = "{machine}"', '# route = "site-1"']
        lines += [f"# connectors = {{ {', '.join(f'{n} = {{}}' for n in range(1, _connectors(charger) + 1))} }}", ""]
    return "\n".join(lines)


async def _hear(connection: ServerConnection, charger: Seen) -> None:
    link = Link(connection, charger.version)
    asked: asyncio.Task[None] | None = None
    try:
        async for raw in connection:
            try:
                message = decode(raw)
            except InvalidInput:
                continue
            if isinstance(message, Answer):
                link.answered(message)
                continue
            await connection.send(_answered(message, charger))
            if message.action == "BootNotification" and asked is None and charger.version == V16:
                asked = asyncio.create_task(_ask(link, charger))
    except ConnectionClosed:
        pass
    finally:
        if asked is not None:
            asked.cancel()


def _answered(message: Call, charger: Seen) -> str:
    if message.action != "BootNotification":
        return error(message.id, "InternalError", "the gateway only looks: try again later")
    charger.note(message.payload)
    return result(message.id, {"status": "Pending", "currentTime": time_text(wall_ms()), "interval": 30})


async def _ask(link: Link, charger: Seen) -> None:
    try:
        answer = await link.call("GetConfiguration", {"key": list(_KEYS)}, seconds=10)
    except InvalidInput:
        return
    for row in answer.get("configurationKey") or []:
        if isinstance(row, dict) and row.get("key") in _KEYS:
            charger.said[str(row["key"])] = str(row.get("value", ""))[:SAID_MAX]


def _connectors(charger: Seen) -> int:
    said = charger.said.get("NumberOfConnectors", "")
    return max(1, min(8, int(said))) if said.isdecimal() else 1


def _suffix(number: int) -> str:
    return "" if number == 1 else f"-{number}"


def _machine(name: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c in "._:*-") else "-" for c in name).lower() or "charger"
