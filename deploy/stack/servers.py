"""The servers of a data folder, embedded or external, and `stack.json`, where every command finds them."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import msgspec

from deploy.stack.disk import check_disk
from deploy.stack.evm_node import EvmNode, start_evm
from deploy.stack.kafka_server import KafkaServer, start_kafka
from files.write import write_json
from schemas.errors import InvalidInput

__all__ = ["EvmNode", "KafkaServer", "Stack", "start_evm", "start_kafka"]

STACK_FILE = "stack.json"


class Stack(msgspec.Struct, frozen=True, kw_only=True):
    """Where the log and the chain are. `kafka` and `evm` are None for external servers."""

    data_dir: Path
    kafka_bootstrap_servers: str
    chain_rpc_url: str
    kafka: KafkaServer | None
    evm: EvmNode | None

    @classmethod
    def load(cls, data_dir: Path) -> Self | None:
        """The stack that the folder remembers, running or not; None if it never had one.

        Raises InvalidInput if `stack.json` can't be read.
        """
        path = data_dir.absolute() / STACK_FILE
        try:
            stack = msgspec.json.decode(path.read_bytes(), type=cls, dec_hook=lambda kind, value: kind(value))
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as error:
            raise InvalidInput(f"can't read {path} ({error}): end its servers by hand and remove it") from None
        return msgspec.structs.replace(stack, data_dir=data_dir.absolute())  # the folder may have been moved

    @classmethod
    def start(
        cls, data_dir: Path, *, kafka_bootstrap_servers: str | None = None, chain_rpc_url: str | None = None
    ) -> Self:
        """Starts what does not run yet; a server named by the caller is used instead of an embedded one.

        The embedded servers keep their data, and their ports where these are still free.
        Raises InvalidInput if the folder's disk is not suitable, or a server does not start; one that did keeps
        running, and the folder remembers it.
        """
        data_dir = data_dir.absolute()
        check_disk(data_dir)
        with _one_at_a_time(data_dir):
            before = cls.load(data_dir)
            kafka = before.kafka if before else None
            evm = before.evm if before else None
            if kafka_bootstrap_servers is None and (kafka is None or not kafka.alive()):
                kafka = start_kafka(data_dir / "kafka", (kafka.port, kafka.controller_port) if kafka else ())
                cls._of(data_dir, kafka, evm, kafka_bootstrap_servers, chain_rpc_url)._save()
            if chain_rpc_url is None and (evm is None or not evm.alive()):
                evm = start_evm(data_dir / "evm", (evm.port,) if evm else ())
            stack = cls._of(data_dir, kafka, evm, kafka_bootstrap_servers, chain_rpc_url)
            stack._save()
            return stack

    def alive(self) -> bool:
        """Whether all embedded servers run; external ones are not asked."""
        return all(server.alive() for server in (self.kafka, self.evm) if server is not None)

    def stop(self) -> None:
        """Ends the embedded servers. Their data stays, and `stack.json`, which keeps their ports."""
        for server in (self.kafka, self.evm):
            if server is not None:
                server.stop()

    @classmethod
    def _of(
        cls, data_dir: Path, kafka: KafkaServer | None, evm: EvmNode | None, servers: str | None, url: str | None
    ) -> Self:
        return cls(
            data_dir=data_dir,
            kafka_bootstrap_servers=servers or (kafka.bootstrap_servers if kafka else ""),
            chain_rpc_url=url or (evm.rpc_url if evm else ""),
            kafka=None if servers else kafka,
            evm=None if url else evm,
        )

    def _save(self) -> None:
        write_json(self.data_dir / STACK_FILE, self, enc_hook=str)


@contextmanager
def _one_at_a_time(data_dir: Path) -> Iterator[None]:
    """Two commands that start the stack at once: the second waits and finds it running."""
    with (data_dir / "stack.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
