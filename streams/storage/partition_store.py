"""What one partition does with a store that hosts share: goes on from it, keeps what ended, brings the rest here."""

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
"""How long after a store that gave no answer is asked again."""

LOOK_SECONDS = 0.05
LOOKS_MAX = 1_200
"""How often, and how many times, an acknowledgement is looked for; without it the epoch has no snapshot."""


class PartitionStore:
    """The store as the owner of a partition sees it; without a store, nothing happens in it."""

    def __init__(
        self, store: ObjectStore | None, data_dir: Path, pinned: CheckpointIdentity, step: Step, *, background: bool
    ) -> None:
        """With `background`, `sync` has a thread of its own, and `keep` and `sync` wait for a store that is away."""
        self._store = store
        self._data_dir = data_dir
        self._pinned = pinned
        self._step = step
        self._stopping = threading.Event()
        self._thread = ThreadPoolExecutor(1, f"store-{pinned.partition}") if background else None
        self._syncing: Future[bool] | None = None

    def restore(self, checkpoint: Checkpoint) -> bool:
        """Puts the newest sound snapshot into the checkpoint if its offset is higher; whether it did.

        Raises what `newest_snapshot` raises.
        """
        if self._store is None:
            return False
        found = newest_snapshot(self._store, self._pinned, checkpoint.position.next_offset or 0)
        if found is not None:
            checkpoint.restore(found.manifest, found.tables)
            self._step("0 restored")
        waited_for = {self._local(cut.epoch) for cut in checkpoint.pending()}
        for path in self._folder.glob(f"{self._pinned.partition}.*{SUFFIX}"):
            if path not in waited_for:
                path.unlink()
        return found is not None

    def note(self, epoch: int, tables: Mapping[str, pa.Table]) -> None:
        """Before the commit of a cut: keeps the state as it is then, until the epoch's manifest is in the store."""
        if self._store is not None:
            write_snapshot(self._local(epoch), self._pinned, tables)
            self._step("0 snapshot")

    def keep(self, epoch: int, is_sent: Callable[[], bool]) -> bool:
        """Puts the final files of an epoch into the store, its manifest, then its snapshot once `is_sent()`.

        Whoever goes on from the snapshot never sends what was refused before it. False if `close` came first. Raises
        InvariantBroken if the store contradicts the files, StoreAway.
        """
        store, pinned = self._store, self._pinned
        if store is None:
            return True
        paths = epoch_paths(self._data_dir, pinned.log, epoch, pinned.partition)
        if not self._done(lambda: put_epoch(store, paths, self._step)):
            return False
        path = self._local(epoch)
        looks_left = LOOKS_MAX if self._thread is not None else 0
        while not is_sent() and looks_left:
            looks_left -= 1
            if self._stopping.wait(LOOK_SECONDS):
                return False
        if path.exists() and is_sent():
            if not self._done(lambda: put_snapshot(store, path, pinned.partition, paths.folder)):
                return False
            self._step("4 snapshot stored")
        path.unlink(missing_ok=True)
        return True

    def sync(self, before: int) -> None:
        """Brings the epochs before a number to where they are missing, here or there. Raises as `sync_partition`."""
        store, pinned, folder = self._store, self._pinned, self._epoch_folder(before)
        if store is None:
            return

        def work() -> None:
            sync_partition(store, self._data_dir, pinned.log, pinned.partition, folder, self._stopping.is_set)

        if self._thread is None:
            work()
        else:
            self._syncing = self._thread.submit(self._done, work)

    def check(self, *, wait: bool = False) -> None:
        """Raises what stopped `sync`, if anything; with `wait`, once it has ended."""
        if self._syncing is not None and (wait or self._syncing.done()):
            self._syncing.result()
            self._syncing = None

    def close(self) -> None:
        """Ends what runs beside, after the epoch that it is at."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.shutdown()

    def _done(self, work: Callable[[], object]) -> bool:
        """Does the work again for as long as the store gives no answer; False if `close` came first."""
        is_told = False
        while not self._stopping.is_set():
            try:
                work()
            except StoreAway as away:
                if self._thread is None:
                    raise
                if not is_told:
                    logger.warning("%s. Trying again", away)
                    is_told = True
                self._stopping.wait(AGAIN_SECONDS)
            else:
                return True
        return False

    @property
    def _folder(self) -> Path:
        return self._data_dir / "partitions"

    def _local(self, epoch: int) -> Path:
        return self._folder / f"{self._pinned.partition}.{self._epoch_folder(epoch)}{SUFFIX}"

    def _epoch_folder(self, epoch: int) -> str:
        return epoch_folder(self._pinned.log.epoch_span(epoch)[0])
