"""What the file of an OCPP gateway says: where it listens, who may connect, and which meter a connector is."""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal, Self

import msgspec
from msgspec import Meta, Struct

from tallyroot_gateway.errors import InvalidInput
from tallyroot_gateway.field.config import GatewayConfig, Id, Port
from tallyroot_gateway.field.intake import ROUTES_MAX
from tallyroot_gateway.field.units import UNITS

ChargerId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._:*=+|@-]{1,48}$")]
"""What a charger is called: the last part of the address that it connects to."""

ConnectorNumber = Annotated[str, Meta(pattern=r"^[1-9][0-9]{0,2}$")]
"""A connector of 1.6, an EVSE of 2.0.1: a key of TOML, so a text."""

CHARGERS_MAX = 2_000


class ConnectorOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One connector (1.6) or EVSE (2.0.1) and its meters.

    `meter` is the register that is billed, in `unit`; without it `energy`, or `energy-2` for connector 2 and so on.
    `availability` is a level, 1 or 0, named in the same way; an empty name takes none. With `signed` only what the
    meter signed (OCMF) is sent, with the record as evidence; `public_key` (hex or base64, DER) lets the gateway warn
    where a signature is not the meter's. `obis` is the identifier of the register in the records, as in the machine's
    registration: without it the first one of delivered energy. `opening` is the register at which the charger was taken
    into service: with 0 a first begin of 0 is believed.
    """

    meter: Id | None = None
    unit: str = "Wh"
    availability: Annotated[str, Meta(max_length=64)] | None = None
    signed: bool = False
    public_key: str | None = None
    obis: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    opening: Annotated[int, Meta(ge=0)] | None = None


class ChargerOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[chargers."ID"]`: one charger, a machine of the log. `route` is the machine's id if it is left out.

    `per_transaction` says that its registers begin at 0 in each transaction. `password` is what
    `python -m tallyroot_gateway.ocpp` printed. `excluded` are pairs of times that no uptime is asked of.
    """

    machine: Id
    route: Id | None = None
    per_transaction: bool = False
    password: str | None = None
    connectors: Annotated[dict[ConnectorNumber, ConnectorOptions], Meta(min_length=1, max_length=32)] = msgspec.field(
        default_factory=lambda: {"1": ConnectorOptions()}
    )
    excluded: list[tuple[datetime, datetime]] = []


class ServerOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[ocpp]`: the server.

    `security_profile` is OCPP's: 1 a password, 2 a password and TLS, 3 TLS with a certificate of the charger's, whose
    common name is the charger's id and which `client_ca` issued; 0 asks for nothing, for a network of its own.
    `passwords` is a file with a line `ID:HASH` for each charger, which nobody else may read.
    """

    host: str = "127.0.0.1"
    port: Port = 9000
    path: str = "/"
    security_profile: Literal[0, 1, 2, 3] = 1
    certificate: str | None = None
    private_key: str | None = None
    client_ca: str | None = None
    passwords: str | None = None
    accept_unknown: bool = False
    authorize: Literal["any", "list"] = "any"
    id_tags: list[Annotated[str, Meta(min_length=1, max_length=64)]] = []
    heartbeat_s: Annotated[int, Meta(ge=1, le=86_400)] = 300
    lost_after_s: Annotated[float, Meta(ge=0)] = 60
    ping_s: Annotated[float, Meta(gt=0)] = 30
    message_bytes: Annotated[int, Meta(ge=4_096, le=1 << 24)] = 1 << 20
    discover_s: Annotated[float, Meta(gt=0)] = 60


class CommandOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[commands]`: the topic from which commands are taken, and the consumer group that keeps how far."""

    topic: str = "machine.commands"
    group: str = "tallyroot-gateway-ocpp"


class OcppConfig(GatewayConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The file of an OCPP gateway; without a table [commands] none are taken."""

    ocpp: ServerOptions = ServerOptions()
    commands: CommandOptions | None = None
    chargers: Annotated[dict[ChargerId, ChargerOptions], Meta(max_length=CHARGERS_MAX)] = msgspec.field(
        default_factory=dict
    )

    def in_folder(self, folder: Path) -> Self:
        """The same with the server's files where they are, seen from the folder of the configuration."""
        names = ("certificate", "private_key", "client_ca", "passwords")
        named = {name: getattr(self.ocpp, name) for name in names}
        files = {name: str(folder / path) for name, path in named.items() if path is not None}
        return msgspec.structs.replace(self, ocpp=msgspec.structs.replace(self.ocpp, **files))


class Connector(Struct, frozen=True):
    """A connector with all that the file leaves to a rule filled in. `availability` None: no such meter."""

    number: int
    machine: str
    route: str
    meter: str
    unit: str
    availability: str | None
    per_transaction: bool
    signed: bool
    public_key: str | None
    obis: str | None
    opening: int | None


def connectors_of(charger: ChargerOptions) -> dict[int, Connector]:
    """A charger's connectors by number."""
    return {int(number): _connector(int(number), charger, options) for number, options in charger.connectors.items()}


def check(config: OcppConfig) -> None:
    """Raises InvalidInput where the file contradicts itself."""
    server = config.ocpp
    if server.security_profile >= 2 and (server.certificate is None or server.private_key is None):
        raise InvalidInput(
            f"[ocpp]: security profile {server.security_profile} needs TLS: name certificate and private_key"
        )
    if server.security_profile == 3 and server.client_ca is None:
        raise InvalidInput("[ocpp]: security profile 3 needs client_ca, which issued the chargers' certificates")
    if server.security_profile < 2 and (server.certificate or server.client_ca):
        raise InvalidInput("[ocpp]: a certificate is used from security_profile 2 on")
    if not server.path.startswith("/"):
        raise InvalidInput("[ocpp]: path begins with /")
    if server.authorize == "list" and not server.id_tags:
        raise InvalidInput("[ocpp]: nobody could charge: give id_tags, or authorize any")
    if len({charger.route or charger.machine for charger in config.chargers.values()}) > ROUTES_MAX:
        raise InvalidInput(f"the chargers have more than {ROUTES_MAX} routes: let those of a site share one")
    meters: dict[tuple[str, str], str] = {}
    routes: dict[str, str] = {}
    for name, charger in config.chargers.items():
        if routes.setdefault(charger.machine, charger.route or charger.machine) != (charger.route or charger.machine):
            raise InvalidInput(f"machine {charger.machine} has two routes: it has one for its life")
        for connector in connectors_of(charger).values():
            _check_unit(name, connector)
            if connector.signed and connector.per_transaction:
                raise InvalidInput(f"{name}: signed registers can't be made cumulative: leave out per_transaction")
            for meter in filter(None, (connector.meter, connector.availability)):
                other = meters.setdefault((charger.machine, meter), name)
                if other != name or connector.meter == connector.availability:
                    raise InvalidInput(
                        f"{name} and {other} both have meter {meter} of {charger.machine}: name it apart"
                    )
        for first, last in charger.excluded:
            if first.tzinfo is None or last.tzinfo is None or first >= last:
                raise InvalidInput(f"{name}: excluded takes pairs of times with an offset, the earlier one first")


def _check_unit(charger: str, connector: Connector) -> None:
    if UNITS.get(connector.unit, ("", 0))[0] != "energy":
        raise InvalidInput(
            f"{charger}: connector {connector.number}: unit {connector.unit!r} is none of energy: use Wh"
        )


def _connector(number: int, charger: ChargerOptions, options: ConnectorOptions) -> Connector:
    suffix = "" if number == 1 else f"-{number}"
    availability = f"availability{suffix}" if options.availability is None else options.availability
    return Connector(
        number=number,
        machine=charger.machine,
        route=charger.route or charger.machine,
        meter=options.meter or f"energy{suffix}",
        unit=options.unit,
        availability=availability or None,
        per_transaction=charger.per_transaction,
        signed=options.signed,
        public_key=options.public_key,
        obis=options.obis,
        opening=options.opening,
    )
