"""A sealed window as JSON, field by field as its digest covers it (`Window.canonical`)."""

from typing import Any

import msgspec

from schemas.window import Window


def window_document(window: Window) -> dict[str, Any]:
    """All fields but the digest. Amounts (names that end in micros) are decimal strings: they may leave 53 bits."""
    document: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(window, digest=b""))
    del document["digest"]
    return _with_texts(document)


def _with_texts(document: dict[str, Any]) -> dict[str, Any]:
    for name, value in document.items():
        if name.endswith("micros"):
            document[name] = str(value)
        elif name in ("lines", "sessions", "dues"):
            document[name] = [_with_texts(part) for part in value]
    return document
