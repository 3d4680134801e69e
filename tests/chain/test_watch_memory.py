"""A watcher of a log that grows reads each record once, and anew as soon as anything it had judged is other."""

import shutil
from pathlib import Path

import pytest
from msgspec import structs

from deploy.explain.watch_sources import LogMemory
from schemas.errors import InvalidInput
from schemas.units import HOUR_MS, MINUTE_MS
from settlement import service
from settlement.chain.node import Chain
from settlement.chain.signer import Keys
from settlement.chain.watcher import Look, look
from tests.support.archived_log import LOG, MACHINES, fill, records_of
from tests.support.sim_log import SimLog
from tests.support.watched_folder import WatchedFolder, ask

pytestmark = pytest.mark.chain

HOURS = 3


class Growing(SimLog):
    """A log that holds only what was written by a moment, and shows what was read of it."""

    def __init__(self, machine: str) -> None:
        whole = records_of(machine, HOURS)
        super().__init__(whole.records, end=whole.end)
        self.whole_end = whole.end
        self.is_away = False

    def grow(self, epochs: int | None) -> None:
        """It ends with the record that cuts this epoch of the log; None: it is whole."""
        first = self.records[0].timestamp // HOUR_MS
        cuts = [
            place
            for place, record in enumerate(self.records)
            if epochs is not None and record.timestamp >= (first + epochs) * HOUR_MS + 10 * MINUTE_MS
        ]
        self.end = self.records[cuts[0]].offset + 1 if cuts else self.whole_end

    def range(self, partition: int) -> tuple[int, int]:
        if self.is_away:
            raise InvalidInput("Kafka doesn't answer")
        return super().range(partition)


class Watched:
    """A place, its logs, and a watcher's memory of them."""

    def __init__(self, place: WatchedFolder) -> None:
        self.place = place
        self.logs = [Growing(machine) for machine in MACHINES]
        self.kept = LogMemory(LOG)

    def look(self, epochs: int | None = None) -> tuple[Look, list[tuple[int, int]]]:
        """One look while the log has so many epochs; what it read of partition 0."""
        for log in self.logs:
            log.grow(epochs)
            log.reads.clear()
        readers = iter(self.logs)
        place = self.place
        with self.kept.reading(lambda: next(readers)) as sources:
            found = look(place.folder, place.node, LOG, place.keys, sources, memory=self.kept.memory)
        return found, [*self.logs[0].reads]

    def events(self, epochs: int | None = None) -> list[tuple[str, int]]:
        return [(done.event, done.sequence) for done in self.look(epochs)[0].done]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a worker makes of the whole log."""
    folder = Path(tmp_path_factory.mktemp("filled"))
    fill(folder)
    return folder


@pytest.fixture
def watched(filled: Path, tmp_path: Path, node: Chain) -> Watched:
    """A copy of it, with a ledger of its own."""
    folder, keys = tmp_path / "data", Keys({}, node.chain_id)
    shutil.copytree(filled, folder)
    service.deploy_contracts(folder, node, LOG, keys, delay_s=3_600)
    service.fund(folder, node, LOG, keys, 10**9)
    return Watched(WatchedFolder(folder, node))


def test_each_record_is_read_once_while_all_is_right(watched: Watched) -> None:
    place = watched.place
    place.settle(epochs=1)
    found, reads = watched.look(epochs=1)
    end = watched.logs[0].end
    assert ([(done.event, done.sequence) for done in found.done], reads) == ([("attested", 1)], [(0, end)])
    place.settle(epochs=1)
    found, reads = watched.look(epochs=2)
    assert [(done.event, done.sequence) for done in found.done] == [("attested", 2)]
    assert reads == [(end, watched.logs[0].end)]
    place.settle()
    assert watched.events() == [("attested", 3)]
    found, reads = watched.look()
    assert (found.done, reads, found.posts) == ((), [], 3)


def test_what_comes_after_what_was_judged_is_judged_as_strictly(watched: Watched) -> None:
    """A wrong post is disputed; then all is read anew, and again only what is new."""
    place = watched.place
    place.settle(epochs=1)
    assert watched.events(epochs=1) == [("attested", 1)]
    place.post(change=lambda header: structs.replace(header, total=header.total + 1))
    assert watched.events() == [("disputed", 2)]
    found, reads = watched.look()
    assert (found.done, found.posts, reads[0][0]) == ((), 1, 0)
    assert watched.look()[1] == []


def test_a_file_that_is_gone_is_noticed_and_a_kafka_that_was_away_is_not_read_anew(watched: Watched) -> None:
    place = watched.place
    place.settle(epochs=1)
    assert watched.events() == [("attested", 1)]
    posts = place.folder / "settlement" / "posts"
    shutil.move(posts / "1" / "payouts.json", posts / "kept.json")
    found, reads = watched.look()
    assert ([(done.event, done.sequence) for done in found.done], reads[0][0]) == ([("alarm", 1)], 0)
    shutil.move(posts / "kept.json", posts / "1" / "payouts.json")
    assert watched.events() == []
    watched.logs[1].is_away = True
    with pytest.raises(InvalidInput, match="doesn't answer"):
        watched.look()
    watched.logs[1].is_away = False
    assert watched.look()[1] == []  # what was judged is still known
    ask(place.node, "anvil_rollback", 2)  # the attestation and the post
    place.settle(epochs=2)
    found, reads = watched.look()  # under the same head it is the same post, and another follows
    assert ([(done.event, done.sequence) for done in found.done], reads) == ([("attested", 2)], [])


def test_a_log_that_ends_before_the_post_is_read_anew(watched: Watched) -> None:
    watched.place.settle(epochs=2)
    assert watched.events(epochs=1) == [("wait", 1)]
    found, reads = watched.look()
    assert ([(done.event, done.sequence) for done in found.done], reads[0][0]) == ([("attested", 1)], 0)
