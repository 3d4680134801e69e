"""From registers to numbers: exact in each type and order, and nothing from what says that it is no value."""

import struct
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallyroot_gateway.errors import InvalidInput
from tallyroot_gateway.field.units import convert
from tallyroot_gateway.modbus.config import RegisterOptions, point_address
from tallyroot_gateway.modbus.models import meter_unit, model_of, modulus_of, point_of, point_value, scale_of
from tallyroot_gateway.modbus.poller import map_value
from tallyroot_gateway.modbus.values import WORDS, exact_float, number, raw_integer

FORMATS = {"u16": "H", "i16": "h", "u32": "I", "i32": "i", "u64": "Q", "i64": "q", "f32": "f", "f64": "d"}


def registers(data: bytes) -> list[int]:
    return [int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2)]


@given(st.sampled_from(sorted(WORDS)), st.binary(min_size=8, max_size=8))
def test_each_type_is_what_the_machine_s_own_conversion_says(kind: Any, data: bytes) -> None:
    data = data[: 2 * WORDS[kind]]
    (said,) = struct.unpack(">" + FORMATS[kind], data)
    found = number(kind, raw_integer(registers(data)))
    if isinstance(said, float) and (said != said or abs(said) == float("inf")):
        assert found is None
    else:
        assert found == Fraction(said)


@given(st.integers(0, 2**64 - 1))
def test_words_and_bytes_may_be_in_either_order(bits: int) -> None:
    big = registers(bits.to_bytes(8, "big"))
    swapped = [(word & 0xFF) << 8 | word >> 8 for word in big]
    assert raw_integer(big) == raw_integer(big[::-1], "little") == bits
    assert raw_integer(swapped, "big", "little") == raw_integer(swapped[::-1], "little", "little") == bits


def test_a_float_is_its_bits_and_not_what_is_printed() -> None:
    bits = int.from_bytes(struct.pack(">f", 0.1), "big")
    assert exact_float(bits, 8, 23) == Fraction(13_421_773, 1 << 27)
    assert exact_float(1, 8, 23) == Fraction(1, 1 << 149)  # the least, which has no leading 1


def map_of(text: str | int, **options: Any) -> RegisterOptions:
    return RegisterOptions(address=0, scale=text, **options)


def test_a_map_s_value_is_scaled_from_the_scale_s_text() -> None:
    options = map_of("0.1", type="u32", unit="kWh", meter_unit="Wh")
    assert map_value(options, [0, 123]) == (Fraction(12_300), "")
    assert map_value(map_of(10, type="i16", unit="Wh"), [0xFFFE]) == (Fraction(-20), "")
    assert map_value(map_of(1, type="u16", unit="Wh", absent=[0xFFFF]), [0xFFFF]) == (None, "not_implemented")
    assert map_value(map_of(1, type="i32", unit="Wh", absent=[-1]), [0xFFFF] * 2) == (None, "not_implemented")
    assert map_value(map_of(1, type="f32", unit="Wh"), [0x7FC0, 0]) == (None, "not_implemented")


@pytest.mark.parametrize(
    "kind, bits, said",
    [
        ("int16", 0x8000, "not_implemented"), ("int16", 0xFFFF, Fraction(-1)), ("uint16", 0xFFFF, "not_implemented"),
        ("uint16", 0x8000, Fraction(0x8000)), ("acc32", 0, "not_accumulated"),
        ("acc32", 0xFFFF_FFFF, Fraction(0xFFFF_FFFF)), ("acc64", 0, "not_accumulated"),
        ("uint32", 0xFFFF_FFFF, "not_implemented"), ("uint64", 0, Fraction(0)),
        ("uint64", 2**64 - 1, "not_implemented"), ("int32", 1 << 31, "not_implemented"),
        ("int64", 1 << 63, "not_implemented"), ("float32", 0x7FC0_0000, "not_implemented"),
        ("float32", 0x3FC0_0000, Fraction(3, 2)),
    ],
)  # fmt: skip
def test_what_is_not_implemented_is_no_number(kind: str, bits: int, said: Any) -> None:
    assert point_value(kind, bits) == said


def test_a_scale_factor_is_small_and_signed() -> None:
    assert [scale_of(bits) for bits in (0, 3, 0xFFFE, 0x8000, 11, 0xFFF5)] == [0, 3, -2, None, None, None]


@pytest.mark.parametrize(
    "text, offset, kind, unit",
    [
        ("103.WH", 24, "register", "Wh"), ("101.WH", 24, "register", "Wh"), ("113.WH", 32, "register", "Wh"),
        ("103.W", 14, "level", "W"), ("203.TotWhImp", 46, "register", "Wh"), ("201.TotWhExp", 38, "register", "Wh"),
        ("213.TotWhExp", 60, "register", "Wh"), ("701.TotWhInj", 19, "register", "Wh"),
        ("701.TotVarhInj", 27, "register", "varh"), ("714.DCWhInj", 7, "register", "Wh"),
        ("714.Prt.2.DCWhInj", 20 + 25 + 13, "register", "Wh"), ("802.SoC", 11, "level", "Percent"),
        ("713.SoC", 4, "level", "Percent"), ("713.WHAvail", 3, "level", "Wh"),
    ],
)  # fmt: skip
def test_the_points_that_count_are_where_the_models_have_them(text: str, offset: int, kind: str, unit: str) -> None:
    point = point_of(point_address(text))
    assert point is not None
    assert (point.offset, point.kind, point.unit) == (offset, kind, unit)


def test_a_point_that_is_none_is_not_there() -> None:
    for text in ("103.Nothing", "9999.WH", "103.ID", "103.Evt1", "714.Port.1.DCWhInj", "103.WH_SF"):
        assert point_of(point_address(text)) is None
    with pytest.raises(InvalidInput, match="is no point: write one such as"):
        point_address("WH")
    assert model_of(9_999) is None


def test_a_charge_is_counted_in_permille() -> None:
    point = point_of(point_address("802.SoC"))
    assert point is not None
    assert meter_unit(point) == "permille"
    assert convert(Fraction(505), point.unit, "permille", scale=-1) == 505  # 50.5 %


def test_a_counter_rolls_over_where_its_bits_end_times_its_scale() -> None:
    point, other = point_of(point_address("103.WH")), point_of(point_address("701.TotWhInj"))
    assert point is not None
    assert other is not None
    assert modulus_of(point, 0) == 1 << 32
    assert modulus_of(point, 3) == 1000 << 32
    assert modulus_of(point, -1) == Fraction(1 << 32, 10)
    assert modulus_of(other, 0) is None
