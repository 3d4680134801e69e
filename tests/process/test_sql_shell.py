"""`tallyroot sql` on a real pseudo-terminal: what a person types, and what they see."""

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.cli.sql_shell import is_valid
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
    shown = typist.until("1 row\r\n")
    assert "- row 1" in shown and "registration_version  1" in shown, "too wide for a table"
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
