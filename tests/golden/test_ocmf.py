"""What 18 public files of signed meter values are worth under rules 41 and 42, by the core and by the slow text."""

import hashlib
import random
import re
from typing import NamedTuple

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from schemas.registration import MeterKey
from streams.core.evidence import CURVES, is_verified, proof_of, signed_registers
from streams.reference import evidence as slow
from tests.support.ocmf import FILES, Value, values_of


class Worth(NamedTuple):
    """How many values a file has, how many verify, how many registers these state without an error, and a word."""

    values: int
    verified: int
    registers: int
    why: str = ""


WORTH = {
    "20211007-device-with-evt-ocmf-sss-ses.xml": Worth(2, 2, 0, "verify; the meter says that it has an error (ST E)"),
    "OCMF-receipt-template.xml": Worth(0, 0, 0, "a form without values"),
    "OCMF-receipt-template_with_publickey.xml": Worth(0, 0, 0, "a form without values"),
    "OCMF-receipt-with_import_and_export.xml": Worth(1, 0, 0, "lines were broken after the meter had signed"),
    "OCMF-receipt-with_publickey_and_data.xml": Worth(1, 1, 0, "verifies; the meter says that it has an error (ST E)"),
    "OCMF_Test_Data_00.xml": Worth(2, 2, 3),
    "Ocmf_Example_OBIS_98.8.0_2.8.0.xml": Worth(1, 1, 4, "two registers: the registration must say which, by `obis`"),
    "VW_OCMF_load.xml": Worth(1, 1, 4, "import and export: the registration must say which, by `obis`"),
    "ocmf-compleo-daten.xml": Worth(2, 2, 4, "integers of a fixed size"),
    "ocmf_sec.xml": Worth(2, 2, 3),
    "ocmf_tariff_1.xml": Worth(1, 1, 0, "verifies; its clock stands in 1970 and says that it doesn't know the time"),
    "second_key_fail_ocmf.xml": Worth(2, 1, 1, "the second key is another meter's"),
    "test_ocmf_ebee_01.xml": Worth(2, 2, 2),
    "test_ocmf_ebee_02.xml": Worth(2, 1, 1, "the first value was altered"),
    "test_ocmf_keba_kcp30.xml": Worth(1, 1, 2),
    "test_ocmf_keba_kcp30_fail.xml": Worth(1, 0, 0, "altered"),
    "test_ocmf_rsa_01.xml": Worth(0, 0, 0, "an older format in ASN.1, signed by RSA: not the OCMF that rule 41 reads"),
    "test_ocmf_transaction_two_values.xml": Worth(2, 0, 0, "secp192k1, which rule 41 doesn't take"),
}
VERIFIED = [name for name, worth in WORTH.items() if worth.verified]


def key_of(value: Value) -> MeterKey | None:
    """The key of a public value: SubjectPublicKeyInfo in hex or base64, or both coordinates in hex."""
    text = re.sub(r"\s", "", value.key_text)
    if re.fullmatch(r"[0-9A-F]{128}", text):
        return MeterKey("secp256r1", "04" + text.lower())
    try:
        key = load_der_public_key(bytes.fromhex(text) if re.fullmatch(r"[0-9A-Fa-f]+", text) else _base64(text))
    except UnsupportedAlgorithm:
        return None
    assert isinstance(key, ec.EllipticCurvePublicKey)
    curve = next(name for name, (_, known) in CURVES.items() if known.name == key.curve.name)
    return MeterKey(curve, key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint).hex())


def _base64(text: str) -> bytes:
    from base64 import b64decode

    return b64decode(text)


def verified_values(name: str) -> list[tuple[str, MeterKey]]:
    keyed = [(value.text, key_of(value)) for value in values_of(name) if value.text]
    return [(text, key) for text, key in keyed if key is not None and is_verified(text, key)]


def test_every_file_is_here() -> None:
    assert sorted(path.name for path in FILES.glob("*.xml")) == sorted(WORTH)


@pytest.mark.parametrize("name", sorted(WORTH))
def test_what_a_file_is_worth(name: str) -> None:
    values, verified = [value for value in values_of(name) if value.text], verified_values(name)
    registers = [one for text, key in verified for one in signed_registers(text, key)]
    assert (len(values), len(verified), len(registers)) == WORTH[name][:3]


@pytest.mark.parametrize("name", sorted(WORTH))
def test_the_slow_text_finds_the_same(name: str) -> None:
    for value in values_of(name):
        key = key_of(value) if value.text else None
        if key is None:
            continue
        _, payload, said = value.text.split("|")
        plain = {"curve": key.curve, "public_key": key.public_key}
        assert slow.is_signed(payload, said, plain) == is_verified(value.text, key)


def test_a_curve_that_the_rule_does_not_take_is_verified_by_the_formulas() -> None:
    """The two values on secp192k1 are genuine: it is the rule that leaves the curve out."""
    curve = slow.Group(
        "secp192k1", 2**192 - 2**32 - 0x11C9, 0, 3,
        (0xDB4FF10EC057E9AE26B07D0280B7F4341DA5D1B1EAE06C7D, 0x9B2F2F6D9C5628A7844163D015BE86344082AA88D95E2F9D),
        0xFFFFFFFFFFFFFFFFFFFFFFFE26F2FC170F69466A74DEFD8D,
    )  # fmt: skip
    values = values_of("test_ocmf_transaction_two_values.xml")
    assert len(values) == 2
    for value in values:
        point = re.sub(r"\s", "", value.key_text)[-96:]
        _, payload, said = value.text.split("|")
        pair = slow.two_integers(bytes.fromhex(slow.loaded(said)["SD"]))
        assert pair is not None
        digest = hashlib.sha256(payload.encode()).digest()
        assert slow.is_by(curve, (int(point[:48], 16), int(point[48:], 16)), digest, *pair)


@pytest.mark.parametrize("name", VERIFIED)
def test_every_flip_of_a_bit_is_refused(name: str) -> None:
    """Whatever bit of a genuine record is another: it does not verify. The slow text is asked now and then."""
    draw = random.Random(name)
    for text, key in verified_values(name)[:1]:
        data = text.encode()
        plain = {"curve": key.curve, "public_key": key.public_key}
        for at in range(8 * len(data)):
            flipped = bytearray(data)
            flipped[at // 8] ^= 1 << at % 8
            try:
                other = flipped.decode()
            except UnicodeDecodeError:
                continue  # no text: the record that carries it can't be decoded
            assert not is_verified(other, key), at
            if draw.random() < 0.002 and other.count("|") == 2 and other.startswith("OCMF|"):
                assert not slow.is_signed(*other.split("|")[1:], plain)


def test_a_driver_s_session_is_proven_by_the_file_of_its_charger() -> None:
    [(text, key)] = verified_values("test_ocmf_keba_kcp30.xml")
    begin, end = signed_registers(text, key)
    assert (begin.value_in("Wh"), end.value_in("Wh"), end.value_in("mWh")) == (259, 259, 259_700)
    assert proof_of(text, key, "mWh", 259_700, end.time_ms) == (259_600,)
    assert proof_of(text, key, "mWh", 259_700, end.time_ms + 1) is None
    assert proof_of(text, key, "mWh", 259_701, end.time_ms) is None
    assert proof_of(text, key, "kVAh", 0, end.time_ms) is None
