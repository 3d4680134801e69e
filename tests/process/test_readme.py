"""README.md's blocks, run as they stand in the folder of the one whole demo, before which others were ended in it."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from deploy.demo.ends import INTERRUPTED, end_leftovers
from deploy.stack.servers import Stack
from deploy.texts import day_text, money
from schemas.units import DAY_MS

pytestmark = [pytest.mark.kafka, pytest.mark.chain, pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS: list[tuple[str, str]] = re.findall(r"(?ms)^```(\w*)\n(.*?)^```", README)
DATA = "tallyroot-data"
SESSIONS = f"acn-sessions={ROOT / 'data' / 'ev_sessions_acn_2019.parquet'}"
CHANCE = re.compile(r"worker \d|partition \d|after [\d.]+ s|took \d+ s")
"""What of the demo's output is another time's: which worker was first, and how long it took."""

ENDINGS = {
    "Ctrl-C in a terminal": ("all", ["3/8", "4/8", "  worker"]),
    "SIGINT to the demo alone": ("demo", ["1/8", "2/8", "4/8"]),
    "SIGKILL to the demo alone": ("killed", ["1/8", "  worker"]),
}
"""Who gets the signal, and behind which of the demo's lines."""

ENTRIES = "SELECT sum(entries), sum(accepted), sum(duplicate), (SELECT count(*) FROM rejects) FROM epochs"
STREET = (
    "SELECT count(*), sum(paid_micros), sum(collected_micros), sum(refund_micros),"
    " (SELECT count(*) FROM orders), (SELECT sum(expense_micros) FROM orders) FROM sessions"
)
WINDOWS = (
    "SELECT count(DISTINCT machine), count(*) - count(adjusts), count(adjusts),"
    " sum(gross_micros), sum(gross_micros) FILTER (machine LIKE 'sim-%') FROM windows"
)


def blocks(language: str) -> list[str]:
    return [text for name, text in BLOCKS if name == language]


def run(command: str, place: Path) -> str:
    """What a shell command of the README writes to stdout, run as it stands."""
    done = subprocess.run(command, shell=True, cwd=place, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def asked(words: str, place: Path) -> dict[str, Any]:
    """What a command answers in JSON."""
    result = json.loads(run(f".venv/bin/tallyroot {words} --json", place).splitlines()[-1])
    assert isinstance(result, dict)
    return result


def running_in(place: Path) -> set[int]:
    """Ids of the processes that work in the folder or name it."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words, cwd = (process / "cmdline").read_bytes(), str((process / "cwd").readlink())
            runs = (process / "stat").read_text(errors="replace").rpartition(")")[2].split()[0] != "Z"
        except OSError:
            continue
        if runs and (str(place).encode() in words or cwd.startswith(str(place))):
            found.add(int(process.name))
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in which `.venv/bin/tallyroot` is ours, and `tallyroot-data` the demo's."""
    folder = tmp_path_factory.mktemp("readme").resolve()
    (folder / ".venv").symlink_to(sys.prefix)
    yield folder
    end_leftovers(folder / DATA)
    assert running_in(folder) == set()


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_demo_that_is_ended_leaves_nothing(place: Path, ending: str) -> None:
    """At a moment of a seeded choice. What SIGKILL leaves is for the next demo to end."""
    whom, lines = ENDINGS[ending]
    chance = random.Random(ending)
    line, later_s = chance.choice(lines), chance.random()
    demo = interruptible([".venv/bin/tallyroot", "demo", "--source", SESSIONS], place)
    with demo:
        assert demo.stderr is not None
        assert any(text.startswith(line) for text in demo.stderr)
        time.sleep(later_s)
        number = signal.SIGKILL if whom == "killed" else signal.SIGINT
        os.killpg(demo.pid, number) if whom == "all" else os.kill(demo.pid, number)
        rest = demo.stderr.read()
        code = demo.wait(20)
    if whom == "killed":
        assert code == -signal.SIGKILL
        return
    assert code == 130
    progress = re.compile(r"  |\d/8 |$")
    assert [text for text in rest.splitlines() if not progress.match(text)] == [INTERRUPTED.strip()]
    assert running_in(place) == set()


def interruptible(words: list[str], place: Path) -> "subprocess.Popen[str]":
    """A process in a session of its own, which hears SIGINT also where we were started by a shell's `&`."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(
            words, cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def demo(place: Path) -> subprocess.CompletedProcess[str]:
    """The whole demo, with the words that `make demo` uses, in a folder where others were ended."""
    words = [".venv/bin/tallyroot", "demo"]
    done = subprocess.run(words, cwd=place, capture_output=True, text=True, timeout=800, check=False)
    assert done.returncode == 0, done.stderr
    return done


def test_what_ran_before_has_ended(place: Path, demo: subprocess.CompletedProcess[str]) -> None:
    stack = Stack.load(place / DATA)
    assert stack is not None and stack.kafka is not None and stack.evm is not None
    assert running_in(place) <= {stack.kafka.pid, stack.evm.pid}


def test_every_block_is_of_a_kind_that_is_run() -> None:
    assert [name for name, _ in BLOCKS] == ["text", "sh", "text", "console", "python"]
    assert len(README.splitlines()) <= 120


def test_make_demo_is_the_demo_that_ran_here() -> None:
    assert blocks("sh") == ["make demo\n"]
    makefile = (ROOT / "Makefile").read_text()
    assert "\ndemo: setup\n\t$(TOOLS)tallyroot demo\n" in makefile
    assert "\nTOOLS = .venv/bin/\n" in makefile


def test_the_demo_prints_what_the_page_shows(demo: subprocess.CompletedProcess[str]) -> None:
    printed = [plain(line) for line in (demo.stderr + demo.stdout).splitlines()]
    places = [printed.index(plain(line)) for line in blocks("text")[1].splitlines()]
    assert places == sorted(places)


def plain(line: str) -> str:
    return CHANCE.sub("*", line.rstrip())


def test_its_story_fits_a_terminal(demo: subprocess.CompletedProcess[str]) -> None:
    """At most 60 rows of 80 columns, without what on a terminal are bars (a pipe gets lines instead)."""
    bars = re.compile(r"  (worker \d: |two workers start$|[\d,]+ records, up to )")
    lines = [line for line in (demo.stderr + demo.stdout).splitlines() if not bars.match(line)]
    assert sum(max(1, -(-len(line) // 80)) for line in lines) <= 60
    assert "\r" not in demo.stderr
    assert not re.search(r"\b\d{13}\b", demo.stdout)  # no bare epoch ms


def test_everyone_gets_the_roots_of_the_table(place: Path, demo: subprocess.CompletedProcess[str]) -> None:
    table = re.findall(r"(?m)^\| (\d+) \| (\S+) to (\S+) \| `0x(\w+)` \|$", README)
    posts = [row["settlement"] for row in asked("settlements", place)["posts"]]
    rows = [
        (
            str(post["sequence"]),
            day(post["first_epoch"]),
            day(post["last_epoch"]),
            post["windows_root"].removeprefix("0x"),
        )
        for post in posts
    ]
    assert table == rows
    assert [f"post {number}  0x{root}" for number, _, _, root in rows] == [
        line for line in demo.stdout.splitlines() if re.match(r"post \d  0x", line)
    ]


def day(epoch: int) -> str:
    return day_text(epoch * DAY_MS)


@pytest.mark.usefixtures("demo")
def test_the_queries_answer_what_the_page_shows(place: Path) -> None:
    (console,) = blocks("console")
    found = re.findall(r"(?m)^\$ (.*)\n((?:[^$].*\n)*)", console)
    assert len(found) == 2
    for command, answer in found:
        assert run(command, place) == answer


@pytest.mark.usefixtures("demo")
def test_the_python_lines_run(place: Path) -> None:
    (code,) = blocks("python")
    done = subprocess.run([sys.executable, "-c", code], cwd=place, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    tables = done.stdout.split("┌")[1:]
    assert ["machine" in table and "112 rows" in table for table in tables] == [True, True]


def test_every_figure_is_what_the_commands_say(place: Path, demo: subprocess.CompletedProcess[str]) -> None:
    """In the words of the demo, from `sql`, `settlements`, `payouts` and `shares`; test_demo asks `audit` too."""
    lines = demo.stdout.splitlines()
    ((entries, accepted, duplicates, rejected),) = asked(f'sql "{ENTRIES}"', place)["rows"]
    ((machines, windows, adjustments, earned, simulated),) = asked(f'sql "{WINDOWS}"', place)["rows"]
    assert rejected == 0
    assert (
        f"income      {money(earned, 'USD')} of {machines} machines, {money(simulated, 'USD')} of it simulated"
    ) in lines
    assert f"windows     {windows:,}, {adjustments:,} adjustments" in lines
    assert (
        f"entries     {entries:,} = {accepted:,} accepted + {duplicates:,} duplicate + {rejected:,} rejected"
    ) in lines
    ((sessions, prepaid, used, back, orders, expenses),) = asked(f'sql "{STREET}"', place)["rows"]
    assert prepaid == used + back
    assert f"{sessions} payments of customers held against what the ledger got" in lines
    assert (
        f"street      {sessions} sessions, {money(prepaid, 'USD')} paid before: {money(used, 'USD')} used,"
        f" {money(back, 'USD')} back"
    ) in lines
    assert (
        f"            {orders} orders of a robot, as its shelf foretold: {money(expenses, 'USD')} to a supplier"
        in lines
    )
    posts = asked("settlements", place)["posts"]
    assert [row["settlement"]["state"] for row in posts] == ["active"] * 3
    assert any(re.match(rf"3 posts, \d+ epochs, {windows:,} windows recomputed; earned ", line) for line in lines)
    assert f"sum of all leaves {Decimal(posts[-1]['total']):,} = the total on the chain" in demo.stdout
    paid = {row["account"]: row["claimed"] for row in asked("payouts", place)["payouts"]}
    assert sum(map(Decimal, paid.values())) == Decimal(posts[-1]["total"])
    balances = {row.split()[1]: row.split()[3] for row in lines if re.match(r"(owner|site|investor) +0x", row)}
    assert balances == {account: f"{Decimal(paid[account]):,}" for account in balances} and len(balances) == 3
    (yours,) = [row.split()[3] for row in lines if row.startswith("you ")]
    assert yours == asked("shares income YOU10", place)["income"]["withdrawn"]
