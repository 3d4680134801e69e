"""All settings, read once and passed down. Nothing else in the project reads the environment.

The environment goes before `tallyroot.toml` in the working folder, that before the defaults. In the file a field has
its own name (`data_dir`), in the environment the name given beside it.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from schemas.errors import InvalidInput

SETTINGS_FILE = Path("tallyroot.toml")


def _http_url(value: str) -> str:
    if not value.startswith(("http://", "https://")):
        raise ValueError("must start with http:// or https://")
    return value


def _private_key(value: str) -> str:
    digits = value.removeprefix("0x")
    if len(digits) != 64 or set(digits.lower()) - set("0123456789abcdef"):
        raise ValueError("must be 32 bytes in hex")
    return "0x" + digits.lower()


Url = Annotated[str, AfterValidator(_http_url)]
PrivateKey = Annotated[str, AfterValidator(_private_key)]


class Settings(BaseSettings):
    """What a person may set. None for a server means the embedded one, None for a key the development chain's."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, env_ignore_empty=True, hide_input_in_errors=True
    )

    data_dir: Path = Field(default=Path("tallyroot-data"), validation_alias="TALLYROOT_DATA_DIR")
    topic: str = Field(default="telemetry", validation_alias="TALLYROOT_TOPIC", pattern=r"^[A-Za-z0-9._-]{1,249}$")
    kafka_bootstrap_servers: str | None = Field(default=None, validation_alias="KAFKA_BOOTSTRAP_SERVERS", min_length=1)
    chain_rpc_url: Url | None = Field(default=None, validation_alias="CHAIN_RPC_URL")
    store: str | None = Field(default=None, validation_alias="TALLYROOT_STORE", min_length=1)
    log: Literal["text", "json"] = Field(default="text", validation_alias="TALLYROOT_LOG")
    metrics_port: int | None = Field(default=None, validation_alias="TALLYROOT_METRICS_PORT", ge=0, le=65_535)
    metrics_host: str = Field(default="127.0.0.1", validation_alias="TALLYROOT_METRICS_HOST", min_length=1)
    operator_key: PrivateKey | None = Field(default=None, validation_alias="TALLYROOT_OPERATOR_KEY", repr=False)
    poster_key: PrivateKey | None = Field(default=None, validation_alias="TALLYROOT_POSTER_KEY", repr=False)
    auditor_key: PrivateKey | None = Field(default=None, validation_alias="TALLYROOT_AUDITOR_KEY", repr=False)
    guardian_key: PrivateKey | None = Field(default=None, validation_alias="TALLYROOT_GUARDIAN_KEY", repr=False)
    admin_key: PrivateKey | None = Field(default=None, validation_alias="TALLYROOT_ADMIN_KEY", repr=False)

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
        raise InvalidInput(
            f"setting {name}: {first['msg'].removeprefix('Value error, ')} (environment or {SETTINGS_FILE})"
        ) from None
    except OSError as error:
        raise InvalidInput(f"can't read {SETTINGS_FILE}: {error.strerror}") from None
    except ValueError as error:  # not TOML, not UTF-8
        raise InvalidInput(f"{SETTINGS_FILE} is not TOML: {error}") from None
