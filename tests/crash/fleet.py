"""Two workers over a fleet's day, killed at random: windows and roots must be those of two that nobody killed.

`python -m tests.crash.fleet --machines 5000 --minutes 1440 --kills 20 --seed 1` sends one reading a minute of each
machine to a broker of its own, in epochs of an hour. Two workers take it in undisturbed; two others, on a folder of
their own, are killed (SIGKILL) at random readings, drawn from the seed, and started again at once. Then manifests, the
files of epochs, every row of every checkpoint and the roots that settling posts must be equal, and each machine's
readings be those that were sent. Every so often a line says how much memory the workers have: where nobody is killed,
it should be flat.
"""

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb

from deploy.stack.servers import start_kafka
from schemas.log import Log
from schemas.units import MINUTE_MS
from settlement.chain.job import SettleOptions, choose_run
from settlement.post import PostStanding, assemble
from settlement.storage.published_epochs import EpochReader
from streams.kafka.reader import KafkaLogReader
from streams.storage.analytics import make_analytics
from tests.bench.load import Load, register_machines, send_readings
from tests.crash.recomputed import view_faults
from tests.support.kafka_log import PARTITIONS, a_log, outcome
from tests.support.workers import WorkerProcess, Workers

WORKERS = 2
DECIMALS = 6
LAST_KILL = 0.95
"""Of the records: whoever is killed after that may find nothing left to do."""

WATCH_SECONDS = 0.1
STALL_SECONDS = 120
"""Without any commit: a fault."""


class Run:
    """Two workers on one data folder, from the log's start to its end."""

    def __init__(self, servers: str, log: Log, folder: Path, ends: dict[int, int]) -> None:
        self._log, self._ends = log, ends
        self._started = Workers(servers, folder, folder.with_name(f"{folder.name}-output"))
        folder.with_name(f"{folder.name}-output").mkdir()
        self._all: list[WorkerProcess] = []
        self._at_work: list[WorkerProcess] = []
        self.killed = 0

    def play(self, kills: list[int], draw: random.Random, every: int) -> None:
        """Kills a worker each time as many records are done. Prints memory after each `every` records.

        Raises RuntimeError if a worker ends with a fault, or nobody gets on.
        """
        try:
            for _ in range(WORKERS):
                self._start()
            self._watch(kills, draw, every)
        finally:
            self._started.kill()

    def _watch(self, kills: list[int], draw: random.Random, every: int) -> None:
        left, line, before, since = list(kills), every, -1, time.monotonic()
        while self._at_work:
            done = self._done()
            if done != before:
                before, since = done, time.monotonic()
            elif time.monotonic() - since > STALL_SECONDS:
                raise RuntimeError(f"no commit for {STALL_SECONDS} s at record {done}")
            if done >= line:
                self._tell(done)
                line = done - done % every + every
            if left and done >= left[0]:
                left.pop(0)
                time.sleep(draw.random())
                self._kill(draw.choice(self._at_work))
            self._reap()
            time.sleep(WATCH_SECONDS)
        if left:
            raise RuntimeError(f"the log ended before {len(left)} of the kills")

    def _start(self) -> None:
        worker = self._started.start(self._log, as_command=True, until_caught_up=True)
        self._all.append(worker)
        self._at_work.append(worker)

    def _kill(self, worker: WorkerProcess) -> None:
        worker.kill()
        self._at_work.remove(worker)
        self.killed += 1
        self._start()

    def _reap(self) -> None:
        for worker in [each for each in self._at_work if each.exit_code() is not None]:
            self._at_work.remove(worker)
            if worker.exit_code() or worker.said():
                raise RuntimeError(f"{worker.name} ended with {worker.exit_code()}: {worker.said()}")

    def _done(self) -> int:
        """The records that are committed."""
        furthest = dict.fromkeys(self._ends, 0)
        for worker in self._all:
            for each in worker.progress():
                furthest[each.partition] = max(furthest[each.partition], each.next_offset)
        return sum(furthest.values())

    def _tell(self, done: int) -> None:
        memory = " ".join(f"{each.name} {each.rss_bytes() / 1e6:,.0f} MB" for each in self._at_work)
        print(f"{done:>13,} records  {self.killed:>3} kills  {memory}", flush=True)


def differences(log: Log, load: Load, steady: Path, killed: Path) -> Iterator[str]:
    """What is not as it should be in the folder of those who were killed, in words."""
    yield from outcome(steady).differences(outcome(killed))
    one, other = roots(steady, log), roots(killed, log)
    if one != other:
        yield f"roots: {other} instead of {one}"
    yield from view_faults(killed, log)
    with duckdb.connect(str(make_analytics(killed, log)), read_only=True) as db:
        found = dict(db.execute("SELECT machine, sum(readings)::BIGINT FROM windows GROUP BY ALL").fetchall())
    sent = {machine: readings for machine, (readings, _, _) in load.machines.items()}
    if found != sent:
        wrong = [machine for machine in sorted(sent | found) if sent.get(machine) != found.get(machine)]
        yield f"readings of {len(wrong)} machines are not those sent, such as {wrong[0]}: {found.get(wrong[0])}"


def roots(folder: Path, log: Log) -> dict[str, str]:
    """Of the post that settles all epochs. Raises RuntimeError if they owe nothing."""
    run, waiting = choose_run(EpochReader(folder, log), PostStanding.initial(), log, SettleOptions())
    post = run and assemble(PostStanding.initial(), run, DECIMALS)
    if not post:
        raise RuntimeError(f"nothing to settle: it waits for {waiting}")
    header = post.header(bytes(32), DECIMALS)
    return {
        "windows": header.windows_root.hex(),
        "payouts": header.payouts_root.hex(),
        "manifest": header.manifest_hash.hex(),
    }


def prove(servers: str, log: Log, folder: Path, *, machines: int, minutes: int, kills: int, seed: int) -> list[str]:
    """Sends, runs both, compares; what is not equal, in words. The load is described in the folder's `load.json`."""
    register_machines(servers, log, machines)
    load = send_readings(servers, log, "fleet", machines, machines * minutes, span_ms=minutes * MINUTE_MS)
    load.write(folder / "load.json")
    reader = KafkaLogReader(servers, log.topic)
    ends = {partition: reader.range(partition)[1] for partition in range(PARTITIONS)}
    reader.close()
    records = sum(ends.values())
    print(f"{records:,} records of {machines:,} machines, {minutes:,} minutes in epochs of an hour", flush=True)
    draw = random.Random(seed)
    steady, killed = folder / "steady", folder / "killed"
    at = sorted(draw.randrange(int(records * LAST_KILL)) for _ in range(kills))
    for data, moments in ((steady, []), (killed, at)):
        print(f"{data.name}:", flush=True)
        began = time.monotonic()
        Run(servers, log, data, ends).play(moments, draw, max(1, records // 12))
        print(f"{'':>13} done after {time.monotonic() - began:,.0f} s", flush=True)
    found = list(differences(log, load, steady, killed))
    if not found:
        manifests = len(outcome(killed).manifests)
        print(f"{manifests} manifests, all rows and the roots are equal: {roots(killed, log)}", flush=True)
    return found


def main() -> int:
    """Proves what the command line asks for; 1 if something differs, and then the folders stay."""
    options = argparse.ArgumentParser(prog="python -m tests.crash.fleet", description=__doc__)
    options.add_argument("--machines", type=int, default=5_000)
    options.add_argument("--minutes", type=int, default=24 * 60)
    options.add_argument("--kills", type=int, default=20)
    options.add_argument("--seed", type=int, default=1)
    wanted = options.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the broker ends with us
    folder = Path(tempfile.mkdtemp(prefix="tallyroot-fleet-"))
    kafka = start_kafka(folder / "kafka")
    try:
        log = a_log(f"fleet-{wanted.machines}-{wanted.minutes}-{wanted.seed}")
        faults = prove(kafka.bootstrap_servers, log, folder, **vars(wanted))
    finally:
        kafka.stop()
    for fault in faults:
        print(fault)
    if faults:
        print(f"failed with --seed {wanted.seed}; the folders are in {folder}")
        return 1
    shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
