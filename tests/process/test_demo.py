"""The demo and the commands after it, as a person runs them: one small file, real Kafka, a real EVM node."""

import csv
import json
import shutil
import subprocess
from collections.abc import Iterator
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deploy.cli.answers import answer_schema
from deploy.demo.ends import MARKER, demo_folder
from deploy.stack import processes
from deploy.stack.servers import Stack
from schemas.errors import InvalidInput
from schemas.parsing import moment_ms
from tests.support.commands import tallyroot
from tests.support.every_answer import EveryAnswer
from tests.support.json_schema import faults

pytestmark = [pytest.mark.kafka, pytest.mark.chain, pytest.mark.slow, pytest.mark.timeout(900)]

SESSIONS = Path(__file__).parents[2] / "data" / "ev_sessions_acn_2019.parquet"
ROWS = 60
FIGURES = """SELECT entries, accepted, duplicates, machines, windows - adjustments, adjustments, micros FROM
    (SELECT sum(entries) AS entries, sum(accepted) AS accepted, sum(duplicate) AS duplicates FROM epochs),
    (SELECT count(DISTINCT machine) AS machines, count(*) AS windows, count(adjusts) AS adjustments,
        sum(gross_micros) AS micros FROM windows)"""
AMOUNTS = "SELECT unit, sum(usage) FROM lines GROUP BY 1"


def last_json(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The object on the last line of stdout."""
    result = json.loads(done.stdout.splitlines()[-1])
    assert isinstance(result, dict)
    return result


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the first sessions as CSV; whatever the tests start in it is ended."""
    folder = tmp_path_factory.mktemp("ein Ort mit ü")
    rows = pq.read_table(SESSIONS).slice(0, ROWS).to_pylist()
    with (folder / "sessions.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    yield folder
    tallyroot("down", "--data-dir", "data", cwd=folder)


@pytest.fixture(scope="module")
def demo(place: Path) -> dict[str, Any]:
    """What the demo came to."""
    words = ("--source", "acn-sessions=sessions.csv", "--data-dir", "data", "--json")
    return last_json(tallyroot("demo", *words, cwd=place, seconds=800))


def test_its_figures_are_those_of_the_file(place: Path, demo: dict[str, Any]) -> None:
    with (place / "sessions.csv").open() as file:
        kwh = [Decimal(row["delivered_energy_kwh"]) for row in csv.DictReader(file)]
    energy_wh = sum(int((1000 * amount).to_integral_value(ROUND_HALF_UP)) for amount in kwh)
    figures = demo["figures"]
    assert figures["quantity"] == {"Wh": energy_wh}
    assert figures["rejected"] == {}
    assert figures["entries"] == figures["accepted"]
    assert Decimal(demo["claimed"]) == Decimal(figures["earned"]) != 0
    assert demo["audit"] == "ok"
    posts = demo["posts"]
    assert [post["state"] for post in posts] == ["active"] * len(posts) != []


def test_it_cheats_and_is_caught(demo: dict[str, Any]) -> None:
    cheat = demo["cheat"]
    assert Decimal(cheat["more"]) > 0
    assert cheat["window_start"] is not None
    assert cheat["refusal"].startswith("refused (the proof does not lead")


def test_what_is_yours_is_a_tenth_of_the_shared_charger(place: Path, demo: dict[str, Any]) -> None:
    cheat = demo["cheat"]
    query = f"SELECT sum(gross_micros) AS gross FROM windows WHERE machine = '{cheat['machine']}'"
    (row,) = last_json(tallyroot("sql", query, "--data-dir", "data", "--json", cwd=place))["rows"]
    assert micros(demo["yours"]) == row[0] // 10


def test_every_command_answers_in_json_and_in_words(place: Path, demo: dict[str, Any]) -> None:
    where = ("--data-dir", "data")
    answers: dict[tuple[str, ...], dict[str, Any]] = {
        words: last_json(tallyroot(*words, *where, "--json", cwd=place))
        for words in (
            ("status",), ("machines",), ("settlements",), ("payouts",), ("audit",), ("audit", "--from-archive"),
            ("settle",), ("sql", FIGURES), ("sql", AMOUNTS),
        )
    }  # fmt: skip
    assert all(answers.values())
    figures_are_those_of_the_commands(demo, answers)
    for word in ("status", "machines", "settlements", "payouts"):
        assert tallyroot(word, *where, cwd=place).stdout
    payouts = last_json(tallyroot("payouts", *where, "--json", cwd=place))["payouts"]
    assert isinstance(payouts, list)
    account = payouts[0]["account"]
    tallyroot("proof", account, "--out", "proof.json", *where, cwd=place)
    verified = last_json(tallyroot("verify", "proof.json", *where, "--json", cwd=place))
    assert verified["valid"]
    refused = tallyroot("claim", account, *where, cwd=place, code=1)
    assert "has already claimed" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert len(tallyroot("sql", "SELEC", *where, cwd=place, code=1).stderr.splitlines()) == 1
    assert len(tallyroot("nonsense", cwd=place, code=2).stderr.splitlines()) == 1
    older = tallyroot("replay", "acn-sessions", "sessions.csv", "--seed", "demo", *where, cwd=place, code=1)
    assert "in use" in older.stderr or "other settings" in older.stderr


def micros(*amounts: str) -> int:
    return int(1_000_000 * sum(map(Decimal, amounts)))


def test_its_page_has_every_claim(place: Path, demo: dict[str, Any]) -> None:
    """As the demo wrote it: that of the shares too, whose contract claims by itself."""
    text = (place / "data" / "report.html").read_text("utf-8").split('id="data">')[1].split("</script>")[0]
    claimed = msgspec.json.decode(text)["claimed"]
    payouts = last_json(tallyroot("payouts", "--data-dir", "data", "--json", cwd=place))
    rows = [row for row in payouts["payouts"] if Decimal(row["claimed"])]
    assert (int(claimed["units"]), claimed["accounts"]) == (micros(*(row["claimed"] for row in rows)), len(rows))
    assert len(rows) == 4 and claimed["block"] > 0


def figures_are_those_of_the_commands(demo: dict[str, Any], answers: dict[tuple[str, ...], dict[str, Any]]) -> None:
    """What the demo said in JSON, held against what a user's commands say of its folder."""
    figures, names = demo["figures"], ("entries", "accepted", "duplicates", "machines", "windows", "adjustments")
    assert [*(figures[name] for name in names), micros(figures["earned"])] == answers["sql", FIGURES]["rows"][0]
    assert figures["quantity"] == dict(answers["sql", AMOUNTS]["rows"])
    assert demo["posts"] == [row["settlement"] for row in answers["settlements",]["posts"]]
    assert micros(demo["claimed"]) == micros(*(row["claimed"] for row in answers["payouts",]["payouts"]))
    audit = answers["audit",]
    assert (demo["audit"], figures["earned"], figures["windows"]) == ("ok", audit["nets"], audit["windows"])


def test_one_changed_byte_of_one_reading_is_named(place: Path, demo: dict[str, Any]) -> None:
    """In a copy, which has no chain of its own until it is named."""
    chain = last_json(tallyroot("status", "--data-dir", "data", "--json", cwd=place))["servers"]["chain"]
    copy = place / "copy"
    shutil.copytree(place / "data", copy, ignore=shutil.ignore_patterns("kafka", "evm"))
    path = max((copy / "log").glob("*/*.parquet"), key=lambda path: path.stat().st_size)
    table = pq.read_table(path)
    values = table.column("value").to_pylist()
    row = next(row for row, value in enumerate(values) if b'"seq":3,' in value)
    values[row] = values[row].replace(b'"seq":3,', b'"seq":4,')
    reading = json.loads(values[row])
    column = table.schema.get_field_index("value")
    pq.write_table(table.set_column(column, "value", pa.array(values, table.schema.field(column).type)), path)
    words = ("audit", "--from-archive", "--data-dir", "copy")
    assert "no chain runs for" in tallyroot(*words, cwd=place, code=1).stderr
    env = {"CHAIN_RPC_URL": chain}
    report = last_json(tallyroot(*words, "--json", cwd=place, code=1, env=env))
    findings = report["findings"]
    assert isinstance(findings, list)
    named = [finding for finding in findings if finding["kind"] == "window"]
    assert named[0]["machine"] == reading["machine"]
    start = moment_ms(named[0]["window_start"])
    moment = reading["observed_at"] - (not reading.get("session_start", False))
    assert start <= moment < start + 900_000
    assert "NOT ok" in tallyroot(*words, cwd=place, code=1, env=env).stdout


def test_every_command_answers_by_its_schema(place: Path, demo: dict[str, Any]) -> None:
    """All of them, run for real; it is the last test of this folder, whose log it settles once more."""
    assert faults(demo, answer_schema("demo")) == []
    every = EveryAnswer(place, demo)
    every.of_readers()
    every.of_shares()
    every.of_treasurers()
    every.of_operators()
    every.of_the_end()
    assert every.missing() == set()


def test_a_folder_is_one_demos_at_a_time_and_no_other_is_emptied(tmp_path: Path) -> None:
    with demo_folder(tmp_path), pytest.raises(InvalidInput, match="another demo runs"), demo_folder(tmp_path):
        pass
    (tmp_path / "forged" / "log").mkdir(parents=True)
    with demo_folder(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == [MARKER]
    (tmp_path / MARKER).rename(tmp_path / "thesis.txt")
    with pytest.raises(InvalidInput, match="something other"), demo_folder(tmp_path):
        pass
    assert (tmp_path / "thesis.txt").exists()


def test_a_demo_that_fails_leaves_no_server(tmp_path: Path) -> None:
    servers = []

    def fails() -> None:
        with demo_folder(tmp_path):
            servers.append(processes.start(["/bin/sleep", "60"], tmp_path, tmp_path / "log"))
            stack = Stack.start(tmp_path, kafka_bootstrap_servers="broker:9092", chain_rpc_url="http://chain:8545")
            msgspec.structs.replace(stack, starting=servers[0])._save()
            raise InvalidInput("a file")

    with pytest.raises(InvalidInput, match="a file"):
        fails()
    assert [server.alive() for server in servers] == [False]


def test_a_mistake_in_a_file_is_found_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "sessions.csv").write_text("no,such,columns\n1,2,3\n")
    refused = tallyroot("demo", "--source", "acn-sessions=sessions.csv", cwd=tmp_path, code=1)
    assert len(refused.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["sessions.csv"]
