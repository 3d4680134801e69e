"""One partition of the log, owned by one process: slices in, sealed windows and epochs' files out.

A slice is committed in pieces; a piece ends with the slice or at a cut. For each piece:

(1) one transaction: changed state, next offset, stream time, sealed rows, rejects and, at a cut, the epoch's `Cut`;
(2) `live/<n>/<number>.windows.parquet` and the tables beside it: the windows that sealed, for analysts;
(2b) the refused records, to the topic of rejects, and the orders, to theirs: beside the commits, as Kafka takes them.
Every few seconds, and before (3), `live/<n>/<number>.rejects.parquet` and `.orders.parquet`: the rejects and orders of
an epoch so far.

At a cut also, for the epoch that ended, perhaps later and with other pieces committed on top:

(3) `epochs/<epoch>/<n>.windows.parquet` and so on: the epoch's rows in the checkpoint, a file a table that has any;
(4) `log/<epoch>/<n>.parquet` and `.leaves`: the archive, read from the log again; then the manifest, last. With a store
    that hosts share: all of them are stored, the manifest last, then the snapshot that was written before the cut's
    (1);
(5) one transaction drops the epoch's rows from the checkpoint; rejects and unsent orders stay until (2b) is
    acknowledged.

Steps 2 to 5 only write what the checkpoint and the log decide, and each can be repeated: whatever a crash cuts off is
repeated when the partition is opened, from (2) on.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import msgspec
from msgspec import Struct

from files.lock import FileLock
from files.write import Step, no_step, sync_folder
from schemas.arrow import RECORD_TABLES, orders_table, payments_table
from schemas.errors import InvalidInput, InvariantBroken
from schemas.log import Log
from schemas.manifest import Counts
from schemas.order import Order
from streams.core.advance import Advanced
from streams.core.log_digest import LogDigest
from streams.core.log_root import CHUNK_OFFSETS
from streams.core.records import LogRecord
from streams.core.replay import advance_by_cuts
from streams.core.tables import tables_digest
from streams.kafka.outbox_sender import OutboxSender, Stored
from streams.kafka.outbox_topic import NONE_SENT, M, OrderMessage, OutboxTopic, RejectedMessage
from streams.storage.checkpoint import Checkpoint, Cut, Piece, Position, readable
from streams.storage.checkpoint_identity import FORMAT, CheckpointIdentity
from streams.storage.epoch_files import REWRITTEN, last_manifest, publish_epoch
from streams.storage.live import Live, open_windows
from streams.storage.log_reader import LogReader
from streams.storage.object_store import ObjectStore
from streams.storage.offset_mark import OffsetMark
from streams.storage.partition_store import PartitionStore


class Progress(Struct, frozen=True, kw_only=True):
    """The result of one slice. `cuts` are the epochs that it ended, `rejects_by_reason` counts its rejects."""

    next_offset: int
    records: int
    counts: Counts
    sealed: int
    rejected: int
    rejects_by_reason: dict[str, int]
    stream_time_ms: int | None
    cuts: tuple[int, ...]

    @property
    def cut(self) -> int | None:
        """The last epoch that the slice ended, if any."""
        return self.cuts[-1] if self.cuts else None


class Partition:
    """An open partition. All calls come from one thread; an error in `process` leaves it unusable."""

    def __init__(
        self,
        data_dir: Path,
        log: Log,
        partition: int,
        checkpoint: Checkpoint,
        lock: FileLock,
        reader: LogReader,
        tail_reader: LogReader,
        sender: OutboxSender[RejectedMessage] | None,
        order_sender: OutboxSender[OrderMessage] | None,
        store: PartitionStore,
        background: bool,
        step: Step,
        seconds: Callable[[], float],
        partitions: Callable[[], int],
    ) -> None:
        """See `open`."""
        is_restored = store.restore(checkpoint)
        self._data_dir = data_dir
        self._log = log
        self._partition = partition
        self._checkpoint = checkpoint
        self._lock = lock
        self._reader = reader
        self._sender = sender
        self._order_sender = order_sender
        self._last_order = checkpoint.placed.last()
        """The last offset of the orders that the checkpoint holds."""
        self._store = store
        self._step = step
        self._broken = False
        self._position = checkpoint.position
        self._mark = OffsetMark(data_dir / "partitions", partition)
        self._mark.set(self._position.next_offset or 0)
        self._log_digest = self._compared_tail(tail_reader)
        self._state = checkpoint.state(log, partition)
        is_new = is_restored or self._position.next_offset is None
        here = last_manifest(data_dir, partition) if is_new else None
        ends = [log.epoch_span(last)[1] for last in (here, checkpoint.last_published()) if last is not None]
        published_ms = max(ends, default=0)
        unpublished = set(checkpoint.live_starts())
        self._unshown = checkpoint.refused.unfinished_epochs()
        """The epochs whose live files of rejects and orders are not up to date."""
        refused = {log.epoch_span(epoch)[0] for epoch in self._unshown}
        self._unshown_rejects = 0
        """How many rejects came since."""
        self._live = Live(
            data_dir / "live", partition, published_ms, unpublished, refused, seconds, is_new=is_new,
            partitions=partitions,
        )  # fmt: skip
        self._unsent = checkpoint.refused.drop_sent(NONE_SENT)
        """The last offset of the rejects of final epochs that the broker hasn't acknowledged."""
        self._pending = checkpoint.pending()
        self._stopping = threading.Event()
        self._thread = ThreadPoolExecutor(1, f"epochs-{partition}") if background else None
        self._running: Future[bytes | None] | None = None

    @classmethod
    def open(
        cls,
        data_dir: Path,
        log: Log,
        partition: int,
        topic_id: str,
        reader: LogReader,
        *,
        tail_reader: LogReader | None = None,
        rejected: OutboxTopic[RejectedMessage] | None = None,
        orders: OutboxTopic[OrderMessage] | None = None,
        store: ObjectStore | None = None,
        background: bool = False,
        step: Step = no_step,
        seconds: Callable[[], float] = time.monotonic,
        partitions: Callable[[], int] = lambda: 1,
    ) -> "Partition | None":
        """Acquires the partition and repeats what a crash cut off; returns None if another process holds it.

        With `background`, steps 3 and 4 run beside the commits, on a thread of their own that reads the log through
        `reader`, and step 2b on another; otherwise inside of `open` and `process`. `tail_reader` reads the last records
        before the checkpoint's offset: they must be those that were judged. Without `rejected` and `orders` there is
        no step 2b. With a `store`, the partition resumes from another host's snapshot there if it is further than the
        checkpoint here. `step` is called with each step once done, `seconds` is a monotonic clock, `partitions` is how
        many share the process's time. Raises InvalidInput if folder or store belongs to another log, topic or list of
        rulesets (StoreAway, KafkaAway if one doesn't answer), InvariantBroken if an epoch's manifest contradicts the
        log or the store, or the log no longer holds what was judged.
        """
        for name in ("partitions", "epochs", "log", "live"):
            (data_dir / name).mkdir(parents=True, exist_ok=True)
        sync_folder(data_dir)
        folder = data_dir / "partitions"
        lock = FileLock.acquire(folder / f"{partition}.lock")
        if lock is None:
            return None
        try:
            identity = CheckpointIdentity(format=FORMAT, partition=partition, topic_id=topic_id, log=log)
            checkpoint = Checkpoint(folder / f"{partition}.duckdb", identity)
        except BaseException:
            lock.release()
            raise
        topic = (partition, topic_id, step, background)
        sender = _sender(rejected, checkpoint.refused_reader, *topic)
        order_sender = _sender(orders, checkpoint.placed_reader, *topic)
        try:
            shared = PartitionStore(store, data_dir, identity, step, background=background)
            rest = (sender, order_sender, shared, background, step, seconds, partitions)
            with readable(checkpoint.path):
                opened = cls(data_dir, log, partition, checkpoint, lock, reader, tail_reader or reader, *rest)
        except BaseException:
            checkpoint.close()
            lock.release()
            raise
        try:
            opened._repeat()
        except BaseException:
            opened._broken = True
            opened.close()
            raise
        return opened

    @property
    def next_offset(self) -> int | None:
        """The offset to continue from, or None if nothing was ever committed (then 0)."""
        return self._position.next_offset

    @property
    def machines(self) -> int:
        """How many machines are registered, retired ones too."""
        return len(self._state.machines)

    @property
    def pending(self) -> tuple[int, ...]:
        """The epochs that have ended and whose files are not final yet."""
        return tuple(cut.epoch for cut in self._pending)

    def process(
        self, start: int, next: int, records: Sequence[LogRecord], committed: Callable[[int], None] = lambda _: None
    ) -> Progress:
        """Commits the slice [start, next) of the log; `start` is where the previous one ended. Offsets may have gaps.

        An epoch that ends in it has a commit of its own: after each, `committed` is called with the next offset.
        Raises InvariantBroken if the slice doesn't continue the checkpoint; then nothing of it is committed.
        """
        if self._broken:
            raise InvariantBroken(f"partition {self._partition} was used after an error")
        self._check(start, next, records)
        self._broken = True
        pieces: list[tuple[Piece, Advanced]] = []
        for done, left in advance_by_cuts(self._state, records):
            at_cut = done.cut is not None
            self._log_digest.add(left[: done.consumed])
            piece = self._piece(start, left[done.consumed].offset if at_cut else next, done)
            self._commit(piece)
            pieces.append((piece, done))
            start = piece.position.next_offset or 0
            committed(start)
        self._live.tidy()
        if self._live.is_open_due:
            self._live.write_open(partial(open_windows, self._state, self._partition))
        if self._unshown and self._live.is_rejects_due(self._unshown_rejects):
            self._show_rejects()
        self._drop_sent()
        self._broken = False
        return Progress(
            next_offset=next,
            records=len(records),
            counts=sum((done.counts for _, done in pieces), Counts()),
            sealed=sum(len(done.sealed) for _, done in pieces),
            rejected=sum(done.counts.rejected for _, done in pieces),
            rejects_by_reason=dict(sum((Counter(done.refused.by_reason()) for _, done in pieces), Counter())),
            stream_time_ms=self._position.stream_time_ms,
            cuts=tuple(done.cut for _, done in pieces if done.cut is not None),
        )

    def drain(self) -> None:
        """Returns once the files of every ended epoch are final, and all rejects and orders are acknowledged.

        Raises the error that prevents it.
        """
        while self._pending:
            self._finish_epochs(wait=True)
        self._store.check(wait=True)
        if self._sender is not None:
            self._sender.drain()
        if self._order_sender is not None:
            self._order_sender.drain()
        self._drop_sent()
        self._show_rejects()
        self._live.write_open(partial(open_windows, self._state, self._partition))

    def close(self) -> None:
        """Ends the threads, closes the checkpoint, then releases the lock. The next `open` finishes epochs not final
        yet.
        """
        self._stopping.set()
        self._store.close()
        try:
            if self._thread is not None:
                self._thread.shutdown()
                if not self._broken:
                    self._finish_epochs(wait=False)
            if self._sender is not None:
                self._sender.close()
            if self._order_sender is not None:
                self._order_sender.close()
            if not self._broken:
                self._drop_sent()
                self._show_rejects()
                self._live.write_open(partial(open_windows, self._state, self._partition))
        finally:
            self._checkpoint.close()
            self._mark.close()
            self._lock.release()

    def _compared_tail(self, reader: LogReader) -> LogDigest:
        """The log root's open chunk, its records read again. Raises InvariantBroken if they aren't those judged."""
        digest, position = LogDigest(), self._position
        first_offset(self._log.topic, self._partition, position.next_offset, reader.range(self._partition))
        if position.tail is not None and position.next_offset is not None:
            first = max(position.first_offset, position.tail.chunk * CHUNK_OFFSETS)
            for records in reader.slices(self._partition, first, position.next_offset):
                digest.add(records)
            if digest.tail != position.tail:
                raise InvariantBroken(
                    f"partition {self._partition}: the log holds other records between the offsets {first} and"
                    f" {position.next_offset} than those that were judged: {REWRITTEN}"
                )
        return digest

    def _check(self, start: int, next: int, records: Sequence[LogRecord]) -> None:
        stored = self._position.next_offset or 0
        if start != stored:
            raise InvariantBroken(f"partition {self._partition} is at offset {stored}, the slice starts at {start}")
        if next < start or (records and not start <= records[0].offset <= records[-1].offset < next):
            raise InvariantBroken(f"partition {self._partition}: the slice [{start}, {next}) holds other offsets")

    def _piece(self, start: int, next: int, done: Advanced) -> Piece:
        """The content of step 1, once `advance` has changed the state."""
        state, before = self._state, self._position
        counts = before.counts + done.counts
        if done.cut is not None:
            self._log_digest.close()
        position = Position(
            next_offset=next,
            stream_time_ms=state.stream_time_ms,
            epoch=state.epoch,
            first_offset=before.first_offset,
            counts=counts,
            tail=self._log_digest.tail,
        )
        cut = None
        if done.cut is not None:
            tables = state.tables()
            self._store.note(done.cut, tables)
            cut = Cut(
                epoch=done.cut,
                first_offset=before.first_offset,
                next_offset=next,
                counts=counts,
                stream_time_ms=state.now_ms,
                deposits_micros=state.deposits_micros(),
                state_digest=tables_digest(tables),
            )
            position = Position(
                next_offset=next, stream_time_ms=state.stream_time_ms, epoch=state.epoch, first_offset=next
            )
        return Piece(
            start=start,
            epoch=(state.epoch or 0) if done.cut is None else done.cut,
            changes=state.changes(),
            position=position,
            tables=done.sealed.tables()
            | {"orders": orders_table(done.orders), "payments": payments_table(done.payments)}
            | done.refused.tables(),
            leaves=self._log_digest.take(),
            cut=cut,
            unsent=[] if self._order_sender is None else [self._message(order) for order in done.orders],
        )

    def _message(self, order: Order) -> OrderMessage:
        route = self._state.machines[order.machine].route
        return OrderMessage(order.offset, order.placed_at, route.encode(), msgspec.json.encode(order))

    def _commit(self, piece: Piece) -> None:
        # (1) The transaction.
        self._checkpoint.commit(piece)
        self._position = piece.position
        self._mark.set(piece.position.next_offset or 0)
        self._step("1 committed")
        if self._checkpoint.is_state_due:
            self._checkpoint.write_state(self._state.tables())
        # (2) The live files.
        if piece.live_ms is not None:
            self._live.write(piece.live_ms, piece.tables)
            self._step("2 live")
        # (2b) The topics of rejects and orders, beside.
        if any(piece.tables[name].num_rows for name in ("rejects", *RECORD_TABLES)):
            self._unshown.add(piece.epoch)
            self._unshown_rejects += piece.tables["rejects"].num_rows
            if self._sender is not None:
                self._sender.wake()
        if piece.unsent and self._order_sender is not None:
            self._last_order = piece.unsent[-1].offset
            self._order_sender.wake()
        # (3) to (5)
        if piece.cut is not None:
            self._pending.append(piece.cut)
        self._finish_epochs(wait=False)

    def _repeat(self) -> None:
        """Steps 2 to 5 for all that the checkpoint still holds."""
        for live_ms in self._checkpoint.live_starts():
            self._live.write(live_ms, self._checkpoint.live_tables(live_ms))
            self._step("2 live")
        if self._sender is not None and (self._unshown or self._unsent is not None):
            self._sender.wake()
        if self._order_sender is not None and self._last_order is not None:
            self._order_sender.wake()
        self._finish_epochs(wait=False)
        if self._position.epoch is not None:
            self._store.sync(self._pending[0].epoch if self._pending else self._position.epoch)

    def _finish_epochs(self, *, wait: bool) -> None:
        """Finishes the ended epochs in their order, up to one that is still being published in the background."""
        self._store.check()
        while self._pending:
            cut = self._pending[0]
            if self._running is None and cut.epoch in self._unshown:
                self._show_rejects()
            if self._thread is None:
                digest = self._publish(cut, self._checkpoint)
            else:
                if self._running is None:
                    if self._stopping.is_set():
                        return
                    self._running = self._thread.submit(self._publish_beside, cut)
                if not (wait or self._running.done()):
                    return
                digest, self._running = self._running.result(), None
            if digest is None:
                return
            # (5) The epoch is final: its rows leave the checkpoint. Queries take some from live/ for a while yet.
            self._live.keep(self._log.epoch_span(cut.epoch)[1])
            self._checkpoint.drop(cut.epoch, digest, with_rejects=self._sender is None)
            self._drop_sent(force=True)
            self._live.published(self._log.epoch_span(cut.epoch)[1])
            self._pending.pop(0)
            self._step("5 dropped")

    def _show_rejects(self) -> None:
        """Writes the rejects, orders and payments of unfinished epochs to their live files."""
        for epoch in sorted(self._unshown):
            start_ms, _ = self._log.epoch_span(epoch)
            self._live.write_rejects(start_ms, partial(self._checkpoint.refused.write, epoch, start_ms))
            for name in RECORD_TABLES:
                self._live.write_rows(start_ms, name, self._checkpoint.rows_of(name, epoch))
        self._unshown.clear()
        self._unshown_rejects = 0

    def _drop_sent(self, *, force: bool = False) -> None:
        """Drops what the broker has acknowledged: the rejects of final epochs, and all orders."""
        if self._order_sender is not None:
            self._order_sender.check()
            if self._last_order is not None and self._order_sender.sent >= self._last_order:
                self._checkpoint.placed.drop_sent(self._last_order)
                self._last_order = None
        if self._sender is None:
            return
        self._sender.check()
        if force or (self._unsent is not None and self._sender.sent >= self._unsent):
            self._unsent = self._checkpoint.refused.drop_sent(self._sender.sent)

    def _publish(self, cut: Cut, checkpoint: Checkpoint) -> bytes | None:
        digest = publish_epoch(
            self._data_dir,
            self._log,
            self._partition,
            cut,
            checkpoint,
            self._reader,
            self._step,
            self._stopping.is_set,
        )
        if digest is None:
            return None
        self._step("4 manifest")
        is_kept = self._store.keep(
            cut.epoch, partial(self._is_sent, checkpoint.last_refused(cut.epoch), checkpoint.placed.last(cut.epoch))
        )
        return digest if is_kept else None

    def _is_sent(self, refused: int | None, placed: int | None) -> bool:
        """Whether all rejects and orders up to an offset of each are acknowledged. Raises the error that has stopped
        a sender.
        """
        for sender, last in ((self._sender, refused), (self._order_sender, placed)):
            if sender is not None and last is not None:
                sender.check()
                if sender.sent < last:
                    return False
        return True

    def _publish_beside(self, cut: Cut) -> bytes | None:
        checkpoint = self._checkpoint.reader()
        try:
            return self._publish(cut, checkpoint)
        finally:
            checkpoint.close()


def _sender(
    topic: OutboxTopic[M] | None,
    stored: Callable[[], Stored[M]],
    partition: int,
    topic_id: str,
    step: Step,
    background: bool,
) -> OutboxSender[M] | None:
    """The sender of one outbox, if there is a topic for it."""
    return None if topic is None else OutboxSender(topic, partition, topic_id, stored, step, background=background)


def first_offset(topic: str, partition: int, stored: int | None, held: tuple[int, int]) -> int:
    """The offset to resume at: the stored one, or 0 for a partition never read.

    `held` is the log's (earliest, end). Raises InvalidInput if that offset lies outside of it.
    """
    earliest, end = held
    offset = stored or 0
    if earliest <= offset <= end:
        return offset
    raise InvalidInput(
        f"partition {partition} of the topic {topic} holds the offsets {earliest} to {end} and this data folder is"
        f" at {offset}: records were deleted, or it is another log; restore the topic, or start a new log and folder"
    )
