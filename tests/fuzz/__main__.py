"""Puts spoiled inputs into every door for strangers: `python -m tests.fuzz [DOOR ...] --count 1000000 [--seed N]`.

A crash is printed with the seed of its input. Exit 1 if there was any, or if this process took more than `--megabytes`.
"""

import argparse
import random
import resource
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

from tests.fuzz.doors import DOORS

EVERY_S = 30.0
CRASHES_SHOWN = 5
IN_MEGABYTES = 1_000_000 if sys.platform == "darwin" else 1_000
"""What getrusage counts in, to megabytes."""


def main() -> int:
    """Returns 1 if anything came up that production doesn't catch."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("doors", nargs="*", choices=[*DOORS, []], help="all without any")
    parser.add_argument("--count", type=int, default=20_000, help="inputs for each")
    parser.add_argument("--seed", type=int, default=1, help="the first input's; each next one has the next number")
    parser.add_argument("--megabytes", type=int, default=500)
    chosen = parser.parse_args()
    failed = False
    for name in chosen.doors or DOORS:
        became, crashes = run(name, chosen.seed, chosen.count)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // IN_MEGABYTES
        words = ", ".join(f"{count:,} {word}" for word, count in sorted(became.items()))
        print(f"{name}: {words}; {crashes} crashes; {peak} MB at most", flush=True)
        failed = failed or crashes > 0 or peak > chosen.megabytes
    return 1 if failed else 0


def run(name: str, seed: int, count: int) -> tuple[Counter[str], int]:
    """What became of the inputs of a door, and how many crashed."""
    became, crashes, said_at = Counter[str](), 0, time.monotonic()
    with tempfile.TemporaryDirectory() as folder, DOORS[name](Path(folder)) as put:
        for number in range(seed, seed + count):
            try:
                became[put(random.Random(number))] += 1
            except Exception:  # noqa: BLE001 - whatever it is, production has no word for it
                crashes += 1
                if crashes <= CRASHES_SHOWN:
                    print(f"{name}: the input of seed {number} crashed\n{traceback.format_exc()}", flush=True)
            if sys.stderr.isatty() and time.monotonic() > said_at + EVERY_S:
                said_at = time.monotonic()
                print(f"{name}: {number - seed + 1:,} of {count:,}", file=sys.stderr)
    return became, crashes


if __name__ == "__main__":
    sys.exit(main())
