"""Credit and debit notes: a signed difference to what a meter counted at a moment, and fees of a session, judged before
they are sent.
"""

import re

from msgspec import UNSET

from deploy.machines.quantities import whole_units
from deploy.machines.register import correction_record
from deploy.machines.registry import Registry, Verdict
from schemas import parsing
from schemas.errors import InvalidInput
from schemas.log import Log
from schemas.reading import Correction
from schemas.registration import Meter
from streams.core.records import Record

REMEDIES = {
    "from_the_future": "its moment lies ahead of the log's time: give the moment that the usage was read",
    "unknown_meter": "the machine has no such meter at that moment",
    "wrong_kind": "a level bills nothing, so there is nothing to correct",
    "no_fee": "no price per session was in force when that session started, so it owed no fee: leave --fees out",
    "too_high": "it is more than the meter's capacity allows in 35 days: split it, or register a higher capacity",
    "stale_version": "another correction of the machine was first: run the same command again",
    "bad_signature": "the key is not of an operator of this log: set TALLYROOT_OPERATOR_KEY, _KEYSTORE or _SIGNER",
}
"""What to do about each reason for which a correction is refused."""

FEES_MAX = 1_000


def planned_correction(
    log: Log, registry: Registry, machine: str, meter: str, *, at_ms: int, usage: str | None, reason: str,
    session: str | None = None, session_started_ms: int | None = None, fees: int = 0, refund_to: str | None = None,
    now_ms: int,
) -> tuple[Record, Correction, Verdict]:  # fmt: skip
    """The next correction of a machine as an unsigned record, and what the stream would make of it now.

    `usage` is a signed amount such as "-1.5 kWh" or "+300". `fees` are prices per session that are added or taken
    back; what is taken is refunded to the account `refund_to`. Raises InvalidInput for what a correction can't say.
    """
    found = registry.registered(machine)
    known = next((part for part in found.last.registration.meters if part.meter == meter), None)
    if known is None:
        names = ", ".join(part.meter for part in found.last.registration.meters)
        raise InvalidInput(f"{machine} has no meter {meter}: its meters are {names}")
    if usage is None and not fees:
        raise InvalidInput("a correction needs --usage or --fees: what is added or taken back")
    if (fees or refund_to is not None) and session is None:
        raise InvalidInput("fees and refunds are of a session: add --session and --session-started-at")
    if abs(fees) > FEES_MAX:
        raise InvalidInput(f"{fees} fees are too many: a correction has at most {FEES_MAX:,} either way")
    if not reason.strip():
        raise InvalidInput("a correction needs a --reason: auditors read it")
    correction = Correction(
        machine=machine, meter=meter, version=found.rare.correction_version + 1, observed_at=at_ms,
        difference=0 if usage is None else _signed_units(usage, known), fees=fees,
        refund_to=UNSET if refund_to is None else parsing.account(refund_to),
        reason=reason.strip(), session=session or UNSET,
        session_started_at=UNSET if session_started_ms is None else session_started_ms,
    )  # fmt: skip
    if not correction.is_valid():
        raise InvalidInput("a session needs --session and --session-started-at, not after --at")
    record = correction_record(found.route, correction)
    verdict, _ = registry.judge(record, now_ms)
    return record, correction, verdict


def _signed_units(usage: str, meter: Meter) -> int:
    match = re.fullmatch(r"([+-])\s*(.+)", usage.strip())
    if match is None:
        raise InvalidInput(f"'{usage}' has no sign: write -1.5 kWh for a credit, +1.5 kWh for a debit")
    return whole_units(match[2], meter.unit) * (-1 if match[1] == "-" else 1)
