"""All settings, read once and passed down. Nothing else in the project reads the environment.

The environment goes before `tallyroot.toml` in the working folder, that before the defaults. In the file a field has
its own name (`data_dir`), in the environment the name given beside it.
"""

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from schemas.errors import InvalidInput

SETTINGS_FILE = Path("tallyroot.toml")


def _http_url(value: str) -> str:
    if not value.startswith(("http://", "https://")):
        raise ValueError("must start with http:// or https://")
    return value


def _account(value: str) -> str:
    digits = value.removeprefix("0x")
    if len(digits) != 40 or set(digits.lower()) - set("0123456789abcdef"):
        raise ValueError("must be 0x and 40 hex digits")
    return "0x" + digits


def _private_key(value: str) -> str:
    digits = value.removeprefix("0x")
    if len(digits) != 64 or set(digits.lower()) - set("0123456789abcdef"):
        raise ValueError("must be 32 bytes in hex")
    return "0x" + digits.lower()


Url = Annotated[str, AfterValidator(_http_url)]
PrivateKey = Annotated[str, AfterValidator(_private_key)]
AccountText = Annotated[str, AfterValidator(_account)]

KEYED_ROLES = ("operator", "poster", "auditor", "guardian", "admin")


class KeySettings(NamedTuple):
    """Where one role's key is: `key` itself, a `keystore` with its password, or a `signer` that keeps `address`'s."""

    key: str | None
    keystore: Path | None
    password: str | None
    password_file: Path | None
    signer: str | None
    address: str | None

    def __repr__(self) -> str:
        return "KeySettings(…)"


def _of(name: str) -> Any:
    return Field(default=None, validation_alias=f"TALLYROOT_{name}", repr=False)


class Settings(BaseSettings):
    """What a person may set. None for a server means the embedded one, None for a key the development chain's."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, env_ignore_empty=True, hide_input_in_errors=True
    )

    data_dir: Path = Field(default=Path("tallyroot-data"), validation_alias="TALLYROOT_DATA_DIR")
    topic: str = Field(default="telemetry", validation_alias="TALLYROOT_TOPIC", pattern=r"^[A-Za-z0-9._-]{1,249}$")
    kafka_bootstrap_servers: str | None = Field(default=None, validation_alias="KAFKA_BOOTSTRAP_SERVERS", min_length=1)
    chain_rpc_url: Url | None = Field(default=None, validation_alias="CHAIN_RPC_URL")
    fee_cap_gwei: int = Field(default=500, validation_alias="TALLYROOT_FEE_CAP_GWEI", ge=1)
    priority_fee_gwei: Decimal | None = Field(
        default=None, validation_alias="TALLYROOT_PRIORITY_FEE_GWEI", ge=0, decimal_places=9
    )
    store: str | None = Field(default=None, validation_alias="TALLYROOT_STORE", min_length=1)
    log: Literal["text", "json"] = Field(default="text", validation_alias="TALLYROOT_LOG")
    metrics_port: int | None = Field(default=None, validation_alias="TALLYROOT_METRICS_PORT", ge=0, le=65_535)
    metrics_host: str = Field(default="127.0.0.1", validation_alias="TALLYROOT_METRICS_HOST", min_length=1)
    operator_key: PrivateKey | None = _of("OPERATOR_KEY")
    operator_keystore: Path | None = _of("OPERATOR_KEYSTORE")
    operator_password: str | None = _of("OPERATOR_PASSWORD")
    operator_password_file: Path | None = _of("OPERATOR_PASSWORD_FILE")
    operator_signer: Url | None = _of("OPERATOR_SIGNER")
    operator_address: AccountText | None = _of("OPERATOR_ADDRESS")
    poster_key: PrivateKey | None = _of("POSTER_KEY")
    poster_keystore: Path | None = _of("POSTER_KEYSTORE")
    poster_password: str | None = _of("POSTER_PASSWORD")
    poster_password_file: Path | None = _of("POSTER_PASSWORD_FILE")
    poster_signer: Url | None = _of("POSTER_SIGNER")
    poster_address: AccountText | None = _of("POSTER_ADDRESS")
    auditor_key: PrivateKey | None = _of("AUDITOR_KEY")
    auditor_keystore: Path | None = _of("AUDITOR_KEYSTORE")
    auditor_password: str | None = _of("AUDITOR_PASSWORD")
    auditor_password_file: Path | None = _of("AUDITOR_PASSWORD_FILE")
    auditor_signer: Url | None = _of("AUDITOR_SIGNER")
    auditor_address: AccountText | None = _of("AUDITOR_ADDRESS")
    guardian_key: PrivateKey | None = _of("GUARDIAN_KEY")
    guardian_keystore: Path | None = _of("GUARDIAN_KEYSTORE")
    guardian_password: str | None = _of("GUARDIAN_PASSWORD")
    guardian_password_file: Path | None = _of("GUARDIAN_PASSWORD_FILE")
    guardian_signer: Url | None = _of("GUARDIAN_SIGNER")
    guardian_address: AccountText | None = _of("GUARDIAN_ADDRESS")
    admin_key: PrivateKey | None = _of("ADMIN_KEY")
    admin_keystore: Path | None = _of("ADMIN_KEYSTORE")
    admin_password: str | None = _of("ADMIN_PASSWORD")
    admin_password_file: Path | None = _of("ADMIN_PASSWORD_FILE")
    admin_signer: Url | None = _of("ADMIN_SIGNER")
    admin_address: AccountText | None = _of("ADMIN_ADDRESS")

    @model_validator(mode="after")
    def _tip_within_cap(self) -> "Settings":
        if self.priority_fee_gwei is not None and self.priority_fee_gwei >= self.fee_cap_gwei:
            raise ValueError("TALLYROOT_PRIORITY_FEE_GWEI must be below TALLYROOT_FEE_CAP_GWEI, which is for all of it")
        return self

    @model_validator(mode="after")
    def _one_key_a_role(self) -> "Settings":
        for role in KEYED_ROLES:
            found = self.key_of(role)
            name = f"TALLYROOT_{role.upper()}"
            if sum(way is not None for way in (found.key, found.keystore, found.signer)) > 1:
                raise ValueError(f"set one of {name}_KEY, {name}_KEYSTORE and {name}_SIGNER, not two")
            if found.keystore is not None and (found.password is None) == (found.password_file is None):
                raise ValueError(f"{name}_KEYSTORE needs {name}_PASSWORD_FILE or {name}_PASSWORD")
            if (found.signer is None) != (found.address is None):
                raise ValueError(f"{name}_SIGNER and {name}_ADDRESS go together")
        return self

    def key_of(self, role: str) -> "KeySettings":
        """Where the key of a role is."""
        return KeySettings(*(getattr(self, f"{role}_{part}") for part in KeySettings._fields))

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What is given in code, then the environment, then the file; no `.env`, no secrets folder."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, SETTINGS_FILE)


def load_settings() -> Settings:
    """The settings of this process.

    Raises InvalidInput with one line that names the setting at fault, never its value (it may be a key).
    """
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        what = first["msg"].removeprefix("Value error, ")
        named = f"setting {name}: {what}" if name else what
        raise InvalidInput(f"{named} (environment or {SETTINGS_FILE})") from None
    except OSError as error:
        raise InvalidInput(f"can't read {SETTINGS_FILE}: {error.strerror}") from None
    except ValueError as error:  # not TOML, not UTF-8
        raise InvalidInput(f"{SETTINGS_FILE} is not TOML: {error}") from None
