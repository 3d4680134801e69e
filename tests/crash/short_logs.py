"""Short logs, two workers that are to catch up, one of them killed at a random moment, a third: all of the log is read.

`python -m tests.crash.short_logs --rounds 50` plays them on a broker of its own, as the demo does on a file of a few
thousand rows: a worker that has no partition yet, or is between two assignments, has not caught up.
"""

import argparse
import random
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from deploy.stack.servers import start_kafka
from schemas.log import Log
from streams.kafka.reader import KafkaLogReader
from tests.support.kafka_log import a_log, fill, outcome, without_faust
from tests.support.workers import Workers

SECONDS = 90.0


def play(servers: str, folder: Path, seed: int) -> list[str]:
    """One round: what went wrong, a line each."""
    draw = random.Random(seed)
    log = a_log(f"short-{seed}-{time.monotonic_ns()}")
    fill(servers, log, hours=draw.randint(1, 2))
    data_dir = folder / log.log_id
    workers = Workers(servers, data_dir)
    try:
        order = {"until_caught_up": True, "records_max": draw.choice([40, 200, 20_000])}
        victim, other = workers.start(log, **order), workers.start(log, **order)
        commits = draw.randint(0, 4)
        with suppress(AssertionError):  # it may have had no more to do
            victim.wait_for(lambda done: len(done) >= commits, 10)
        time.sleep(draw.choice([0.0, draw.uniform(0.0, 3.0)]))
        victim.kill()
        third = workers.start(log, **order)
        faults = []
        for worker in (other, third):
            code = worker.wait(SECONDS)
            if code:
                faults.append(f"seed {seed}: {worker.name} ended with {code}: {worker.said()}")
            faults += [f"seed {seed}: {worker.name} ended, {behind}" for behind in unread(servers, log, data_dir)]
        return faults + [f"seed {seed}: {each}" for each in differences(servers, log, data_dir)]
    finally:
        workers.kill()


def unread(servers: str, log: Log, data_dir: Path) -> list[str]:
    """The partitions of which no worker has committed all."""
    ends = KafkaLogReader(servers, log.topic, 0).ranges(list(range(log.partitions)))
    marks = {number: data_dir / "partitions" / f"{number}.next" for number in range(log.partitions)}
    at = {number: int(path.read_text()) if path.exists() else 0 for number, path in marks.items()}
    return [f"partition {number} at {at[number]} of {end}" for number, (_, end) in ends.items() if at[number] < end]


def differences(servers: str, log: Log, data_dir: Path) -> list[str]:
    """What the folder lacks of what one undisturbed reading of the log gives."""
    return without_faust(servers, log, data_dir / "expected").differences(outcome(data_dir))


def main() -> int:
    """Prints each round's faults; 1 if there were any."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=50)
    options.add_argument("--seed", type=int, default=0)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = start_kafka(Path(folder) / "kafka")
        try:
            faults = []
            for seed in range(chosen.seed, chosen.seed + chosen.rounds):
                found = play(server.bootstrap_servers, Path(folder), seed)
                print(f"round {seed}: {found or 'all read'}", flush=True)
                faults += found
        finally:
            server.stop()
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
