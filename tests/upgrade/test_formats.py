"""Every file that this version writes carries a format, and one of a later version is refused in one line."""

import io
import json
import lzma
import re
import sqlite3
import tarfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deploy.backup.contents import place_of, read_backup
from deploy.config import load_settings
from deploy.data_folder import DataFolder
from files.format import FORMAT, METADATA
from files.parquet import read_table
from schemas.arrow import WINDOWS
from schemas.errors import InvalidInput
from settlement.chain.ledger import Deployment
from settlement.storage.journal import Journal
from settlement.storage.posts import Store
from settlement.storage.published_epochs import EpochReader
from streams.storage.checkpoint import Checkpoint
from streams.storage.checkpoint_identity import CheckpointIdentity
from streams.storage.snapshot import Snapshot
from tallyroot_gateway.errors import InvalidInput as RefusedByGateway
from tallyroot_gateway.spool import Spool
from tests.upgrade.make_fixture import FIXTURES, WRITTEN

NEWEST = max(FIXTURES.iterdir(), key=lambda path: [int(part) for part in path.name.split(".")])
WITHOUT = re.compile(r".*\.(leaves|skipped|next)|.*/posts/\d+/(payouts|manifest)\.json|backups/objects/.*|spool/acked")
"""Digests and batches as they are; offsets for other processes; what header.json gives the format of; contents."""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("written")
    with tarfile.open(fileobj=io.BytesIO(lzma.decompress((NEWEST / WRITTEN).read_bytes()))) as tar:
        tar.extractall(root, filter="data")
    return root


def stated(path: Path) -> object:
    """The format that a file says it has."""
    if path.suffix == ".json":
        first, value = next(iter(json.loads(path.read_text()).items()))
        return value if first == "format" else None
    if path.suffix == ".parquet":
        return int((pq.read_schema(path).metadata or {}).get(METADATA, b"0"))
    if path.suffix == ".sqlite":
        with closing(sqlite3.connect(path)) as db:
            return db.execute("PRAGMA user_version").fetchone()[0]
    if path.suffix == ".duckdb":
        with duckdb.connect(str(path), read_only=True) as db:
            return json.loads(db.execute("SELECT content FROM identity").fetchall()[0][0])["format"]
    if path.suffix == ".snapshot":
        return msgspec.msgpack.decode(path.read_bytes(), type=Snapshot).identity.format
    if path.suffix == ".readings":
        return json.loads(path.read_bytes().splitlines()[0][9:])["spool"]
    return None


def test_every_file_carries_its_format(written: Path) -> None:
    paths = [path for path in written.rglob("*") if path.is_file()]
    names = {path: path.relative_to(written).as_posix() for path in paths}
    silent = [names[path] for path in paths if not WITHOUT.fullmatch(names[path]) and not stated(path)]
    assert silent == [] and len({path.suffix for path in paths}) >= 7


def later_json(path: Path) -> None:
    path.write_text(path.read_text().replace(f'"format": {FORMAT}', f'"format": {FORMAT + 1}', 1))


def later_parquet(path: Path) -> None:
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({METADATA: str(FORMAT + 1).encode()}), path)


def later_sqlite(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {FORMAT + 1}")


def later_checkpoint(path: Path) -> None:
    with duckdb.connect(str(path)) as db:
        db.execute("UPDATE identity SET content = regexp_replace(content, '\"format\":[0-9]+', '\"format\":999')")


def later_spool(path: Path) -> None:
    import hashlib

    head = json.loads(path.read_bytes().splitlines()[0][9:]) | {"spool": 9}
    text = json.dumps(head).encode()
    path.write_bytes(hashlib.sha256(text).hexdigest()[:8].encode() + b" " + text + b"\n")


def reads(root: Path) -> dict[str, tuple[str, Callable[[Path], None], Callable[[], object]]]:
    """By what is read: a pattern of the file, what makes it a later version's, and who reads it."""
    data = root / "data"
    log = DataFolder(data, load_settings()).log()
    kept = Path(next(iter(sorted(data.glob("epochs/*/0.windows.parquet")))))
    epoch = next(iter(EpochReader(data, log).first_epochs().values()))

    def open_checkpoint() -> None:
        Checkpoint(
            data / "partitions" / "0.duckdb", CheckpointIdentity(format=3, partition=0, topic_id="topic-1", log=log)
        )

    return {
        "log": ("data/log.json", later_json, lambda: DataFolder(data, load_settings()).log()),
        "ledger": ("data/chain.json", later_json, lambda: Deployment.load(data)),
        "manifest": ("data/epochs/*/0.manifest.json", later_json, lambda: EpochReader(data, log).manifest(0, epoch)),
        "post": ("data/settlement/posts/1/header.json", later_json, lambda: Store(data).stored_header(1)),
        "backup": ("backups/backups/*.json", later_json, lambda: read_backup(place_of(str(root / "backups")))),
        "table": ("data/epochs/*/0.windows.parquet", later_parquet, lambda: read_table(kept, WINDOWS, remedy="")),
        "journal": (
            "data/settlement/journal.sqlite",
            later_sqlite,
            lambda: Journal(data / "settlement/journal.sqlite"),
        ),
        "checkpoint": ("data/partitions/0.duckdb", later_checkpoint, open_checkpoint),
        "spool": ("spool/*.readings", later_spool, lambda: Spool(root / "spool", "released", "site", now_ms=1)),
    }


def test_what_a_later_version_wrote_is_refused(written: Path) -> None:
    said = {}
    for what, (pattern, make_later, read) in reads(written).items():
        path = min(written.glob(pattern))
        before = path.read_bytes()
        make_later(path)
        with pytest.raises((InvalidInput, RefusedByGateway)) as refused:
            read()
        said[what] = str(refused.value)
        path.write_bytes(before)
    for what, text in said.items():
        assert re.search(r"has format (2|9|999)\b.*(version that wrote it)", text) and "\n" not in text, (what, text)


def test_a_file_of_a_person_s_own_needs_no_format(tmp_path: Path) -> None:
    (tmp_path / "log.json").write_text('{"log_id": "mine"}')
    assert DataFolder(tmp_path, load_settings()).log().log_id == "mine"
    pq.write_table(pa.table({"a": [1]}), tmp_path / "a.parquet")
    assert read_table(tmp_path / "a.parquet", pa.schema([("a", pa.int64())]), remedy="").num_rows == 1
