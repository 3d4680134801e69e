"""JSON Schemas of what travels in a log, derived from the same structs that decode it.

`python -m schemas.json_schemas` writes them to `schemas/json/`; a test holds the files equal to the structs.
"""

from inspect import cleandoc
from pathlib import Path
from typing import Any

import msgspec

from schemas.log import Log
from schemas.manifest import EpochFiles
from schemas.order import CANCELLED, INVOICED, RECEIVED, GoodsReceived, OrderCancelled, OrderInvoiced
from schemas.payment import PAID, PaymentReceived
from schemas.reading import CORRECTED, READING, REGISTERED, Correction, Reading
from schemas.registration import Registration

FOLDER = Path(__file__).parent / "json"
SCHEMAS: dict[str, type[msgspec.Struct]] = {
    READING: Reading,
    REGISTERED: Registration,
    CORRECTED: Correction,
    RECEIVED: GoodsReceived,
    INVOICED: OrderInvoiced,
    CANCELLED: OrderCancelled,
    PAID: PaymentReceived,
    "log": Log,
    "epoch-files": EpochFiles,
}


def json_schema(struct: type[msgspec.Struct]) -> bytes:
    """The JSON Schema (draft 2020-12) of a struct, as the bytes of its file."""
    document: dict[str, Any] = {"$schema": "https://json-schema.org/draft/2020-12/schema"} | msgspec.json.schema(struct)
    for part in document["$defs"].values():
        part["description"] = cleandoc(part["description"])  # Python 3.13 strips docstrings, older ones don't
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def main() -> None:
    """Writes every schema to its file."""
    FOLDER.mkdir(exist_ok=True)
    for name, struct in SCHEMAS.items():
        (FOLDER / f"{name}.schema.json").write_bytes(json_schema(struct))


if __name__ == "__main__":
    main()
