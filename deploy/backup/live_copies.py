"""Consistent copies of files that somebody may be writing just now, without asking the writer.

A checkpoint. DuckDB writes to the file itself only blocks that its header doesn't know, then the header, and what it
commits meanwhile to logs beside it: so the file and its logs are whole if neither the header nor the names of the logs
have changed while they were copied. Otherwise they are copied again. The copy is opened and every block of it is read:
each has a checksum.

The journal. SQLite copies itself, beside a writer.

Kafka's own folder, of an embedded broker: its logs only grow, so what is read of one is a beginning of it, as after a
crash. What says how far they are valid is copied before them; indexes are left out, since it makes them again.
"""

import gzip
import json
import shutil
import sqlite3
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import duckdb

from deploy.stack.evm_node import EvmNode
from files.lock import FileLock
from schemas.errors import InvalidInput

HEADER_BYTES = 3 * 4_096
"""The three headers at the beginning of DuckDB's file."""

ATTEMPTS = 50
"""How often a checkpoint is copied again, since its worker has moved it on."""

MADE_AGAIN = (".index", ".timeindex", ".txnindex", ".deleted", ".cleaned", ".swap", ".lock")
ASK_S = 60.0


def copy_checkpoint(path: Path, target: Path) -> int:
    """Writes a copy of a partition's checkpoint, whoever has it open; returns the offset that it stands at.

    Raises InvalidInput where it can't be copied whole, or is damaged.
    """
    lock = FileLock.acquire(path.with_suffix(".lock"))
    try:
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            for _ in range(ATTEMPTS):
                copy = Path(folder) / "copy.duckdb"
                if _copied_whole(path, copy):
                    try:
                        return _compacted(copy, target)
                    except duckdb.Error as error:
                        if lock is not None:  # nobody has written meanwhile
                            text = (str(error).splitlines() or [""])[0]
                            raise InvalidInput(f"{path} is damaged ({text}): remove it to have it rebuilt") from None
                for left in Path(folder).iterdir():
                    left.unlink()
    finally:
        if lock is not None:
            lock.release()
    raise InvalidInput(f"{path} changes faster than it can be copied: run `tallyroot backup` again when less arrives")


def copy_journal(path: Path, target: Path) -> None:
    """Writes a copy of the journal of postings as of one moment. Raises InvalidInput where it is damaged."""
    try:
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(target)) as copy:
            source.backup(copy)
    except sqlite3.Error as error:
        raise InvalidInput(f"the journal {path} can't be copied ({error}): see the runbook for a lost one") from None


def kafka_files(folder: Path) -> list[Path]:
    """The files of an embedded broker in the order in which they are to be copied."""
    found = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix not in MADE_AGAIN]
    found = [path for path in found if path.name != ".kafka_cleanshutdown"]  # it says that nothing is to be looked at
    return sorted(found, key=lambda path: path.suffix == ".log")


def chain_state(node: EvmNode) -> bytes:
    """The chain of a running embedded node, as it writes it when it ends. Raises InvalidInput if it doesn't answer."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "anvil_dumpState", "params": []}).encode()
    request = urllib.request.Request(node.rpc_url, body, {"Content-Type": "application/json"})  # noqa: S310
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=ASK_S) as answer:
            dumped: str = json.load(answer)["result"]
        return gzip.decompress(bytes.fromhex(dumped.removeprefix("0x")))
    except (OSError, ValueError, KeyError) as error:
        raise InvalidInput(f"the node at {node.rpc_url} doesn't state its chain ({error}): is it running?") from None


def _copied_whole(path: Path, copy: Path) -> bool:
    """Whether file and logs were copied while nobody has written the file's header or begun another log."""
    before = _state_of(path)
    for source in _parts(path):
        try:
            shutil.copyfile(source, copy.with_name(copy.name + source.name.removeprefix(path.name)))
        except FileNotFoundError:
            return False
    return _state_of(path) == before


def _parts(path: Path) -> list[Path]:
    """The file, then the logs beside it."""
    return sorted(path.parent.glob(f"{path.name}*"), key=lambda part: (part != path, part.name))


def _state_of(path: Path) -> tuple[bytes, list[tuple[str, int]]]:
    with path.open("rb") as file:
        header = file.read(HEADER_BYTES)
    found = []
    for part in _parts(path):
        try:
            found.append((part.name, part.stat().st_ino))
        except FileNotFoundError:
            continue
    return header, found


def _compacted(copy: Path, target: Path) -> int:
    """Writes what a copy holds, read in full, to a file of its own; returns its offset. Raises duckdb.Error."""
    target.unlink(missing_ok=True)
    db = duckdb.connect(config={"threads": 1})
    with db, _attached(db, copy, "source"), _attached(db, target, "target"):
        db.execute("COPY FROM DATABASE source TO target")
        ((offset,),) = db.execute("SELECT next_offset FROM target.position").fetchall()
    return int(offset or 0)


@contextmanager
def _attached(db: duckdb.DuckDBPyConnection, path: Path, name: str) -> Iterator[None]:
    text = str(path).replace("'", "''")
    db.execute(f"ATTACH '{text}' AS {name}")
    try:
        yield
    finally:
        db.execute(f"DETACH {name}")
