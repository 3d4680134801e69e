"""`tallyroot sql` on a real pseudo-terminal: what a person types, and what they see."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.cli.sql_output import Format
from deploy.cli.sql_shell import is_valid
from deploy.config import Settings
from deploy.data_folder import DataFolder
from deploy.explain.query import query
from schemas.errors import InvalidInput
from tests.support.report_data import small_folder

SECONDS_MAX = 30.0


class Typist:
    """A shell in a terminal of 100 columns."""

    def __init__(self, folder: Path) -> None:
        self._terminal, theirs = pty.openpty()
        self._shown = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "deploy", "sql", "--data-dir", str(folder)],
            stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            preexec_fn=_own_terminal,  # noqa: PLW1509
            env=os.environ | {"TERM": "dumb", "COLUMNS": "100", "LINES": "40"},
        )  # fmt: skip
        os.close(theirs)

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def until(self, wanted: str) -> str:
        """What was shown since the last call, up to `wanted` and with it."""
        deadline = time.monotonic() + SECONDS_MAX
        while wanted not in self._shown:
            ready, _, _ = select.select([self._terminal], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"{wanted!r} never came: {self._shown!r}"
            self._shown += os.read(self._terminal, 4096).decode()
        end = self._shown.index(wanted) + len(wanted)
        shown, self._shown = self._shown[:end], self._shown[end:]
        return shown

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(SECONDS_MAX)
        os.close(self._terminal)


def _own_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # so that Ctrl-C reaches the shell as a signal
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # which whoever runs the tests in the background has switched off


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_folder(tmp_path_factory.mktemp("shell"))


@pytest.fixture
def typist(folder: Path) -> Iterator[Typist]:
    person = Typist(folder)
    try:
        person.until("sql> ")
        yield person
    finally:
        person.close()


def test_a_session_of_a_person(typist: Typist, folder: Path) -> None:
    typist.type("SELECT count(*) AS many\n")
    typist.until("...> ")
    typist.type("FROM settle\t;\n")
    shown = typist.until("sql> ")
    assert "FROM settlements" in shown and "many" in shown and "1 row" in shown
    typist.type("SELECT nonsense")
    typist.until("nonsense")
    time.sleep(0.5)  # between its echo and its wait for a key, readline takes a signal only with the next key
    typist.type("\x03")
    typist.until("sql> ")
    typist.type("SELECT 40 + 2 AS answer;\n")
    assert "42" in typist.until("1 row")
    typist.until("sql> ")
    typist.type("SELECT count(*) FROM range(1000000000) a, range(1000000) b WHERE a.range % 7 = b.range % 5;\n")
    typist.until("b.range % 5;\r\n")
    time.sleep(0.5)
    typist.type("\x03")
    assert "stopped" in typist.until("sql> "), "Ctrl-C ends a query and not the shell"
    typist.type("SELECT * FROM windows LIMIT 1;\n")
    shown = typist.until("sql> ")
    assert "…" in shown and "1 row, 40 columns (" in shown, "too wide: columns in the middle are left out"
    assert re.search(r"2019-04-1[45] \d\d:\d\d:00", shown), "a time is never broken"
    typist.type(".mode line\nSELECT * FROM windows LIMIT 1;\n")
    shown = typist.until("True\r\nsql> ")
    assert "- row 1" in shown and "registration_version  1" in shown
    typist.type(".mode csv\nSELECT 1 AS one, 'a,b' AS two;\n")
    assert 'one,two\r\n1,"a,b"\r\n' in typist.until('b"\r\nsql> ')
    typist.type(".mode table\n")
    typist.until("sql> ")
    typist.type("SELEC 1;\n")
    assert "Parser Error" in typist.until("sql> ")
    typist.type(".tables\n")
    assert "open_windows" in typist.until("sql> ")
    typist.type(".help\n")
    assert "Ctrl-D" in typist.until("sql> ")
    typist.type("\x04")
    assert typist.process.wait(SECONDS_MAX) == 0
    assert "SELECT 40 + 2 AS answer;" in (folder / ".sql_history").read_text()


def test_the_next_session_remembers_and_quits(folder: Path) -> None:
    (folder / ".sql_history").write_text("SELECT 17 * 3 AS before;\n")
    person = Typist(folder)
    try:
        person.until("sql> ")
        person.type("\x10\n")  # Ctrl-P: the line before, as the arrow up
        assert "51" in person.until("1 row")
        person.until("sql> ")
        person.type(".quit\n")
        assert person.process.wait(SECONDS_MAX) == 0
    finally:
        person.close()


@pytest.mark.parametrize("text", ["SELECT 1;", "SELECT 1; -- done", "SELECT ';';", ";", "SELEC 1;"])
def test_a_statement_is_whole(text: str) -> None:
    assert is_valid(text)


@pytest.mark.parametrize("text", ["", "SELECT 1", "SELECT 1 -- ;", "SELECT ';", "SELECT 'a;\n;'", "-- a;"])
def test_a_statement_goes_on(text: str) -> None:
    assert not is_valid(text)


def asked(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "deploy", "sql", "--data-dir", str(folder), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_MAX, check=False)


def test_a_query_comes_from_a_file_and_goes_into_other_formats(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "q.sql").write_text(
        "SELECT machine, sum(net) AS net, min(start) AS first FROM windows GROUP BY 1 LIMIT 1"
    )
    shown = {form: asked(folder, "--file", str(tmp_path / "q.sql"), "--format", form).stdout for form in Format}
    name, net, first = shown["csv"].splitlines()[1].split(",")
    assert shown["csv"].splitlines()[0] == "machine,net,first"
    assert json.loads(shown["json"]) == [{"machine": name, "net": net, "first": first}]
    assert shown["markdown"].splitlines() == [
        "| machine | net | first |",
        "| --- | --- | --- |",
        f"| {name} | {net} | {first} |",
    ]
    assert first.endswith(":00Z") and "." in net
    assert shown["line"].startswith("- row 1\n")
    wrong = asked(folder, "--format", "xml", "-c", "SELECT 1")
    assert (wrong.returncode, len(wrong.stderr.splitlines())) == (1, 1)


@pytest.mark.parametrize("text", [
    "COPY (SELECT 1) TO '{out}/x.csv'", "COPY (SELECT 1) TO '{data}/epochs/x.csv'",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{data}/epochs/x.csv'", "PREPARE p AS COPY (SELECT 1) TO '{data}/epochs/x.csv'",
    "COPY (PIVOT windows ON machine USING sum(net)) TO '{data}/epochs/x.csv'", "EXPORT DATABASE '{data}/epochs/x'",
    "FROM read_csv('{out}/there.csv')", "FROM '{out}/there.csv'", "FROM read_text('{data}/epochs/../log.json')",
    "ATTACH '{out}/x.db'", "ATTACH '{data}/epochs/x.db'", "INSTALL httpfs", "SET enable_external_access = true",
    "SELECT 1; COPY (SELECT 1) TO '{data}/epochs/x.csv'",
])  # fmt: skip
def test_a_query_reaches_no_files_but_those_of_the_views(folder: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "there.csv").write_text("a\n1\n")
    data = DataFolder(folder, Settings())
    query(data, "SELECT 1")  # makes the views, so that they are there before
    before = sorted(folder.rglob("*"))
    with pytest.raises(InvalidInput, match="--allow-files") as refused:
        query(data, text.format(out=tmp_path, data=folder))
    assert len(str(refused.value).splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["there.csv"]
    assert sorted(folder.rglob("*")) == before
    assert query(data, "SELECT count(*) > 0 FROM windows").rows == [(True,)], "the views still work"


def test_files_may_be_allowed(folder: Path, tmp_path: Path) -> None:
    data = DataFolder(folder, Settings())
    query(data, f"COPY (SELECT 42 AS a) TO '{tmp_path}/x.csv'", allow_files=True)
    assert query(data, f"FROM read_csv('{tmp_path}/x.csv')", allow_files=True).rows == [(42,)]
