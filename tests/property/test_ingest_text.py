"""Names become ids that are valid and never shared; texts become numbers that are exact, in any country's way."""

import unicodedata
from fractions import Fraction

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from deploy.importers.mapping import FileShape
from deploy.importers.names import cleaned, id_of
from deploy.importers.table_files import number_in
from schemas.units import Id

IDS = msgspec.json.Decoder(Id)
NAMES = st.text(min_size=1, max_size=90).filter(cleaned)
NEAR = st.text("ab.:-_ é上*", min_size=1, max_size=6).filter(cleaned)


@given(st.lists(NAMES | NEAR, min_size=1, max_size=3))
def test_every_name_becomes_an_id(parts: list[str]) -> None:
    name = id_of(*parts)
    assert IDS.decode(msgspec.json.encode(name)) == name
    assert id_of(*parts) == name
    assert id_of(name) == name or ".." in name


@given(st.integers(1, 3).flatmap(lambda n: st.tuples(*[st.lists(NEAR | NAMES, min_size=n, max_size=n)] * 2)))
def test_two_names_never_share_an_id(pair: tuple[list[str], list[str]]) -> None:
    one, other = ([cleaned(part) for part in parts] for parts in pair)
    assert (id_of(*one) == id_of(*other)) == (one == other)


@given(NAMES)
def test_an_id_of_the_second_form_is_no_other_name_s(name: str) -> None:
    made = id_of(name)
    if made != cleaned(name):
        assert id_of(made) != made


@given(NAMES)
def test_how_a_name_was_typed_makes_no_difference(name: str) -> None:
    assert id_of(f" {unicodedata.normalize('NFD', name)}\t") == id_of(name)


def test_ids_are_kept_and_others_stay_readable() -> None:
    assert id_of("caltech", "CA-311") == "caltech.CA-311"
    assert id_of("Köln", "Süd").startswith("Koln.Sud..")
    assert id_of("a.b", "c") != id_of("a", "b.c")
    assert id_of("a.b") == "a.b"


@given(
    st.decimals(-(10**15), 10**15, allow_nan=False, places=6),
    st.sampled_from([(".", ""), (",", ""), (",", "."), (".", ",")]),
)
def test_a_number_is_exactly_what_its_digits_say(number: object, way: tuple[str, str]) -> None:
    decimal, thousands = way
    plain = f"{number:,f}" if thousands else f"{number:f}"
    text = plain.translate(str.maketrans({".": decimal, ",": thousands}))
    assert number_in(text, FileShape(decimal=decimal, thousands=thousands)) == Fraction(str(number))  # type: ignore[arg-type]


@given(st.text(max_size=12))
def test_a_text_is_a_number_or_none_and_never_an_error(text: str) -> None:
    for shape in (FileShape(), FileShape(decimal=","), FileShape(decimal=",", thousands=".")):
        assert number_in(text, shape) is None or any(digit in text for digit in "0123456789")


def test_a_thousand_is_not_taken_for_a_fraction() -> None:
    assert number_in("1.234", FileShape(decimal=",")) is None
    assert number_in("1.234", FileShape(decimal=",", thousands=".")) == 1_234
    assert number_in("1.23", FileShape(decimal=",", thousands=".")) is None
    assert number_in("nan", FileShape()) is None
