"""Random rounds of settling on the real node: workers killed, transactions dropped, blocks taken back, mining stopped,
posts disputed for nothing and restated.

`python -m tests.chain.rounds --rounds 25 --seed 0 [--json]`. A round ends with a kind node and one more settle; then
every epoch must stand under exactly one live post, and an audit must find that all of it follows from the log. A round
that fails prints its seed and its acts.
"""

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import requests

from deploy.stack.servers import start_evm
from schemas.errors import InvalidInput
from schemas.window import Window
from settlement import service
from settlement.audit.sources import Epoch, Sources
from settlement.chain.job import SettleOptions
from settlement.chain.ledger import Ledger
from settlement.chain.node import Chain
from settlement.chain.signer import Keys
from tests.support.settlement_data import FIRST_EPOCH, LOG, manifest_of, publish, window

ACTS = 6
DEEP = 3
"""So many blocks a reorganisation takes at most; funding lies deeper."""

ACT_NAMES = ("kill", "kill", "no mining", "dropped", "reorg", "dear", "two at once", "more epochs", "settle", "dispute")
KILLED_WITHIN_S = 1.0
"""Of the moment at which settle begins: importing takes longer, and a kill there proves nothing."""

Epochs = dict[int, dict[int, list[Window]]]


class Truth:
    """What the log says: an audit's recomputation."""

    def __init__(self) -> None:
        self.epochs: Epochs = {}

    def __call__(self, partition: int) -> Iterator[Epoch]:
        for epoch, windows in self.epochs.items():
            own = windows.get(partition, [])
            yield Epoch(manifest_of(partition, epoch, own), own)

    def grow(self, place: Path, draw: random.Random) -> None:
        """One more epoch is published."""
        epoch = FIRST_EPOCH + len(self.epochs)
        net = draw.randrange(1, 10**9)
        windows = {0: [window("pv-1", epoch, net)], 1: [window("cab-7", epoch, draw.randrange(-5, 10**6), place=3)]}
        self.epochs[epoch] = windows
        for partition, own in windows.items():
            publish(place, partition, epoch, own)


class Round:
    """One data folder with a ledger of its own on a node that plays tricks."""

    def __init__(self, node: Chain, url: str, place: Path, seed: int) -> None:
        self.node, self.url, self.place = node, url, place
        self.draw = random.Random(seed)
        self.keys = Keys({}, node.chain_id)
        self.truth = Truth()
        self.acts: list[str] = []

    def play(self) -> None:
        """Raises AssertionError where something was lost, doubled or said badly."""
        service.deploy_contracts(self.place, self.node, LOG, self.keys)
        service.fund(self.place, self.node, LOG, self.keys, 10**13)
        self.ask("anvil_mine", DEEP + 1)
        for _ in range(3):
            self.truth.grow(self.place, self.draw)
        for _ in range(ACTS):
            act = self.draw.choice(ACT_NAMES)
            self.acts.append(act)
            self.do(act)
            self.truth.grow(self.place, self.draw)
        self.ask("evm_setAutomine", True)
        self.ask("evm_mine")
        service.settle(self.place, self.node, LOG, self.keys, SettleOptions(restate=True))
        self.check()

    def do(self, act: str) -> None:
        """One thing that goes wrong."""
        match act:
            case "kill":
                with self.settling() as process:
                    time.sleep(KILLED_WITHIN_S * self.draw.random())
                    process.send_signal(signal.SIGKILL)
            case "no mining" | "dropped":
                self.ask("evm_setAutomine", False)
                with self.settling() as process:
                    time.sleep(KILLED_WITHIN_S * (1 + self.draw.random()))
                    process.send_signal(signal.SIGKILL)
                if act == "dropped":
                    self.ask("anvil_dropAllTransactions")
                self.ask("evm_setAutomine", True)
                self.ask("evm_mine")
            case "reorg":
                self.ask("anvil_reorg", self.draw.randint(1, DEEP), [])
            case "dear":
                fee = int(self.ask("eth_getBlockByNumber", "latest", False)["baseFeePerGas"], 16)
                self.ask("anvil_setNextBlockBaseFeePerGas", hex(10 * fee + 1))
                with self.settling() as process:
                    process.wait(60)
            case "two at once":
                with self.settling() as first, self.settling() as second:
                    first.wait(60)
                    second.wait(60)
            case "settle":
                with self.settling() as process:
                    process.wait(60)
            case "dispute":
                live = Ledger.open(self.place, self.node).history().live
                if live:
                    service.dispute(self.place, self.node, self.keys, self.draw.randint(1, len(live)))
                self.truth.grow(self.place, self.draw)  # else the post would be the same again
                with self.settling("--restate") as process:
                    if self.draw.random() < 0.5:
                        time.sleep(KILLED_WITHIN_S * self.draw.random())
                        process.send_signal(signal.SIGKILL)
                    process.wait(60)

    @contextmanager
    def settling(self, *options: str) -> Iterator["subprocess.Popen[str]"]:
        """A settle of its own process; what it says is one line, if anything."""
        command = [
            sys.executable, "-m", "tests.chain.rounds", "--settle", str(self.place), "--node", self.url, *options,
        ]  # fmt: skip
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            process.stdout.readline()  # it has been imported, and settles now
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            said = process.communicate()[1]
        assert "Traceback" not in said, said
        assert process.returncode in (0, 1, -signal.SIGKILL), (process.returncode, said)

    def check(self) -> None:
        """Each epoch stands under one live post, and all posts follow from the log."""
        live = Ledger.open(self.place, self.node).history().live
        assert [posted.header.sequence for posted in live] == list(range(1, len(live) + 1))
        spans = [(posted.header.epoch_start_s, posted.header.epoch_end_s) for posted in live]
        starts, ends = [LOG.epoch_span(FIRST_EPOCH)[0] // 1_000], []
        for start, end in spans:
            assert start == starts[-1]
            starts.append(end)
            ends.append(end)
        assert ends[-1] == LOG.epoch_span(max(self.truth.epochs))[1] // 1_000
        report = service.audit(self.place, self.node, LOG, Sources(self.truth))
        assert report.ok, report.findings
        assert report.epochs == LOG.partitions * len(self.truth.epochs)
        assert report.unposted_epochs == 0

    def ask(self, method: str, *parameters: object) -> dict[str, str]:
        """One JSON-RPC call."""
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
        session = requests.Session()
        session.trust_env = False
        answer = session.post(self.url, json=body, timeout=30).json()
        assert "error" not in answer, (method, answer["error"])
        result: dict[str, str] = answer["result"]
        return result


def rounds(count: int, seed: int, home: Path) -> Counter[str]:
    """Plays so many rounds on a node of its own; how often each act was played."""
    played: Counter[str] = Counter()
    server = start_evm(home / "evm")
    try:
        for number in range(seed, seed + count):
            own = Round(Chain(server.rpc_url, poll_s=0.02), server.rpc_url, home / str(number), number)
            try:
                own.play()
            except BaseException as error:
                error.add_note(f"round {number} failed after {', '.join(own.acts)}")
                raise
            played.update(own.acts)
            print(f"round {number}: well ({', '.join(own.acts)})", file=sys.stderr, flush=True)
    finally:
        server.stop()
    return played


def settle(place: Path, url: str, *, restate: bool) -> int:
    """What a cron job runs, or a person after a dispute."""
    print("settling", flush=True)
    node = Chain(url, poll_s=0.02)
    try:
        options = SettleOptions(restate=True) if restate else SettleOptions(max_epochs=2)
        service.settle(place, node, LOG, Keys({}, node.chain_id), options)
    except InvalidInput as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def main() -> int:
    """Plays rounds, or is one of their workers."""
    parser = argparse.ArgumentParser(prog="python -m tests.chain.rounds", description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--settle", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--node", help=argparse.SUPPRESS)
    parser.add_argument("--restate", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.settle is not None:
        return settle(options.settle, options.node, restate=options.restate)
    with tempfile.TemporaryDirectory(prefix="rounds-") as folder:
        played = rounds(options.rounds, options.seed, Path(folder))
    if options.json:
        print(
            msgspec.json.encode({"rounds": options.rounds, "failed": 0, "acts": dict(sorted(played.items()))}).decode()
        )
    else:
        acts = ", ".join(f"{count} {act}" for act, count in sorted(played.items()))
        print(f"{options.rounds} rounds, 0 failed; {acts}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
