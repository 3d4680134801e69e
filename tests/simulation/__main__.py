"""Runs seeds until one fails: `python -m tests.simulation --seeds 1000 [--first N] [--json]`.

A seed draws a log, those who write to it, those who work on it, and what goes wrong; the same seed draws the same.
"""

import argparse
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

import msgspec

from tests.simulation.checks import check_partition
from tests.simulation.fleet import Fleet, run
from tests.simulation.money import check_settled


def main() -> int:
    """Prints what was run, or the seed that failed and how to run it again."""
    options = _options()
    happened: Counter[str] = Counter()
    started = time.monotonic()
    for seed in range(options.first, options.first + options.seeds):
        try:
            happened.update(run_and_check(seed))
            done = seed - options.first + 1
            if done % 50 == 0:
                print(f"{done} seeds hold, {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
        except Exception as error:  # noqa: BLE001 - whatever it is, the seed must be told
            traceback.print_exception(error)
            if options.json:
                print(msgspec.json.encode({"ok": False, "seed": seed, "again": again(seed)}).decode())
            return 1
    seconds = round(time.monotonic() - started)
    if options.json:
        report = {"ok": True, "seeds": options.seeds, "seconds": seconds, "happened": dict(sorted(happened.items()))}
        print(msgspec.json.encode(report).decode())
    else:
        print(f"{options.seeds} seeds from {options.first} on hold, in {seconds} s; what happened in them:")
        print("\n".join(f"{count:9d}  {name}" for name, count in sorted(happened.items())))
    return 0


def run_and_check(seed: int) -> Counter[str]:
    """One seed in a folder in memory, if there is such a thing. Gives what happened, by name.

    Whatever it raises says which seed it was, and how to run that again.
    """
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="simulation-", dir=memory if memory.is_dir() else None) as folder:
        try:
            return check(run(seed, Path(folder)), seed)
        except BaseException as error:
            error.add_note(f"seed {seed} failed; run it again: {again(seed)}")
            raise


def again(seed: int) -> str:
    """The command that repeats a seed."""
    return f"python -m tests.simulation --seeds 1 --first {seed}"


def check(fleet: Fleet, seed: int) -> Counter[str]:
    """All that must hold when a run is over."""
    root, log = fleet.disk.root, fleet.log
    checked = {
        partition: check_partition(root, log, partition, fleet.broker.records(partition))
        for partition in range(log.partitions)
    }
    fleet.view.check({partition: naive for partition, (naive, _) in checked.items()})
    epochs = {partition: published for partition, (_, published) in checked.items()}
    fleet.happened["posts"] += check_settled(log, epochs, random.Random(seed))
    for naive, published in checked.values():
        fleet.happened["windows"] += len(naive.sealed)
        fleet.happened["adjustments"] += sum(window["mends"] >= 0 for window in naive.sealed)
        fleet.happened["epochs"] += len(published)
        fleet.happened["accepted"] += naive.accepted
        fleet.happened["duplicate"] += naive.duplicate
        fleet.happened["rejected"] += len(naive.rejects)
    fleet.happened["records"] += sum(len(fleet.broker.records(partition)) for partition in checked)
    return fleet.happened


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many to run")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
