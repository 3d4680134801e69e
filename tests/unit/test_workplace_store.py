"""The setting TALLYROOT_STORE: remembered in the data folder, and enough for a host that has nothing else."""

from pathlib import Path

import pytest
from msgspec import structs

from deploy.config import Settings
from deploy.data_folder import DataFolder
from deploy.explain.query import query
from schemas.errors import InvalidInput
from streams.storage.shared_epochs import share_log
from tests.support import partition_runs as runs
from tests.support import store_runs as hosts
from tests.support.sim_log import HOURLY


def place(folder: Path, store: str | None = None) -> DataFolder:
    return DataFolder(folder, Settings(store=store))


def test_a_folder_remembers_its_store(tmp_path: Path) -> None:
    assert place(tmp_path / "one").store() is None
    first = place(tmp_path / "one", str(tmp_path / "store")).store()
    again = place(tmp_path / "one").store()
    assert first is not None and again is not None
    assert first.uri == again.uri == str(tmp_path / "store")
    moved = place(tmp_path / "one", str(tmp_path / "moved")).store()
    assert moved is not None and moved.uri == str(tmp_path / "moved")
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInput, match="doesn't answer"):
        place(tmp_path / "one", str(tmp_path / "file")).store()
    kept = place(tmp_path / "one").store()
    assert kept is not None and kept.uri == moved.uri
    (tmp_path / "one" / "store.json").write_text("{}")
    with pytest.raises(InvalidInput, match="is not the name of a store"):
        place(tmp_path / "one").store()


def test_queries_on_another_host_see_what_ended(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    with pytest.raises(InvalidInput, match="no log in"):
        place(tmp_path / "other", store).log()
    hosts.run(tmp_path / "one", store)
    here = place(tmp_path / "one", store)
    here.create_log(HOURLY)
    shared = here.store()
    assert shared is not None
    share_log(shared, here.log())
    other = place(tmp_path / "other")
    text = "SELECT count(*), sum(readings) FROM windows"
    assert query(other, text).rows == query(here, text).rows
    assert runs.final_files(tmp_path / "other") == runs.final_files(tmp_path / "one")
    assert other.log() == HOURLY
    with pytest.raises(InvalidInput, match="belongs to the log small"):
        share_log(shared, structs.replace(HOURLY, log_id="another"))
    later = structs.replace(HOURLY, rulesets=(*HOURLY.rulesets, structs.replace(HOURLY.rulesets[0], first_epoch=10**6)))
    share_log(shared, later)
    share_log(shared, HOURLY)
    assert place(tmp_path / "third", store).log() == later
