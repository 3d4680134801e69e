"""Random rounds: workers join, leave, are killed and are frozen, the broker dies, while a log grows; nothing may show.

`python -m tests.crash.rounds --rounds 25 --workers 3 --seed 0 --seconds 12` plays them on a broker of its own. After a
round the data folder must hold what one undisturbed reading of the log gives: the same manifests and the same rows of
every checkpoint; the same manifests again from `core.recompute`, which knows no checkpoint; and each window once in
the view. A round that fails prints its seed, its acts and its folder.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka import KafkaException

from deploy.stack.servers import KafkaServer, start_kafka
from schemas.log import Log
from schemas.units import HOUR_MS, MINUTE_MS
from streams.kafka.topics import create_topic
from streams.worker.watchdog import is_away
from tests.crash.recomputed import manifest_faults, view_faults
from tests.support.kafka_log import POISON, Sender, a_log, outcome, readings, without_faust
from tests.support.sim_log import START_MS, registration
from tests.support.workers import WorkerProcess, Workers

HOURS = 3
SESSION_SECONDS = 6.0
"""Of a worker's group session: one frozen for longer is thrown out, and wakes as a zombie."""

ALLOWED = (0, -signal.SIGKILL, -signal.SIGTERM, 143)
"""How a worker may end that was killed or ended by us: 70 and 75 are defects here."""

WHILE_AWAY = ("check that", "stopped answering")
"""A worker that starts while there is no Kafka ends with a line that says so; that is no defect."""


class Broker:
    """The broker of several rounds. It may be killed and comes back on its folder and its ports."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server: KafkaServer = start_kafka(folder)
        self.servers = self._server.bootstrap_servers

    def kill(self) -> None:
        """SIGKILL; returns once nobody listens."""
        os.kill(self._server.pid, signal.SIGKILL)
        while self._server.alive() or not is_away(self.servers):
            time.sleep(0.05)

    @contextmanager
    def halted(self) -> Iterator[None]:
        """Meanwhile its folder is as a SIGKILL would leave it."""
        os.kill(self._server.pid, signal.SIGSTOP)
        yield
        os.kill(self._server.pid, signal.SIGCONT)

    def come_back(self) -> None:
        """Starts it again. Raises RuntimeError if its ports were taken meanwhile."""
        self._server = start_kafka(self._folder, (self._server.port, self._server.controller_port))
        if self._server.bootstrap_servers != self.servers:
            raise RuntimeError("another program took the broker's port")

    def stop(self) -> None:
        """Ends it."""
        self._server.stop()


class Round:
    """One round: a log, its writer and the workers. With a `broker`, that dies too."""

    def __init__(
        self, servers: str, folder: Path, *, seed: int, seconds: float, workers: int, broker: Broker | None
    ) -> None:
        self.servers = servers
        self.random = random.Random(seed)
        self.seconds = seconds
        self.workers_max = workers
        self.broker = broker
        self.log = a_log(f"round-{seed}-{time.monotonic_ns()}")
        self.folder = folder / self.log.log_id
        self.bound = self.random.random() < 0.5
        self.started = Workers(servers, self.folder / "data")
        self.workers: list[WorkerProcess] = []
        self.frozen: dict[WorkerProcess, float] = {}
        """When each is woken."""
        self.back_at: float | None = None
        self.was_away = False
        self.faults: list[str] = []
        self.acts: list[str] = []

    def play(self) -> list[str]:
        """What went wrong: nothing, or a line for each."""
        create_topic(self.servers, self.log)
        writer = threading.Thread(target=self._write)
        writer.start()
        until = time.monotonic() + self.seconds
        while time.monotonic() < until:
            self._act()
            time.sleep(self.random.uniform(0.2, 1.5))
        self._bring_back(now=True)
        writer.join()
        self._wake(now=True)
        for worker in self.workers:
            worker.send_signal(signal.SIGTERM)
        for worker in self.workers:
            worker.wait(20)
        self._reap()
        last = self.started.start(self.log, until_caught_up=True)
        if last.wait(120):  # what it says beside is not judged: DuckDB's binding may count its objects at the end
            self.faults.append(f"{last.name}, which was to catch up, ended with {last.exit_code()}: {last.said()}")
        self._compare()
        return [f"{fault} ({self.folder}: {self.said()})" for fault in self.faults]

    def _write(self) -> None:
        try:
            write(self.servers, self.log, self.seconds, self.bound)
        except Exception as error:  # noqa: BLE001 - a thread's end would be nobody's fault
            self.faults.append(f"the writer ended with {error!r}")

    def said(self) -> str:
        """The acts in their order."""
        return " ".join(self.acts)

    def _compare(self) -> None:
        data_dir = self.folder / "data"
        expected = without_faust(self.servers, self.log, self.folder / "expected")
        found = outcome(data_dir)
        self.faults += expected.differences(found)
        self.faults += manifest_faults(self.servers, self.log, found.manifests)
        self.faults += view_faults(data_dir, self.log)

    def _act(self) -> None:
        self._bring_back()
        self._wake()
        self._reap()
        awake = [worker for worker in self.workers if worker not in self.frozen]
        act = self.random.choice(("join", "join", "join", "kill", "leave", "freeze", "broker"))
        if act == "broker":
            self._lose_broker()
        elif not awake or act == "join":
            self._join()
        else:
            worker = self.random.choice(awake)
            if act == "freeze":
                self._freeze(worker)
                return
            self.acts.append(f"{act}:{worker.name}")
            worker.send_signal(signal.SIGKILL if act == "kill" else signal.SIGTERM)

    def _join(self) -> None:
        if len(self.workers) < self.workers_max and self.back_at is None:
            worker = self.started.start(self.log, records_max=self.random.choice((5, 50, 20_000)))
            self.acts.append(f"join:{worker.name}")
            self.workers.append(worker)

    def _freeze(self, worker: WorkerProcess) -> None:
        """Half of them for longer than the session: their partitions are given away meanwhile."""
        long = SESSION_SECONDS + self.random.uniform(0.5, 4)
        seconds = self.random.choice((self.random.uniform(0.5, 4), long))
        kind = "freeze-past-session" if seconds > SESSION_SECONDS else "freeze"
        self.acts.append(f"{kind}:{worker.name}:{seconds:.1f}")
        worker.send_signal(signal.SIGSTOP)
        self.frozen[worker] = time.monotonic() + seconds

    def _wake(self, *, now: bool = False) -> None:
        for worker, at in list(self.frozen.items()):
            if now or time.monotonic() >= at:
                del self.frozen[worker]
                worker.send_signal(signal.SIGCONT)

    def _lose_broker(self) -> None:
        if self.broker is not None and not self.was_away:
            self.was_away = True
            seconds = self.random.uniform(0.2, 8)
            self.acts.append(f"broker:{seconds:.1f}")
            self.broker.kill()
            self.back_at = time.monotonic() + seconds

    def _bring_back(self, *, now: bool = False) -> None:
        if self.broker is not None and self.back_at is not None and (now or time.monotonic() >= self.back_at):
            self.broker.come_back()
            self.back_at = None

    def _reap(self) -> None:
        for worker in list(self.workers):
            code = worker.exit_code()
            if code is None:
                continue
            self.workers.remove(worker)
            self.frozen.pop(worker, None)
            said = worker.said()
            away = self.was_away and any(words in said for words in WHILE_AWAY)
            if code not in ALLOWED and not away:
                self.faults.append(f"{worker.name} ended with {code}: {said}")


def write(bootstrap_servers: str, log: Log, seconds: float, bound: bool) -> None:
    """The log grows for about so many seconds; with `bound`, by transactions, some of them aborted."""
    sender = bound_sender(bootstrap_servers, log) if bound else Sender(bootstrap_servers, log)
    records = [registration(f"m{machine}", 0) for machine in range(8)] + readings(HOURS)
    step = 40
    for place in range(0, len(records), step):
        stretch = records[place : place + step]
        poison = POISON[place // step % len(POISON)]._replace(timestamp=stretch[-1].timestamp)
        for aborted in (True, False) if bound and place % 200 == 0 else (False,):
            if bound:
                sender.kafka.begin_transaction()
            sender.send(stretch)
            sender.send([poison], place % log.partitions)
            sender.kafka.flush(30)
            if bound and not finish_transaction(sender, aborted):
                sender = bound_sender(bootstrap_servers, log)
        time.sleep(seconds * step / len(records) * 0.7)
    Sender(bootstrap_servers, log).end(START_MS + HOURS * HOUR_MS + 30 * MINUTE_MS)


def bound_sender(bootstrap_servers: str, log: Log) -> Sender:
    """A sender whose records belong to transactions. It ends what an earlier one left open."""
    sender = Sender(bootstrap_servers, log, **{"transactional.id": log.log_id})
    sender.kafka.init_transactions(60)
    return sender


def finish_transaction(sender: Sender, aborted: bool) -> bool:
    """Commits or aborts; one that the broker's end broke is aborted: its records are then in no slice.

    False if the sender can't be used any more: the broker has ended the transaction and its answer was lost.
    """
    for _ in range(20):
        try:
            (sender.kafka.abort_transaction if aborted else sender.kafka.commit_transaction)(30)
        except KafkaException as error:
            if error.args[0].fatal():
                return False
            if error.args[0].txn_requires_abort():
                aborted = True
            elif not error.args[0].retriable():
                raise
            time.sleep(0.5)
        else:
            return True
    raise RuntimeError("the transaction did not end")


def play(
    servers: str,
    folder: Path,
    *,
    seed: int,
    seconds: float,
    workers: int = 3,
    broker: Broker | None = None,
    done: Counter[str] | None = None,
) -> list[str]:
    """One round; what went wrong in it. `done` counts its acts by kind."""
    one = Round(servers, folder, seed=seed, seconds=seconds, workers=workers, broker=broker)
    try:
        return one.play()
    finally:
        one.started.kill()
        if done is not None:
            done.update(act.partition(":")[0] for act in one.acts)


def main() -> int:
    """Plays the rounds that the command line asks for; 1 if one failed."""
    options = argparse.ArgumentParser(description="Random crash rounds on a real Kafka.")
    options.add_argument("--rounds", type=int, default=25)
    options.add_argument("--workers", type=int, default=3, help="at most so many at once")
    options.add_argument("--seed", type=int, default=0, help="of the first round; the next have the next ones")
    options.add_argument("--seconds", type=float, default=15.0, help="of disturbance in a round")
    options.add_argument("--steady-broker", action="store_true", help="never kill the broker")
    wanted = options.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the broker ends with us
    folder = Path(tempfile.mkdtemp(prefix="tallyroot-rounds-"))
    broker = Broker(folder / "kafka")
    failed = 0
    done: Counter[str] = Counter()
    try:
        for seed in range(wanted.seed, wanted.seed + wanted.rounds):
            faults = play(
                broker.servers, folder, seed=seed, seconds=wanted.seconds, workers=wanted.workers,
                broker=None if wanted.steady_broker else broker, done=done,
            )  # fmt: skip
            failed += bool(faults)
            print(f"seed {seed}: {'well' if not faults else '; '.join(faults)}", flush=True)
    finally:
        broker.stop()
    print(f"{wanted.rounds} rounds, {failed} failed; {', '.join(f'{n} {act}' for act, n in sorted(done.items()))}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
