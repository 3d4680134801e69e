"""The file that starts a gateway: what all protocols have in common, and how one is read."""

import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

import msgspec
from msgspec import Meta, Struct

from tallyroot_gateway.errors import InvalidInput
from tallyroot_gateway.reading import is_id

Id = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._:*-]{1,64}$")]
"""A log, a route, a machine, a meter, a session or a key."""

Port = Annotated[int, Meta(ge=0, le=65_535)]


class LogOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[log]`: where readings go, and where they wait meanwhile.

    `spool` is a folder, with one folder in it for each route. With `key_id` and `private_key_file` (64 hex digits of an
    Ed25519 key) records are signed. `boot` is the lowest to use, where an operator registered one.
    """

    bootstrap_servers: str
    log_id: Id
    topic: str = "telemetry"
    partitions: Annotated[int, Meta(ge=1, le=1024)] = 4
    spool: str = "spool"
    spool_bytes: Annotated[int, Meta(ge=1 << 20)] = 1 << 28
    boot: Annotated[int, Meta(ge=0)] = 0
    key_id: Id | None = None
    private_key_file: str | None = None
    batch_rows: Annotated[int, Meta(ge=1, le=10_000)] = 1_000
    batch_ms: Annotated[int, Meta(ge=0, le=60_000)] = 200


class ServeOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[serve]`: where /metrics and /health are (`metrics_port` absent: nowhere), and the file of rejects."""

    metrics_host: str = "127.0.0.1"
    metrics_port: Port | None = None
    rejects: str = "rejects.jsonl"


class GatewayConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What each protocol's file has; a protocol adds its own tables."""

    log: LogOptions
    serve: ServeOptions = ServeOptions()

    def in_folder(self, folder: Path) -> Self:
        """The same with the protocol's own files where they are, seen from the file's folder: for it to override."""
        return self


Config = TypeVar("Config", bound=GatewayConfig)


def read_config(path: Path, kind: type[Config], log: Mapping[str, Any] | None = None) -> Config:
    """The file as `kind`; `log` fills what its table [log] leaves out. Relative paths are relative to its folder.

    Raises InvalidInput, one line that names the field.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"can't read {path}: {getattr(error, 'strerror', None) or 'it is no text'}") from None
    try:
        raw = msgspec.toml.decode(text)
        table = raw.get("log", {})
        if isinstance(table, dict):
            table = raw["log"] = {**(log or {}), **table}
            missing = [name for name in ("bootstrap_servers", "log_id") if name not in table]
            if missing:
                raise InvalidInput(
                    f"{path}: [log] lacks {' and '.join(missing)}: say them there, or run `tallyroot gateway` with the"
                    " log's own data folder, its servers up"
                )
        config = msgspec.convert(raw, kind)
    except (msgspec.MsgspecError, ValueError) as error:
        raise InvalidInput(f"{path}: {error}") from None
    return _in_folder(config, path.parent).in_folder(path.parent)


def private_key(options: LogOptions) -> bytes | None:
    """The key that signs. Raises InvalidInput for a file that isn't one, or that others may read."""
    if options.private_key_file is None:
        return None
    path = Path(options.private_key_file)
    try:
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise InvalidInput(f"others may read {path}, which holds a key: chmod 600 {path}")
        key = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or "write 64 hex digits"
        raise InvalidInput(f"can't read the key in {path}: {said}") from None
    return key


def check_ids(**names: str) -> None:
    """Raises InvalidInput where one of these, by what it is, can't name anything in the log."""
    for what, name in names.items():
        if not is_id(name):
            raise InvalidInput(f"{what}: use 1 to 64 of A-Z a-z 0-9 . _ : * -, not {name!r}")


def _in_folder(config: Config, folder: Path) -> Config:
    log = msgspec.structs.replace(
        config.log,
        spool=str(folder / config.log.spool),
        private_key_file=None if config.log.private_key_file is None else str(folder / config.log.private_key_file),
    )
    serve = msgspec.structs.replace(config.serve, rejects=str(folder / config.serve.rejects))
    return msgspec.structs.replace(config, log=log, serve=serve)
