"""How a gateway proves to Kafka who it is: Kafka's standard properties, as the environment says them."""

from collections.abc import Mapping
from pathlib import Path

from tallyroot_gateway.errors import InvalidInput

SECRETS = ("sasl.password", "ssl.key.password", "sasl.oauthbearer.client.secret")
"""What may be in a file: KAFKA_SASL_PASSWORD_FILE in the place of KAFKA_SASL_PASSWORD."""

PROPERTIES = (
    "security.protocol", "sasl.mechanism", "sasl.username", "sasl.oauthbearer.token.endpoint.url",
    "sasl.oauthbearer.client.id", "sasl.oauthbearer.scope", "ssl.ca.location", "ssl.certificate.location",
    "ssl.key.location", *SECRETS,
)  # fmt: skip


def kafka_properties(environment: Mapping[str, str]) -> dict[str, str]:
    """The properties that KAFKA_… variables name, for `Gateway`: KAFKA_SECURITY_PROTOCOL is `security.protocol`.

    Raises InvalidInput if a password's file can't be read.
    """
    found = {name: value for name in PROPERTIES if (value := environment.get(_variable(name)))}
    for name in SECRETS:
        path = environment.get(f"{_variable(name)}_FILE")
        if path:
            found[name] = _content(Path(path))
    if found.get("sasl.mechanism") == "OAUTHBEARER":
        found["sasl.oauthbearer.method"] = "oidc"
    return found


def _variable(name: str) -> str:
    return f"KAFKA_{name.replace('.', '_').upper()}"


def _content(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise InvalidInput(f"can't read {path}, which holds a password for Kafka: {error.strerror}") from None
