"""The command from its first moment to its last, whatever ends it."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.exceptions import TyperException
from typer.testing import CliRunner

from deploy.cli import app as cli

IN_PATH = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

LOADING = """
import os, signal, sys
from deploy.__main__ import main

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "deploy.cli":
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Interrupting())
main()
"""
RUNNING = """
import os, signal, sys
from deploy.cli import app as cli
signal.signal(signal.SIGINT, signal.default_int_handler)
cli.app = lambda **_: os.kill(os.getpid(), signal.SIGINT)
cli.main()
"""


@pytest.mark.parametrize(
    ("program", "code", "said"),
    [(LOADING, -signal.SIGINT, ""), (RUNNING, 130, "tallyroot: interrupted\n")],
    ids=["while it is loaded", "while it runs"],
)
def test_ctrl_c_ends_it_without_a_traceback(program: str, code: int, said: str) -> None:
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (code, said)


HEAVY = {
    "pyarrow",
    "numpy",
    "duckdb",
    "pydantic",
    "web3",
    "faust",
    "rich",
    "confluent_kafka",
    "aiokafka",
    "eth_account",
}
LOADED = """
import contextlib, io, sys
from deploy.cli import app as cli
sys.argv = ["tallyroot", *sys.argv[1:]]
code = 0
with contextlib.redirect_stdout(io.StringIO()) as out:
    try:
        cli.main()
    except SystemExit as ended:
        code = ended.code
print(code, *sorted({name.split(".")[0] for name in sys.modules}))
"""


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ([], 2), (["--help"], 0), (["--version"], 0), (["settle", "--help"], 0), (["shares", "--help"], 0),
        (["shares", "buy", "--help"], 0), (["stream", "--help"], 0), (["sell"], 2), (["settle", "--epochs", "0"], 2),
        (["up", "--workers", "many"], 2), (["claim", "--nothing"], 2), (["claim"], 1), (["proof"], 1),
        (["--show-completion"], 0),
        (["shares", "register", "PV1", "--points", "1", "--until", "soon"], 2),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, list) else "",
)  # fmt: skip
def test_help_and_usage_errors_load_nothing_heavy(words: list[str], code: int) -> None:
    """Import times are what a person waits for; no test asserts a time."""
    in_bash = ["bash", "-c", '"$@"; exit $?', "bash"]  # the shell whose completion is shown
    program = [*in_bash, sys.executable, "-c", LOADED, *words]
    ended = subprocess.run(program, capture_output=True, text=True, timeout=60, check=True)
    shown, *modules = ended.stdout.split()
    assert int(shown) == code, ended.stderr
    assert not HEAVY & set(modules)


COMPLETED = """
source /dev/stdin <<< "$(tallyroot --show-completion)"
COMP_WORDS=(tallyroot "$@") COMP_CWORD=$#
"$(complete -p tallyroot | sed 's/.*-F \\([^ ]*\\) .*/\\1/')" tallyroot
echo "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["se"], "settle settlements"),
        (["settle", "--fo"], "--follow"),
        (["shares", "b"], "buy"),
        (["--v"], "--version"),
    ],
    ids=" ".join,
)
def test_bash_completes_commands_and_options(words: list[str], found: str) -> None:
    """By the script that --show-completion prints, as bash calls it after a TAB."""
    ended = subprocess.run(
        ["bash", "-c", COMPLETED, "bash", *words], capture_output=True, text=True, timeout=60, check=True, env=IN_PATH
    )
    assert ended.stdout.strip() == found, ended.stderr


@pytest.mark.parametrize(
    ("shell", "file"),
    [
        ("bash", ".bash_completions/tallyroot.sh"),
        ("zsh", ".zfunc/_tallyroot"),
        ("fish", ".config/fish/completions/tallyroot.fish"),
    ],
)
def test_completion_is_installed_for_the_shell_that_asks(shell: str, file: str, tmp_path: Path) -> None:
    """A shell is known by the name of its process: bash stands in for those that are not here."""
    (tmp_path / shell).symlink_to(shutil.which("bash") or "bash")
    for option in ("--show-completion", "--install-completion"):
        ended = subprocess.run(
            [tmp_path / shell, "-c", f"tallyroot {option}; :"], capture_output=True, text=True, timeout=60, check=True,
            env=IN_PATH | {"HOME": str(tmp_path)},
        )  # fmt: skip
        if option == "--show-completion":
            script = ended.stdout.strip()
    assert "tallyroot" in script and (tmp_path / file).read_text().strip() == script


def test_every_command_is_in_a_panel_of_the_help() -> None:
    group = typer.main.get_command(cli.app)
    assert isinstance(group, cli.PanelGroup)
    shown = CliRunner().invoke(cli.app, ["--help"]).stdout
    assert [name for name in group.commands if f"\n  {name} " not in shown] == []
    assert [panel for panel in cli.PANELS if f"\n{panel}:\n" not in shown] == []


def test_words_become_values_or_one_line_says_what_they_should_be() -> None:
    """Typer's own conversion, by pydantic, is replaced: every kind of value that a command takes."""
    group = typer.main.get_command(cli.app)
    parse = lambda name, *words: group.commands[name].make_context(name, list(words)).params  # noqa: E731
    assert parse("settle", "--epochs", "3", "--without", "1", "--without", "2")["without"] == [1, 2]
    assert parse("why", "0x1", "--window", "m", "2019-09-01T17:00Z")["window"] == ("m", "2019-09-01T17:00Z")
    assert parse("watch", "--every", "0.5")["every"] == 0.5
    assert parse("claim", "a", "b")["accounts"] == ["a", "b"]
    assert not parse("claim", "--all")["accounts"]
    assert parse("down", "--data-dir", "x")["data_dir"] == Path("x")
    for words, said in (
        (["watch", "--every", "nan"], "'nan' is not a number, 0.1 or more"),
        (["up", "--workers", "65"], "'65' is not a whole number, 1 or more, at most 64"),
    ):
        with pytest.raises(TyperException, match=said):
            parse(*words)
