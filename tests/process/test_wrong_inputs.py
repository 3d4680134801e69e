"""Wrong command lines, files and settings, as a reviewer would try them: one line that says what to do, 1 or 2.

Nothing runs here: a mistake is found before a server is started or a folder is made.
"""

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.config import Settings
from deploy.data_folder import DataFolder
from schemas.log import Log, Ruleset
from tests.support.commands import tallyroot

ACCOUNT = "0x" + "11" * 20
LOG = Log(log_id="log-1", currency="EUR", partitions=4, rulesets=(Ruleset(operators=(ACCOUNT,)),))

USAGE = [
    ("nonsense", "No such command 'nonsense'"),
    ("demo --nope", "No such option: --nope"),
    ("--nope", "No such option"),
    ("shares nope", "No such command 'nope'"),
    ("shares issue m", "Missing option '--supply'"),
    ("up --workers -1", "'-1' is not a whole number, 1 or more, at most 64"),
    ("up --workers 0", "1 or more"),
    ("up --workers 65", "at most 64"),
    ("up --workers many", "'many' is not a whole number"),
    ("up --workers 1.5", "'1.5' is not a whole number"),
    ("up --metrics-port 70000", "at most 65535"),
    ("up --metrics-port -1", "0 or more"),
    ("up extra", "unexpected extra argument"),
    ("stream --commit-records 0", "1 or more"),
    ("init --partitions 0", "1 or more, at most 1024"),
    ("init --currency", "requires an argument"),
    ("simulate --machines 0", "1 or more"),
    ("simulate --speed 99", "at most 60"),
    ("replay acn-sessions x.csv --days -1", "1 or more"),
    ("retire", "Missing argument"),
    ("correct cp-1 energy", "Missing option '--at'"),
    ("receipt cp-1", "Missing argument 'meter'"),
    ("receipt cp-1 energy -1 0", "-1 is negative, which nothing here can be"),
    ("fund -5", "-5 is negative, which nothing here can be"),
    ("max-rate -1", "-1 is negative"),
    ("dispute -1", "-1 is negative"),
    ("revoke x", "'x' is not a whole number"),
    ("settle --epochs 0", "1 or more"),
    ("settle --without x", "'x' is not a whole number"),
    ("settle --runway-days -1", "0 or more"),
    ("watch --every 0", "0.1 or more"),
    ("watch --every nan", "0.1 or more"),
    ("check-gateway --limit -1", "0 or more"),
    ("shares register PV1 --points 10 --until soon", "'soon' is not a day"),
    ("shares buy PV1 many", "'many' is not a whole number"),
]
"""Command lines that no command takes: exit code 2."""

NO_LOG = "make one with `tallyroot init`"
NO_CHAIN = "start it with `tallyroot up`, or set CHAIN_RPC_URL"
NO_KAFKA = "start it with `tallyroot up`, or set KAFKA_BOOTSTRAP_SERVERS"
DURATION = "is not a duration: write a number and s, m, h, d or w"
NEITHER = "use one of these"

FOLDERS = [
    ("up --workers 2 --data-dir empty", NO_LOG),
    ("stream --data-dir empty", NO_LOG),
    ("status --data-dir nowhere", NO_LOG),
    ("settle --data-dir nowhere", NO_LOG),
    ("sql 'SELECT 1' --data-dir nowhere", NO_LOG),
    ("status --data-dir file", "is a file: name a folder with --data-dir"),
    ("up --data-dir file", "is a file: name a folder"),
    ("sql 'SELECT 1' --data-dir file", "is a file: name a folder"),
    ("init --data-dir file", "is a file: name a folder"),
    ("demo --data-dir file", "is a file: name a folder"),
    ("init --data-dir file/within", "name a folder on a disk of this machine"),
    ("demo --data-dir thesis", "holds something other than a demo: choose another --data-dir"),
    ("status --data-dir bad-log", "log.json is not a description of a log"),
    ("up --workers 1 --data-dir bad-log", "restore it from a copy"),
    ("up --data-dir bad-stack", "end its servers by hand and remove it"),
    ("down --data-dir bad-stack", "end its servers by hand and remove it"),
    ("down --data-dir bad-workers", "end its workers by hand and remove it"),
    ("machines --data-dir bad-store", "remove it, and set TALLYROOT_STORE"),
    ("stream --data-dir data", NO_KAFKA),
    ("check-gateway --data-dir data", NO_KAFKA),
    ("retire cp-1 --data-dir data", NO_KAFKA),
    ("settle --data-dir data", NO_CHAIN),
    ("audit --data-dir data", NO_CHAIN),
    ("claim --all --data-dir data", NO_CHAIN),
    ("why 0x12 --data-dir data", NO_CHAIN),
    ("report --data-dir data", "run `tallyroot stream` first"),
    ("attack --data-dir data", "stream some epochs first"),
    ("shares machine PV1 --data-dir data", "see `tallyroot machines`"),
]
"""Folders that are none, or lack something: exit code 1."""

WORDS = [
    ("claim", "name the accounts, or all of them with --all"),
    ("proof", "name one account, or all of them with --all --out FOLDER"),
    (f"proof {ACCOUNT} --all", "name one account, or all"),
    ("machines show", "`tallyroot machines show ID`"),
    ("machines shwo cp-1", "`tallyroot machines show ID`"),
    ("init --currency euro", "write three capital letters, such as EUR"),
    ("init --window -15m", DURATION),
    ("init --window 15", DURATION),
    ("init --epoch 0d", DURATION),
    ("init --grace 99999999999999999999d", DURATION),
    ("init --epoch 10m --window 15m", "choose --epoch as a multiple of --window"),
    ("init --zone Mars/Base", "use an IANA name such as"),
    ("init --from soon", "write it as 2019-09-10"),
    ("init --partitions 8 --data-dir data", "partitions is 4, not 8"),
    ("replay", "name a source: tallyroot replay KIND FILE"),
    ("replay acn-sessions", "name the file too"),
    ("replay pv-power other.csv --unit MW", "choose W or kW"),
    ("demo --source acn-sessions", "write KIND=FILE"),
    ("demo --source =other.csv", "choose one of acn-sessions"),
    ("demo --epoch 1y", DURATION),
    ("simulate --faults lies", "choose from clock, reset"),
    ("simulate --format xml", "choose one of json, array, arrow"),
    ("simulate --days 1 --start soon", "write it as 2019-09-10"),
    ("simulate --for ever", DURATION),
    ("simulate --live --fast", "choose one of --live and --fast"),
    ("simulate --live --days 3", "choose one of --live and --fast"),
    ("simulate --payee 0x12=10000", "write 0x and 40 hex digits"),
    ("simulate --payee me", "write 0xACCOUNT=POINTS"),
    (f"simulate --payee {ACCOUNT}=5000", "add up to 5000, not to 10,000"),
    ("simulate --window 1m --data-dir data", "is fixed for a log's life"),
    ("sql 'SELECT 1' -c 'SELECT 2' --data-dir data", "write one query"),
    ("sql SELEC --data-dir data", "syntax error"),
    ("sql '' --data-dir data", "write one after `tallyroot sql`"),
    ("correct cp-1 energy --usage +1 --at yesterday --reason x --data-dir data", "write it as 2019-09-01T17:00Z"),
    ("pause claims soon --data-dir data", DURATION),
    ("close-ledger --to me --data-dir data", "write 0x and 40 hex digits"),
    (f"roles --grant king={ACCOUNT} --data-dir data", "one of poster, auditor, guardian"),
    ("roles --grant poster --data-dir data", "write ROLE=0x…"),
    ("deploy-contracts --token 0x12 --data-dir data", "write 0x and 40 hex digits"),
    ("deploy-contracts --delay fast --data-dir data", DURATION),
    ("skip-range --data-dir data", "or ask with --list"),
    ("skip-range 0 5 3 --reason x --data-dir data", "needs a first offset below the next one"),
    ("skip-range 99 1 2 --reason x --data-dir data", "it has 4, counted from 0"),
    ("report --day soon --data-dir data", "write it as 2019-09-10"),
    ("report --name x --data-dir data", "write --name 0x…=owner"),
    ("config --value NOPE", "`tallyroot config` lists all"),
    ("register --example toaster", "choose one of drone"),
]
"""Words that mean nothing, or two things: exit code 1."""

FILES = [
    ("register --data-dir data", "name the forms"),
    ("register missing.toml --data-dir data", "check the path"),
    ("register empty --data-dir data", "check the path"),
    ("register binary --data-dir data", "save it as UTF-8"),
    ("register broken.toml --data-dir data", "see `tallyroot register --example"),
    ("register nothing.toml --data-dir data", "see `tallyroot register --example"),
    ("register other.csv --data-dir data", "see `tallyroot register --example"),
    ("register nothing.toml --signed broken.json --data-dir data", "not both"),
    ("register --signed missing.json --data-dir data", "check the path"),
    ("register --signed broken.json --data-dir data", "see --print-payload"),
    ("replay nope other.csv", "choose one of acn-sessions"),
    ("replay acn-sessions missing.csv", "check the path"),
    ("replay acn-sessions empty", "check the path"),
    ("replay acn-sessions binary", NEITHER),
    ("replay acn-sessions other.csv", "its columns must include"),
    ("demo --source acn-sessions=missing.csv", "check the path"),
    ("demo --source acn-sessions=binary.parquet", "binary.parquet"),
    ("verify missing.json --data-dir data", "write one with `tallyroot proof --out`"),
    ("verify binary --data-dir data", "write one with `tallyroot proof --out`"),
    ("verify empty --data-dir data", "is not a regular file"),
    ("init --operator missing.json", "a keystore needs --password-file"),
    ("init --operator missing.json --password-file missing", "can't read the password file"),
    ("init --operator broken.json --password-file file", "does not open with this password"),
    ("init --operator https://signer.example/", "name the signer's account too"),
    ("init --operator https://signer.example/#0x12", "set the one whose key the signer holds"),
]
"""Files that are missing, a folder, or something else: exit code 1."""

KEY = "11" * 32
SETTINGS = [
    ({"CHAIN_RPC_URL": "ftp://x"}, "CHAIN_RPC_URL: must start with http"),
    ({"TALLYROOT_METRICS_PORT": "70000"}, "must be a port"),
    ({"TALLYROOT_TOPIC": "a b"}, "letters, digits, dots"),
    ({"TALLYROOT_LOG": "xml"}, "must be text or json"),
    ({"TALLYROOT_FEE_CAP_GWEI": "0"}, "must be a whole number, 1 or more"),
    ({"TALLYROOT_PRIORITY_FEE_GWEI": "-1"}, "must be a number, 0 or more"),
    ({"TALLYROOT_PRIORITY_FEE_GWEI": "900"}, "must be below TALLYROOT_FEE_CAP_GWEI"),
    ({"TALLYROOT_START_PATIENCE": "0"}, "must be a whole number of seconds"),
    ({"TALLYROOT_POSTER_KEY": "abc"}, "must be 32 bytes in hex"),
    ({"TALLYROOT_POSTER_KEY": KEY, "TALLYROOT_POSTER_KEYSTORE": "x"}, "set one of"),
    ({"TALLYROOT_POSTER_KEYSTORE": "x"}, "needs TALLYROOT_POSTER_PASSWORD_FILE"),
    ({"TALLYROOT_POSTER_SIGNER": "https://x"}, "go together"),
    ({"TALLYROOT_STORE": "ftp://x"}, "write a folder, or s3://"),
    ({"TALLYROOT_STORE": "file"}, "check that it is up"),
    ({"TALLYROOT_DATA_DIR": "file"}, "is a file: name a folder"),
]
"""Variables: exit code 1, and no value of a key is shown."""

TOML = [
    (b"a = [", "is not TOML"),
    (b"\xff\xfe\x00", "is not TOML"),
    (b"dta_dir = '.'", "dta_dir: there is none of this name"),
    (b"data_dir = 5", "TALLYROOT_DATA_DIR: must be a text"),
    (b"[poster]\nkye = '1'", "poster.kye: there is none of this name"),
    (b"poster = 5", "poster: must be a table"),
    (b"fee_cap_gwei = 1.5", "must be a whole number"),
    (None, "can't read tallyroot.toml"),
]
"""What `tallyroot.toml` may hold by mistake; None: it is a folder."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working folder with every kind of wrong file, and `data`, a folder with a log and no servers."""
    folder = tmp_path_factory.mktemp("wrong")
    DataFolder(folder / "data", Settings()).create_log(LOG)
    for name in ("empty", "thesis", "bad-log", "bad-stack", "bad-workers", "bad-store"):
        (folder / name).mkdir()
    contents: dict[str, bytes] = {
        "file": b"x", "binary": bytes(range(256)), "binary.parquet": bytes(range(256)), "broken.toml": b"a = [",
        "broken.json": b"{", "nothing.toml": b"", "other.csv": b"no,such\n1,2\n", "thesis/thesis.txt": b"x",
        "bad-log/log.json": b"[]", "bad-stack/stack.json": b"no", "bad-workers/workers.json": b"{}",
        "bad-store/store.json": b"7",
    }  # fmt: skip
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    before = {path.relative_to(folder) for path in folder.rglob("*")}
    yield folder
    made = {path.relative_to(folder) for path in folder.rglob("*")} - before
    assert {str(path) for path in made} <= {"tallyroot-data", "data/analytics.duckdb"}


def refused(place: Path, words: list[str], code: int, said: str, env: dict[str, str] | None = None) -> str:
    """Runs what must be refused in one line that says this, with nothing on stdout; that line."""
    done = tallyroot(*words, cwd=place, code=code, env=env, seconds=60)
    (line,) = done.stderr.splitlines()
    assert line.startswith("tallyroot: ")
    assert said in line
    assert done.stdout == ""
    return line


def table(rows: list[tuple[str, str]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("words", "said"), rows, ids=[words for words, _ in rows])


@table(USAGE)
def test_what_no_command_takes(place: Path, words: str, said: str) -> None:
    assert "(see `tallyroot --help`)" in refused(place, shlex.split(words), 2, said)


@table([*FOLDERS, *WORDS, *FILES])
def test_what_a_command_cannot_do(place: Path, words: str, said: str) -> None:
    refused(place, shlex.split(words), 1, said)


@pytest.mark.parametrize(("env", "said"), SETTINGS, ids=[" ".join(env) for env, _ in SETTINGS])
def test_settings_that_are_none(place: Path, env: dict[str, str], said: str) -> None:
    where = [] if "TALLYROOT_DATA_DIR" in env else ["--data-dir", "data"]
    assert KEY not in refused(place, ["machines", *where], 1, said, env)


@pytest.mark.parametrize(("content", "said"), TOML)
def test_a_settings_file_that_is_none(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "tallyroot.toml"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    refused(tmp_path, ["config"], 1, said)


def test_the_table_is_as_long_as_it_is_said_to_be() -> None:
    assert sum(map(len, (USAGE, FOLDERS, WORDS, FILES, SETTINGS, TOML))) >= 58
