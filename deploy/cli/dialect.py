"""The one dialect of `--json`: how a result is written as JSON, and the JSON Schema of that, from the same rule.

A field's name and type say what it is, and here alone it is converted:

    total_micros: int         "total": "12.345678"            an amount in the log's currency
    claimable: TokenUnits     "claimable": "12.345678"        an amount of the token, by its decimals
    cost_wei: int             "cost_ether": "0.000…"          what a transaction costs
    start_ms, until_s: int    "start": "2026-11-28T17:00:00Z" a moment, RFC 3339 in UTC; None, or 0 for "until": null
    windows_root: str         "0x…"                           a hash
    grace_ms, delay_s: int    as they are                     a length of time (DURATIONS)

Records of the log (structs that forbid unknown fields) are quoted as they stand in it: their schemas are in
`schemas/json/`.
"""

import re
import types
from collections.abc import Collection, Mapping
from dataclasses import is_dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from schemas.errors import InvariantBroken
from schemas.units import LEDGER_UNITS, MICROS_DECIMALS

ETHER_DECIMALS = 18
DURATIONS = {"window_ms", "grace_ms", "epoch_ms", "horizon_ms", "skew_ms", "delay_s", "every_s", "lag_ms", "took_ms"}
HASHES = re.compile(r"(^|_)(root|hash|digest|head|transaction|agreement)$")
AMOUNT = {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]+)?$", "description": "an amount, exact"}
MOMENT = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$", "description": "RFC 3339, UTC"}
HASH = {"type": "string", "pattern": "^(0x[0-9a-f]+)?$"}
INTEGER = {"type": "integer"}
PLAIN_TYPES: dict[object, dict[str, Any]] = {
    int: INTEGER, float: {"type": "number"}, bool: {"type": "boolean"}, str: {"type": "string"},
    Path: {"type": "string"}, bytes: HASH, Decimal: AMOUNT, datetime: MOMENT, type(None): {"type": "null"},
}  # fmt: skip


def plain(value: Any, decimals: int | None = None) -> Any:
    """The value as JSON can hold it. `decimals` are the token's, where no struct around an amount has them."""
    match value:
        case Mapping():
            return {str(key): plain(item, decimals) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(item, decimals) for item in value]
        case bytes():
            return "0x" + value.hex()
        case Decimal():
            return int(value) if value.as_tuple().exponent == 0 else f"{value:f}"
        case datetime():
            return _moment(value if value.tzinfo else value.replace(tzinfo=UTC))
        case date() | Path():
            return str(value)
        case Enum():
            return value.value
    kind: Any = type(value)
    if not _is_struct(kind):
        return value
    if _is_wire(kind):
        import msgspec

        return msgspec.to_builtins(value)
    found = getattr(value, "decimals", decimals)
    return {name: _written(getattr(value, field), field, how, found) for field, (name, how, _) in _fields(kind).items()}


def schema(kind: Any) -> dict[str, Any]:
    """The JSON Schema of what `plain` makes of a value of this type."""
    if kind in PLAIN_TYPES:
        return PLAIN_TYPES[kind]
    if kind in (Any, object):
        return {}
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return AMOUNT if LEDGER_UNITS in parts else schema(parts[0])
    if origin is Literal:
        return {"enum": list(parts)}
    if origin in (Union, types.UnionType):
        return {"anyOf": [schema(part) for part in parts]}
    if origin is dict or origin is Mapping:
        return {"type": "object", "additionalProperties": schema(parts[1])}
    if origin is tuple and parts[-1] is not Ellipsis:
        return {"type": "array", "prefixItems": [schema(part) for part in parts]}
    if isinstance(origin, type) and issubclass(origin, Collection):
        return {"type": "array", "items": schema(parts[0])}
    if isinstance(kind, type) and issubclass(kind, Enum):
        return {"enum": [one.value for one in kind]}
    if isinstance(kind, type) and issubclass(kind, tuple):  # a named one
        return {"type": "array", "prefixItems": [schema(part) for part in get_type_hints(kind).values()]}
    if not _is_struct(kind):
        raise InvariantBroken(f"no command may return a {kind}: the dialect has no schema for it")
    if _is_wire(kind):
        return {"type": "object", "description": f"{kind.__name__}, as it stands in the log"}
    fields = {name: _schema_of(how, annotation) for name, how, annotation in _fields(kind).values()}
    return {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and (hasattr(kind, "__struct_fields__") or is_dataclass(kind))


def _is_wire(kind: Any) -> bool:
    return hasattr(kind, "__struct_config__") and kind.__struct_config__.forbid_unknown_fields


@cache
def _fields(kind: Any) -> dict[str, tuple[str, str, Any]]:
    """Each field's name in JSON, how it is written, and its type."""
    hints = get_type_hints(kind, include_extras=True)
    names = getattr(kind, "__struct_fields__", None) or kind.__dataclass_fields__
    return {name: (*_rule(name, hints[name]), hints[name]) for name in names}


def _rule(name: str, kind: Any) -> tuple[str, str]:
    """A field's name in JSON, and how its value is written."""
    if LEDGER_UNITS in str(kind):
        return name, "token"
    if name.endswith("micros"):
        return name.removesuffix("_micros") if name != "micros" else "amount", "micros"
    if name.endswith("_wei"):
        return name.removesuffix("_wei") + "_ether", "wei"
    if name.endswith("_ms") and name not in DURATIONS:
        return name.removesuffix("_ms"), "ms"
    if name.endswith("_s") and name not in DURATIONS:
        return name.removesuffix("_s"), "s"
    return name, "hash" if HASHES.search(name) and _is_text(kind) else "plain"


def _is_text(kind: Any) -> bool:
    return kind is str or any(map(_is_text, get_args(kind)))


def _written(value: Any, field: str, kind: str, decimals: int | None) -> Any:
    if value is None:
        return None
    match kind:
        case "plain":
            return plain(value, decimals)
        case "hash":
            return value if not value or value.startswith("0x") else f"0x{value}"
        case "micros":
            return _amount(int(value), MICROS_DECIMALS)
        case "wei":
            return _amount(value, ETHER_DECIMALS)
        case "token":
            if decimals is None:
                raise InvariantBroken(f"the decimals of {field} are not known where it is written")
            return _amount(value, decimals)
    if not value:
        return None  # no moment: an amount of time since 1970 is none that a log has seen
    return _moment(datetime.fromtimestamp(value // (1_000 if kind == "ms" else 1), UTC), value % 1_000, kind == "ms")


def _schema_of(how: str, kind: Any) -> dict[str, Any]:
    if how == "plain":
        return schema(kind)
    found = {"hash": HASH, "ms": MOMENT, "s": MOMENT}.get(how, AMOUNT)
    is_optional = how in ("ms", "s") or type(None) in get_args(kind)
    return {"anyOf": [found, {"type": "null"}]} if is_optional else found


def _amount(value: int, decimals: int) -> str:
    """Exact, as a decimal string."""
    whole, part = divmod(abs(value), 10**decimals)
    digits = f".{part:0{decimals}d}" if decimals else ""
    return f"{'-' if value < 0 else ''}{whole}{digits}"


def _moment(moment: datetime, part_ms: int = 0, has_ms: bool = False) -> str:
    part = f".{part_ms:03d}" if has_ms and part_ms else ""
    if not has_ms and moment.microsecond:
        part = f".{moment.microsecond:06d}".rstrip("0")
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S}{part}Z"
