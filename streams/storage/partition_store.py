"""One partition and a store that hosts share: resumes from its snapshots, stores ended epochs, fetches others'."""

import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa

from files.write import Step
from schemas.manifest import epoch_folder
from streams.storage.checkpoint import Checkpoint
from streams.storage.checkpoint_identity import CheckpointIdentity
from streams.storage.epoch_files import epoch_paths
from streams.storage.object_store import ObjectStore, StoreAway
from streams.storage.shared_epochs import put_epoch, sync_partition
from streams.storage.snapshot import SUFFIX, newest_snapshot, put_snapshot, write_snapshot

logger = logging.getLogger(__name__)

AGAIN_SECONDS = 5.0
"""How long to wait before a store that doesn't answer is retried."""

LOOK_SECONDS = 0.05
LOOKS_MAX = 1_200
"""How often, and how many times, to check for an acknowledgement; without one the epoch gets no snapshot."""


class PartitionStore:
    """The store as the owner of a partition uses it; without a store every method does nothing."""

    def __init__(
        self, store: ObjectStore | None, data_dir: Path, identity: CheckpointIdentity, step: Step, *, background: bool
    ) -> None:
        """With `background`, `sync` has a thread of its own, and `keep` and `sync` retry while the store is away."""
        self._store = store
        self._data_dir = data_dir
        self._identity = identity
        self._step = step
        self._stopping = threading.Event()
        self._thread = ThreadPoolExecutor(1, f"store-{identity.partition}") if background else None
        self._syncing: Future[bool] | None = None

    def restore(self, checkpoint: Checkpoint) -> bool:
        """Restores the newest valid snapshot into the checkpoint if its offset is higher; returns whether it did.

        Raises what `newest_snapshot` raises.
        """
        if self._store is None:
            return False
        found = newest_snapshot(self._store, self._identity, checkpoint.position.next_offset or 0)
        if found is not None:
            checkpoint.restore(found.manifest, found.tables)
            self._step("0 restored")
        waited_for = {self._local(cut.epoch) for cut in checkpoint.pending()}
        for path in self._folder.glob(f"{self._identity.partition}.*{SUFFIX}"):
            if path not in waited_for:
                path.unlink()
        return found is not None

    def note(self, epoch: int, tables: Mapping[str, pa.Table]) -> None:
        """Before the commit of a cut: writes the state to a local file, kept until the epoch's manifest is in the
        store.
        """
        if self._store is not None:
            write_snapshot(self._local(epoch), self._identity, tables)
            self._step("0 snapshot")

    def keep(self, epoch: int, is_sent: Callable[[], bool]) -> bool:
        """Stores the final files of an epoch, its manifest, then its snapshot once `is_sent()`.

        A host that resumes from the snapshot never sends the rejects before it. Returns False if `close` came first.
        Raises InvariantBroken if the store contradicts the files, StoreAway.
        """
        store, identity = self._store, self._identity
        if store is None:
            return True
        paths = epoch_paths(self._data_dir, identity.log, epoch, identity.partition)
        if not self._done(lambda: put_epoch(store, paths, self._step)):
            return False
        path = self._local(epoch)
        looks_left = LOOKS_MAX if self._thread is not None else 0
        while not is_sent() and looks_left:
            looks_left -= 1
            if self._stopping.wait(LOOK_SECONDS):
                return False
        if path.exists() and is_sent():
            if not self._done(lambda: put_snapshot(store, path, identity.partition, paths.folder)):
                return False
            self._step("4 snapshot stored")
        path.unlink(missing_ok=True)
        return True

    def sync(self, before: int) -> None:
        """Copies the epochs before a number to the side that lacks them, here or store. Raises as `sync_partition`."""
        store, identity, folder = self._store, self._identity, self._epoch_folder(before)
        if store is None:
            return

        def work() -> None:
            sync_partition(store, self._data_dir, identity.log, identity.partition, folder, self._stopping.is_set)

        if self._thread is None:
            work()
        else:
            self._syncing = self._thread.submit(self._done, work)

    def check(self, *, wait: bool = False) -> None:
        """Raises the error that stopped `sync`, if any; with `wait`, after waiting for its end."""
        if self._syncing is not None and (wait or self._syncing.done()):
            self._syncing.result()
            self._syncing = None

    def close(self) -> None:
        """Ends the background thread, after its current epoch."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.shutdown()

    def _done(self, work: Callable[[], object]) -> bool:
        """Retries the work while the store doesn't answer; returns False if `close` came first."""
        is_told = False
        while not self._stopping.is_set():
            try:
                work()
            except StoreAway as away:
                if self._thread is None:
                    raise
                if not is_told:
                    logger.warning("%s. Retrying", away)
                    is_told = True
                self._stopping.wait(AGAIN_SECONDS)
            else:
                return True
        return False

    @property
    def _folder(self) -> Path:
        return self._data_dir / "partitions"

    def _local(self, epoch: int) -> Path:
        return self._folder / f"{self._identity.partition}.{self._epoch_folder(epoch)}{SUFFIX}"

    def _epoch_folder(self, epoch: int) -> str:
        return epoch_folder(self._identity.log.epoch_span(epoch)[0])
