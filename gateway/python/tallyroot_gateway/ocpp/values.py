"""Sampled values of OCPP: which of them is the register of delivered energy, and what it shows."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from tallyroot_gateway.errors import InvalidInput
from tallyroot_gateway.field.units import convert, number_of, whole_part
from tallyroot_gateway.ocpp.messages import time_ms
from tallyroot_gateway.ocpp.signed import ocmf_text

REGISTER = "Energy.Active.Import.Register"
"""What a sampled value measures where it doesn't say."""

MULTIPLIER_MAX = 12


class Sample(NamedTuple):
    """What a meter showed at a moment: its register, in the unit of the log's meter, or what it signed, or both."""

    at_ms: int | None
    context: str
    register: int | None
    signed: str | None


class Fault(NamedTuple):
    """Why something could not be mapped: a word, and a sentence."""

    reason: str
    detail: str


def samples_of(meter_values: object, unit: str) -> tuple[list[Sample], list[Fault]]:
    """The samples of a list of meter values, 1.6 or 2.0.1, in its order, and what was wrong with others."""
    if not isinstance(meter_values, list):
        return [], [] if meter_values is None else [Fault("malformed", "meterValue is no list")]
    samples: list[Sample] = []
    faults: list[Fault] = []
    for meter_value in meter_values:
        sampled = meter_value.get("sampledValue") if isinstance(meter_value, dict) else None
        if not isinstance(sampled, list):
            faults.append(Fault("malformed", "a meter value has no list sampledValue"))
            continue
        at_ms = time_ms(meter_value.get("timestamp"))
        samples += _samples([value for value in sampled if isinstance(value, dict)], at_ms, unit, faults)
    return samples, faults


def register_of(value: object, unit: str, faults: list[Fault]) -> int | None:
    """A register in Wh, as StartTransaction and StopTransaction have it, in the meter's unit; None if it is none."""
    try:
        return _register(value, "Wh", 0, unit)
    except InvalidInput as error:
        faults.append(Fault("bad_register", str(error)))
        return None


def _samples(sampled: Sequence[dict[str, Any]], at_ms: int | None, unit: str, faults: list[Fault]) -> list[Sample]:
    """Those of one moment: the register with the signed record beside it, or one for each context."""
    registers: dict[str, int] = {}
    signed: dict[str, str] = {}
    for value in sorted(sampled, key=lambda value: value.get("location", "Outlet") != "Outlet"):
        context = str(value.get("context", "Sample.Periodic"))[:40]
        envelope = value.get("signedMeterValue")
        record = value.get("value") if value.get("format") == "SignedData" else None
        if isinstance(envelope, dict):
            record = envelope.get("signedMeterData")
        if record is not None:
            text = ocmf_text(record)
            if text is None:
                faults.append(Fault("bad_signed_value", "a signed value is no OCMF record, plain, hex or base64"))
            else:
                signed.setdefault(context, text)
        if value.get("format", "Raw") != "Raw" or value.get("measurand", REGISTER) != REGISTER or value.get("phase"):
            continue
        try:
            registers.setdefault(context, _sampled_register(value, unit))
        except InvalidInput as error:
            faults.append(Fault("bad_register", str(error)))
    contexts = dict.fromkeys([*registers, *signed])
    return [Sample(at_ms, context, registers.get(context), signed.get(context)) for context in contexts]


def _sampled_register(value: dict[str, Any], unit: str) -> int:
    measure = value.get("unitOfMeasure")
    if not isinstance(measure, dict):
        measure = {"unit": value.get("unit", "Wh")}
    multiplier = measure.get("multiplier", 0)
    if not isinstance(multiplier, int) or abs(multiplier) > MULTIPLIER_MAX:
        raise InvalidInput(f"a multiplier of {str(multiplier)[:20]} is none of this world")
    return _register(value.get("value"), str(measure.get("unit", "Wh"))[:20], multiplier, unit)


def _register(value: object, unit: str, multiplier: int, to: str) -> int:
    return whole_part(convert(number_of(value), unit, to, multiplier))  # type: ignore[arg-type]
