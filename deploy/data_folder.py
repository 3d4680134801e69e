"""One data folder and what it remembers: its log, its servers, its ledger, its store. Every command works in one.

What signs is imported where it is used: it takes seconds that most commands don't need.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from deploy.config import KeySettings, Settings
from deploy.keys import private_key
from deploy.stack.servers import EvmNode, KafkaServer, Stack
from files.read import FileMissing, read_json
from files.write import make_folder, write_json
from schemas.errors import InvalidInput
from schemas.log import Log
from schemas.post import ENDED
from streams.kafka.security import PLAINTEXT, KafkaAddress

if TYPE_CHECKING:
    from schemas.manifest import SkippedRange
    from streams.kafka.reader import KafkaLogReader
    from streams.storage.object_store import ObjectStore

LOG_FILE = "log.json"
STORE_FILE = "store.json"
WORKERS_FILE = "workers.json"
KEYS_FOLDER = "keys"

DEMO_PAYEES = {"owner": 7_000, "site": 2_000, "investor": 1_000}
"""The payees of a machine on the embedded chain: names to basis points."""


def demo_account(name: str) -> str:
    """The account of one of the demo's payees, the same on every machine."""
    from settlement.chain.signer import Signer

    return Signer.from_seed("demo", name).address


class StoreFile(msgspec.Struct, frozen=True):
    """store.json: the address of the store that the folder shares with other hosts."""

    uri: str


@dataclass(frozen=True)
class DataFolder:
    """A data folder with the settings that a command runs under."""

    data_dir: Path
    settings: Settings

    def log(self) -> Log:
        """The log that this folder belongs to. Raises InvalidInput where there is none yet."""
        path = self.data_dir / LOG_FILE
        try:
            return read_json(path, Log, what="a description of a log", remedy="restore it from a copy")
        except FileMissing:
            return self._log_of_store()

    def _log_of_store(self) -> Log:
        from streams.storage.shared_epochs import stored_log

        store = self.store()
        log = None if store is None else stored_log(store)
        if log is None:
            raise InvalidInput(
                f"no log in {self.data_dir}: make one with `tallyroot init` (or `simulate`, `replay`, `demo`)"
            )
        return self.create_log(log)

    def store(self) -> "ObjectStore | None":
        """The store that this folder shares with other hosts, remembered in `store.json`; None without one.

        Raises InvalidInput where TALLYROOT_STORE or the file names none that can be used; a new store must answer.
        """
        path = self.data_dir / STORE_FILE
        try:
            kept = read_json(
                path, StoreFile, what="the name of a store", remedy="remove it, and set TALLYROOT_STORE"
            ).uri
        except FileMissing:
            kept = None
        if kept is None and self.settings.store is None:
            return None
        from streams.storage.object_store import ObjectStore, store_uri

        uri = kept if self.settings.store is None else store_uri(self.settings.store)
        store = None if uri is None else ObjectStore(uri)
        if store is not None and uri is not None and uri != kept:
            store.check()
            self._write(path, StoreFile(uri))
        return store

    def fetch_epochs(self) -> None:
        """Fetches the epochs that workers on other hosts made final, if there is a store. Raises InvalidInput."""
        store = self.store()
        if store is not None:
            from streams.storage.shared_epochs import fetch_epochs

            fetch_epochs(store, self.data_dir, self.log())

    def whole_archive(self) -> int:
        """The same, and brings back archives that were pruned here; returns how many files. Raises InvalidInput."""
        from streams.storage.pruned import bring_back

        self.fetch_epochs()
        return bring_back(self.data_dir, self.log_reader)

    def log_reader(self) -> "KafkaLogReader":
        """A reader of this folder's log. Raises InvalidInput where no Kafka is known."""
        from streams.kafka.reader import KafkaLogReader

        return KafkaLogReader(self.kafka_servers(), self.log().topic, 0, self.skipped_ranges())

    def skipped_ranges(self) -> "tuple[SkippedRange, ...]":
        """The ranges that an operator had skipped, here and in the store, if there is one. Raises InvalidInput."""
        from streams.storage.skipped_ranges_file import load_skipped_ranges, share_skipped_ranges

        store = self.store()
        if store is None:
            return load_skipped_ranges(self.data_dir, self.log())
        return share_skipped_ranges(store, self.data_dir, self.log())

    def skip_range(self, partition: int, first_offset: int, next_offset: int, reason: str) -> "SkippedRange":
        """Signs a skipped range with the operator's key and adds it to those of this folder.

        Raises InvalidInput if the key is not an operator's, the range contradicts another one or a final epoch, comes
        too late, or holds anything that can be read.
        """
        from streams.core.skipped_ranges import SkippedBatches, named, sign_skipped_range, without_evidence
        from streams.kafka.reader import KafkaLogReader
        from streams.storage.skipped_ranges_file import add_skipped_range

        log = self.log()
        signed = sign_skipped_range(self.operator_key(), log, partition, first_offset, next_offset, reason)
        batches = SkippedBatches()
        for _ in KafkaLogReader(self.kafka_servers(), log.topic, 0, [signed]).slices(
            partition, first_offset, next_offset, batches
        ):
            pass  # raises InvalidInput for what can be read
        if (offset := without_evidence(signed, batches.values())) is not None:
            raise InvalidInput(f"{named(signed)} names the offset {offset}, where no batch is that can't be read")
        self.fetch_epochs()  # a range that another host has made final can't be skipped either
        add_skipped_range(self.data_dir, log, signed)
        return signed

    def create_log(self, log: Log) -> Log:
        """Writes the log's description, once, here and in the store, if there is one: a folder belongs to one log for
        its life.
        """
        path = self.data_dir / LOG_FILE
        if path.exists():
            kept = self.log()
            if kept != log:
                raise InvalidInput(
                    f"{self.data_dir} belongs to the log {kept.log_id} with other settings: choose another --data-dir"
                )
            return kept
        store = self.store()
        if store is not None:
            from streams.storage.shared_epochs import share_log

            share_log(store, log)
        self._write(path, log)
        return log

    def _write(self, path: Path, document: object) -> None:
        try:
            make_folder(self.data_dir)
            write_json(path, document)
        except OSError as error:
            raise InvalidInput(f"can't write {path} ({error.strerror}): name another folder with --data-dir") from None

    def operator_settings(self) -> KeySettings:
        """Where the operator's key is: as set, else as `init` decided; not set where neither says so."""
        if self.settings.operator.is_set:
            return self.settings.operator
        from deploy.machines.operator import key_settings, load_operator

        kept = load_operator(self.data_dir)
        return self.settings.operator if kept is None else key_settings(self.data_dir, kept)

    def operator_key(self) -> bytes:
        """The 32 bytes that sign registrations: as set, as `init` made them, on the embedded chain the node's own.

        Raises InvalidInput where CHAIN_RPC_URL is set and no key is, or where a remote signer keeps the key.
        """
        key = private_key(self.operator_settings())
        if key is not None:
            return key
        if self.settings.chain_rpc_url is not None:
            raise InvalidInput("no key for the operator: set TALLYROOT_OPERATOR_KEY or TALLYROOT_OPERATOR_KEYSTORE")
        from eth_account import Account

        from settlement.chain.signer import DEVELOPMENT_MNEMONIC, ROLES

        Account.enable_unaudited_hdwallet_features()  # of a public mnemonic nothing can leak
        path = f"m/44'/60'/0'/0/{ROLES.index('operator')}"
        return bytes(Account.from_mnemonic(DEVELOPMENT_MNEMONIC, account_path=path).key)

    def demo_payees(self) -> dict[str, int]:
        """Owner, site and investor of every machine for which no payee is named: accounts to basis points."""
        if self.settings.chain_rpc_url is not None:
            raise InvalidInput("name who is paid: --payee 0x…=7000 --payee 0x…=3000, adding up to 10,000")
        return {demo_account(name): points for name, points in DEMO_PAYEES.items()}

    def kafka_servers(self) -> KafkaAddress:
        """`host:port,...` of this log's Kafka, with the properties to connect by: as it was set, else the folder's own,
        which must run and asks for none.

        Raises InvalidInput where none is known, or the folder's own broker does not run.
        """
        given = self.settings.kafka_bootstrap_servers
        if given is not None:
            return KafkaAddress(given, self.settings.kafka)
        found, is_own = self._remembered(
            "Kafka", "KAFKA_BOOTSTRAP_SERVERS", lambda stack: (stack.kafka_bootstrap_servers, stack.kafka)
        )
        return KafkaAddress(found, PLAINTEXT if is_own else self.settings.kafka)

    def chain_rpc_url(self) -> str:
        """The RPC URL of this log's chain: as it was set, else the folder's own node, which must run.

        Raises InvalidInput where none is known, or the folder's own node does not run.
        """
        return (
            self.settings.chain_rpc_url
            or self._remembered("chain", "CHAIN_RPC_URL", lambda stack: (stack.chain_rpc_url, stack.evm))[0]
        )

    def _remembered(
        self, what: str, setting: str, of: Callable[[Stack], tuple[str, KafkaServer | EvmNode | None]]
    ) -> tuple[str, bool]:
        """An address in `stack.json`, and whether its server is the folder's own, which must run then."""
        stack = Stack.load(self._home)
        address, server = ("", None) if stack is None else of(stack)
        if address and (server is None or server.alive()):
            return address, server is not None
        raise InvalidInput(f"no {what} runs for {self.data_dir}: start it with `tallyroot up`, or set {setting}")

    @property
    def _home(self) -> Path:
        """The folder whose servers these are: an ended ledger's lies in `ended/` of the folder that goes on."""
        return self.data_dir.absolute().parents[1] if self.data_dir.absolute().parent.name == ENDED else self.data_dir

    def has_own_chain(self) -> bool:
        """Whether the chain is the folder's own development node: it mines only when something is sent."""
        stack = Stack.load(self._home)
        return self.settings.chain_rpc_url is None and stack is not None and stack.evm is not None

    def start_stack(self) -> Stack:
        """The running servers of this folder, started where they do not run yet."""
        return Stack.start(
            self.data_dir,
            kafka_bootstrap_servers=self.settings.kafka_bootstrap_servers,
            chain_rpc_url=self.settings.chain_rpc_url,
            patience_s=self.settings.start_patience,
        )
