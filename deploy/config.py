"""All settings, read once and passed down. Nothing else in the project reads the environment.

The environment goes before `tallyroot.toml` in the working folder, and that before the defaults. In the file a setting
has its field's name, and each role's key is a table; in the environment it has the name in `ENVIRONMENT`:

    data_dir = "/srv/tallyroot"                     TALLYROOT_DATA_DIR
    chain_rpc_url = "https://rpc.example"           CHAIN_RPC_URL
    [poster]
    keystore = "poster.json"                        TALLYROOT_POSTER_KEYSTORE
    password_file = "poster.password"               TALLYROOT_POSTER_PASSWORD_FILE

Kafka's own properties have their own names, which other programs know:

    [kafka]
    security.protocol = "SASL_SSL"                  KAFKA_SECURITY_PROTOCOL
    sasl.password.file = "kafka.password"           KAFKA_SASL_PASSWORD_FILE
"""

import os
import re
import tomllib
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints

import msgspec
from msgspec import Meta, Struct

from schemas.errors import InvalidInput
from streams.kafka.security import PLAINTEXT, Security

SETTINGS_FILE = Path("tallyroot.toml")

Url = Annotated[str, Meta(pattern=r"^https?://", description="must start with http:// or https://")]
PrivateKey = Annotated[str, Meta(pattern=r"^(0x)?[0-9a-fA-F]{64}\Z", description="must be 32 bytes in hex")]
Address = Annotated[str, Meta(pattern=r"^(0x)?[0-9a-fA-F]{40}\Z", description="must be 0x and 40 hex digits")]
Topic = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9._-]{1,249}\Z", description="must be 1 to 249 letters, digits, dots, - or _")
]
Text = Annotated[str, Meta(min_length=1, description="must not be empty")]
Seconds = Annotated[int, Meta(ge=1, description="must be a whole number of seconds, 1 or more")]
Gwei = Annotated[int, Meta(ge=1, description="must be a whole number, 1 or more")]
Port = Annotated[int, Meta(ge=0, le=65_535, description="must be a port, 0 to 65535")]
LogFormat = Annotated[Literal["text", "json"], Meta(description="must be text or json")]
Tip = Annotated[Decimal, Meta(description="must be a number, 0 or more, with at most 9 decimals")]


class KeySettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where one role's key is: `key` itself, a `keystore` with its password, or a `signer` that keeps `address`'s."""

    key: PrivateKey | None = None
    keystore: Path | None = None
    password: str | None = None
    password_file: Path | None = None
    signer: Url | None = None
    address: Address | None = None

    @property
    def is_set(self) -> bool:
        """Whether it says where a key is."""
        return any(way is not None for way in (self.key, self.keystore, self.signer))

    def __repr__(self) -> str:
        return "KeySettings(…)"


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a person may set. None for a server means the embedded one, no key for a role the development chain's."""

    data_dir: Path = Path("tallyroot-data")
    topic: Topic = "telemetry"
    kafka_bootstrap_servers: Text | None = None
    chain_rpc_url: Url | None = None
    fee_cap_gwei: Gwei = 500
    priority_fee_gwei: Tip | None = None
    store: Text | None = None
    log: LogFormat = "text"
    metrics_port: Port | None = None
    metrics_host: Text = "127.0.0.1"
    start_patience: Seconds = 120
    kafka: Security = PLAINTEXT
    operator: KeySettings = KeySettings()
    poster: KeySettings = KeySettings()
    auditor: KeySettings = KeySettings()
    guardian: KeySettings = KeySettings()
    admin: KeySettings = KeySettings()
    supplier: KeySettings = KeySettings()
    agent: KeySettings = KeySettings()


ROLES = tuple(field.name for field in msgspec.structs.fields(Settings) if field.type is KeySettings)
NAMED_OTHERWISE = {"kafka_bootstrap_servers": "KAFKA_BOOTSTRAP_SERVERS", "chain_rpc_url": "CHAIN_RPC_URL"}
ENVIRONMENT = {
    NAMED_OTHERWISE.get(field.name, f"TALLYROOT_{field.name.upper()}"): (field.name,)
    for field in msgspec.structs.fields(Settings)
    if field.name not in (*ROLES, "kafka")
} | {f"TALLYROOT_{role}_{part}".upper(): (role, part) for role in ROLES for part in KeySettings.__struct_fields__}
ENVIRONMENT |= {f"KAFKA_{part}".upper(): ("kafka", part) for part in Security.__struct_fields__}
"""Name of each variable to where its setting is: a field, or a role and one of its fields."""


SECRET = ("key", "password", "sasl_password", "ssl_key_password", "sasl_oauthbearer_client_secret")
"""Fields that are never shown."""

_kept: dict[str, str] = {}


def keep_secrets() -> None:
    """Takes keys, passwords and signers' URLs out of this process' environment: its children don't inherit them.

    Kafka's stay: the workers that a supervisor starts connect to it as well.
    """
    for name, path in ENVIRONMENT.items():
        if path[-1] in ("key", "password", "signer") and name in os.environ:
            _kept[name] = os.environ.pop(name)


def _of_environment(name: str) -> str:
    return os.environ.get(name) or _kept.get(name, "")


def load_settings() -> Settings:
    """The settings of this process.

    Raises InvalidInput with one line that names the setting at fault, never its value (it may be a key).
    """
    document = _of_file()
    for name, (*roles, field) in ENVIRONMENT.items():
        if value := _of_environment(name):
            table = document
            for role in roles:
                table = document[role] = dict(document[role]) if isinstance(document.get(role), dict) else {}
            table[field] = value
    try:
        settings = msgspec.convert(document, Settings, strict=False, dec_hook=_path)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"setting {_fault(str(error))} (environment or {SETTINGS_FILE})") from None
    _check(settings)
    return settings


class Origin(Struct, frozen=True):
    """One setting: its name in the environment, its value (of a secret only that it is set), where it comes from."""

    name: str
    value: str
    origin: str


def origins(data_dir: Path | None) -> list[Origin]:
    """Every setting of this process with where it comes from. `data_dir` is what --data-dir said."""
    settings, document = load_settings(), _of_file()
    found = []
    for name, path in ENVIRONMENT.items():
        value: Any = settings
        table: Any = document
        for part in path:
            value, table = getattr(value, part), table.get(part) if isinstance(table, dict) else None
        origin = "environment" if _of_environment(name) else "default" if table is None else str(SETTINGS_FILE)
        if name == "TALLYROOT_DATA_DIR" and data_dir is not None:
            value, origin = data_dir, "--data-dir"
        is_secret = path[-1] in SECRET
        found.append(Origin(name, "" if value is None else "(set)" if is_secret else str(value), origin))
    return found


def _of_file() -> dict[str, Any]:
    try:
        document = tomllib.loads(SETTINGS_FILE.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InvalidInput(f"can't read {SETTINGS_FILE}: {error.strerror}") from None
    except ValueError as error:  # not TOML, not UTF-8
        raise InvalidInput(f"{SETTINGS_FILE} is not TOML: {error}") from None
    if isinstance(kafka := document.get("kafka"), dict):
        document["kafka"] = dict(_flat(kafka))
    return document


def _flat(table: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Kafka's names with underscores: TOML reads a name with dots as tables within tables, in quotes as it stands."""
    for name, value in table.items():
        whole = f"{before}{name}".replace(".", "_")
        if isinstance(value, dict):
            yield from _flat(value, f"{whole}_")
        else:
            yield whole, value


def _path(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, str) and value:
        return Path(value)
    raise ValueError("not a path")


def _fault(said: str) -> str:
    """The setting's name and what it must be, from msgspec's words, which may quote the value."""
    where = re.search(r"at `\$\.([a-z_.]+)`", said)
    if unknown := re.search(r"unknown field `([^`]*)`", said):
        return f"{f'{where[1]}.' if where else ''}{unknown[1]}: there is none of this name"
    *roles, field = where[1].split(".") if where else [""]
    name = next((name for name, place in ENVIRONMENT.items() if place == (*roles, field)), field)
    kind_of = Security if roles == ["kafka"] else KeySettings if roles else Settings
    hints = get_type_hints(kind_of, include_extras=True)
    kinds = [hints.get(field), *get_args(hints.get(field))]
    texts = [part.description for kind in kinds for part in get_args(kind) if isinstance(part, Meta)]
    return (
        f"{name}: {next((text for text in texts if text), 'must be a table' if field in ROLES else 'must be a text')}"
    )


def _check(settings: Settings) -> None:
    """What no single setting shows. Raises InvalidInput."""
    if fault := settings.kafka.fault():
        raise InvalidInput(f"Kafka's properties ([kafka] in {SETTINGS_FILE}, KAFKA_… in the environment): {fault}")
    tip = settings.priority_fee_gwei
    if tip is not None and not (tip.is_finite() and tip >= 0 and tip == round(tip, 9)):
        raise InvalidInput("setting TALLYROOT_PRIORITY_FEE_GWEI: must be a number, 0 or more, with at most 9 decimals")
    if tip is not None and tip >= settings.fee_cap_gwei:
        raise InvalidInput("TALLYROOT_PRIORITY_FEE_GWEI must be below TALLYROOT_FEE_CAP_GWEI, which includes it")
    for role in ROLES:
        found: KeySettings = getattr(settings, role)
        name = f"TALLYROOT_{role.upper()}"
        if sum(way is not None for way in (found.key, found.keystore, found.signer)) > 1:
            raise InvalidInput(f"set one of {name}_KEY, {name}_KEYSTORE and {name}_SIGNER, not two")
        if found.keystore is not None and (found.password is None) == (found.password_file is None):
            raise InvalidInput(f"{name}_KEYSTORE needs {name}_PASSWORD_FILE or {name}_PASSWORD")
        if (found.signer is None) != (found.address is None):
            raise InvalidInput(f"{name}_SIGNER and {name}_ADDRESS go together")
