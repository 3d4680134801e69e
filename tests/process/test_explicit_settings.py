"""What is set wins over what `stack.json` remembers, for every command that reaches Kafka or the chain.

The folder remembers servers that run: two ports of this process, which count who connects. What is set is a port at
which nothing answers, so a command that obeys fails and says so; all are run at once, for Kafka's clients are patient.
"""

import os
import shlex
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import CompletedProcess

import msgspec
import pytest

from deploy.config import Settings
from deploy.data_folder import DataFolder
from deploy.stack.evm_node import EvmNode
from deploy.stack.kafka_server import KafkaServer
from deploy.stack.processes import Process
from deploy.stack.servers import Stack
from schemas.log import Log, Ruleset
from streams.core.signature import operator_account
from tests.support.commands import tallyroot

ACCOUNT = "0x" + "11" * 20
SET_URL, SET_SERVERS = "http://127.0.0.1:1", "127.0.0.1:1"
SESSIONS = Path(__file__).parents[2] / "data" / "ev_sessions_acn_2019.parquet"

ON_THE_CHAIN = [
    "deploy-contracts", "fund", "settle", "settle --dry-run", "settle --follow", "settlements", "payouts",
    "peaq-events --out peaq.jsonl",
    "claim --all", "restore-posts", f"why {ACCOUNT}", f"proof {ACCOUNT}", "audit", "audit --from-archive", "attest",
    "watch --once", "dispute 1", "pause claims 1d", "unpause claims", "revoke 1", "max-rate 5", "quorum 1",
    f"close-ledger --to {ACCOUNT}", f"recover-token {ACCOUNT} 1 --to {ACCOUNT}", f"cancel-announced 0x{'00' * 32}",
    "roles",
    "shares issue m --supply 10 --symbol PV1 --new", "shares register PV1 --points 10 --until 2040-01-01",
    "shares offer PV1 --price 1 --cap 1 --until 2040-01-01", "shares buy PV1 1", f"shares transfer PV1 {ACCOUNT} 1",
    "shares holders PV1", "shares income PV1", "shares collect PV1", "shares withdraw PV1",
]  # fmt: skip
IN_KAFKA = [
    "stream", "stream --until-caught-up", "check-gateway", "register form.toml", "register form.toml --dry-run",
    "retire cp-1", "correct cp-1 energy --usage +1 --at 2026-01-01T00:00Z --reason x", "machines show cp-1",
    "simulate --for 1s", f"replay acn-sessions {SESSIONS} --seed log-1", "init",
]  # fmt: skip
COMMANDS = [*ON_THE_CHAIN, *IN_KAFKA]
KEY = "11" * 32


class Trap:
    """A port that accepts and counts connections: a server that runs, and must not be asked."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self.connections = 0
        self._thread = threading.Thread(target=self._count)
        self._thread.start()

    def _count(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            connection.close()
            self.connections += 1

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def __enter__(self) -> "Trap":
        return self


@pytest.fixture(scope="module")
def traps() -> Iterator[tuple[Trap, Trap]]:
    """What the folder remembers: a broker and a node that run."""
    with Trap() as broker, Trap() as node:
        yield broker, node


@pytest.fixture(scope="module")
def folder(traps: tuple[Trap, Trap], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder whose data folder has a log, and remembers both."""
    place, us = tmp_path_factory.mktemp("explicit"), Process.of(os.getpid())
    data = DataFolder(place / "data", Settings())
    data.create_log(
        Log(
            log_id="log-1",
            timestamp_type="CreateTime",
            rulesets=(Ruleset(operators=(operator_account(bytes.fromhex(KEY)),)),),
        )
    )
    stack = Stack.start(place / "data", kafka_bootstrap_servers="x", chain_rpc_url="http://x")
    broker, node = KafkaServer(us, traps[0].port, 1), EvmNode(us, traps[1].port)
    msgspec.structs.replace(
        stack, kafka=broker, evm=node, kafka_bootstrap_servers=broker.bootstrap_servers, chain_rpc_url=node.rpc_url
    )._save()
    assert (data.kafka_servers(), data.chain_rpc_url()) == (broker.bootstrap_servers, node.rpc_url)
    example = tallyroot("register", "--example", "ev_charger", cwd=place)
    (place / "form.toml").write_text(example.stdout)
    return place


@pytest.fixture(scope="module")
def answers(folder: Path) -> dict[str, CompletedProcess[str]]:
    """Each command's answer, with both servers set."""
    env = {"KAFKA_BOOTSTRAP_SERVERS": SET_SERVERS, "CHAIN_RPC_URL": SET_URL, "TALLYROOT_OPERATOR_KEY": KEY}

    def run(command: str) -> CompletedProcess[str]:
        words = [*shlex.split(command), "--data-dir", "data"]
        return tallyroot(*words, cwd=folder, code=1, env=env, seconds=120)

    with ThreadPoolExecutor(len(COMMANDS)) as pool:
        return dict(zip(COMMANDS, pool.map(run, COMMANDS), strict=True))


@pytest.mark.parametrize("command", ON_THE_CHAIN)
def test_a_chain_that_is_set_is_the_one_that_is_asked(
    answers: dict[str, CompletedProcess[str]], traps: tuple[Trap, Trap], command: str
) -> None:
    """`watch` says it where an alarm is read, on stdout."""
    said = answers[command].stderr + answers[command].stdout
    assert f"no EVM node answers at {SET_URL}" in said
    assert traps[1].connections == 0


@pytest.mark.parametrize("command", IN_KAFKA)
def test_a_cluster_that_is_set_is_the_one_that_is_asked(
    answers: dict[str, CompletedProcess[str]], traps: tuple[Trap, Trap], command: str
) -> None:
    assert "Kafka doesn't answer" in answers[command].stderr
    assert answers[command].stdout == ""
    assert traps[0].connections == 0


def test_config_and_status_show_what_is_set(folder: Path) -> None:
    env = {"KAFKA_BOOTSTRAP_SERVERS": SET_SERVERS, "CHAIN_RPC_URL": SET_URL}
    for command in ("config", "status"):
        shown = tallyroot(command, "--data-dir", "data", cwd=folder, env=env).stdout
        assert SET_SERVERS in shown and SET_URL in shown
    (folder / "tallyroot.toml").write_text(f'kafka_bootstrap_servers = "{SET_SERVERS}"\nchain_rpc_url = "{SET_URL}"\n')
    shown = tallyroot("config", "--data-dir", "data", cwd=folder).stdout
    (folder / "tallyroot.toml").unlink()
    assert SET_SERVERS in shown and SET_URL in shown


def test_up_starts_nothing_where_both_are_set(folder: Path) -> None:
    """And says so; from then on the folder remembers them."""
    env = {"KAFKA_BOOTSTRAP_SERVERS": SET_SERVERS, "CHAIN_RPC_URL": SET_URL}
    started = tallyroot("up", "--data-dir", "data", cwd=folder, env=env)
    assert started.stderr.count("nothing to start") == 2
    stack = Stack.load(folder / "data")
    assert stack is not None and (stack.kafka, stack.evm) == (None, None)
