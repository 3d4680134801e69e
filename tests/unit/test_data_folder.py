"""An audit of the archive needs a chain, and no Kafka."""

from pathlib import Path

import pytest

from deploy.config import Settings
from deploy.data_folder import DataFolder
from deploy.stack.evm_node import EvmNode
from deploy.stack.home import Home
from deploy.stack.kafka_server import KafkaServer
from deploy.stack.processes import Process
from deploy.stack.servers import Stack
from schemas.errors import InvalidInput

DEAD = Process(pid=2**22, started="never")
URL, OTHER = "http://127.0.0.1:8545", "https://chain.example"


def remembered(folder: Path, evm: EvmNode | None) -> None:
    """A folder whose Kafka has ended, and whose node either ended too or is somebody else's."""
    stack = Stack(
        data_dir=folder, kafka_bootstrap_servers="127.0.0.1:9092", chain_rpc_url=URL,
        kafka=KafkaServer(process=DEAD, port=9092, controller_port=9093), evm=evm, home=Home.of(folder),
    )  # fmt: skip
    stack._save()


def test_the_chain_is_there_though_kafka_is_not(tmp_path: Path) -> None:
    remembered(tmp_path, None)
    assert DataFolder(tmp_path, Settings()).chain_rpc_url() == URL
    with pytest.raises(InvalidInput, match="tallyroot up"):
        DataFolder(tmp_path, Settings()).kafka_servers()


def test_what_is_set_wins_over_what_the_folder_remembers(tmp_path: Path) -> None:
    for node in (None, EvmNode(process=DEAD, port=8545)):
        remembered(tmp_path, node)
        data = DataFolder(tmp_path, Settings(chain_rpc_url=OTHER, kafka_bootstrap_servers="kafka.example:9092"))
        assert (data.chain_rpc_url(), data.kafka_servers()) == (OTHER, "kafka.example:9092")
        assert not data.has_own_chain()


def test_a_dead_node_is_named(tmp_path: Path) -> None:
    remembered(tmp_path, EvmNode(process=DEAD, port=8545))
    with pytest.raises(InvalidInput, match="CHAIN_RPC_URL"):
        DataFolder(tmp_path, Settings()).chain_rpc_url()
