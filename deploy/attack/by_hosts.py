"""Cheats of a host that serves epochs, archives and posts: made to hurt who looks at them, or changed afterwards."""

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from deploy.attack.by_operators import some_archive
from deploy.attack.cheat import PAYEES, Cheat
from deploy.attack.hostile_files import bomb_of, endless, fifo, instead_of, link_outside
from deploy.attack.ledger_copy import LedgerCopy
from streams.core.log_root import RECORDS

BOMB_ROWS, BOMB_BYTES = 8, 1 << 27
"""One text that stands in every row, in fewer rows than an epoch has: kilobytes that unpack to a gigabyte."""


def host_cheats(court: LedgerCopy) -> Iterator[Cheat]:
    """Cheats once a post is settled, each in a copy of its own."""
    bomb = bomb_of(RECORDS, "value", rows=BOMB_ROWS, size=BOMB_BYTES)
    edits: dict[str, Callable[[Path], None]] = {
        "a pipe in the place of an archive": lambda copy: instead_of(some_archive(copy), fifo),
        "an archive without an end": lambda copy: instead_of(some_archive(copy), endless),
        "an archive of kilobytes that unpacks to a gigabyte": lambda copy: instead_of(some_archive(copy), bomb),
        "a link to a file of the auditor's own host": lambda copy: instead_of(some_archive(copy), link_outside),
        "a pipe in the place of a manifest": lambda copy: instead_of(_manifest(copy), fifo),
        "a pipe in the place of a post's payouts": lambda copy: instead_of(_payouts(copy), fifo),
        "one byte of a published table flipped": _flip,
        "two epochs swapped": _swap,
        "the archive of before the post": _older,
    }
    for name, edit in edits.items():
        yield Cheat(name, "host", PAYEES, partial(court.audited, edit))


def _manifest(copy: Path) -> Path:
    return sorted((copy / "epochs").glob("*/*.manifest.json"))[0]


def _payouts(copy: Path) -> Path:
    return copy / "settlement" / "posts" / "1" / "payouts.json"


def _flip(copy: Path) -> None:
    path = sorted((copy / "epochs").glob("*/*.windows.parquet"))[0]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _swap(copy: Path) -> None:
    first, *_, last = sorted((copy / "epochs").iterdir())
    aside = first.with_name("aside")
    for old, new in ((first, aside), (last, first), (aside, last)):
        old.rename(new)


def _older(copy: Path) -> None:
    for name in ("epochs", "log"):
        shutil.rmtree(sorted((copy / name).iterdir())[-1])
