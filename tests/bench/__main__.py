"""Readings per CPU second of the real worker, beside others on the same broker: `make bench`. Nothing asserts a time.

Each contender runs in a fresh process, in interleaved rounds; the best round of each counts. The load is the same in
every run (`load.py`), and every contender's sums are checked.
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from deploy.stack import start_kafka
from streams.app import WorkerSettings, run_worker
from tests.bench.load import Load, log_of, register_machines, send_readings

TALLYROOT = ("json", "json-array", "arrow")
STOCK = "stock-faust"
CONTENDERS = (*(f"tallyroot-{encoding}" for encoding in TALLYROOT), STOCK, "count-only")
ROOT = Path(__file__).resolve().parents[2]
SECONDS_MAX = 900


def main() -> int:
    """Starts a broker, sends the load, runs the rounds, prints the table or one JSON object."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="tallyroot-bench-") as folder:
        home = Path(folder)
        kafka = start_kafka(home / "kafka")
        try:
            loads = _prepare(kafka.bootstrap_servers, home, options)
            results = [
                _run(name, kafka.bootstrap_servers, home, loads)
                for _ in range(options.rounds)
                for name in options.contenders
            ]
        finally:
            kafka.stop()
    best = [
        max((result for result in results if result["contender"] == name), key=_rate) for name in options.contenders
    ]
    for result in best:
        result["correct"] = all(other["correct"] for other in results if other["contender"] == result["contender"])
    if options.json:
        print(msgspec.json.encode({"machine": _machine(), "contenders": best}).decode())
    else:
        _print(best)
    return 0 if all(result["correct"] for result in best) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench ARGS=...", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--readings", type=int, default=200_000)
    parser.add_argument("--machines", type=int, default=5_000)
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=CONTENDERS)
    return parser.parse_args()


def _prepare(servers: str, home: Path, options: argparse.Namespace) -> dict[str, Load]:
    """Sends the load; registers the machines, and has a worker take them in, before any reading comes."""
    loads = {}
    encodings = {name.removeprefix("tallyroot-") for name in options.contenders if name.startswith("tallyroot-")}
    for encoding in sorted(encodings):
        log = log_of(encoding)
        register_machines(servers, log, options.machines)
        data_dir = home / encoding
        data_dir.mkdir()
        run_worker(WorkerSettings(bootstrap_servers=servers, data_dir=data_dir, log=log, until_caught_up=True))
        loads[encoding] = send_readings(servers, log, encoding, options.machines, options.readings)
    if len(encodings) < len(options.contenders):
        loads["plain"] = send_readings(servers, log_of("plain"), "plain", options.machines, options.readings)
    return loads


def _run(name: str, servers: str, home: Path, loads: dict[str, Load]) -> dict[str, Any]:
    """One contender in a process of its own, on a fresh copy of its data folder."""
    encoding = name.removeprefix("tallyroot-")
    folder = Path(tempfile.mkdtemp(dir=home))
    if encoding in TALLYROOT:
        shutil.copytree(home / encoding, folder, dirs_exist_ok=True)
    load = loads[encoding if encoding in TALLYROOT else "plain"]
    command = [sys.executable, "-m", "tests.bench.contender", name, servers, str(folder), *map(str, load)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, timeout=SECONDS_MAX, check=True)
    shutil.rmtree(folder, ignore_errors=True)
    result: dict[str, Any] = msgspec.json.decode(done.stdout.splitlines()[-1])
    return result


def _rate(result: dict[str, Any]) -> int:
    return int(result["readings_per_cpu_second"])


def _machine() -> dict[str, Any]:
    return {
        "system": platform.system(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }


def _print(results: list[dict[str, Any]]) -> None:
    stock = next((_rate(result) for result in results if result["contender"] == STOCK), None)
    print(f"{'contender':<22}{'readings/s':>12}{'/CPU second':>14}{'x stock':>10}{'peak MB':>10}  sums")
    for result in results:
        wall = result["readings"] / result["wall_seconds"] if result["wall_seconds"] else 0
        times = f"{_rate(result) / stock:.1f}" if stock else "-"
        print(
            f"{result['contender']:<22}{wall:>12,.0f}{_rate(result):>14,}{times:>10}"
            f"{result['peak_rss_bytes'] / 1e6:>10,.0f}  {'right' if result['correct'] else 'WRONG'}"
        )


if __name__ == "__main__":
    raise SystemExit(main())
