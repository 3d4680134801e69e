"""The values of Sparkplug metrics, exactly: integers from their two's complement, floats as what their bits mean.

A signed integer travels as an unsigned one: -87 of Int16 as 0xFFA9 or, by libraries that widen it first, as 0xFFFFFFA9.
UInt32 travels in `int_value` by the specification, and in `long_value` by its first implementation.
"""

from fractions import Fraction
from math import isfinite
from typing import NamedTuple

from tallyroot_gateway.errors import InvalidInput
from tallyroot_gateway.field.units import number_of
from tallyroot_gateway.mqtt.sparkplug_b_pb2 import Payload

Metric = Payload.Metric

SIGNED = {1: 8, 2: 16, 3: 32, 4: 64}
"""Datatypes Int8 to Int64, and their bits."""

UNSIGNED = {5: 8, 6: 16, 7: 32, 8: 64}
"""Datatypes UInt8 to UInt64."""

FLOAT, DOUBLE, BOOLEAN, STRING, TEXT = 9, 10, 11, 12, 14

NAMES = {
    1: "Int8", 2: "Int16", 3: "Int32", 4: "Int64", 5: "UInt8", 6: "UInt16", 7: "UInt32", 8: "UInt64", 9: "Float",
    10: "Double", 11: "Boolean", 12: "String", 13: "DateTime", 14: "Text", 15: "UUID", 16: "DataSet", 17: "Bytes",
    18: "File", 19: "Template",
}  # fmt: skip
"""The specification's names of datatypes; higher ones are arrays."""


class Declared(NamedTuple):
    """What a birth says of a metric: its datatype and, from the property engUnit, its unit."""

    datatype: int
    unit: str | None = None


def declared(metric: Payload.Metric) -> Declared:
    """What a metric of a birth declares."""
    properties = metric.properties
    for key, value in zip(properties.keys, properties.values, strict=False):
        if key.lower() == "engunit" and value.WhichOneof("value") == "string_value":
            return Declared(metric.datatype, value.string_value[:64])
    return Declared(metric.datatype)


def number_in(metric: Payload.Metric, datatype: int) -> Fraction:
    """A metric's value. Raises InvalidInput for a datatype that is no number, or a value that isn't of it."""
    field = metric.WhichOneof("value")
    if datatype in SIGNED or datatype in UNSIGNED:
        if field not in ("int_value", "long_value"):
            raise InvalidInput(f"{NAMES[datatype]} in {field or 'nothing'}")
        return Fraction(_integer(getattr(metric, field), 32 if field == "int_value" else 64, datatype))
    if datatype in (FLOAT, DOUBLE):
        if field not in ("float_value", "double_value"):
            raise InvalidInput(f"{NAMES[datatype]} in {field or 'nothing'}")
        value = getattr(metric, field)
        if not isfinite(value):
            raise InvalidInput(f"not a number: {value}")
        return Fraction(value)
    if datatype == BOOLEAN and field == "boolean_value":
        return Fraction(int(metric.boolean_value))
    if datatype in (STRING, TEXT) and field == "string_value":
        return number_of(metric.string_value)
    raise InvalidInput(f"{NAMES.get(datatype, f'datatype {datatype}')} is no number")


def datatype_in(metric: Payload.Metric, known: Declared | None) -> int:
    """A metric's datatype: its own, or its birth's, or what its field alone tells. Raises InvalidInput."""
    if metric.datatype:
        return metric.datatype
    if known is not None and known.datatype:
        return known.datatype
    told = {"float_value": FLOAT, "double_value": DOUBLE, "boolean_value": BOOLEAN, "string_value": STRING}
    found = told.get(metric.WhichOneof("value") or "")
    if found is None:
        raise InvalidInput("an integer whose datatype no birth has told: it may have a sign")
    return found


def _integer(raw: int, bits: int, datatype: int) -> int:
    """The integer of a datatype in an unsigned field of `bits`."""
    if datatype in UNSIGNED:
        if raw >> UNSIGNED[datatype]:
            raise InvalidInput(f"{raw} is no {NAMES[datatype]}")
        return raw
    own = SIGNED[datatype]
    value = raw & ((1 << own) - 1)
    value -= (value >> (own - 1)) << own
    if raw not in (value % (1 << own), value % (1 << bits)) and not (bits == 64 and raw == value % (1 << 32)):
        raise InvalidInput(f"{raw} is no {NAMES[datatype]}")
    return value
