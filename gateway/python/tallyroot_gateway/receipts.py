"""Goods that arrived, on disk until Kafka has each: `goods.received` records, one a file in the spool's `receipts`.

A file is named by the SHA-256 of its content, which is the record's value; so one taken twice is there once, and one
that is damaged is known. It is written beside, synced and renamed before `keep` returns, and removed once Kafka has it;
whoever dies in between sends it again, and the log takes equal content as a duplicate. The JavaScript gateway keeps
the same files.
"""

import os
from hashlib import sha256
from pathlib import Path

import msgspec
from msgspec import Struct

from tallyroot_gateway.errors import InvalidInput, SpoolFull

WAITING_MAX = 10_000
"""How many receipts wait at most; each is a small file."""

GOODS_RECEIVED = "goods.received"


class Receipt(Struct, frozen=True):
    """Pieces of an order that arrived; `observed_at` is epoch ms."""

    machine: str
    item: str
    number: int
    quantity: int
    observed_at: int


class Receipts:
    """The folder. Not thread-safe: its owner lets one thread at a time in."""

    def __init__(self, spool: Path, *, may_sign: bool = True) -> None:
        """Reads what waits; what is damaged is set aside and named in `warnings`.

        Raises InvalidInput where the folder can't be read, or something waits and a gateway without a key has it.
        """
        self.warnings: list[str] = []
        self._folder = spool / "receipts"
        self._waiting: dict[str, bytes] = {}
        try:
            for path in sorted(self._folder.glob("*.json")):
                value = path.read_bytes()
                if _name_of(value) == path.name:
                    self._waiting[path.name] = value
                else:
                    path.rename(path.with_suffix(".damaged"))
                    self.warnings.append(f"a receipt of goods is damaged, and set aside as {path.stem}.damaged")
        except OSError as error:
            raise self._unwritable(error) from None
        if self._waiting and not may_sign:
            raise InvalidInput("receipts of goods wait, which a key signs: make the gateway with its private_key")

    @property
    def count(self) -> int:
        """How many Kafka doesn't have yet."""
        return len(self._waiting)

    def waiting(self) -> list[tuple[str, bytes]]:
        """Name and value of each."""
        return list(self._waiting.items())

    def keep(self, receipt: Receipt) -> None:
        """Writes a receipt so that it outlasts a loss of power. Raises InvalidInput, SpoolFull: then it isn't taken."""
        if self.count >= WAITING_MAX:
            raise SpoolFull(f"{WAITING_MAX:,} receipts wait for Kafka in {self._folder}: have it back first")
        value = msgspec.json.encode(receipt)
        name = _name_of(value)
        try:
            if not self._folder.exists():
                self._folder.mkdir()
                _sync(self._folder.parent)
            beside = self._folder / f"{name}.tmp"
            with beside.open("wb") as file:
                file.write(value)
                file.flush()
                os.fsync(file.fileno())
            beside.rename(self._folder / name)
            _sync(self._folder)
        except OSError as error:
            raise self._unwritable(error) from None
        self._waiting[name] = value

    def forget(self, name: str) -> None:
        """Removes one that Kafka has. Raises OSError."""
        (self._folder / name).unlink(missing_ok=True)
        self._waiting.pop(name, None)

    def _unwritable(self, error: OSError) -> InvalidInput:
        return InvalidInput(
            f"receipts can't be kept in {self._folder} ({error.strerror}): check the disk and its rights"
        )


def _name_of(value: bytes) -> str:
    return f"{sha256(value).hexdigest()}.json"


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
