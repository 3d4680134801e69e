"""A file that a person wrote for a command, in TOML, and what is wrong with it in one line."""

import tomllib
from pathlib import Path
from typing import TypeVar

import msgspec

from schemas.errors import InvalidInput

Form = TypeVar("Form")


def read_toml(path: Path, form: type[Form], page: str) -> Form:
    """The file by its form; `page` explains it. Raises InvalidInput for what it has wrong, without showing a key."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(f"can't read {path}: {error.strerror}") from None
    except ValueError as error:
        raise InvalidInput(f"{path} is not TOML: {error}") from None
    try:
        return msgspec.convert(document, form, dec_hook=lambda kind, value: kind(value))
    except msgspec.ValidationError as error:
        where = str(error).split(" - at ")[-1].strip("`$")
        raise InvalidInput(f"{path} has something wrong at {where}: see {page}") from None
