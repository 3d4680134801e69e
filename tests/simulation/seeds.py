"""What the commands of the simulations share: seeds run one after the other until one fails."""

import argparse
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable

import msgspec


def run_seeds(module: str, description: str | None, run_and_check: Callable[[int], Counter[str]]) -> int:
    """Reads the command line, prints what was run, or the seed that failed and how to run it again."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    parser.add_argument("--seeds", type=int, default=100, help="how many to run")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
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
                print(msgspec.json.encode({"ok": False, "seed": seed, "again": again(module, seed)}).decode())
            return 1
    seconds = round(time.monotonic() - started)
    if options.json:
        report = {"ok": True, "seeds": options.seeds, "seconds": seconds, "happened": dict(sorted(happened.items()))}
        print(msgspec.json.encode(report).decode())
    else:
        print(f"{options.seeds} seeds from {options.first} on hold, in {seconds} s; what happened in them:")
        print("\n".join(f"{count:9d}  {name}" for name, count in sorted(happened.items())))
    return 0


def again(module: str, seed: int) -> str:
    """The command that repeats a seed."""
    return f"python -m {module} --seeds 1 --first {seed}"
