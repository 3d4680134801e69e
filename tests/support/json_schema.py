"""A small JSON Schema validator, for the words that our generated schemas use; it refuses any other word."""

import re
from typing import Any

TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
KNOWN = {
    "$schema", "title", "description", "type", "properties", "required", "additionalProperties", "items", "prefixItems",
    "anyOf", "enum", "pattern",
}  # fmt: skip


def faults(value: Any, schema: dict[str, Any], at: str = "$") -> list[str]:
    """What is wrong with a value, each fault with its path; empty where it is valid."""
    if unknown := set(schema) - KNOWN:
        raise AssertionError(f"the validator doesn't know {unknown}")
    if "anyOf" in schema:
        found = [faults(value, one, at) for one in schema["anyOf"]]
        return [] if not all(found) else min(found, key=len)
    if "enum" in schema:
        return [] if value in schema["enum"] else [f"{at}: {value!r} is not one of {schema['enum']}"]
    if "type" in schema and not _is_of(value, schema["type"]):
        return [f"{at}: {value!r} is not a {schema['type']}"]
    if isinstance(value, str) and "pattern" in schema and not re.search(schema["pattern"], value):
        return [f"{at}: {value!r} does not match {schema['pattern']}"]
    if isinstance(value, dict):
        return _faults_of_object(value, schema, at)
    if isinstance(value, list):
        kinds = schema.get("prefixItems") or [schema.get("items", {})] * len(value)
        if len(kinds) != len(value):
            return [f"{at}: {len(value)} items, not {len(kinds)}"]
        pairs = enumerate(zip(value, kinds, strict=True))
        return [fault for place, (item, kind) in pairs for fault in faults(item, kind, f"{at}[{place}]")]
    return []


def _faults_of_object(value: dict[str, Any], schema: dict[str, Any], at: str) -> list[str]:
    properties, others = schema.get("properties", {}), schema.get("additionalProperties", True)
    found = [f"{at}: no {name}" for name in schema.get("required", ()) if name not in value]
    for name, item in value.items():
        kind = properties.get(name, others)
        if kind is False:
            found.append(f"{at}: {name} is not in the schema")
        elif kind is not True:
            found += faults(item, kind, f"{at}.{name}")
    return found


def _is_of(value: Any, kind: str) -> bool:
    if kind in ("integer", "number"):
        return isinstance(value, int if kind == "integer" else int | float) and not isinstance(value, bool)
    return isinstance(value, TYPES[kind])
