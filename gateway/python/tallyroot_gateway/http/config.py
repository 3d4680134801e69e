"""The file of an HTTP gateway: where it listens, whose tokens it knows, and for which machines each may speak."""

from pathlib import Path
from typing import Annotated, Literal, Self

from msgspec import Meta, Struct
from msgspec.structs import replace

from tallyroot_gateway.errors import InvalidInput
from tallyroot_gateway.field.config import GatewayConfig, Id, Port

ROWS_MAX = 10_000
"""How many readings one request may have."""


class HttpOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[http]`: where it listens, with TLS where both files are named, and what a request may take."""

    host: str = "127.0.0.1"
    port: Port = 8420
    certificate_file: str | None = None
    key_file: str | None = None
    body_bytes: Annotated[int, Meta(ge=1_024, le=1 << 24)] = 1 << 20
    body_seconds: Annotated[float, Meta(gt=0, le=600)] = 10.0
    connections: Annotated[int, Meta(ge=1, le=10_000)] = 200


class MeterOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A meter as its registration has it: a `value` with a unit becomes whole units of it."""

    counts: Literal["register", "quantity", "level"]
    unit: Id


class MachineOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A machine that readings may be of; `route` is its site, where its registration names one.

    Without `meters` any meter may be named, and a reading must say register, quantity or level.
    """

    id: Id
    route: Id | None = None
    meters: dict[Id, MeterOptions] = {}


class TokenOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Who may send: the SHA-256 of a secret, and the `machines` and `sites` that it speaks for.

    A secret that is changed keeps its `name`: by it a request that is repeated is known.
    """

    name: Id
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    machines: list[Id] = []
    sites: list[Id] = []
    requests_per_minute: Annotated[int, Meta(ge=1, le=1_000_000)] = 600


class HttpConfig(GatewayConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[log]`, `[serve]`, `[http]`, and one `[[machines]]` and one `[[tokens]]` for each."""

    http: HttpOptions = HttpOptions()
    machines: Annotated[list[MachineOptions], Meta(min_length=1, max_length=100_000)]
    tokens: Annotated[list[TokenOptions], Meta(min_length=1, max_length=1_000)]

    def in_folder(self, folder: Path) -> Self:
        """Itself with the certificate's paths relative to a folder."""
        certificate, key = (
            None if name is None else str(folder / name) for name in (self.http.certificate_file, self.http.key_file)
        )
        return replace(self, http=replace(self.http, certificate_file=certificate, key_file=key))

    def machines_of(self, token: TokenOptions) -> dict[str, MachineOptions]:
        """The machines that a token speaks for, by id."""
        ids, sites = set(token.machines), set(token.sites)
        return {one.id: one for one in self.machines if one.id in ids or (one.route or one.id) in sites}


def check_file(config: HttpConfig) -> None:
    """Raises InvalidInput for names that stand twice, or that no machine has."""
    _check_once("machine", [machine.id for machine in config.machines])
    _check_once("token", [token.name for token in config.tokens])
    _check_once("secret", [token.sha256 for token in config.tokens])
    known = {machine.id for machine in config.machines}
    sites = {machine.route or machine.id for machine in config.machines}
    for token in config.tokens:
        for name in [*(set(token.machines) - known), *(set(token.sites) - sites)]:
            raise InvalidInput(f"the token {token.name} names {name}, which no [[machines]] has")
        if not token.machines and not token.sites:
            raise InvalidInput(f"the token {token.name} speaks for nothing: give it machines or sites")
    if (config.http.certificate_file is None) != (config.http.key_file is None):
        raise InvalidInput("[http] needs certificate_file and key_file together, or neither")


def _check_once(what: str, names: list[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InvalidInput(f"the {what} {name} stands twice: keep one of the two")
        seen.add(name)
