"""A watcher against posters that cheat, on a real EVM node and a real archive; and what it must never do."""

import json
import shutil
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from msgspec import structs
from typer.testing import CliRunner

from deploy.attack.hostile_files import Make, bomb_of, endless, fifo, instead_of
from deploy.attack.moody_node import Reply, moody
from deploy.cli import app as cli
from deploy.cli.check import show_watched
from deploy.cli.terminal import Terminal
from deploy.config import load_settings
from deploy.data_folder import DataFolder
from deploy.explain.audit_sources import archived
from deploy.explain.watch import Watch, WatchOptions
from deploy.stack.servers import Stack
from deploy.texts import units
from files.foreign import PlainFiles
from schemas.keccak import keccak
from schemas.manifest import EpochFiles
from schemas.parsing import moment_ms
from schemas.window import Due
from settlement import service
from settlement.chain.job import SettleOptions
from settlement.chain.node import Chain
from settlement.chain.signer import Keys
from settlement.chain.watcher import look
from settlement.storage.posts import POST_WINDOWS
from settlement.storage.published_epochs import EpochReader
from streams.core.log_root import RECORDS
from streams.kafka.failures import KafkaAway
from tests.support.archived_log import LOG, MACHINES, records_of
from tests.support.sim_log import SimLog
from tests.support.watched_folder import DELAY_S, THIEF, WatchedFolder, later, one_window, other_payee, other_root

pytestmark = pytest.mark.chain

WAIT_S = 1_350


@pytest.fixture
def place(watched: WatchedFolder) -> WatchedFolder:
    """A folder with a ledger that holds a thousand dollars, and nothing posted."""
    return watched


def test_what_is_right_is_attested_under_the_head_that_was_checked(place: WatchedFolder) -> None:
    assert place.watch().exit_code == 0
    place.settle(epochs=1)
    done = place.watch()
    assert (done.exit_code, [json.loads(line)["event"] for line in done.stdout.splitlines()]) == (0, ["attested"])
    assert place.ledger.attested() == 1
    place.settle()
    assert place.events() == [("attested", 2)]
    assert place.events() == []
    place.node.pass_time(DELAY_S + 1)
    assert service.claim(place.folder, place.node, place.keys, service.payouts(place.folder, place.node)[0].account)


CHEATS: dict[str, tuple[dict[str, Any], str]] = {
    "inflated total": ({"change": lambda h: structs.replace(h, total=h.total + 10)}, "the total is not the sum"),
    "an account of its own": ({"change_run": other_payee}, "payouts root is not that of the log"),
    "one amount": ({"change_run": lambda run: one_window(run, net_micros=10**7)}, "differs from the log"),
    "a due to the thief": (
        {"change_run": lambda run: one_window(run, dues=(Due("refund", THIEF, "s-1", 10**6),))},
        "owes another due",
    ),
    "deposits left out": ({"change": lambda h: structs.replace(h, deposits=h.deposits + 1)}, "the deposits are not"),
    "a window left out": ({"change_run": one_window}, "is in the log and was left out"),
    "another time": ({"change": later}, "does not begin where the one before ended"),
}


@pytest.mark.parametrize("name", CHEATS)
def test_a_poster_that_cheats_is_disputed_at_once(place: WatchedFolder, name: str) -> None:
    cheat, text = CHEATS[name]
    place.post(**cheat)
    done = place.watch()
    assert done.exit_code == 1
    event, *more = map(json.loads, done.stdout.splitlines())
    assert (event["event"], event["sequence"], more) == ("disputed", 1, [])
    assert text in event["text"]
    assert place.live == 0


def skipping(place: WatchedFolder) -> None:
    """The first hour is left out, in a post that else is as it should be."""
    reader = EpochReader(place.folder, LOG)
    first = reader.first_epochs()[0]
    offsets = {partition: _next_offset(reader, partition, first) for partition in (0, 1)}
    place.post(next_epoch=first + 1, partition_epochs=dict.fromkeys((0, 1), first + 1), partition_offsets=offsets)


def _next_offset(reader: EpochReader, partition: int, epoch: int) -> int:
    manifest = reader.manifest(partition, epoch)
    assert manifest is not None
    return manifest.next_offset


def test_epochs_that_are_skipped_or_settled_twice_are_disputed(place: WatchedFolder) -> None:
    skipping(place)
    assert place.events() == [("disputed", 1)]
    options = SettleOptions(max_epochs=1, max_posts=1, restate=True)
    service.settle(place.folder, place.node, LOG, place.keys, options)
    assert place.events() == [("attested", 1)]
    place.post(next_epoch=None, partition_epochs={}, partition_offsets={}, change=later)
    assert place.events() == [("disputed", 2)]
    assert (place.live, place.ledger.attested()) == (1, 1)


def test_what_is_right_below_a_wrong_post_is_attested_after_the_dispute(place: WatchedFolder) -> None:
    place.settle(epochs=1)
    place.post(change=lambda header: structs.replace(header, total=header.total + 1))
    assert place.events() == [("disputed", 2), ("attested", 1)]


def without_folder(place: WatchedFolder) -> None:
    shutil.rmtree(place.folder / "settlement" / "posts" / "1")


def without_payouts(place: WatchedFolder) -> None:
    (place.folder / "settlement" / "posts" / "1" / "payouts.json").unlink()


def without_archive(place: WatchedFolder) -> None:
    sorted((place.folder / "log").glob("*/1.parquet"))[1].unlink()


def with_a_bad_archive(place: WatchedFolder) -> None:
    path = sorted((place.folder / "log").glob("*/1.parquet"))[1]
    path.write_bytes(path.read_bytes()[:200])


def with_an_endless_archive(place: WatchedFolder) -> None:
    instead_of(sorted((place.folder / "log").glob("*/0.parquet"))[0], endless)


def with_a_pipe_for_an_archive(place: WatchedFolder) -> None:
    instead_of(sorted((place.folder / "log").glob("*/0.parquet"))[0], fifo)


def with_a_bomb_for_an_archive(place: WatchedFolder) -> None:
    instead_of(sorted((place.folder / "log").glob("*/0.parquet"))[0], bomb_of(RECORDS, "value", rows=2, size=1 << 27))


def with_a_pipe_for_a_manifest(place: WatchedFolder) -> None:
    instead_of(sorted((place.folder / "epochs").glob("*/0.manifest.json"))[0], fifo)


def with_an_older_archive(place: WatchedFolder) -> None:
    """A backup that was restored: each file in it is right, and the last epochs are not there."""
    for folder in ("epochs", "log"):
        shutil.rmtree(sorted((place.folder / folder).iterdir())[-1])


def with_another_table(place: WatchedFolder) -> None:
    pq.write_table(pa.table({"offset": ["none"]}), sorted((place.folder / "log").glob("*/1.parquet"))[1])


def with_a_changed_manifest(place: WatchedFolder) -> None:
    path = sorted((place.folder / "epochs").glob("*/0.manifest.json"))[-1]
    path.write_bytes(path.read_bytes().replace(b'"stream_time_ms": 1', b'"stream_time_ms": 2'))


def without_an_epoch(place: WatchedFolder) -> None:
    sorted((place.folder / "epochs").glob("*/0.manifest.json"))[0].unlink()


@pytest.mark.parametrize(
    "hide",
    [
        without_folder,
        without_payouts,
        without_archive,
        with_a_bad_archive,
        with_an_endless_archive,
        with_a_pipe_for_an_archive,
        with_a_bomb_for_an_archive,
        with_a_pipe_for_a_manifest,
        with_an_older_archive,
        with_another_table,
        with_a_changed_manifest,
        without_an_epoch,
    ],
)
def test_what_is_withheld_is_disputed_before_half_of_the_delay_is_over(
    place: WatchedFolder, hide: Callable[[WatchedFolder], None]
) -> None:
    place.settle()
    hide(place)
    done = place.watch()
    said = json.loads(done.stdout)
    delay_end_s = place.ledger.history().live[0].delay_end_s
    assert (done.exit_code, said["event"], moment_ms(said["until"])) == (
        1,
        "wait",
        (delay_end_s - DELAY_S + WAIT_S) * 1_000,
    )
    place.node.pass_time(WAIT_S + 1)
    assert place.events() == [("disputed", 1)]
    assert place.node.time_s() < delay_end_s - DELAY_S // 2
    assert place.live == 0


@pytest.mark.parametrize("shift_s", [86_400, -DELAY_S])
def test_a_node_that_shows_another_end_of_the_delay_is_named(place: WatchedFolder, shift_s: int) -> None:
    place.settle()
    end_s = place.ledger.history().live[0].delay_end_s

    def lying(asked: dict[str, Any], honest: Callable[[], bytes]) -> Reply:
        text = honest()
        if asked["method"] == "eth_getLogs":
            text = text.replace(f"{end_s:064x}".encode(), f"{end_s + shift_s:064x}".encode())
        return Reply(text)

    with moody(place.node.rpc_url, lying) as url:
        seen = look(place.folder, Chain(url), LOG, place.keys, archived(LOG, PlainFiles(place.folder)))
    assert [step.event for step in seen.done] == ["alarm"] and "by its block that is" in seen.done[0].text
    assert place.events() == [("attested", 1)]


HOSTILE_PAYOUT = {"cumulative_micros": "0", "amount_micros": "0", "cumulative": "0", "proof": []}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("payouts.json", fifo),
        ("manifest.json", endless),
        ("windows.parquet", bomb_of(POST_WINDOWS, "machine")),
        ("windows.parquet", bomb_of(POST_WINDOWS, "machine", rows=1_000_000, size=1)),
        ("payouts.json", b"[" * 100_000),
        ("payouts.json", json.dumps({THIEF: HOSTILE_PAYOUT | {"cumulative": "a lot"}}).encode()),
        ("payouts.json", json.dumps({THIEF: HOSTILE_PAYOUT | {"proof": ["0xzz"]}}).encode()),
        ("payouts.json", json.dumps({THIEF: HOSTILE_PAYOUT}).encode()),
        ("windows.parquet", b"PAR1"),
        ("windows.parquet", None),
        ("manifest.json", b"[" * 100_000),
    ],
)
def test_no_file_that_a_poster_publishes_stops_a_watcher(
    place: WatchedFolder, name: str, content: bytes | Make | None
) -> None:
    place.settle()
    path = place.folder / "settlement" / "posts" / "1" / name
    if callable(content):
        instead_of(path, content)
    elif content is None:
        table = pq.read_table(path)
        nothing = [pa.nulls(table.num_rows, column.type) for column in table.schema]
        pq.write_table(pa.table(nothing, schema=table.schema), path)
    else:
        path.write_bytes(content)
    assert place.events() == [("wait", 1)]


@pytest.mark.parametrize("manifest", [b"[" * 100_000, b"[1]", b'{"partitions":[{"partition":1e400,"epochs":[[]]}]}'])
def test_no_manifest_under_a_hash_stops_a_watcher(place: WatchedFolder, manifest: bytes) -> None:
    place.post(change=lambda header: structs.replace(header, manifest_hash=keccak(manifest)))
    (place.folder / "settlement" / "posts" / "1" / "manifest.json").write_bytes(manifest)
    assert [(done.event, done.sequence) for done in place.look().done] == [("disputed", 1)]


def test_what_arrives_in_time_is_attested(place: WatchedFolder) -> None:
    place.settle()
    posts = place.folder / "settlement" / "posts"
    shutil.move(posts / "1", posts / "elsewhere")
    assert place.events() == [("wait", 1)]
    shutil.move(posts / "elsewhere", posts / "1")
    assert place.events() == [("attested", 1)]


@pytest.mark.parametrize("change", [{"manifest_hash": b"\7" * 32}, {}])
def test_a_manifest_that_nobody_can_check_is_withheld(place: WatchedFolder, change: dict[str, object]) -> None:
    """Under a hash that is nothing's; or with a log root that no archive has."""
    place.post(other_root if not change else lambda run: run, lambda header: structs.replace(header, **change))
    assert place.events() == [("wait", 1)]
    place.node.pass_time(WAIT_S + 1)
    assert place.events() == [("disputed", 1)]


@pytest.mark.parametrize("name", ["epochs", "log", "settlement/posts"])
def test_nothing_is_disputed_because_the_watcher_s_own_folder_is_missing(place: WatchedFolder, name: str) -> None:
    place.settle()
    shutil.move(place.folder / name, place.folder / "elsewhere")
    for _ in range(2):
        assert place.events() == [("alarm", 1)]
        place.node.pass_time(DELAY_S)
    assert place.live == 1
    shutil.move(place.folder / "elsewhere", place.folder / name)
    assert place.events() == [("attested", 1)]


def test_a_node_that_is_away_is_told_and_waited_for(place: WatchedFolder) -> None:
    place.settle()
    (place.folder / "stack.json").rename(place.folder / "stack.away")
    Stack.start(place.folder, kafka_bootstrap_servers="127.0.0.1:1", chain_rpc_url="http://127.0.0.1:1")
    done = place.watch()
    event = json.loads(done.stdout)
    assert (done.exit_code, event["event"]) == (1, "alarm")
    assert "can't look: no EVM node answers" in event["text"]
    (place.folder / "stack.away").rename(place.folder / "stack.json")
    assert place.events() == [("attested", 1)]


class Away(SimLog):
    """A Kafka that doesn't answer."""

    def range(self, partition: int) -> tuple[int, int]:
        raise KafkaAway("Kafka doesn't answer")


@pytest.mark.parametrize("nothing", [Away(), SimLog()])
def test_nothing_is_disputed_because_kafka_is_away_or_holds_no_log(place: WatchedFolder, nothing: SimLog) -> None:
    logs = [records_of(machine, 3) for machine in MACHINES]
    place.settle()
    for readers in ((logs[0], nothing), (nothing, nothing)):
        assert [(done.event, done.sequence) for done in place.look(logs=readers).done] == [("alarm", 1)]
        place.node.pass_time(DELAY_S)
    assert [(done.event, done.sequence) for done in place.look(logs=logs).done] == [("attested", 1)]


def test_a_log_of_other_records_is_a_reason_to_wait_first(place: WatchedFolder) -> None:
    """The operator may have rewritten it; or the watcher looks at another Kafka."""
    logs = [records_of(machine, 3) for machine in MACHINES]
    logs[1].records[3] = logs[1].records[3]._replace(key=b"another")
    place.settle()
    (done,) = place.look(logs=logs).done
    assert (done.event, done.sequence) == ("wait", 1)
    assert "not those that were settled from" in done.text


def test_a_watcher_that_follows_looks_again_when_something_has_happened(
    place: WatchedFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is right and attested is not read again; what is said is said once."""
    options = WatchOptions(from_archive=True, every_s=2.0)
    watcher = Watch(DataFolder(place.folder, load_settings()), partial(show_watched, Terminal(as_json=True)), options)
    heard: list[list[tuple[str, int]]] = []

    def turn() -> list[tuple[str, int]]:
        watcher.turn()
        heard.append([(row["event"], row["sequence"]) for row in map(json.loads, capsys.readouterr().out.splitlines())])
        assert watcher.pause_s <= DELAY_S / 16
        return heard[-1]

    assert turn() == []
    place.settle(epochs=1)
    assert turn() == [("attested", 1)]
    shutil.move(place.folder / "log", place.folder / "elsewhere")
    assert turn() == []
    place.settle()
    assert turn() == [("alarm", 1)]
    assert turn() == []
    shutil.move(place.folder / "elsewhere", place.folder / "log")
    assert turn() == [("attested", 2)]


@pytest.mark.parametrize("from_archive", [True, False])
def test_one_flipped_byte_of_a_published_file_is_named(place: WatchedFolder, *, from_archive: bool) -> None:
    """Every root was right, and analysts read something else."""
    place.settle()
    path = sorted((place.folder / "epochs").glob("*/0.windows.parquet"))[0]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    assert place.audited(from_archive=from_archive) == []
    path.write_bytes(content)
    (text,) = place.audited(from_archive=from_archive)
    assert text.startswith(f"{path} is not the file that its manifest names: restore it")


def lost(place: WatchedFolder) -> None:
    path = sorted((place.folder / "epochs").glob("*/0.windows.parquet"))[0]
    path.unlink()


def swapped(place: WatchedFolder) -> None:
    first, second = sorted((place.folder / "epochs").iterdir())[:2]
    for old, new in ((first, "aside"), (second, first.name), (first.with_name("aside"), second.name)):
        old.rename(old.with_name(new))


def remade(place: WatchedFolder) -> None:
    """A manifest that fits its files, with another amount."""
    path = sorted((place.folder / "epochs").glob("*/0.manifest.json"))[0]
    found = msgspec.json.decode(path.read_bytes(), type=EpochFiles)
    manifest = structs.replace(found.manifest, gross_micros="1")
    made = structs.replace(found, manifest=manifest, manifest_digest=manifest.digest().hex())
    path.write_bytes(msgspec.json.encode(made))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lost, "windows.parquet is missing: restore it"),
        (swapped, "is the manifest of another epoch or partition: put it back"),
        (remade, "is not what the log says: restore it"),
    ],
)
def test_epochs_that_are_lost_swapped_or_made_anew_are_named(
    place: WatchedFolder, change: Callable[[WatchedFolder], None], text: str
) -> None:
    place.settle()
    change(place)
    assert any(text in found for found in place.audited(from_archive=False)), place.audited(from_archive=False)


def test_an_audit_shows_that_nothing_is_lost_and_counts_twice(place: WatchedFolder) -> None:
    place.settle(epochs=1)
    words = ["audit", "--from-archive", "--slow", "--data-dir", str(place.folder)]
    shown = CliRunner().invoke(cli.app, words)
    assert shown.exit_code == 0
    assert "also for each of 2 machines under each of its agreements (2)" in shown.stdout
    assert "the naive loop counts the same" in shown.stdout
    report = json.loads(CliRunner().invoke(cli.app, [*words, "--json"]).stdout)
    for sums in report["machines"]:
        assert Decimal(sums["nets"]) == sum(Decimal(sums[name]) for name in ("paid", "held", "carry"))
    assert sum(Decimal(sums["nets"]) for sums in report["machines"]) == Decimal(report["nets"]) > 0
    published = units(sum(int(row.cumulative) for row in place.store.payouts(1).values()), 6).replace(",", "")
    assert report["leaves_total"] == report["total_on_chain"] == report["money"]["posted"] == published
    money = report["money"]
    assert (money["earned"], money["claimed"], money["shortfall"]) == (report["paid"], "0.000000", "0.000000")
    assert money["funded"] == "1000.000000"


def test_without_a_key_there_are_only_alarms(place: WatchedFolder) -> None:
    nobody = Keys({}, 1)
    place.settle(epochs=1)
    found = place.look(nobody)
    assert ([(done.event, done.sequence) for done in found.done], found.is_calm) == ([("idle", 1)], True)
    place.post(change=lambda header: structs.replace(header, total=header.total + 1))
    auditor = Keys({"auditor": place.keys.of("auditor")}, 1)
    found = place.look(auditor)
    assert [(done.event, done.sequence) for done in found.done] == [("alarm", 2), ("attested", 1)]
    assert "no guardian's key" in found.done[0].text
    wrong = Keys({"guardian": place.keys.of("poster")}, 1)
    found = place.look(wrong)
    assert [(done.event, done.sequence) for done in found.done] == [("alarm", 2)]
    assert "can't dispute it" in found.done[0].text
    assert place.live == 2


def test_a_wrong_post_that_is_mature_is_the_admin_s(place: WatchedFolder) -> None:
    place.post(change=lambda header: structs.replace(header, total=header.total + 1))
    service.attest(place.folder, place.node, place.keys)
    place.node.pass_time(DELAY_S + 1)
    (done,) = place.look().done
    assert (done.event, "only the admin" in done.text) == ("alarm", True)
