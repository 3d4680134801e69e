"""Shares of a machine on a real EVM node, by the commands: from readings in a log to the cents of two investors."""

import json
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from deploy.cli import app as cli
from deploy.config import load_settings
from deploy.data_folder import DataFolder
from deploy.explain.why_readings import window_readings
from deploy.stack.servers import Stack
from schemas.errors import InvalidInput
from schemas.log import Log
from schemas.manifest import EpochFiles, epoch_folder
from schemas.reading import HEARTBEAT, READING, REGISTERED
from schemas.units import DAY_MS, HOUR_MS, MINUTE_MS
from settlement import service
from settlement.chain.node import Chain
from settlement.chain.signer import Keys, development_signer
from streams.core.recompute import recompute
from streams.core.records import Record
from streams.reference.recount import PartitionRecount
from streams.storage.archive import write_archive
from streams.storage.epoch_files import epoch_paths
from tests.support.settlement_data import write_windows
from tests.support.sim_log import SimLog

pytestmark = pytest.mark.chain

LOG = Log(log_id="shares", partitions=1)
START_MS = 19_000 * DAY_MS
OWNER = "0x" + "a1" * 20
PRICE = 1_234_567
"""Micros for a trip: no part of it is a whole number of cents."""
SUPPLY, POINTS = 1_000, 3_333
ALICE, BOB = development_signer(5), development_signer(6)
Answer = dict[str, Any]


class SharesFolder:
    """A data folder whose log is written by hand, and the commands that work in it."""

    def __init__(self, folder: Path, node: Chain) -> None:
        self.folder, self.node, self.keys = folder, node, Keys({}, node.chain_id)
        self.records: list[Record] = []
        DataFolder(folder, load_settings()).create_log(LOG)
        Stack.start(folder, kafka_bootstrap_servers="127.0.0.1:1", chain_rpc_url=node.rpc_url)
        service.deploy_contracts(folder, node, LOG, self.keys)

    def send(self, kind: str, at_ms: int, document: object) -> None:
        """A record at so many ms after the log's start."""
        value = msgspec.json.encode(document)
        record = Record(len(self.records), START_MS + at_ms, b"m", value, [("ce_type", kind.encode())])
        self.records.append(record)

    def register(self, at_ms: int, version: int, agreement: object) -> None:
        """A version of the machine: a robot that is paid for trips."""
        self.send(REGISTERED, at_ms, {
            "machine": "m", "route": "m", "version": version, "kind": "robot", "effective_from": 0,
            "meters": [{"meter": "trips", "unit": "count", "kind": "quantity", "capacity_per_hour": 60}],
            "tariff": {
                "elements": [{"components": [{"meter": "trips", "price": PRICE, "per": 1}]}], "offsets": [[0, 0]],
            },
            "agreement": agreement,
        })  # fmt: skip

    def trips(self, seq: int, at_ms: int, quantity: int) -> None:
        """A reading, sent when it was taken."""
        row = {"machine": "m", "meter": "trips", "boot": 1, "seq": seq, "observed_at": START_MS + at_ms}
        self.send(READING, at_ms, row | {"quantity": quantity})

    def publish(self) -> None:
        """The epochs that the log has cut and their archives, as a worker publishes them."""
        for result in recompute(LOG, 0, [self.records]):
            folder = self.folder / "epochs" / epoch_folder(result.manifest.start_ms)
            folder.mkdir(parents=True, exist_ok=True)
            files = write_windows(self.folder, folder, 0, result.windows)
            digest = result.manifest.digest().hex()
            document = EpochFiles(manifest=result.manifest, manifest_digest=digest, files=files)
            archive = epoch_paths(self.folder, LOG, result.manifest.epoch, 0).archive
            ends = (result.manifest.first_offset, result.manifest.next_offset)
            written = write_archive(archive, SimLog(self.records), 0, *ends, lambda: False)
            assert written is not None
            written.publish()
            (folder / "0.manifest.json").write_bytes(msgspec.json.encode(document))

    def settle(self) -> None:
        """Funds, posts, attests, and waits until the post is active."""
        service.fund(self.folder, self.node, LOG, self.keys)
        service.settle(self.folder, self.node, LOG, self.keys)
        service.attest(self.folder, self.node, self.keys)
        self.node.pass_time(61)

    def run(self, *words: str) -> Answer:
        """What a command answers."""
        done = CliRunner().invoke(cli.app, ["shares", *words, "--data-dir", str(self.folder), "--json"])
        assert done.exit_code == 0, (words, done.output, done.exception)
        found: Answer = json.loads(done.stdout.splitlines()[-1])
        return found

    def refused(self, *words: str) -> str:
        """The one line that a command refuses with."""
        done = CliRunner().invoke(cli.app, ["shares", *words, "--data-dir", str(self.folder)])
        assert isinstance(done.exception, InvalidInput), (words, done.output, done.exception)
        assert "\n" not in str(done.exception)
        return str(done.exception)


@pytest.fixture
def place(tmp_path: Path, node: Chain) -> SharesFolder:
    return SharesFolder(tmp_path, node)


def issued(place: SharesFolder) -> str:
    """The address of a thousand shares of a machine that is not registered yet."""
    address: str = place.run("issue", "m", "--new", "--supply", str(SUPPLY), "--symbol", "M1")["shares"]
    return address


def worked(place: SharesFolder, shares: str, lock: Answer) -> None:
    """Two days of the machine: on the first it earns, the second only ends."""
    place.register(0, 1, {"payees": {OWNER: 10_000 - POINTS, shares: POINTS}} | lock)
    for seq, (quarter, quantity) in enumerate([(1, 3), (1, 2), (2, 5), (9, 1), (40, 7)], 1):
        place.trips(seq, (3 * quarter + seq % 3) * 5 * MINUTE_MS, quantity)
    place.send(HEARTBEAT, DAY_MS + HOUR_MS, None)
    place.send(HEARTBEAT, 2 * DAY_MS + HOUR_MS, None)
    place.publish()


LOCKED = {"locked_until": 4_102_444_800_000}  # 2100-01-01


def test_the_cents_of_two_investors_come_from_readings(place: SharesFolder) -> None:
    shares = issued(place)
    worked(place, shares, LOCKED)
    offering = place.run("offer", "M1", "--price", "2.50", "--cap", "500", "--until", "2099-12-31")
    assert (offering["available"], offering["terms"]["points"]) == (500, POINTS)
    for number, amount in ((5, 300), (6, 123)):
        bought = place.run("buy", "M1", str(amount), "--as", str(number), "--demo-tokens")
        assert Decimal(bought["cost"]) == amount * Decimal("2.5")
    place.settle()
    assert Decimal(place.run("income", "M1")["claimable"]) > 0

    service.claim(place.folder, place.node, place.keys, shares)  # Anyone may; the shares are not told.
    income = place.run("income", "M1")["income"]
    assert income["received"] == "0.000000"
    assert place.run("collect", "M1")["arrived"] == income["unseen"]
    unseen = micros(income["unseen"])
    assert unseen > 0
    assert "nothing is released" in place.refused("withdraw", "M1", "--as", "7")
    place.node.pass_time(7 * 86_400)
    got = {number: micros(place.run("withdraw", "M1", "--as", str(number))["amount"]) for number in (5, 6)}
    assert "nothing is released" in place.refused("withdraw", "M1", "--as", "5")

    # Down, exactly: withdrawn -> income of the shares -> lines of the statement -> windows -> readings.
    statement = service.why(place.folder, place.node, shares)
    assert sum(row.amount_micros for row in statement.rows) == unseen
    assert got == {5: unseen * 300 // SUPPLY, 6: unseen * 123 // SUPPLY}
    for row in statement.rows:
        assert (row.machine, row.points) == ("m", POINTS)
        (window,) = window_readings(place.folder, LOG, "m", row.start_ms)
        assert window.window.digest.hex() == row.window_digest
        assert sum(reading.micros for reading in window.readings) == row.net_micros
        assert [reading.micros for reading in window.readings] == [reading.value * PRICE for reading in window.readings]
        assert [reading.value for reading in window.readings] == quantities(place, row.start_ms)
    # And up, from raw readings alone, in fractions: the shares lose less than a micro a window, a holder one more.
    exact = PartitionRecount(LOG).take(place.records).money["m", tuple(sorted({OWNER: 6_667, shares: POINTS}.items()))]
    assert exact == 18 * PRICE
    for number, amount in ((5, 300), (6, 123)):
        due = exact * Fraction(POINTS, 10_000) * Fraction(amount, SUPPLY)
        assert -1 < due - got[number] < len(statement.rows) + 1

    rows = place.run("holders", "M1")["holders"]
    issuer = place.keys.of("operator").address
    assert [(row["account"], row["shares"]) for row in rows] == [
        (issuer, 577), (ALICE.address, 300), (BOB.address, 123),
    ]  # fmt: skip
    assert micros(rows[0]["withdrawable"]) == unseen * 577 // SUPPLY


def micros(amount: str) -> int:
    """Token units of an amount: the demo token has six decimals."""
    return int(Decimal(amount) * 1_000_000)


def quantities(place: SharesFolder, start_ms: int) -> list[int]:
    """The raw readings of a window: one shows what was used before it was read."""
    rows = [
        json.loads(record.value or b"{}") for record in place.records if dict(record.headers)["ce_type"] == b"reading"
    ]
    return [row["quantity"] for row in rows if start_ms <= max(0, row["observed_at"] - 1) < start_ms + LOG.window_ms]


def test_an_agreement_that_is_not_locked_for_the_term_is_not_offered(place: SharesFolder) -> None:
    shares = issued(place)
    offer = ("offer", "M1", "--price", "1", "--cap", "10", "--until", "2099-12-31")
    assert "no such machine" in place.refused(*offer)
    assert "no such machine" in place.refused("machine", "m'; --")
    assert "no such machine" in place.refused("issue", "ghost", "--supply", "1", "--symbol", "G")
    worked(place, shares, {})
    assert "is not locked" in place.refused(*offer)
    place.records.clear()
    worked(place, shares, {"locked_until": 4_000_000_000_000})
    assert "is locked until 2096-10-02" in place.refused(*offer)
    place.records.clear()
    worked(place, OWNER[:-1] + "2", LOCKED)
    assert f"does not pay {shares}" in place.refused(*offer)


def test_what_a_buyer_is_refused(place: SharesFolder) -> None:
    shares = issued(place)
    worked(place, shares, LOCKED)
    assert "no offering of M1" in place.refused("buy", "M1", "1")
    assert "no shares M2" in place.refused("holders", "M2")
    assert "shares M1 already" in place.refused("issue", "m", "--supply", "1", "--symbol", "M1")
    offer = ("offer", "M1", "--price", "2", "--cap", "10", "--until", "2099-12-31")
    assert "can't offer" in place.refused(*offer, "--as", "5")
    place.run(*offer, "--days", "1")
    assert "needs 2000000: send it some first" in place.refused("buy", "M1", "1", "--as", "8")
    assert "10 shares left, not 11" in place.refused("buy", "M1", "11", "--as", "8")
    assert "more than --max-price 1.99" in place.refused("buy", "M1", "1", "--max-price", "1.99")
    assert "no key for 'nobody'" in place.refused("buy", "M1", "1", "--as", "nobody")
    place.run("buy", "M1", "4", "--as", "5", "--demo-tokens")
    assert "has 4 shares and can't send 5" in place.refused("transfer", "M1", OWNER, "5", "--as", "5")
    place.run("transfer", "M1", OWNER, "3", "--as", "5")
    assert [row["shares"] for row in place.run("holders", shares)["holders"]] == [996, 3, 1]
    place.node.pass_time(86_400)
    assert "is closed" in place.refused("buy", "M1", "1", "--as", "5")


def test_a_buyer_is_warned_of_terms_that_the_log_does_not_show_and_of_foreign_code(place: SharesFolder) -> None:
    shares = issued(place)
    worked(place, shares, LOCKED)
    operator = place.keys.of("operator")
    terms = (POINTS + 1, 4_000_000_000, 4_000_000_000, bytes(32))
    closes_at_s = place.node.time_s() + 86_400
    false, _ = place.node.deploy(operator, "ShareOffering", shares, 1, 10, closes_at_s, terms)
    assert "promises 3334 basis points" in place.refused("buy", "M1", "1", "--offering", false)
    ledger = service.Deployment.load(place.folder).ledger
    foreign = place.node.deploy(operator, "DemoDollar", operator.address)[0]
    assert "no such contract" in place.refused("holders", foreign) or "refuses" in place.refused("holders", foreign)
    assert "no such contract" in place.refused("holders", ledger) or "refuses" in place.refused("holders", ledger)


def test_a_machine_s_page_shows_its_figures(place: SharesFolder) -> None:
    shares = issued(place)
    worked(place, shares, LOCKED)
    page = place.run("machine", "m")
    assert page["funding"] is None
    assert page["agreement"]["payees"] == {OWNER: 10_000 - POINTS, shares: POINTS}
    place.settle()
    page = place.run("machine", "m")
    assert page["funding"]["shortfall"] == "0.000000"
    assert (page["machine"]["readings"], page["machine"]["trust"], page["machine"]["net"]) == (5, 0, "22.222206")
    assert len(page["posts"]) == 1
    assert page["months"][0]["net"] == page["machine"]["net"]
    assert page["machine"]["reporting"] is not None and page["machine"]["uptime"] is None
    shown = CliRunner().invoke(cli.app, ["shares", "machine", "m", "--data-dir", str(place.folder)])
    assert shown.exit_code == 0
    assert "locked until 2100-01-01" in shown.stdout
    assert "all that is earned is funded" in shown.stdout
