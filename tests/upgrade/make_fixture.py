"""`python -m tests.upgrade.make_fixture`: what this version writes, for later ones to continue.

It writes `fixtures/<version>/written.tar.xz`, once, as a step of the release (docs/how-to/backup-and-upgrade.md):

    records/<partition>.parquet    the whole log, in the form of an archive
    data/                          a data folder that has read half of it and made one post on a development chain
    store/                         what its worker has put into a store: epochs, manifests, snapshots
    backups/                       a backup of the folder
    spool/                         readings that a gateway has taken and not sent
"""

import io
import lzma
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path

from msgspec import structs

from deploy.backup.backup import backup
from deploy.backup.contents import place_of
from deploy.config import load_settings
from deploy.data_folder import DataFolder
from deploy.stack.servers import start_evm
from files.write import write_json
from settlement import service
from settlement.chain.job import SettleOptions
from settlement.chain.node import Chain
from settlement.chain.signer import Keys
from streams.storage.archive import write_archive
from streams.storage.object_store import ObjectStore
from streams.worker.partition import Partition
from tallyroot_gateway import Reading
from tallyroot_gateway.spool import Spool
from tests.support.archived_log import LOG, MACHINES, records_of

FIXTURES = Path(__file__).parent / "fixtures"
WRITTEN = "written.tar.xz"
HOURS = 4
READ_MS = 2 * LOG.epoch_ms + LOG.epoch_ms // 2
"""How long the log is, and how much of it the folder has read: it ends within an epoch."""

LEFT_OUT = (".lock", ".tmp", "-wal", "-shm", "/lock")
NOW_MS = 1_800_000_000_000


def main() -> None:
    """Writes the fixture of the present version. Refuses to write it again: what was released doesn't change."""
    target = FIXTURES / version("tallyroot") / WRITTEN
    if target.exists():
        sys.exit(f"{target} is there: a version's fixture is made once")
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_all(root)
        target.parent.mkdir(parents=True)
        target.write_bytes(packed(root))
    print(f"{target}: {target.stat().st_size:,} bytes")


def write_all(root: Path) -> None:
    """All parts of the fixture, by the functions that the commands call."""
    log, folder = structs.replace(LOG, log_id="released"), root / "data"
    folder.mkdir()
    write_json(folder / "log.json", log)
    for partition, machine in enumerate(MACHINES):
        records = records_of(machine, HOURS)
        archive = write_archive(root / "records" / f"{partition}.parquet", records, partition, 0, records.end, bool)
        assert archive is not None
        archive.publish()
        until_ms = records.records[0].timestamp + READ_MS
        half = next(place for place, record in enumerate(records.records) if record.timestamp >= until_ms)
        opened = Partition.open(
            folder, log, partition, records.topic_id(), records, store=ObjectStore(str(root / "store"))
        )
        assert opened is not None
        opened.process(0, records.records[half].offset, records.records[:half])
        opened.close()
    server = start_evm(root / "evm")
    try:
        node = Chain(server.rpc_url, poll_s=0.01)
        keys = Keys({}, node.chain_id)
        service.deploy_contracts(folder, node, log, keys)
        service.fund(folder, node, log, keys, 10**9)
        service.settle(folder, node, log, keys, SettleOptions(max_posts=1))
    finally:
        server.stop()
    backup(DataFolder(folder, load_settings()), place_of(str(root / "backups")), lambda done, text: None)
    spool = Spool(root / "spool", "released", "site", now_ms=NOW_MS)
    for seq in range(3):
        number = spool.next_seq("m", "energy")
        spool.append([Reading("m", "energy", spool.boot, number, observed_at=NOW_MS + seq, register=seq)])
    spool.sync()
    spool.close()


def packed(root: Path) -> bytes:
    """The parts as one archive, without what servers and locks leave."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for path in sorted(root.rglob("*")):
            name = path.relative_to(root)
            if path.is_file() and name.parts[0] != "evm" and not str(path).endswith(LEFT_OUT):
                entry = tarfile.TarInfo(name.as_posix())
                entry.size = path.stat().st_size
                tar.addfile(entry, io.BytesIO(path.read_bytes()))
    return lzma.compress(content.getvalue(), preset=9 | lzma.PRESET_EXTREME)


if __name__ == "__main__":
    main()
