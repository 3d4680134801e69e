"""What a meter signed, a second time and by hand: OCMF read letter by letter, ECDSA by the school's formulas (41, 42).

Shares nothing with the core but Python's JSON. A curve is y² = x³ + ax + b over the integers modulo p; G generates a
group of n points. Parameters: SEC 2 (secp) and RFC 5639 (brainpool).
"""

import base64
import hashlib
import json
import re
from collections.abc import Callable
from datetime import datetime
from fractions import Fraction
from typing import Any, NamedTuple

from streams.reference.entries import Plain

Point = tuple[int, int] | None
"""None is the point at infinity."""


class Group(NamedTuple):
    """A curve, its generator and its order, and what OCMF calls it."""

    name: str
    p: int
    a: int
    b: int
    g: tuple[int, int]
    n: int


def _group(name: str, *numbers: str) -> Group:
    p, a, b, x, y, n = (int(number, 16) for number in numbers)
    return Group(name, p, a, b, (x, y), n)


GROUPS = {
    "secp192r1": _group(
        "secp192r1", "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEFFFFFFFFFFFFFFFF",
        "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEFFFFFFFFFFFFFFFC",
        "64210519E59C80E70FA7E9AB72243049FEB8DEECC146B9B1", "188DA80EB03090F67CBF20EB43A18800F4FF0AFD82FF1012",
        "07192B95FFC8DA78631011ED6B24CDD573F977A11E794811", "FFFFFFFFFFFFFFFFFFFFFFFF99DEF836146BC9B1B4D22831",
    ),
    "secp256k1": _group(
        "secp256k1", "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEFFFFFC2F", "0", "7",
        "79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798",
        "483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8",
        "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141",
    ),
    "secp256r1": _group(
        "secp256r1", "FFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF",
        "FFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFC",
        "5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B",
        "6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296",
        "4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5",
        "FFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551",
    ),
    "secp384r1": _group(
        "secp384r1",
        "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEFFFFFFFF0000000000000000FFFFFFFF",
        "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEFFFFFFFF0000000000000000FFFFFFFC",
        "B3312FA7E23EE7E4988E056BE3F82D19181D9C6EFE8141120314088F5013875AC656398D8A2ED19D2A85C8EDD3EC2AEF",
        "AA87CA22BE8B05378EB1C71EF320AD746E1D3B628BA79B9859F741E082542A385502F25DBF55296C3A545E3872760AB7",
        "3617DE4A96262C6F5D9E98BF9292DC29F8F41DBD289A147CE9DA3113B5F0B8C00A60B1CE1D7E819D7A431D7C90EA0E5F",
        "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973",
    ),
    "brainpoolP256r1": _group(
        "brainpool256r1", "A9FB57DBA1EEA9BC3E660A909D838D726E3BF623D52620282013481D1F6E5377",
        "7D5A0975FC2C3057EEF67530417AFFE7FB8055C126DC5C6CE94A4B44F330B5D9",
        "26DC5C6CE94A4B44F330B5D9BBD77CBF958416295CF7E1CE6BCCDC18FF8C07B6",
        "8BD2AEB9CB7E57CB2C4B482FFC81B7AFB9DE27E1E3BD23C23A4453BD9ACE3262",
        "547EF835C3DAC4FD97F8461A14611DC9C27745132DED8E545C1D54C72F046997",
        "A9FB57DBA1EEA9BC3E660A909D838D718C397AA3B561A6F7901E0E82974856A7",
    ),
    "brainpoolP384r1": _group(
        "brainpool384r1",
        "8CB91E82A3386D280F5D6F7E50E641DF152F7109ED5456B412B1DA197FB71123ACD3A729901D1A71874700133107EC53",
        "7BC382C63D8C150C3C72080ACE05AFA0C2BEA28E4FB22787139165EFBA91F90F8AA5814A503AD4EB04A8C7DD22CE2826",
        "04A8C7DD22CE28268B39B55416F0447C2FB77DE107DCD2A62E880EA53EEB62D57CB4390295DBC9943AB78696FA504C11",
        "1D1C64F068CF45FFA2A63A81B7C13F6B8847A3E77EF14FE3DB7FCAFE0CBD10E8E826E03436D646AAEF87B2E247D4AF1E",
        "8ABE1D7520F9C2A45CB1EB8E95CFD55262B70B29FEEC5864E19C054FF99129280E4646217791811142820341263C5315",
        "8CB91E82A3386D280F5D6F7E50E641DF152F7109ED5456B31F166E6CAC0425A7CF3AB6AF6B7FC3103B883202E9046565",
    ),
}  # fmt: skip
UNITS = {"mWh": Fraction(1, 1000), "Wh": Fraction(1), "kWh": Fraction(1000), "MWh": Fraction(10**6)}


class Proof(NamedTuple):
    """What evidence says of a row: whether its register is proven, and the register at its transaction's begin."""

    is_proven: bool
    begin: int | None = None


def proof_of(row: Plain, meter: Plain, is_looked_at: bool) -> Proof | None:
    """What a row's evidence says; None where it has none."""
    if "evidence" not in row:
        return None
    key = meter.get("meter_key")
    parts = row["evidence"].split("|")
    if not is_looked_at or key is None or len(parts) != 3 or parts[0] != "OCMF":
        return Proof(False)
    if not is_signed(parts[1], parts[2], key) or meter["unit"] not in UNITS:
        return Proof(False)
    shown = [one for one in readings_of(parts[1]) if one["RU"] in UNITS and one["ST"] == "G" and not one["EF"]]
    shown = [one | {"at": moment_of(one["TM"]), "shows": number_of(one["RV"])} for one in shown]
    shown = [one for one in shown if None not in (one["at"], one["shows"]) and isinstance(one["RI"], str)]
    if "obis" in key:
        shown = [one for one in shown if one["RI"] == key["obis"]]
    if len({one["RI"] for one in shown}) != 1:
        return Proof(False)
    values = [(one, int(one["shows"] * UNITS[one["RU"]] / UNITS[meter["unit"]])) for one in shown]
    if (row["observed_at"], row["register"]) not in [(one["at"], value) for one, value in values]:
        return Proof(False)
    begins = [value for one, value in values if one["TX"] == "B"]
    return Proof(True, begins[-1] if begins else None)


def readings_of(payload: str) -> list[Plain]:
    """The readings of a payload, each with what it left out as in the one before it; none if it isn't OCMF."""
    content = loaded(payload)
    readings = content.get("RD") if isinstance(content, dict) else None
    if not isinstance(readings, list) or not all(isinstance(reading, dict) for reading in readings):
        return []
    full: list[Plain] = []
    for reading in readings:
        last = full[-1] if full else dict.fromkeys(("TM", "TX", "RI", "RU", "EF", "ST"))
        now = {name: reading.get(name, last[name]) for name in ("TM", "TX", "RI", "RU", "EF", "ST")}
        full.append(now | {"RV": reading.get("RV")})
    return [one if isinstance(one["RU"], str) and one["EF"] in (None, "") else one | {"RU": ""} for one in full]


def loaded(text: str) -> Any:
    """JSON with numbers as they are written; None if it isn't JSON, nests deeper than 16, or names a thing twice."""
    if re.search(r"\bNaN\b|\bInfinity\b", re.sub(r'"(?:[^"\\]|\\.)*"', "", text)):
        return None
    height = [0]
    for letter in text:
        height.append(height[-1] + {"{": 1, "[": 1, "}": -1, "]": -1}.get(letter, 0))
    if max(height) > 16:
        return None
    twice: list[str] = []

    def members(pairs: list[tuple[str, Any]]) -> Plain:
        names = [name for name, _ in pairs]
        twice.extend(name for name in names if names.count(name) > 1)
        return dict(pairs)

    try:
        content = json.loads(text, parse_int=str, parse_float=str, object_pairs_hook=members)
    except ValueError:
        return None
    return None if twice else content


def moment_of(text: Any) -> int | None:
    """OCMF's time as epoch ms; None if it isn't one, or its status says that the clock isn't known."""
    if not isinstance(text, str) or not re.fullmatch(r"[0-9T:,+-]+ [ISR]", text) or len(text) != 30:
        return None
    try:
        moment = datetime.strptime(text[:-2], "%Y-%m-%dT%H:%M:%S,%f%z")
    except ValueError:
        return None
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d,\d{3}[+-]\d\d[0-5]\d", text[:-2]):
        return None
    return round(moment.timestamp() * 1000)


def number_of(text: Any) -> Fraction | None:
    """A register's text as a number; None if it isn't a plain decimal."""
    if not isinstance(text, str) or not re.fullmatch(r" *[0-9]{1,16}(\.[0-9]{0,16})? *", text):
        return None
    return Fraction(text.strip(" ").rstrip(".") or "0")


def is_signed(payload: str, said: str, key: Plain) -> bool:
    """Whether the last part of an OCMF record is the signature of its payload under a meter's key."""
    group, fields = GROUPS[key["curve"]], loaded(said)
    if not isinstance(fields, dict) or not set(fields) <= {"SA", "SE", "SM", "SD"} or re.search(r"[\t\r\n\\]", said):
        return False
    named = [fields.get("SA", "ECDSA-secp256r1-SHA256"), fields.get("SM", "application/x-der")]
    if named != [f"ECDSA-{group.name}-SHA256", "application/x-der"] or not isinstance(fields.get("SD"), str):
        return False
    decode: dict[Any, Callable[[str], bytes]] = {"hex": bytes.fromhex, "base64": base64.b64decode}
    encode: dict[Any, Callable[[bytes], list[str]]] = {
        "hex": lambda data: [data.hex(), data.hex().upper()],
        "base64": lambda data: [base64.b64encode(data).decode()],
    }
    encoding = fields.get("SE", "hex")
    try:
        der = decode[encoding](fields["SD"])
    except (KeyError, TypeError, ValueError):
        return False
    half = (len(key["public_key"]) - 2) // 2
    pair = two_integers(der) or two_halves(der, half // 2)
    if pair is None or fields["SD"] not in encode[encoding](der):
        return False
    x, y = int(key["public_key"][2 : 2 + half], 16), int(key["public_key"][2 + half :], 16)
    return is_by(group, (x, y), hashlib.sha256(payload.encode("utf-8", "surrogatepass")).digest(), *pair)


def two_integers(der: bytes) -> tuple[int, int] | None:
    """The two integers of a signature in DER, as unsigned; None if it isn't one."""
    match = re.fullmatch(rb"\x30([\x00-\x7f])\x02(.)(.+)", der, re.DOTALL)
    if match is None or match.group(1)[0] != len(der) - 2:
        return None
    size, rest = match.group(2)[0], match.group(3)
    first, second = rest[:size], rest[size:]
    if not first or len(first) < size or second[:1] != b"\x02" or len(second) < 3 or second[1] != len(second) - 2:
        return None
    return int.from_bytes(first, "big"), int.from_bytes(second[2:], "big")


def two_halves(data: bytes, size: int) -> tuple[int, int] | None:
    """r and s, each in `size` bytes."""
    return (int.from_bytes(data[:size], "big"), int.from_bytes(data[size:], "big")) if len(data) == 2 * size else None


def is_by(group: Group, public: tuple[int, int], digest: bytes, r: int, s: int) -> bool:
    """ECDSA (SEC 1, 4.1.4)."""
    x, y = public
    on_curve = max(x, y) < group.p and (y * y - (x**3 + group.a * x + group.b)) % group.p == 0
    if not on_curve or not 1 <= r < group.n or not 1 <= s < group.n:
        return False
    bits = group.n.bit_length()
    hashed = int.from_bytes(digest, "big") >> max(0, 8 * len(digest) - bits)
    inverse = pow(s, -1, group.n)
    found = add(group, times(group, hashed * inverse % group.n, group.g), times(group, r * inverse % group.n, public))
    return found is not None and found[0] % group.n == r


def add(group: Group, one: Point, other: Point) -> Point:
    """The sum of two points."""
    if one is None or other is None:
        return one or other
    if one[0] == other[0]:
        if (one[1] + other[1]) % group.p == 0:
            return None
        slope = (3 * one[0] ** 2 + group.a) * pow(2 * one[1], -1, group.p)
    else:
        slope = (other[1] - one[1]) * pow(other[0] - one[0], -1, group.p)
    x = (slope * slope - one[0] - other[0]) % group.p
    return x, (slope * (one[0] - x) - one[1]) % group.p


def times(group: Group, factor: int, point: Point) -> Point:
    """A point added to itself so often."""
    total: Point = None
    for bit in bin(factor)[2:]:
        total = add(group, total, total)
        if bit == "1":
            total = add(group, total, point)
    return total
