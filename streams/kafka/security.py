"""How clients prove who they are to a Kafka, and how it proves the same to them: Kafka's standard properties.

One source for both client libraries. An address carries them with it; as text it names the brokers, and nothing secret.

    servers = KafkaAddress("broker-1:9093", Security(security_protocol="SASL_SSL", sasl_mechanism="SCRAM-SHA-512", ...))
    Producer(client_config(servers))                     librdkafka's form
    AIOKafkaConsumer(**aiokafka_config(servers))         aiokafka's
"""

import ssl
from pathlib import Path
from typing import Any, Literal, Self

from msgspec import Struct

from schemas.errors import InvalidInput

Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]


class Security(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Kafka's properties of the same names, with dots for underscores. Passwords may be in files: `..._file`."""

    security_protocol: Protocol = "PLAINTEXT"
    sasl_mechanism: Mechanism | None = None
    sasl_username: str | None = None
    sasl_password: str | None = None
    sasl_password_file: Path | None = None
    sasl_oauthbearer_token_endpoint_url: str | None = None
    sasl_oauthbearer_client_id: str | None = None
    sasl_oauthbearer_client_secret: str | None = None
    sasl_oauthbearer_client_secret_file: Path | None = None
    sasl_oauthbearer_scope: str | None = None
    ssl_ca_location: Path | None = None
    ssl_certificate_location: Path | None = None
    ssl_key_location: Path | None = None
    ssl_key_password: str | None = None
    ssl_key_password_file: Path | None = None

    def __repr__(self) -> str:
        return f"Security({self.security_protocol})"

    def fault(self) -> str:
        """What is missing or too much, by the names of the properties; empty if nothing is."""
        is_sasl, is_ssl = self.security_protocol.startswith("SASL"), self.security_protocol.endswith("SSL")
        set_ = {name for name in self.__struct_fields__ if getattr(self, name) is not None}
        for name in ("sasl_password", "sasl_oauthbearer_client_secret", "ssl_key_password"):
            if {name, f"{name}_file"} <= set_:
                return f"set one of {_dotted(name)} and {_dotted(name)}.file, not both"
        for prefix, is_used in (("sasl_", is_sasl), ("ssl_", is_ssl)):
            unused = sorted(name for name in set_ if name.startswith(prefix) and not is_used)
            if unused:
                return f"{_dotted(unused[0])} is of no use with security.protocol {self.security_protocol}"
        if not is_sasl:
            return ""
        if self.sasl_mechanism is None:
            return "sasl.mechanism is missing: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER"
        missing = [name for name in _NEEDED[self.sasl_mechanism] if not {name, f"{name}_file"} & set_]
        return f"{_dotted(missing[0])} is missing" if missing else ""

    @property
    def password(self) -> str | None:
        """The password of a user. Raises InvalidInput if its file can't be read."""
        return _secret(self.sasl_password, self.sasl_password_file)

    @property
    def key_password(self) -> str | None:
        """The password of a key. Raises InvalidInput if its file can't be read."""
        return _secret(self.ssl_key_password, self.ssl_key_password_file)

    @property
    def client_secret(self) -> str | None:
        """The secret of an OAuth client. Raises InvalidInput if its file can't be read."""
        return _secret(self.sasl_oauthbearer_client_secret, self.sasl_oauthbearer_client_secret_file)

    def librdkafka(self) -> dict[str, Any]:
        """The settings of a client of librdkafka. Raises InvalidInput if a file can't be read."""
        found: dict[str, Any] = {"security.protocol": self.security_protocol}
        for name in ("ssl_ca_location", "ssl_certificate_location", "ssl_key_location"):
            if (path := getattr(self, name)) is not None:
                found[_dotted(name)] = str(_readable(path))
        secrets = {"ssl.key.password": self.key_password, "sasl.mechanism": self.sasl_mechanism}
        if self.sasl_mechanism == "OAUTHBEARER":
            secrets |= {
                "sasl.oauthbearer.method": "oidc",
                "sasl.oauthbearer.token.endpoint.url": self.sasl_oauthbearer_token_endpoint_url,
                "sasl.oauthbearer.client.id": self.sasl_oauthbearer_client_id,
                "sasl.oauthbearer.client.secret": self.client_secret,
                "sasl.oauthbearer.scope": self.sasl_oauthbearer_scope,
            }
        else:
            secrets |= {"sasl.username": self.sasl_username, "sasl.password": self.password}
        return found | {name: value for name, value in secrets.items() if value is not None}

    def aiokafka(self) -> dict[str, Any]:
        """The arguments of a client of aiokafka. Raises InvalidInput if a file can't be read or is of another kind."""
        found: dict[str, Any] = {"security_protocol": self.security_protocol}
        if self.security_protocol.endswith("SSL"):
            found["ssl_context"] = self.ssl_context()
        if self.sasl_mechanism is not None:
            found["sasl_mechanism"] = self.sasl_mechanism
        if self.sasl_mechanism == "OAUTHBEARER":
            from streams.kafka.tokens import Tokens

            found["sasl_oauth_token_provider"] = Tokens(self)
        elif self.sasl_mechanism is not None:
            found |= {"sasl_plain_username": self.sasl_username, "sasl_plain_password": self.password}
        return found

    def ssl_context(self) -> ssl.SSLContext:
        """Checks the broker's certificate and name, by `ssl.ca.location` or the system's authorities."""
        for path in (self.ssl_ca_location, self.ssl_certificate_location, self.ssl_key_location):
            if path is not None:
                _readable(path)
        try:
            context = ssl.create_default_context(cafile=self.ssl_ca_location)
            if self.ssl_certificate_location is not None:
                context.load_cert_chain(self.ssl_certificate_location, self.ssl_key_location, self.key_password or "")
        except (ssl.SSLError, ValueError) as error:
            raise InvalidInput(f"ssl.ca.location, ssl.certificate.location or ssl.key.location: {error}") from None
        return context


PLAINTEXT = Security()

_USER = ("sasl_username", "sasl_password")
_CLIENT = (
    "sasl_oauthbearer_token_endpoint_url", "sasl_oauthbearer_client_id", "sasl_oauthbearer_client_secret",
)  # fmt: skip
_NEEDED: dict[Mechanism, tuple[str, ...]] = {
    "PLAIN": _USER, "SCRAM-SHA-256": _USER, "SCRAM-SHA-512": _USER, "OAUTHBEARER": _CLIENT,
}  # fmt: skip


class KafkaAddress(str):
    """`host:port[,host:port...]` of a cluster's brokers, with the properties by which clients connect to it."""

    security: Security

    def __new__(cls, servers: str, security: Security = PLAINTEXT) -> Self:
        """`servers` as Kafka's clients write them."""
        made = super().__new__(cls, servers)
        made.security = security
        return made


def security_of(servers: str) -> Security:
    """The properties that an address carries; plain text without any."""
    return servers.security if isinstance(servers, KafkaAddress) else PLAINTEXT


def client_config(servers: str) -> dict[str, Any]:
    """The settings of every librdkafka client of ours; it logs little, because each failed call says what failed.

    Raises InvalidInput if a file that the properties name can't be read.
    """
    config: dict[str, Any] = {
        "bootstrap.servers": str(servers),
        "log_level": 2,
        "socket.connection.setup.timeout.ms": 5_000,
    }
    return config | security_of(servers).librdkafka()


def aiokafka_config(servers: str) -> dict[str, Any]:
    """The arguments by which every aiokafka client of ours connects. Raises InvalidInput as `client_config`."""
    return {"bootstrap_servers": [server.strip() for server in servers.split(",")]} | security_of(servers).aiokafka()


def _dotted(name: str) -> str:
    return name.replace("_", ".")


def _secret(value: str | None, path: Path | None) -> str | None:
    if path is None:
        return value
    return _readable(path).read_text(encoding="utf-8").rstrip("\r\n")


def _readable(path: Path) -> Path:
    try:
        path.open("rb").close()
    except OSError as error:
        raise InvalidInput(f"can't read {path}, which Kafka's properties name: {error.strerror}") from None
    return path
