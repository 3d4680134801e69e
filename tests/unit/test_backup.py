"""A backup that is killed is none, what is damaged is named, and a restore goes on where it was killed."""

import shutil
from collections.abc import Iterable
from pathlib import Path

import duckdb
import pytest

from deploy.backup.backup import BackedUpResult, backup
from deploy.backup.contents import names_of, object_name, read_backup
from deploy.backup.live_copies import copy_checkpoint
from deploy.backup.rehearsal import rehearse
from deploy.backup.restore import restore
from deploy.config import load_settings
from deploy.data_folder import DataFolder
from schemas.errors import InvalidInput
from streams.storage.object_store import ObjectStore
from streams.worker.partition import Partition
from tests.support.archived_log import LOG, MACHINES, fill, records_of
from tests.support.partition_runs import final_files


class Dying(ObjectStore):
    """A place that answers so many puts, and then no more."""

    left = 0

    def put(self, name: str, chunks: Iterable[bytes]) -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        super().put(name, chunks)


def quiet(done: float, text: str) -> None:
    pass


def made(folder: Path, place: ObjectStore, keep: int | None = None) -> BackedUpResult:
    return backup(DataFolder(folder, load_settings()), place, quiet, keep=keep)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("filled")
    fill(folder, 2)
    return folder


@pytest.fixture
def data(filled: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(filled, tmp_path / "data"))


def test_one_that_is_killed_is_none_and_the_next_goes_on(data: Path, tmp_path: Path) -> None:
    place, dying = ObjectStore(str(tmp_path / "place")), Dying(str(tmp_path / "place"))
    dying.left = 7
    with pytest.raises(KeyboardInterrupt):
        made(data, dying)
    assert names_of(place) == []
    with pytest.raises(InvalidInput, match="there is no backup in"):
        read_backup(place)
    whole = made(data, place)
    assert whole.files > whole.new_files and whole.damaged == ()
    back = restore(place, tmp_path / "back", quiet)
    assert back.files == whole.files and final_files(tmp_path / "back") == final_files(data)
    assert not list(data.glob("backup*.tmp"))


def test_old_ones_go_and_what_only_they_held(data: Path, tmp_path: Path) -> None:
    place = ObjectStore(str(tmp_path / "place"))
    (data / "zone.json").write_text('"UTC"')
    first = made(data, place)
    (data / "zone.json").write_text('"Europe/Berlin"')
    second = made(data, place, keep=1)
    assert second.removed == (first.name,) and names_of(place) == [second.name]
    held = {object_name(file.sha256) for file in read_backup(place)[1].files}
    assert set(place.names("objects")) == held
    restore(place, tmp_path / "back", quiet)
    assert (tmp_path / "back" / "zone.json").read_text() == '"Europe/Berlin"'


def test_a_restore_that_was_killed_goes_on_and_refuses_all_else(data: Path, tmp_path: Path) -> None:
    place, back = ObjectStore(str(tmp_path / "place")), tmp_path / "back"
    made(data, place)
    _, found = read_backup(place)
    lost = next(file for file in found.files if file.path.endswith("windows.parquet"))
    content = (tmp_path / "place" / object_name(lost.sha256)).read_bytes()
    (tmp_path / "place" / object_name(lost.sha256)).write_bytes(content[:-1])
    with pytest.raises(InvalidInput, match="is missing or damaged: restore an older backup"):
        restore(place, back, quiet)
    assert not (back / "log.json").exists()
    (tmp_path / "place" / object_name(lost.sha256)).write_bytes(content)
    restore(place, back, quiet)
    with pytest.raises(InvalidInput, match="has a log: name an empty folder"):
        restore(place, back, quiet)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    with pytest.raises(InvalidInput, match=r"notes\.txt is not of this backup"):
        restore(place, tmp_path / "mine", quiet)


def test_what_is_damaged_is_left_out_and_named(data: Path, tmp_path: Path) -> None:
    changed = min(data.glob("epochs/*/0.windows.parquet"))
    place = ObjectStore(str(tmp_path / "place"))
    made(data, place)
    assert rehearse(DataFolder(tmp_path, load_settings()), place, quiet).ok
    changed.write_bytes(b"x")
    assert made(data, place).damaged == ()  # the right content is there already, and stays
    assert rehearse(DataFolder(tmp_path, load_settings()), place, quiet).ok
    place = ObjectStore(str(tmp_path / "another"))
    done = made(data, place)
    assert done.damaged == (f"{changed} is not the file that its manifest names: restore it from an older backup",)
    seen = rehearse(DataFolder(tmp_path, load_settings()), place, quiet)
    assert not seen.ok and len(seen.findings) == 1 and f"{changed.name} is missing" in seen.findings[0]
    assert seen.epochs == 4 and [text.split(":")[0] for text in seen.notes] == ["not compared with Kafka's log"]


def test_a_place_is_of_one_log_and_outside_of_the_folder(data: Path, tmp_path: Path) -> None:
    place = ObjectStore(str(tmp_path / "place"))
    made(data, place)
    (data / "log.json").write_text('{"log_id": "another"}')
    with pytest.raises(InvalidInput, match="holds backups of the log watched"):
        made(data, place)
    with pytest.raises(InvalidInput, match="is in the folder that is backed up"):
        made(data, ObjectStore(str(data / "backups")))


def test_keys_are_copied_when_asked_for_and_passwords_never(data: Path, tmp_path: Path) -> None:
    (data / "keys").mkdir()
    (data / "keys" / "operator.json").write_text("{}")
    (data / "keys" / "operator.password").write_text("secret")
    place = ObjectStore(str(tmp_path / "place"))
    made(data, place)
    assert not [file for file in read_backup(place)[1].files if file.path.startswith("keys")]
    backup(DataFolder(data, load_settings()), place, quiet, with_keys=True)
    assert [file.path for file in read_backup(place)[1].files if file.path.startswith("keys")] == ["keys/operator.json"]


def test_a_checkpoint_is_copied_while_its_owner_commits(tmp_path: Path) -> None:
    log = records_of(MACHINES[0], 2)
    opened = Partition.open(tmp_path, LOG, 0, log.topic_id(), log)
    assert opened is not None
    for start, next, records in log.pieces(5):
        opened.process(start, next, records)
        assert copy_checkpoint(tmp_path / "partitions" / "0.duckdb", tmp_path / "copy.duckdb") == next
    opened.close()
    with duckdb.connect(str(tmp_path / "copy.duckdb")) as copy:
        assert copy.execute("SELECT next_offset FROM position").fetchall() == [(log.end,)]
