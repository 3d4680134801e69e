"""Rows that are spelled alike say what the definition reads in them, whatever lies between them."""

import random

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.reading import ROWS_MAX
from streams.core.columns import Part, Refused, columns_of
from streams.core.json_columns import is_known_reading, json_part
from streams.core.json_shapes import shape_of, shaped_part
from streams.core.name_index import NameIndex

NAMES = [(f"m-{number}" + "x" * (number * 7 % 61), ("energy", "a", "b" * 64)[number % 3]) for number in range(40)]
PLACES = {name: place for place, name in enumerate(NAMES)}
COLUMNS = ("record", "row", "meter", "boot", "seq", "observed_at", "kind", "value", "started_at", "marks")
INTEGERS = (0, 1, 9, 10, 99_999_999, 100_000_000, 1_567_296_000_000, 2**53 - 1, 2**53, 2**53 + 1, 10**16, 10**17)
SEPARATORS = ((",", ":"), (", ", ": "), (" ,\t", " :"))


def reading(draw: random.Random) -> dict[str, object]:
    """A reading of a registered meter or, sometimes, of none; its integers lie near the bounds."""
    machine, meter = draw.choice(NAMES) if draw.random() < 0.95 else ("nobody", "energy")
    integers = [draw.choice(INTEGERS[:-3]) if draw.random() < 0.97 else draw.choice(INTEGERS) for _ in range(4)]
    row: dict[str, object] = dict(zip(("boot", "seq", "observed_at", "register"), integers, strict=True))
    row = {"machine": machine, "meter": meter} | row
    match draw.randrange(6):
        case 0:
            row["quantity"] = row.pop("register")
        case 1:
            row |= {"session": f"s-{draw.randrange(3)}", "session_started_at": row["observed_at"]}
        case 2:
            row |= {"session": "s é", "session_started_at": 5, "session_start": draw.random() < 0.5}
        case 3:
            row["reconstructed"] = draw.random() < 0.5
    return row


def spelled(draw: random.Random, row: dict[str, object], separators: tuple[str, str], dirt: float) -> bytes:
    """The row as text, sometimes with a few bytes changed."""
    comma, colon = separators
    members = (f"{msgspec.json.encode(name).decode()}{colon}{msgspec.json.encode(row[name]).decode()}" for name in row)
    text = bytearray(("{" + comma.join(members) + "}").encode())
    while text and draw.random() < dirt:
        at = draw.randrange(len(text))
        match draw.randrange(4):
            case 0:
                text[at] = draw.choice(b'0123456789{}[]",:-.e\\ \n\x00\xff')
            case 1:
                del text[at]
            case 2:
                text[at:at] = draw.choice((b"0", b"-", b".5", b'"', b"{", b"}", b"},{", b" ", b"\\"))
            case _:
                del text[at:]
                text += b"}"
    return bytes(text)


def values_of(draw: random.Random, size: int, dirt: float) -> list[bytes]:
    """Values of one or two spellings, single or in arrays."""
    separators = draw.choice(SEPARATORS)
    values = []
    for _ in range(size):
        rows = [spelled(draw, reading(draw), separators, dirt) for _ in range(draw.choice((1, 1, 1, 3)))]
        is_array = len(rows) > 1 or draw.random() < 0.2
        joined = draw.choice((b",", b", ", b"  ,", b"")) if draw.random() < dirt else b","
        value = joined.join(rows)
        values.append(b"[" + value + b"]" if is_array else value)
    return values


def outcome(parts: list[Part], refused: list[Refused]) -> tuple[object, ...]:
    """What a run makes of parts."""
    if not parts:
        return ([], sorted(refused))
    columns = columns_of(parts, refused)
    cells = [getattr(columns, name).tolist() for name in COLUMNS]
    texts = [(columns.names(row), columns.session(row)) for row in range(len(columns))]
    return (cells, texts, sorted(refused))


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from((0.0, 0.05, 0.5)))
def test_alike_rows_say_what_the_definition_reads(seed: int, dirt: float) -> None:
    draw = random.Random(seed)
    values = values_of(draw, draw.choice((1, 7, 60)), dirt)
    records = range(100, 100 + len(values))
    expected_refused: list[Refused] = []
    expected = outcome([json_part(records, values, PLACES, expected_refused)], expected_refused)
    refused: list[Refused] = []
    part, left = shaped_part(records, values, NameIndex(NAMES), is_known_reading)
    parts = [] if part is None else [part]
    if left:
        parts.append(json_part([records[at] for at in left], [values[at] for at in left], PLACES, refused))
    assert outcome(parts, refused) == expected


def test_clean_rows_are_all_taken() -> None:
    row = {"machine": NAMES[3][0], "meter": NAMES[3][1], "boot": 1, "seq": 2, "observed_at": 3, "level": 0}
    values = [msgspec.json.encode(row | {"seq": seq}) for seq in range(50)]
    values += [msgspec.json.encode([row | {"seq": seq}, row]) for seq in range(50)]
    part, left = shaped_part(range(100), values, NameIndex(NAMES), is_known_reading)
    assert part is not None and left == []
    assert part.seq.tolist() == [*range(50), *(seq for pair in ((seq, 2) for seq in range(50)) for seq in pair)]
    assert (part.row == np.array([0] * 50 + [0, 1] * 50)).all()


def test_an_unusual_spelling_has_no_shape() -> None:
    plain = b'{"machine":"m","meter":"e","boot":1,"seq":2,"observed_at":3,"register":4}'
    assert shape_of(plain) is not None
    for odd in (
        plain.replace(b'"m"', b'"\\u006d"'),
        plain.replace(b"}", b',"note":"x"}'),
        plain.replace(b"}", b',"boot":1}'),
        plain.replace(b'"boot":1,', b""),
        plain + b" ",
        plain.replace(b"{", b"{" + b" " * 100),
    ):
        assert shape_of(odd) is None


@pytest.mark.parametrize("digits", ["01", "00", "1:", "1;", "?1", "-1", "1.0", "1e3", "", "9007199254740993", "1" * 17])
def test_digits_that_are_no_count_are_left(digits: str) -> None:
    row = b'{"machine":"%s","meter":"%s","boot":1,"seq":%s,"observed_at":3,"register":4}'
    names = [name.encode() for name in NAMES[3]]
    values = [row % (*names, b"7"), row % (*names, digits.encode()), row % (*names, b"9007199254740992")]
    part, left = shaped_part(range(3), values, NameIndex(NAMES), is_known_reading)
    assert left == [1]
    assert part is not None and part.seq.tolist() == [7, 2**53]


def test_too_many_rows_are_left() -> None:
    row = b'{"machine":"%s","meter":"%s","boot":1,"seq":1,"observed_at":3,"register":4}'
    row %= tuple(name.encode() for name in NAMES[3])
    values = [b"[" + b",".join([row] * rows) + b"]" for rows in (ROWS_MAX, ROWS_MAX + 1, 1)]
    assert shaped_part(range(3), values, NameIndex(NAMES), is_known_reading)[1] == [1]


def test_an_index_takes_in_new_names_once_it_pays() -> None:
    names = NAMES[:4]
    index = NameIndex(names)
    names += NAMES[4:]
    assert index.keep_up(len(NAMES) - 1)._size == 4
    assert index.keep_up(1)._size == len(NAMES)
