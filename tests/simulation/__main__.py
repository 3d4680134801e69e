"""Runs seeds until one fails: `python -m tests.simulation --seeds 1000 [--first N] [--json]`.

A seed draws a log, those who write to it, those who work on it, and what goes wrong; the same seed draws the same.
"""

import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.simulation.checks import check_partition
from tests.simulation.fleet import Fleet, run
from tests.simulation.money import check_settled
from tests.simulation.seeds import again, run_seeds

MODULE = "tests.simulation"


def run_and_check(seed: int) -> Counter[str]:
    """One seed in a folder in memory, if there is such a thing. Gives what happened, by name.

    Whatever it raises says which seed it was, and how to run that again.
    """
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="simulation-", dir=memory if memory.is_dir() else None) as folder:
        try:
            return check(run(seed, Path(folder)), seed)
        except BaseException as error:
            error.add_note(f"seed {seed} failed; run it again: {again(MODULE, seed)}")
            raise


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
        fleet.happened["adjustments"] += sum(window["adjusts"] >= 0 for window in naive.sealed)
        fleet.happened["epochs"] += len(published)
        fleet.happened["accepted"] += naive.accepted
        fleet.happened["duplicate"] += naive.duplicate
        fleet.happened["rejected"] += len(naive.rejects)
        fleet.happened["orders"] += len(naive.orders.placed)
        fleet.happened["dues"] += sum(len(window["dues"]) for window in naive.sealed)
        fleet.happened["statements"] += sum(len(window["sessions"]) for window in naive.sealed)
        fleet.happened["deposits at cuts"] += sum(deposits > 0 for deposits in naive.deposits_at_cuts)
    fleet.happened["records"] += sum(len(fleet.broker.records(partition)) for partition in checked)
    return fleet.happened


if __name__ == "__main__":
    sys.exit(run_seeds(MODULE, __doc__, run_and_check))
