"""What the log knows that made it reject a reading: names, limits and numbers to compare the reading with."""

from msgspec import UNSET

from schemas.reading import Reading
from schemas.reject import Reason
from streams.core.machines import Machine
from streams.core.murmur2 import partition_of
from streams.core.records import KEY_ID, SIGNATURE, LogRecord, has_signature, headers
from streams.core.signature import READING_SIGNATURE_BYTES
from streams.core.state import State

_NUMBERING: tuple[Reason, ...] = ("stale_boot", "boot_jump", "seq_jump", "equivocation", "below_floor", "seq_reused")


def why_refused(state: State, record: LogRecord, reading: Reading, reason: Reason) -> str | None:
    """One clause about a rejected row, by the state after it; None where the reason says it all."""
    if reason == "unknown_machine":
        return misplaced(state, record.key)
    machine = state.machines.get(reading.machine)
    if machine is None:
        return None
    if reason == "bad_signature":
        return _why_unsigned(record, reading, machine)
    if reason in ("from_the_future", "too_late"):
        seconds = (reading.observed_at - state.now_ms) // 1_000
        return f"observed {abs(seconds):,} s {'after' if seconds > 0 else 'before'} the log's time"
    if reason in _NUMBERING:
        return _why_numbered_wrong(state, reading)
    version = machine.version_at(reading.moment_ms)
    if reason == "unknown_meter":
        return f"{reading.meter} is not one of its meters {', '.join(sorted(version.meters))}"
    meter = version.meters.get(reading.meter)
    if meter is None:
        return None
    if reason == "wrong_kind":
        return f"{reading.meter} is registered as a {meter.kind}, this is a {reading.kind}"
    if reason == "too_high":
        if meter.modulus is not UNSET and reading.value >= meter.modulus:
            return f"{reading.meter} shows {reading.value}, and rolls over at {meter.modulus} {meter.unit}"
        can = f"{meter.capacity_per_hour} {meter.unit} an hour and {meter.burst} at once"
        return f"{reading.meter} shows {reading.value}, and can do {can}"
    if reason == "too_low":
        baseline = state.meters.look(reading.machine, reading.meter).baseline
        shown = "" if baseline is None else f" after {baseline.value}"
        return f"{reading.meter} shows {reading.value}{shown}"
    return None


def misplaced(state: State, key: bytes | None) -> str | None:
    """Where a record's key belongs, if not in this partition."""
    if key is None:
        return None
    belongs = partition_of(key, state.log.partitions)
    if belongs == state.partition:
        return None
    return f"the key {key_text(key)} belongs in partition {belongs}, the record lies in {state.partition}"


def key_text(key: bytes) -> str:
    """A record's key as text, whatever it holds."""
    return key.decode("utf-8", "backslashreplace")


def _why_unsigned(record: LogRecord, reading: Reading, machine: Machine) -> str:
    if not has_signature(record):
        return "it is not signed, and the registration requires it"
    signatures, key_ids = headers(record, SIGNATURE), headers(record, KEY_ID)
    if len(signatures) != 1 or len(key_ids) != 1:
        return f"it has {len(signatures)} headers signature and {len(key_ids)} key-id, not one each"
    keys = machine.version_at(reading.moment_ms).registration.keys
    if key_ids[0].decode("utf-8", "replace") not in {key.key_id for key in keys}:
        registered = ", ".join(key.key_id for key in keys) or "none"
        return f"the key-id {key_text(key_ids[0])} is not registered ({registered})"
    if len(signatures[0]) != READING_SIGNATURE_BYTES:
        return f"the signature has {len(signatures[0])} bytes, not {READING_SIGNATURE_BYTES}"
    return f"the signature is not by {key_text(key_ids[0])} over this log's id, this key, content type and value"


def _why_numbered_wrong(state: State, reading: Reading) -> str | None:
    if (reading.machine, reading.meter) not in state.meters:
        return None
    current = state.meters.look(reading.machine, reading.meter).current
    if current is None:
        return None
    return f"boot {reading.boot} seq {reading.seq}, where the log is at boot {current.boot} seq {current.seq}"
