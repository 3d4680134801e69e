"""One data folder and what it remembers: its log, its servers, its ledger. Every command finds its way through here."""

from dataclasses import dataclass
from pathlib import Path

import msgspec

from deploy.settings import Settings
from deploy.stack import Stack
from schemas.errors import InvalidInput
from schemas.log import Log

LOG_FILE = "log.json"


@dataclass(frozen=True)
class Workplace:
    """A data folder with the settings that a command runs under."""

    data_dir: Path
    settings: Settings

    def log(self) -> Log:
        """The log that this folder belongs to. Raises InvalidInput where there is none yet."""
        path = self.data_dir / LOG_FILE
        try:
            return msgspec.json.decode(path.read_bytes(), type=Log)
        except FileNotFoundError:
            raise InvalidInput(f"no log in {self.data_dir}: run `tallyroot replay` or `tallyroot demo` first") from None
        except msgspec.MsgspecError as error:
            raise InvalidInput(f"{path} is not a log's description ({error}): restore it from a copy") from None

    def create_log(self, log: Log) -> Log:
        """Writes the log's description, once: a folder belongs to one log for its life."""
        path = self.data_dir / LOG_FILE
        if path.exists():
            kept = self.log()
            if kept != log:
                raise InvalidInput(
                    f"{self.data_dir} belongs to the log {kept.log_id} with other settings: choose another --data-dir"
                )
            return kept
        self.data_dir.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        temporary.write_bytes(msgspec.json.format(msgspec.json.encode(log), indent=2) + b"\n")
        temporary.rename(path)
        return log

    def stack(self) -> Stack:
        """The running servers of this folder. Raises InvalidInput where none run."""
        stack = Stack.load(self.data_dir)
        if stack is None or not stack.alive():
            raise InvalidInput(f"nothing runs for {self.data_dir}: start it with `tallyroot up`")
        return stack

    def start_stack(self) -> Stack:
        """The running servers of this folder, started where they do not run yet."""
        return Stack.start(
            self.data_dir,
            kafka_bootstrap_servers=self.settings.kafka_bootstrap_servers,
            chain_rpc_url=self.settings.chain_rpc_url,
        )
