"""Cheats of a host that serves epochs, archives and posts: made to hurt who looks at them, or changed afterwards."""

import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from deploy.attack.cheat import PAYEES, Cheat
from deploy.attack.ledger_copy import LedgerCopy
from streams.core.log_root import RECORDS

BOMB_ROWS, BOMB_BYTES = 16_384, 1 << 17
"""One text of some size that stands in every row: kilobytes that unpack to two gigabytes."""


def host_cheats(court: LedgerCopy) -> Iterator[Cheat]:
    """Cheats once a post is settled, each in a copy of its own."""
    edits: dict[str, Callable[[Path], None]] = {
        "a pipe in the place of an archive": lambda copy: _instead(_archive(copy), os.mkfifo),
        "an archive without an end": lambda copy: _instead(_archive(copy), _endless),
        "an archive of kilobytes that unpacks to gigabytes": lambda copy: _instead(_archive(copy), _bomb),
        "a link to a file of the auditor's own host": lambda copy: _instead(_archive(copy), _link),
        "a pipe in the place of a manifest": lambda copy: _instead(_manifest(copy), os.mkfifo),
        "a pipe in the place of a post's payouts": lambda copy: _instead(_payouts(copy), os.mkfifo),
        "one byte of a published table flipped": _flip,
        "two epochs swapped": _swap,
        "the archive of before the post": _older,
    }
    for name, edit in edits.items():
        yield Cheat(name, "host", PAYEES, partial(court.audited, edit))


def _archive(copy: Path) -> Path:
    return max(sorted((copy / "log").glob("*/*.parquet")), key=lambda path: path.stat().st_size)


def _manifest(copy: Path) -> Path:
    return sorted((copy / "epochs").glob("*/*.manifest.json"))[0]


def _payouts(copy: Path) -> Path:
    return copy / "settlement" / "posts" / "1" / "payouts.json"


def _instead(path: Path, make: Callable[[Path], None]) -> None:
    path.unlink()
    make(path)


def _endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _link(path: Path) -> None:
    path.symlink_to("/etc/hosts")


def _bomb(path: Path) -> None:
    text = pa.DictionaryArray.from_arrays(
        pa.array([0] * BOMB_ROWS, pa.int32()), pa.array([bytes(BOMB_BYTES)], pa.binary())
    )
    columns = [
        range(BOMB_ROWS), range(BOMB_ROWS), pa.nulls(BOMB_ROWS, pa.binary()),
        pa.array([[]] * BOMB_ROWS, RECORDS.field("headers").type), text,
    ]  # fmt: skip
    pq.write_table(
        pa.table(columns, names=RECORDS.names), path, compression="zstd", row_group_size=BOMB_ROWS,
        use_dictionary=["value"], store_schema=False, write_statistics=False, dictionary_pagesize_limit=1 << 30,
    )  # fmt: skip


def _flip(copy: Path) -> None:
    path = sorted((copy / "epochs").glob("*/*.windows.parquet"))[0]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _swap(copy: Path) -> None:
    """The first and the last; where there is one epoch alone, it takes the place of the one after."""
    first, last = sorted((copy / "epochs").iterdir())[0], sorted((copy / "epochs").iterdir())[-1]
    aside = first.with_name("aside")
    first.rename(aside)
    if last != first:
        last.rename(first)
    aside.rename(last if last != first else first.with_name("20000101T000000Z"))


def _older(copy: Path) -> None:
    for name in ("epochs", "log"):
        shutil.rmtree(sorted((copy / name).iterdir())[-1])
