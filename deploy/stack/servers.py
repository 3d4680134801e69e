"""The servers of a data folder, embedded or external, and `stack.json`, where every command finds them."""

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import msgspec

from deploy.stack import toolchain
from deploy.stack.disk import check_disk
from deploy.stack.evm_node import EvmNode, start_evm
from deploy.stack.home import Home
from deploy.stack.kafka_server import KafkaServer, start_kafka
from deploy.stack.processes import START_PATIENCE_S, Process
from files.lock import FileLock
from files.read import FileMissing, read_json
from files.write import write_json

__all__ = ["EvmNode", "KafkaServer", "Stack", "start_evm", "start_kafka"]

STACK_FILE = "stack.json"
_LEFT_S = 1.0
"""A server that has not served yet has nothing to write down."""


class Stack(msgspec.Struct, frozen=True, kw_only=True):
    """Where the log and the chain are. `kafka` and `evm` are None for external servers.

    `starting` was started and has not served yet: what a start that was killed leaves. `home` is the folder that
    remembers all this.
    """

    data_dir: Path
    kafka_bootstrap_servers: str
    chain_rpc_url: str
    kafka: KafkaServer | None
    evm: EvmNode | None
    home: Home
    starting: Process | None = None

    @classmethod
    def load(cls, data_dir: Path) -> Self | None:
        """The stack that the folder remembers, running or not; None if it never had one.

        A copy of a folder remembers external servers only: the embedded ones are the original's.
        Raises InvalidInput if `stack.json` can't be read.
        """
        path = data_dir.absolute() / STACK_FILE
        try:
            stack = read_json(
                path, cls, what="a list of servers", remedy="end its servers by hand and remove it",
                dec_hook=lambda kind, value: kind(value),
            )  # fmt: skip
        except FileMissing:
            return None
        stack = msgspec.structs.replace(stack, data_dir=data_dir.absolute())  # the folder may have been moved
        return stack if stack.home.is_at(data_dir) else stack._without_embedded()

    @classmethod
    def start(
        cls,
        data_dir: Path,
        *,
        kafka_bootstrap_servers: str | None = None,
        chain_rpc_url: str | None = None,
        patience_s: float = START_PATIENCE_S,
    ) -> Self:
        """Starts what does not run yet; a server named by the caller is used instead of an embedded one.

        The embedded servers keep their data, and their ports where these are still free.
        Raises InvalidInput if the folder's disk is not suitable, or a server does not start: then what was started
        here is ended again.
        """
        data_dir = data_dir.absolute()
        check_disk(data_dir)
        if not toolchain.IS_CHECKOUT and None in (kafka_bootstrap_servers, chain_rpc_url):
            from deploy.setup.embedded import fetch

            fetch(lambda text: print(f"tallyroot: {text}", file=sys.stderr, flush=True))
        with FileLock.waited_for(data_dir / "stack.lock"):  # of two commands the second finds it running
            before = cls.load(data_dir)
            kafka = before.kafka if before else None
            evm = before.evm if before else None
            if before is not None and before.starting is not None:
                before.starting.stop(_LEFT_S)

            def note(process: Process) -> None:
                cls._of(data_dir, kafka, evm, kafka_bootstrap_servers, chain_rpc_url, process)._save()

            with ExitStack() as started:
                if kafka_bootstrap_servers is None and (kafka is None or not kafka.alive()):
                    ports = (kafka.port, kafka.controller_port) if kafka else ()
                    kafka = start_kafka(data_dir / "kafka", ports, patience_s, note)
                    started.callback(kafka.stop)
                if chain_rpc_url is None and (evm is None or not evm.alive()):
                    evm_ports = (evm.port,) if evm else ()
                    evm = start_evm(data_dir / "evm", evm_ports, patience_s=patience_s, note=note)
                    started.callback(evm.stop)
                stack = cls._of(data_dir, kafka, evm, kafka_bootstrap_servers, chain_rpc_url, None)
                stack._save()
                started.pop_all()
            return stack

    def alive(self) -> bool:
        """Whether all embedded servers run; external ones are not asked."""
        return all(server.alive() for server in (self.kafka, self.evm) if server is not None)

    def stop(self) -> None:
        """Ends the embedded servers, and one that has not served yet; their data stays.

        So does `stack.json`, which keeps their ports.
        """
        if self.starting is not None:
            self.starting.stop(_LEFT_S)
        for server in (self.kafka, self.evm):
            if server is not None:
                server.stop()

    def stop_those_not_in(self, before: "Stack | None") -> None:
        """Ends the servers that have been started since `before`."""
        for name in ("kafka", "evm"):
            server, known = getattr(self, name), getattr(before, name, None)
            if server is not None and (known is None or known.process != server.process):
                server.stop()

    def _without_embedded(self) -> Self:
        return msgspec.structs.replace(
            self,
            kafka_bootstrap_servers="" if self.kafka else self.kafka_bootstrap_servers,
            chain_rpc_url="" if self.evm else self.chain_rpc_url,
            kafka=None,
            evm=None,
            starting=None,
        )

    @classmethod
    def _of(
        cls, data_dir: Path, kafka: KafkaServer | None, evm: EvmNode | None, servers: str | None, url: str | None,
        starting: Process | None,
    ) -> Self:  # fmt: skip
        return cls(
            data_dir=data_dir,
            kafka_bootstrap_servers=servers or (kafka.bootstrap_servers if kafka else ""),
            chain_rpc_url=url or (evm.rpc_url if evm else ""),
            kafka=None if servers else kafka,
            evm=None if url else evm,
            starting=starting,
            home=Home.of(data_dir),
        )

    def _save(self) -> None:
        write_json(self.data_dir / STACK_FILE, self, enc_hook=str)
