"""Bytes and JSON as somebody spoils them who wants to hurt their reader."""

import random
from typing import Any

NUMBERS = (0, 1, -1, 2**31, 2**53, 2**53 + 1, 2**63, 2**64 - 1, 2**256, -(2**63), 0.5, 1e308)
TEXTS = ("", "0x", "0xzz", "0x0", "0x" + "f" * 64, "0x" + "f" * 65, "latest", "a" * 70, "é", "\0", "../../etc/passwd")
DEEP = b"[" * 5_000


def spoiled_bytes(draw: random.Random, content: bytes) -> bytes:
    """The content with some bytes exchanged, taken away, put in, repeated, or cut off."""
    made = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        at = draw.randrange(len(made) + 1)
        match draw.randrange(8):
            case 0:
                del made[at:]
            case 1:
                del made[at : at + draw.choice((1, 2, 4, 8, 64))]
            case 2:
                made[at:at] = draw.randbytes(draw.choice((1, 2, 4, 8)))
            case 3:
                made[at:at] = made[at : at + draw.choice((1, 8, 256))]
            case 4:
                made[at : at + 4] = draw.choice((b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\x80\0\0\0"))
            case 5:
                made[at : at + 8] = draw.choice((b"\xff" * 8, b"\x7f" + b"\xff" * 7, b"\xff" * 7 + b"\x7f"))
            case _:
                if at < len(made):
                    made[at] = draw.randrange(256)
    return bytes(made)


def spoiled_json(draw: random.Random, document: Any) -> Any:
    """The document (of plain lists and dictionaries) with one of its values or names exchanged."""
    if draw.random() < 0.02 or not isinstance(document, dict | list) or not document:
        return odd(draw, document)
    if isinstance(document, list):
        made = list(document)
        at = draw.randrange(len(made))
        match draw.randrange(6):
            case 0:
                del made[at]
            case 1:
                made[at:at] = made[at : at + 1] * draw.choice((1, 3, 200))
            case _:
                made[at] = spoiled_json(draw, made[at])
        return made
    changed = dict(document)
    name = draw.choice(list(changed))
    match draw.randrange(8):
        case 0:
            del changed[name]
        case 1:
            changed[draw.choice(TEXTS)] = changed.pop(name)
        case _:
            changed[name] = spoiled_json(draw, changed[name])
    return changed


def odd(draw: random.Random, value: Any) -> Any:
    """Something else in the place of a value."""
    match draw.randrange(8):
        case 0:
            return draw.choice(NUMBERS)
        case 1 | 2:
            return draw.choice(TEXTS)
        case 3:
            return draw.choice((None, True, False, [], {}, [None], {"a": {}}))
        case 4 if isinstance(value, int) and not isinstance(value, bool):
            return value + draw.choice((-1, 1, 2**32))
        case 5 if isinstance(value, str) and value:
            at = draw.randrange(len(value))
            return value[:at] + draw.choice("0f9xZ-") + value[at + 1 :]
        case 6:
            return [value]
        case _:
            return value * draw.choice((0, 2)) if isinstance(value, str | int) else str(value)
