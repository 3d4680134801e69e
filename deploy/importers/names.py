"""Ids from names in any script: what is an id stays as it is, what is none becomes one, and no two become the same.

    id = the parts, joined by a dot, where that is an id and says where each part ends
    id = what ASCII can show of them + ".." + 80 bits of SHA-256 over them, in all other cases

A name that ends like the second form is turned into one itself, so the two never meet.
"""

import hashlib
import json
import re
import unicodedata
from base64 import b32encode

ID_MAX = 64
_PLAIN = re.compile(r"[A-Za-z0-9._:*-]+")
_MARKED = re.compile(r"\.\.[a-z2-7]{16}$")
_LETTERS = str.maketrans({"ß": "ss", "æ": "ae", "Æ": "AE", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "đ": "d", "Đ": "D"})


def cleaned(text: str) -> str:
    """The same name however it was typed: without blanks around it, its accents composed (NFC)."""
    return unicodedata.normalize("NFC", text.strip())


def id_of(*parts: str) -> str:
    """The id of a name of one or more parts, none of them empty. Equal cleaned parts give equal ids."""
    names = [cleaned(part) for part in parts]
    plain = ".".join(names)
    is_clear = len(names) == 1 or not any("." in name for name in names)
    if is_clear and len(plain) <= ID_MAX and _PLAIN.fullmatch(plain) and not _MARKED.search(plain):
        return plain
    digest = hashlib.sha256(json.dumps(names).encode()).digest()[:10]
    mark = ".." + b32encode(digest).decode().lower()
    return _readable(plain)[: ID_MAX - len(mark)] + mark


def _readable(name: str) -> str:
    """What ASCII can show of a name; an underscore for each run of what it can't."""
    letters = unicodedata.normalize("NFKD", name.translate(_LETTERS))
    bare = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return re.sub(r"[^A-Za-z0-9.:-]+", "_", bare)
