"""Random rounds: workers are started, killed, stopped for a while and ended while a log grows; nothing may show.

`python -m tests.crash.rounds FIRST LAST [SECONDS]` plays the rounds of these seeds on a broker of its own. A round
that fails prints its seed and its folder.
"""

import random
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

from deploy.stack import start_kafka
from schemas.log import Log
from schemas.units import HOUR_MS, MINUTE_MS
from streams.adapters.topics import create_topic
from tests.crash.kafka_log import POISON, Sender, a_log, outcome, readings, without_faust
from tests.crash.workers import WorkerProcess, Workers
from tests.sim_log import START_MS, registration

HOURS = 3
WORKERS_MAX = 3
ALLOWED = (0, -signal.SIGKILL, -signal.SIGTERM, 143)
"""How a worker may end that was killed or ended by us: 70 and 75 are defects here."""


class Round:
    """One round: a log, its writer and the workers."""

    def __init__(self, bootstrap_servers: str, folder: Path, seed: int, seconds: float) -> None:
        self.servers = bootstrap_servers
        self.random = random.Random(seed)
        self.seconds = seconds
        self.log = a_log(f"round-{seed}-{time.monotonic_ns()}")
        self.folder = folder / self.log.log_id
        self.bound = self.random.random() < 0.5
        self.started = Workers(bootstrap_servers, self.folder / "data")
        self.workers: list[WorkerProcess] = []
        self.stopped: dict[WorkerProcess, float] = {}
        self.faults: list[str] = []
        self.acts: list[str] = []

    def play(self) -> list[str]:
        """What went wrong: nothing, or a line for each."""
        create_topic(self.servers, self.log)
        writer = threading.Thread(target=write, args=(self.servers, self.log, self.seconds, self.bound))
        writer.start()
        until = time.monotonic() + self.seconds
        while time.monotonic() < until:
            self._act()
            time.sleep(self.random.uniform(0.2, 1.5))
        writer.join()
        for worker in self.stopped:
            worker.process.send_signal(signal.SIGCONT)
        for worker in self.workers:
            worker.process.terminate()
        for worker in self.workers:
            worker.wait(20)
        self._reap()
        self.started.catch_up(self.log)
        expected = without_faust(self.servers, self.log, self.folder / "expected")
        self.faults += expected.differences(outcome(self.folder / "data"))
        return [f"{fault} ({self.folder}: {' '.join(self.acts)})" for fault in self.faults]

    def _act(self) -> None:
        for worker, since in list(self.stopped.items()):
            if time.monotonic() - since > self.random.uniform(1, 9):
                del self.stopped[worker]
                worker.process.send_signal(signal.SIGCONT)
        self._reap()
        awake = [worker for worker in self.workers if worker not in self.stopped]
        act = self.random.choice(("start", "start", "kill", "end", "stop"))
        if not awake or (act == "start" and len(self.workers) < WORKERS_MAX):
            self._start()
            return
        worker = self.random.choice(awake)
        self.acts.append(f"{act}:{worker.name}")
        if act == "kill":
            worker.process.kill()
        elif act == "end":
            worker.process.terminate()
        elif act == "stop" and not self.stopped:
            worker.process.send_signal(signal.SIGSTOP)
            self.stopped[worker] = time.monotonic()

    def _start(self) -> None:
        worker = self.started.start(self.log, records_max=self.random.choice((5, 50, 20_000)))
        self.acts.append(f"start:{worker.name}")
        self.workers.append(worker)

    def _reap(self) -> None:
        for worker in list(self.workers):
            code = worker.process.poll()
            if code is None:
                continue
            self.workers.remove(worker)
            self.stopped.pop(worker, None)
            if code not in ALLOWED:
                self.faults.append(f"{worker.name} ended with {code}: {worker.said()}")


def write(bootstrap_servers: str, log: Log, seconds: float, bound: bool) -> None:
    """The log grows for about so many seconds; with `bound`, by transactions, some of them aborted."""
    sender = Sender(bootstrap_servers, log, **({"transactional.id": log.log_id} if bound else {}))
    records = [registration(f"m{machine}", 0) for machine in range(8)] + readings(HOURS)
    step = 40
    if bound:
        sender.kafka.init_transactions()
    for place in range(0, len(records), step):
        stretch = records[place : place + step]
        poison = POISON[place // step % len(POISON)]._replace(timestamp=stretch[-1].timestamp)
        for aborted in (True, False) if bound and place % 200 == 0 else (False,):
            if bound:
                sender.kafka.begin_transaction()
            sender.send(stretch)
            sender.send([poison], place % log.partitions)
            sender.kafka.flush(10)
            if bound:
                (sender.kafka.abort_transaction if aborted else sender.kafka.commit_transaction)()
        time.sleep(seconds * step / len(records) * 0.7)
    Sender(bootstrap_servers, log).end(START_MS + HOURS * HOUR_MS + 30 * MINUTE_MS)


def play(bootstrap_servers: str, folder: Path, *, seed: int, seconds: float) -> list[str]:
    """One round; what went wrong in it."""
    one = Round(bootstrap_servers, folder, seed, seconds)
    try:
        return one.play()
    finally:
        one.started.kill()


def main() -> int:
    first, last = int(sys.argv[1]), int(sys.argv[2])
    seconds = float(sys.argv[3]) if len(sys.argv) > 3 else 15.0
    folder = Path(tempfile.mkdtemp(prefix="tallyroot-rounds-"))
    server = start_kafka(folder / "kafka")
    failed = 0
    try:
        for seed in range(first, last):
            faults = play(server.bootstrap_servers, folder, seed=seed, seconds=seconds)
            failed += bool(faults)
            print(f"seed {seed}: {'well' if not faults else '; '.join(faults)}", flush=True)
    finally:
        server.stop()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
