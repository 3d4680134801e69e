"""`tallyroot attack`: every cheat that can be caught is caught by what should, and the others are named as such."""

import hashlib
import json
import tempfile
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from deploy.attack.attack import Attacked
from deploy.attack.by_control_records import control_cheats
from deploy.attack.by_gateways import gateway_cheats
from deploy.attack.cheat import NOT_CAUGHT, Cheat, Outcome, Row
from deploy.attack.partition_copy import PartitionCopy
from deploy.cli import app as cli
from deploy.cli import check
from deploy.cli.answers import answer_schema
from deploy.cli.terminal import Terminal
from schemas.errors import InvalidInput
from schemas.log import Log
from schemas.reading import HEARTBEAT
from streams.core.records import Record
from tests.support.archived_log import LOG, MACHINES, fill, records_of
from tests.support.json_schema import faults

pytestmark = [pytest.mark.chain, pytest.mark.kafka, pytest.mark.slow]

HONEST = {
    "a meter that lies under its own key, within its capacity",
    "one trip reported twice, under two numbers",
    "an unsigned reading rewritten before it is posted",
    "a machine that stops reporting",
    "a machine that comes back under another name",
    "the operator pays himself: another agreement, where none was locked",
    "poster and auditor together, and a guardian who sleeps",
    "the operator sells to its own machine, within the budget that was there before the lock",
    "the operator refunds himself: a correction with his own account, under a lock",
}
SAID = {
    "equivocation: two values for one number": "reject: equivocation",
    "a real record sent again": "duplicate: counted once",
    "clock ahead by an hour": "reject: from_the_future",
    "a reading kept back past the horizon": "reject: too_late",
    "sentinel meter: all bits set": "reject: too_high",
    "signed with another machine's key": "reject: bad_signature",
    "a stale control record: the operator's own, from a test log": "reject: bad_signature",
    "the signature's high-s twin": "reject: bad_signature",
    "double registration: two contents for one version": "reject: stale_version",
    "an agreement lowered under its lock": "reject: agreement_locked",
    "the total inflated": "watch: disputed post 1: the total is not the sum",
    "a window left out": "is in the log and was left out",
    "a one-leaf root for all free money": "watch: disputed post 1: the payouts root is not that of the log",
    "proofs withheld, so that nobody can claim": "watch: disputed post 1: payouts.json is missing",
    "a stolen poster key, and a year of waiting": "contract: post 1 is not active: not attested",
    "a stale root after a dispute": "contract: post 2 is not active",
    "one byte of one reading changed in the log": "audit: the window of",
    "a record removed from the log": "audit: the window of",
    "a manifest changed": "was changed: restore it",
    "a published window raised": "audit: the window of",
    "good readings skipped, their batch as evidence": "can be read",
    "good readings skipped, a damaged batch as evidence, the log whole": "there is no batch that can't be read",
    "a payment that nobody made, to be refunded": "was never made: the ledger got no such transfer",
    "one transfer as the payment of two machines": "is used twice, first by the payment for session",
    "a claim with a proof of one's own tree": "contract: the proof does not lead",
    "a claim twice": "has already claimed",
    "a post beyond maxRate": "contract: the post raises the total",
    "the admin revokes an honest post to pay himself": "watch: the admin has announced revoke of",
    "a node that shows a post's delay to end later": "by its block that is",
    "another program in the workers' group, that reads nothing": "is read by no worker of this data folder",
    "an open transaction, to hide what is behind it": "6 records of the log can't be read yet",
    "a record stamped a day ahead, to end the day early": "Invalid timestamp",
    "the log's disk put back from a copy, and filled with other records": "other records between the offsets",
    "another user of the host reads keys, readings, checkpoints": "permission denied",
    "a program that a command starts looks for its keys": "no key in it",
    "a signing service that signs with another key": "signs with another key than that of",
    "poster and auditor together, and a guardian who sleeps": "PAID 1,000.000000",
    "an order invoiced twice": "reject: order_closed",
    "one authorisation for two machines": "invalid_exact_evm_nonce_already_used",
    "a session stopped by who read of it in the log": "till: 401",
    "a payment sent first by somebody else, so that it counts for nothing": "till: started, 1.00 credited",
    "a cent paid, and a battery filled": "told to stop",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an archive of three hours, and no ledger."""
    made = Path(tmp_path_factory.mktemp("attacked"))
    fill(made)
    return made


@pytest.fixture(scope="module")
def report(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Attacked:
    """What the command says; the folder is as it was, and nothing is left in the temporary one."""
    scratch, before = Path(tmp_path_factory.mktemp("scratch")), digests(folder)
    with pytest.MonkeyPatch.context() as changed:
        changed.setattr(tempfile, "tempdir", str(scratch))
        done = CliRunner().invoke(cli.app, ["attack", "--json", "--data-dir", str(folder)])
    assert done.exit_code == 0, done.stdout
    assert digests(folder) == before
    assert not list(scratch.iterdir())
    answer = json.loads(done.stdout)
    assert faults(answer, answer_schema("attack")) == []
    return msgspec.convert(answer, Attacked)


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_all_that_can_be_caught_is_caught_and_the_rest_is_named(report: Attacked) -> None:
    names = [row.cheat for row in report.rows]
    assert len(names) == len(set(names)) >= 30 + len(HONEST)
    assert {row.cheat for row in report.rows if row.caught_by == NOT_CAUGHT} == HONEST
    assert all(row.as_expected and row.said and row.loses and row.took_us > 0 for row in report.rows)
    assert {row.cheat for row in report.rows if row.helps} == HONEST
    assert (report.ok, report.caught, report.not_caught) == (True, len(names) - len(HONEST), len(HONEST))


@pytest.mark.parametrize("cheat", SAID)
def test_a_cheat_is_caught_by_what_should_catch_it(report: Attacked, cheat: str) -> None:
    (row,) = (row for row in report.rows if row.cheat == cheat)
    assert SAID[cheat] in row.said


def test_the_table_holds_every_row(report: Attacked, capsys: pytest.CaptureFixture[str]) -> None:
    check.show_attack(Terminal(as_json=False), report)
    shown = capsys.readouterr().out
    assert all(row.cheat in shown for row in report.rows)
    assert f"{report.caught} cheats caught, {len(HONEST)} that nothing here can catch" in shown


def test_what_is_refused_for_another_reason_or_not_at_all_is_not_caught() -> None:
    """Else a cheat that is made wrongly would look caught."""
    bed = PartitionCopy(LOG, 0, records_of(MACHINES[0], 2).records)
    assert bed.target.machine == MACHINES[0]
    honest = bed.judge(bed.reading(bed.target.row()))
    assert honest.refused(8, "equivocation").by == ""
    other = bed.judge(bed.reading(bed.target.row(register=-1)))
    assert (other.refused(8, "equivocation").by, other.refused(2, "malformed").by) == ("", "rule 2")
    missed = Row.of(Cheat("a", "gateway", "b", honest.accepted), honest.accepted())
    unexpected = Row.of(Cheat("a", "gateway", "b", honest.accepted, "c"), Outcome("rule 2", "reject: malformed", 1))
    assert (missed.as_expected, unexpected.as_expected) == (False, False)


def test_a_partition_without_registers_is_cheated_with_a_machine_of_its_own() -> None:
    bed = PartitionCopy(
        Log(log_id="still", partitions=3), 1, [Record(0, 10**12, None, b"{}", [("ce_type", HEARTBEAT.encode())])]
    )
    assert bed.target.machine == bed.other
    rows = [Row.of(cheat, cheat.run()) for cheat in (*gateway_cheats(bed), *control_cheats(bed))]
    assert [row for row in rows if not row.as_expected] == []


def test_a_folder_without_an_archive_is_one_line(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli.app, ["attack", "--data-dir", str(tmp_path)])
    assert isinstance(done.exception, InvalidInput)
    (tmp_path / "log.json").write_bytes(msgspec.json.encode(LOG))
    done = CliRunner().invoke(cli.app, ["attack", "--data-dir", str(tmp_path)])
    assert isinstance(done.exception, InvalidInput)
    assert "\n" not in str(done.exception)
