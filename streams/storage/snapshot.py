"""Snapshots of a partition's state at a cut: with one, another host resumes at the cut and not at offset 0.

`snapshots/<partition>/<epoch>.snapshot` in the store holds the state's tables and the checkpoint's identity. The offset
of the cut is in the epoch's manifest, and so is the digest of the state: a snapshot is used only if its state has that
digest. The last two are kept.
"""

import logging
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import msgspec
import pyarrow as pa

from files.read import file_chunks
from files.write import make_folder, write_bytes
from schemas.manifest import EpochManifest
from streams.core.state import State
from streams.core.state_tables import TABLES
from streams.core.tables import tables_digest
from streams.storage.checkpoint_identity import CheckpointIdentity
from streams.storage.object_store import ObjectStore
from streams.storage.shared_epochs import read_stored, stored_manifests

logger = logging.getLogger(__name__)

KEPT = 2
"""Snapshots of a partition in a store: the newest, and one in case that is damaged."""

SUFFIX = ".snapshot"


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The file. `tables` are Arrow IPC streams by name, of the tables that State.tables() returns."""

    identity: CheckpointIdentity
    tables: dict[str, bytes]


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot whose state has the digest in its epoch's manifest."""

    manifest: EpochManifest
    tables: dict[str, pa.Table]


def write_snapshot(path: Path, identity: CheckpointIdentity, tables: Mapping[str, pa.Table]) -> None:
    """Writes the tables of a state to a local file."""
    make_folder(path.parent)
    write_bytes(path, msgspec.msgpack.encode(Snapshot(identity=identity, tables=packed(tables))))


def waiting_snapshots(data_dir: Path) -> int:
    """How many epochs' snapshots of a data folder's partitions are not in the store yet."""
    return sum(1 for _ in (data_dir / "partitions").glob(f"*{SUFFIX}"))


def put_snapshot(store: ObjectStore, path: Path, partition: int, folder: str) -> None:
    """Stores the snapshot of an epoch whose manifest the store has, and removes all but the last two. Raises
    StoreAway.
    """
    store.put(_name(partition, folder), file_chunks(path))
    for name in store.names(f"snapshots/{partition}")[:-KEPT]:
        store.remove(name)


def newest_snapshot(store: ObjectStore, identity: CheckpointIdentity, above: int) -> Restored | None:
    """The newest valid snapshot of a partition at an offset over `above`, or None.

    A snapshot that doesn't fit its manifest is skipped, with a warning in the log. Raises InvalidInput if the store
    belongs to another log, topic or list of rulesets, InvariantBroken if it has two manifests of an epoch, StoreAway.
    """
    partition = identity.partition
    for name in reversed(store.names(f"snapshots/{partition}")):
        folder = PurePosixPath(name).name.removesuffix(SUFFIX)
        digest = stored_manifests(store, partition, folder).get(folder)
        if digest is None:
            logger.warning("%s in the store has no manifest: not used", name)
            continue
        whole, _ = read_stored(store, identity.log, partition, folder, digest)
        if whole.manifest.next_offset <= above:
            return None
        found = _restored(name, store.read(name) or b"", identity, whole.manifest)
        if found is not None:
            return found
    return None


def _restored(name: str, content: bytes, identity: CheckpointIdentity, manifest: EpochManifest) -> Restored | None:
    try:
        snapshot = msgspec.msgpack.decode(content, type=Snapshot)
        tables = unpacked(snapshot.tables)
        packed_digest = tables_digest(tables).hex()
    except (pa.ArrowException, msgspec.MsgspecError, OSError, LookupError, ValueError, TypeError) as error:
        logger.warning("%s in the store can't be read (%s): not used", name, error)
        return None
    # First the tables' digest: no state is built from untrusted bytes. Then the state's own, since it is what
    # continues.
    if packed_digest != manifest.state_digest or _state_digest(identity, tables) != manifest.state_digest:
        logger.warning("%s in the store doesn't hold the state of its manifest: not used", name)
        return None
    # The format is that of a checkpoint; a snapshot's content is checked by its digest.
    made_for = msgspec.structs.replace(snapshot.identity, format=identity.format)
    made_for.compare(f"{name} in the store", identity, manifest.epoch)
    return Restored(manifest=manifest, tables=tables)


def _state_digest(identity: CheckpointIdentity, tables: Mapping[str, pa.Table]) -> str:
    return State.load(identity.log, identity.partition, tables).digest().hex()


def _name(partition: int, folder: str) -> str:
    return f"snapshots/{partition}/{folder}{SUFFIX}"


def packed(tables: Mapping[str, pa.Table]) -> dict[str, bytes]:
    """The tables of a state as Arrow IPC streams by name."""
    return {name: _stream(table) for name, table in tables.items()}


def unpacked(streams: Mapping[str, bytes]) -> dict[str, pa.Table]:
    """The tables of a state. Raises LookupError or pa.ArrowException for what is none; its digest says which it is."""
    return {name: pa.ipc.open_stream(streams[name]).read_all().cast(TABLES[name].schema) for name in TABLES}


def _stream(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)
    content: bytes = sink.getvalue().to_pybytes()
    return content
