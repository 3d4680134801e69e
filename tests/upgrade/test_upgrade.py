"""What every released version wrote is opened by this one, and continued to the same bytes as a fresh run's."""

import io
import lzma
import tarfile
from pathlib import Path

import msgspec
import pytest

from deploy.backup.contents import place_of
from deploy.backup.restore import restore
from deploy.config import load_settings
from deploy.data_folder import DataFolder
from schemas.errors import InvalidInput
from schemas.log import Log
from schemas.manifest import EpochFiles
from settlement.chain.job import SettleOptions, choose_run
from settlement.chain.ledger import Deployment
from settlement.head import PostHeader
from settlement.post import PostStanding, assemble
from settlement.storage.journal import Journal
from settlement.storage.posts import Store
from settlement.storage.published_epochs import EpochReader
from streams.storage.archive import read_archive
from streams.storage.epoch_files import epoch_paths, read_windows
from streams.storage.object_store import ObjectStore
from streams.worker.partition import Partition
from tallyroot_gateway import Reading
from tallyroot_gateway.spool import Spool
from tests.support.sim_log import SimLog
from tests.upgrade.make_fixture import FIXTURES, NOW_MS, WRITTEN

VERSIONS = sorted(path.name for path in FIXTURES.iterdir())
HEAD = bytes(32)


class Written:
    """What a version wrote, unpacked, and the log that it had read half of."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.log = DataFolder(root / "data", load_settings()).log()
        self.records = [
            SimLog(list(read_archive(root / "records" / f"{partition}.parquet")))
            for partition in range(self.log.partitions)
        ]

    def read(self, folder: Path, store: str | None = None) -> dict[tuple[int, int], str]:
        """Reads the rest of the log into a folder; the digests of all manifests by partition and epoch.

        A checkpoint of a format that is read no more says what to do; that is done.
        """
        for partition, records in enumerate(self.records):
            try:
                opened = self._opened(folder, partition, store)
            except InvalidInput as refused:
                if "remove it, and `tallyroot stream` rebuilds it from the log" not in str(refused):
                    raise
                (folder / "partitions" / f"{partition}.duckdb").unlink()
                opened = self._opened(folder, partition, store)
            start = opened.next_offset or 0
            opened.process(start, records.end, [record for record in records.records if record.offset >= start])
            opened.close()
        return {
            (whole.manifest.partition, whole.manifest.epoch): whole.manifest_digest
            for path in folder.glob("epochs/*/*.manifest.json")
            if (whole := msgspec.json.decode(path.read_bytes(), type=EpochFiles))
        }

    def _opened(self, folder: Path, partition: int, store: str | None) -> Partition:
        log, shared = self.records[partition], None if store is None else ObjectStore(store)
        opened = Partition.open(folder, self.log, partition, log.topic_id(), log, store=shared)
        assert opened is not None
        return opened


@pytest.fixture(params=VERSIONS)
def written(request: pytest.FixtureRequest, tmp_path: Path) -> Written:
    content = lzma.decompress((FIXTURES / request.param / WRITTEN).read_bytes())
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        tar.extractall(tmp_path / "written", filter="data")
    return Written(tmp_path / "written")


def headers(folder: Path, log: Log, initial: PostStanding, lasts: tuple[int, ...]) -> list[PostHeader]:
    """The headers of posts up to these epochs, made from what a folder holds; the first may be there already."""
    store, standing, found = Store(folder), initial, []
    for last in lasts:
        if store.header(standing.sequence + 1) is None:
            run, _ = choose_run(EpochReader(folder, log), standing, log, SettleOptions(), last=last)
            post = None if run is None else assemble(standing, run, 6)
            assert post is not None
            store.save(post, post.header(HEAD, 6), 1, 6)
        header = store.stored_header(standing.sequence + 1).header.header()
        found.append(msgspec.structs.replace(header, previous_head=HEAD))
        standing = store.standing(standing.sequence + 1, initial)
    return found


def test_a_folder_is_continued_byte_for_byte(written: Written, tmp_path: Path) -> None:
    old, fresh = written.root / "data", tmp_path / "fresh"
    digests = written.read(old)
    assert digests == written.read(fresh) and len(digests) == 8
    for partition, epoch in digests:
        paths = [epoch_paths(folder, written.log, epoch, partition) for folder in (old, fresh)]
        assert read_windows(paths[0]) == read_windows(paths[1])
        assert (
            paths[0].archive.with_suffix(".leaves").read_bytes() == paths[1].archive.with_suffix(".leaves").read_bytes()
        )
    initial = Deployment.load(old).initial
    first = Store(old).manifest(1).last_epoch
    lasts = (first, first + 2)
    assert headers(old, written.log, initial, lasts) == headers(fresh, written.log, initial, lasts)
    with Journal(old / "settlement" / "journal.sqlite") as journal:
        (posting,) = journal.postings()
        assert posting.header == Store(old).stored_header(1).header.header() and posting.state == "mined"


def test_store_and_backup_are_gone_on_from(written: Written, tmp_path: Path) -> None:
    truth = written.read(tmp_path / "fresh")
    assert written.read(tmp_path / "another-host", str(written.root / "store")) == truth
    back = restore(place_of(str(written.root / "backups")), tmp_path / "back", lambda done, text: None)
    assert back.log_id == written.log.log_id
    assert written.read(tmp_path / "back") == truth


def test_a_gateway_s_spool_is_gone_on_from(written: Written) -> None:
    spool = Spool(written.root / "spool", written.log.log_id, "site", now_ms=NOW_MS + 60_000)
    rows, _ = spool.read(spool.acked, 10, 1 << 20)
    assert [msgspec.json.decode(row, type=Reading).register for row in rows] == [0, 1, 2]
    assert spool.warnings == [] and spool.next_seq("m", "energy") > 2
    spool.close()
