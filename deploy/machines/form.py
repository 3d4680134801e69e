"""The form in which a person writes machines: TOML or YAML, one file, many machines.

What stands at the top of the file (zone, site, payees, lock, ...) holds for each machine that doesn't say otherwise.
`registration_of` turns one machine of a form into the registration that travels; nothing here reads a log or a key.
"""

import re
import tomllib
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct

from deploy.importers.tariffs import offsets_of
from deploy.machines.meter_keys import meter_key_of
from deploy.machines.meter_words import moves_of
from deploy.machines.order_words import orders_of
from deploy.machines.quantities import per_hour, whole_units
from deploy.machines.tariff_words import element_of
from schemas import parsing
from schemas.errors import InvalidInput
from schemas.reading import MeterKind
from schemas.registration import OBIS_MAX, POINTS_WHOLE, Agreement, Key, Meter, Registration, Tariff
from schemas.units import COUNT_MAX, Id

FORM_BYTES_MAX = 16 << 20
"""A larger file is refused before it is read."""


class PayeeForm(Struct, frozen=True, forbid_unknown_fields=True):
    """Who is paid: an EVM account, a name for people, and a share such as "70 %" or "7000 bp"."""

    account: str
    share: str
    name: str = ""


class MeterForm(Struct, frozen=True, forbid_unknown_fields=True):
    """One meter: what it counts, in which unit, and how much an hour can bring, such as "22 kW".

    `moves` has lines such as "moves in steps of 1 kWh" (`meter_words`). A meter that signs what it shows has its public
    key in `signed_by` (`meter_keys`); where it signs several registers, `obis` says which is this one.
    """

    counts: MeterKind
    unit: Id
    capacity: str
    opening: str | None = None
    moves: tuple[str, ...] = ()
    signed_by: str | None = None
    obis: str | None = None


class KeyForm(Struct, frozen=True, forbid_unknown_fields=True):
    """An Ed25519 public key (64 hex digits) that signs the machine's readings."""

    id: Id
    public_key: str
    hardware_backed: bool = False


class _Common(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the top of a file may say for all of its machines, and each machine for itself."""

    kind: Id | None = None
    zone: str | None = None
    site: Id | None = None
    effective_from: Any = None  # a date, a time or text: TOML and YAML know times
    lock: Any = None  # a date, a time or text: TOML and YAML know times
    pays_trust: Annotated[int, Meta(ge=0, le=2)] | None = None
    require_signature: bool | None = None
    payees: tuple[PayeeForm, ...] | None = None
    meters: dict[Id, MeterForm] | None = None
    tariff: tuple[str, ...] | None = None
    orders: tuple[str, ...] | None = None
    keys: tuple[KeyForm, ...] | None = None


class MachineForm(_Common, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One machine. `route` is what its records are keyed by, for life: its site, else its own id."""

    id: Id
    route: Id | None = None
    boot: Annotated[int, Meta(ge=0, le=COUNT_MAX)] | None = None
    retired: bool = False


class FileForm(_Common, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A whole file."""

    machines: tuple[MachineForm, ...]


def read_form(path: Path) -> list[MachineForm]:
    """The machines of a TOML or YAML file, each with what the top of the file says for all.

    Raises InvalidInput, which names the file and what is wrong, for a file that can't be read or is no form.
    """
    try:
        if path.stat().st_size > FORM_BYTES_MAX:
            raise InvalidInput(f"{path} is larger than 16 MiB: split it")
        text = path.read_text("utf-8")
    except OSError as error:
        raise InvalidInput(f"can't read {path} ({error.strerror}): check the path") from None
    except UnicodeDecodeError:
        raise InvalidInput(f"{path} is not UTF-8 text: save it as UTF-8") from None
    try:
        plain = _yaml(text) if path.suffix.lower() in {".yaml", ".yml"} else tomllib.loads(text)
        form = msgspec.convert(plain, FileForm)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise InvalidInput(f"{path}: {error}; see `tallyroot register --example ev_charger`") from None
    ids = [machine.id for machine in form.machines]
    twice = next((one for one in ids if ids.count(one) > 1), None) if len(set(ids)) < len(ids) else None
    if twice is not None:
        raise InvalidInput(f"{path} names the machine {twice} twice: keep one of the two")
    if not ids:
        raise InvalidInput(f"{path} names no machine: begin one with [[machines]] and its id")
    return [_with_defaults(machine, form) for machine in form.machines]


def registration_of(
    form: MachineForm, *, currency: str, zone: str | None, version: int, salt: str, years: range
) -> Registration:
    """A form as the registration of one version; `zone` is the log's where the form names none.

    `salt` is 16 bytes as hex, `years` the calendar years (UTC) for which the zone's offsets are written.
    Raises InvalidInput, which begins with the machine's id, for what a registration can't say.
    """
    try:
        return _registration(form, currency, zone, version, salt, years)
    except InvalidInput as error:
        raise InvalidInput(f"{form.id}: {error}") from None


def _registration(
    form: MachineForm, currency: str, zone: str | None, version: int, salt: str, years: range
) -> Registration:
    if form.kind is None or not form.meters or form.tariff is None or not form.payees:
        missing = [name for name in ("kind", "meters", "tariff", "payees") if not getattr(form, name)]
        raise InvalidInput(f"the form lacks {', '.join(missing)}: see `tallyroot register --example ev_charger`")
    units = {name: meter.unit for name, meter in form.meters.items() if meter.counts != "level"}  # what can be billed
    levels = {name: meter.unit for name, meter in form.meters.items() if meter.counts == "level"}
    return Registration(
        machine=form.id,
        route=form.route or form.site or form.id,
        version=version,
        kind=form.kind,
        effective_from=0 if form.effective_from is None else _moment_ms(form.effective_from, "effective_from"),
        meters=tuple(_meter(name, meter) for name, meter in form.meters.items()),
        tariff=Tariff(
            tuple(element_of(line, currency, units) for line in form.tariff),
            offsets_of(form.zone or zone or "UTC", years),
        ),
        agreement=Agreement(
            _points(form.payees),
            locked_until=UNSET if form.lock is None else _moment_ms(form.lock, "lock"),
            pays_trust=form.pays_trust or 0,
        ),
        boot=UNSET if form.boot is None else form.boot,
        retired=form.retired,
        keys=tuple(_key(key) for key in form.keys or ()),
        require_signature=bool(form.require_signature),
        salt=salt,
        orders=orders_of(form.orders, currency, levels) if form.orders else UNSET,
    )


def _moment_ms(value: date | datetime | str, name: str) -> int:
    """A date (its midnight UTC) or a time (UTC without an offset), as TOML, YAML or text have it, in epoch ms."""
    try:
        return max(0, parsing.moment_ms(value if isinstance(value, str) else value.isoformat()))
    except InvalidInput as error:
        raise InvalidInput(f"{name}: {error}") from None


def _with_defaults(machine: MachineForm, form: FileForm) -> MachineForm:
    return msgspec.structs.replace(
        machine,
        **{
            name: getattr(form, name)
            for name in _Common.__struct_fields__
            if getattr(machine, name) is None and getattr(form, name) is not None
        },
    )


def _meter(name: str, form: MeterForm) -> Meter:
    try:
        opening = UNSET if form.opening is None else whole_units(form.opening, form.unit)
        if form.opening is not None and form.counts != "register":
            raise InvalidInput(f"only a register has an opening, this is a {form.counts}")
        capacity = per_hour(form.capacity, form.unit)
        if capacity < 1:
            raise InvalidInput(f"its capacity is below 1 {form.unit} per hour")
        moves = moves_of(form.moves, form.counts, form.unit)
        if form.signed_by is not None and form.counts != "register":
            raise InvalidInput(f"only a register is signed by its meter, this is a {form.counts}")
        if form.obis is not None and (form.signed_by is None or not 1 <= len(form.obis) <= OBIS_MAX):
            raise InvalidInput(f"obis names one of the registers that a meter signs, in 1 to {OBIS_MAX} characters")
        key = UNSET if form.signed_by is None else meter_key_of(form.signed_by, form.obis)
    except InvalidInput as error:
        raise InvalidInput(f"meter {name}: {error}") from None
    if opening is not UNSET and moves.modulus is not UNSET and opening >= moves.modulus:
        raise InvalidInput(
            f"meter {name}: it can't open at {opening:,} {form.unit}, it rolls over at {moves.modulus:,} {form.unit}"
        )
    return Meter(
        name, form.unit, form.counts, capacity, opening,
        burst=moves.burst, modulus=moves.modulus, starts_per_hour=moves.starts_per_hour, meter_key=key,
    )  # fmt: skip


def _points(payees: tuple[PayeeForm, ...]) -> dict[str, int]:
    points: dict[str, int] = {}
    for payee in payees:
        name = parsing.account(payee.account)
        if name in points:
            raise InvalidInput(f"{payee.account} stands twice among the payees: add its shares up")
        if _misses_checksum(payee.account):
            raise InvalidInput(f"'{payee.account}' has a wrong checksum: it is mistyped, or write it in lower case")
        points[name] = _share(payee.share)
    if sum(points.values()) != POINTS_WHOLE:
        raise InvalidInput(f"the payees' shares add up to {sum(points.values()) / 100:g} %, not to 100 %")
    return points


def _misses_checksum(account: str) -> bool:
    """Whether an account in mixed case has another case than ERC-55 gives it."""
    digits = account[2:]
    if digits in (digits.lower(), digits.upper()):
        return False
    from eth_utils.address import to_checksum_address

    return to_checksum_address(account.lower()) != "0x" + digits


def _share(text: str) -> int:
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(%|bp|basis points)\s*", text)
    try:
        points = Decimal(match[1]) * (100 if match[2] == "%" else 1) if match else Decimal(0)
    except InvalidOperation:
        points = Decimal(0)
    if points < 1 or points != int(points):
        raise InvalidInput(f"'{text}' is not a share: write 70 %, 12.5 % or 1250 bp (whole basis points)")
    return int(points)


def _key(form: KeyForm) -> Key:
    public_key = form.public_key.lower().removeprefix("0x")
    if not re.fullmatch(r"[0-9a-f]{64}", public_key):
        raise InvalidInput(f"key {form.id}: a public key is 64 hex digits (Ed25519): `status()` of a gateway shows it")
    return Key(form.id, public_key, form.hardware_backed)


def _yaml(text: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidInput(f"not YAML ({' '.join(str(error).split())}): mend it, or write TOML") from None


def example(kind: str) -> str:
    """A form to start from, for a kind of machine. Raises InvalidInput for a kind without one."""
    path = Path(__file__).with_name("examples") / f"{kind}.toml"
    if not re.fullmatch(r"[a-z_]+", kind) or not path.is_file():
        raise InvalidInput(f"no example for '{kind}': choose one of {', '.join(examples())}")
    return path.read_text("utf-8")


def examples() -> Mapping[str, Path]:
    """The kinds that have an example."""
    return {path.stem: path for path in sorted(Path(__file__).with_name("examples").glob("*.toml"))}
