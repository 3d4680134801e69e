"""`tallyroot restore --check`: a rehearsal. The backup is restored into a folder beside, looked through, and removed.

What is looked at: every file by its digest; every epoch, recomputed from its archive, against its manifest; every file
of an epoch against the manifest's digests; each checkpoint, opened as a worker opens it, against Kafka's log; each post
against the chain. Kafka and chain are those of the settings, or of the data folder that is there; without them it says
what could not be compared.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import duckdb
import msgspec
from msgspec import Struct

from deploy.backup.contents import Progress, read_backup
from deploy.backup.restore import restore
from deploy.data_folder import DataFolder
from deploy.explain.audit_files import file_findings
from deploy.explain.audit_sources import from_archive
from files.foreign import PlainFiles
from files.write import TEMPORARY
from schemas.errors import InvalidInput, InvariantBroken
from schemas.log import Log
from settlement.audit.sources import ArchiveEnds, SourceMissing
from settlement.storage.posts import Store
from streams.core.skipped_ranges import SkippedBatches
from streams.kafka.reader import KafkaLogReader
from streams.storage.checkpoint import Checkpoint
from streams.storage.checkpoint_identity import CheckpointIdentity
from streams.storage.object_store import ObjectStore
from streams.worker.partition import Partition

if TYPE_CHECKING:
    from settlement.history import History


class PartitionRehearsed(Struct, frozen=True, kw_only=True):
    """A partition: where its checkpoint stands, and how many offsets a worker reads from there (None without Kafka)."""

    partition: int
    next_offset: int
    to_read: int | None


class Rehearsed(Struct, frozen=True, kw_only=True):
    """What a restore would bring, and what is wrong with it. `posts_to_rebuild` is None without a chain.

    `findings` stand in the way of a restore; `notes` say what was not compared, and what follows a restore.
    """

    ok: bool
    name: str
    made_at: str
    files: int
    bytes: int
    epochs: int
    posts: int
    posts_to_rebuild: int | None
    partitions: tuple[PartitionRehearsed, ...]
    findings: tuple[str, ...]
    notes: tuple[str, ...]


def rehearse(data: DataFolder, place: ObjectStore, progress: Progress, name: str | None = None) -> Rehearsed:
    """Rehearses the restore of a backup (the newest without a `name`) beside the data folder, which is left as it is.

    Raises InvalidInput if there is no such backup, or one of its files is missing or damaged; StoreAway.
    """
    name, found = read_backup(place, name)
    data.data_dir.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="rehearsal", suffix=TEMPORARY, dir=data.data_dir.parent) as folder:
        copy = DataFolder(Path(folder) / "data", data.settings)
        restore(place, copy.data_dir, lambda done, text: progress(0.3 * done, text), name)
        seen = _Seen(data, copy, progress)
        digests = seen.epochs()
        seen.findings += [each.text for each in file_findings(PlainFiles(copy.data_dir), digests)]
        partitions = seen.partitions()
        posts, to_rebuild = seen.posts()
        if found.lacking:
            seen.notes.append(f"{len(found.lacking)} files of epochs were pruned before this backup was made")
        findings = [text for text in seen.findings if not any(name in text for name in found.lacking)]
    return Rehearsed(
        ok=not findings, name=name, made_at=found.made_at, files=len(found.files), bytes=found.size,
        epochs=len(digests), posts=posts, posts_to_rebuild=to_rebuild, partitions=partitions,
        findings=tuple(findings), notes=tuple(seen.notes),
    )  # fmt: skip


class _Seen:
    def __init__(self, data: DataFolder, copy: DataFolder, progress: Progress) -> None:
        self.findings: list[str] = []
        self.notes: list[str] = []
        self._data, self._copy, self._log = data, copy, copy.log()
        self._progress = progress

    def epochs(self) -> dict[tuple[int, int], str]:
        """The digests of all manifests by what the archives hold, by partition and epoch."""
        digests: dict[tuple[int, int], str] = {}
        files = PlainFiles(self._copy.data_dir)
        for partition in range(self._log.partitions):
            try:
                for epoch in from_archive(self._log, files, partition, SkippedBatches()):
                    digests[partition, epoch.manifest.epoch] = epoch.manifest.digest().hex()
                    if len(digests) % 50 == 0:
                        share = 0.3 + 0.5 * partition / self._log.partitions
                        self._progress(share, f"epochs recomputed: {len(digests):,}")
            except ArchiveEnds:
                continue
            except SourceMissing as gap:
                self.notes.append(f"not recomputed further: {gap}")
        return digests

    def partitions(self) -> tuple[PartitionRehearsed, ...]:
        """Each partition as a worker would open it."""
        found = []
        with self._reader() as reader:
            for partition in range(self._log.partitions):
                self._progress(0.8 + 0.15 * partition / self._log.partitions, f"partition {partition}")
                try:
                    offset, end = self._opened(partition, reader)
                except (InvalidInput, InvariantBroken, duckdb.Error) as error:
                    self.findings.append(f"partition {partition} can't be continued: {error}")
                    continue
                to_read = None if end is None else end - offset
                found.append(PartitionRehearsed(partition=partition, next_offset=offset, to_read=to_read))
        return tuple(found)

    @contextmanager
    def _reader(self) -> Iterator[KafkaLogReader | None]:
        try:
            servers = self._data.kafka_servers()
            skipped = self._copy.skipped_ranges()
            reader = KafkaLogReader(servers, self._log.topic, 0, skipped)
        except InvalidInput as error:
            self.notes.append(f"not compared with Kafka's log: {error}")
            yield None
            return
        with closing(reader):
            try:
                reader.topic_id()
            except InvalidInput as error:
                self.notes.append(f"not compared with Kafka's log: {error}")
                yield None
                return
            yield reader

    def _opened(self, partition: int, reader: KafkaLogReader | None) -> tuple[int, int | None]:
        """Where a partition goes on, and the log's end, where there is one."""
        folder = self._copy.data_dir
        if reader is None:
            return _opened_alone(folder / "partitions" / f"{partition}.duckdb", self._log), None
        opened = Partition.open(folder, self._log, partition, reader.topic_id(), reader)
        if opened is None:
            raise InvariantBroken(f"partition {partition} of a folder of our own is held")
        opened.close()
        return opened.next_offset or 0, reader.range(partition)[1]

    def posts(self) -> tuple[int, int | None]:
        """How many posts there are, and how many of the chain's a restore would have to rebuild."""
        posts = self._copy.data_dir / "settlement" / "posts"
        here = sum(path.name.isdigit() for path in posts.glob("*")) if posts.is_dir() else 0
        if not (self._copy.data_dir / "chain.json").exists():
            return here, None
        try:
            history = self._history()
        except InvalidInput as error:
            self.notes.append(f"not compared with the chain: {error}")
            return here, None
        store, missing = Store(self._copy.data_dir), 0
        for posted in history.live:
            kept = store.header(posted.header.sequence)
            missing += kept is None
            if kept is not None and kept.header.header() != posted.header:
                self.findings.append(
                    f"post {posted.header.sequence} is not the one on the chain: run `tallyroot audit`"
                )
        if missing:
            self.notes.append(
                f"the chain is {missing} posts ahead: after a restore, `tallyroot restore-posts` leads the folder back"
            )
        return here, missing

    def _history(self) -> "History":
        from settlement.chain.ledger import Ledger
        from settlement.chain.node import Chain

        return Ledger.open(self._copy.data_dir, Chain(self._data.chain_rpc_url())).history()


def _opened_alone(path: Path, log: Log) -> int:
    """Opens a checkpoint without Kafka, and its state; returns its offset, 0 where there is none."""
    if not path.exists():
        return 0
    with duckdb.connect(str(path)) as db:
        ((content,),) = db.execute("SELECT content FROM identity").fetchall()
    kept = msgspec.json.decode(content, type=CheckpointIdentity)
    checkpoint = Checkpoint(path, msgspec.structs.replace(kept, log=log))
    with closing(checkpoint):
        checkpoint.state(log, kept.partition)
        return checkpoint.position.next_offset or 0
