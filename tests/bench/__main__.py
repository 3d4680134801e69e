"""Readings per CPU second of the real worker, beside others on the same broker: `make bench`. Nothing asserts a time.

Each contender runs in a fresh process, in interleaved rounds; the table shows the median round and the range. The load
is the same in every run (`readings.py`, `dirt.py`), slower contenders get a part of it, and every contender's sums are
checked machine by machine. What `tallyroot-registrations` takes in are machines, no readings. `--peers` adds Flink and
Kafka Streams, whose jars are fetched then. `--curve` measures how it grows with machines, `--settlement` what settling
costs, `--queries` what analysts wait for, `--footprint` what readings take of CPU, memory and disks.
"""

import argparse
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import msgspec

from deploy.stack.servers import start_kafka
from tests.bench.java_peers import fetch_jars
from tests.bench.load import REGISTRATIONS, Load, log_of, register_machines, send_readings
from tests.bench.peers_env import peers_python

ROOT = Path(__file__).resolve().parents[2]
SECONDS_MAX = 300
READINGS, MACHINES = 1_200_000, 5_000
FLEET = 100_000
"""Machines of a fleet as it reports: a slice holds each meter about once."""

NEWCOMERS = 250_000
"""Machines of a load that is nothing but their registrations."""

Result = dict[str, Any]


class Contender(NamedTuple):
    """What it reads, what part of `--readings`, which module runs it, and of how many machines, if not `--machines`."""

    encoding: str
    weight: float
    module: str = "contender"
    dirt: int = 0
    machines: int = 0


PEERS, JAVA_PEERS = "peers", "java_peers"
"""Modules that run peers: in the peers' environment; in ours, which starts a JVM."""

CONTENDERS = {
    "tallyroot-json": Contender("json", 1),
    "tallyroot-json-array": Contender("json-array", 2),
    "tallyroot-arrow": Contender("arrow", 4),
    "tallyroot-arrow-signed": Contender("arrow-signed", 4),
    "tallyroot-json-dirty10": Contender("json-dirty10", 1, dirt=10),
    "tallyroot-json-dirty100": Contender("json-dirty100", 1 / 3, dirt=100),
    "tallyroot-fleet": Contender("fleet", 1, machines=FLEET),
    "tallyroot-minute": Contender("minute", 1),
    "tallyroot-registrations": Contender(REGISTRATIONS, 1, machines=NEWCOMERS),
    "faust-stock": Contender("plain", 1 / 12),
    "quixstreams": Contender("plain", 1 / 6, PEERS),
    "bytewax": Contender("plain", 1 / 3, PEERS),
    "count-only": Contender("plain", 1),
    "flink": Contender("plain", 4, JAVA_PEERS),
    "kafka-streams": Contender("plain", 4, JAVA_PEERS),
}
"""A JVM needs a million readings until its loops are compiled, hence the weight."""
STOCK = "faust-stock"


class Bench:
    """Loads in a broker, and who has read them. Everything lies in `home`."""

    def __init__(self, servers: str, home: Path, readings: int, machines: int) -> None:
        self._servers, self._home = servers, home
        self._readings, self._machines = readings, machines

    def topic(self, name: str) -> str:
        """The topic that a contender reads; also the name of its prepared data folder."""
        return log_of(CONTENDERS[name].encoding, self.readings(name), self.machines(name)).topic

    def machines(self, name: str) -> int:
        """How many machines a contender has."""
        return CONTENDERS[name].machines or self._machines

    def readings(self, name: str) -> int:
        """How many readings a contender gets, or registrations."""
        if CONTENDERS[name].encoding == REGISTRATIONS:
            return self.machines(name)
        return max(2 * self.machines(name), int(self._readings * CONTENDERS[name].weight))

    def prepare(self, names: Sequence[str]) -> None:
        """Registers the machines, has workers take them in, all at once, and only then sends the readings."""
        loads = {self.topic(name): name for name in names}
        running = []
        for topic, name in loads.items():
            if CONTENDERS[name].encoding != "plain":
                log = log_of(CONTENDERS[name].encoding, self.readings(name), self.machines(name))
                register_machines(self._servers, log, self.machines(name))
                (self._home / topic).mkdir()
                if CONTENDERS[name].encoding != REGISTRATIONS:
                    running.append(subprocess.Popen(self._command("register", self._home / topic, topic), cwd=ROOT))
        codes = [process.wait(SECONDS_MAX) for process in running]
        if any(codes):
            raise SystemExit("a worker did not take in the machines")
        for topic, name in loads.items():
            encoding = CONTENDERS[name].encoding
            if encoding == REGISTRATIONS:
                load = Load(readings=self.readings(name), machines={})
            else:
                log = log_of(encoding, self.readings(name), self.machines(name))
                load = send_readings(self._servers, log, encoding, self.machines(name), self.readings(name))
            load.write(self.load_file(topic))

    def load_file(self, topic: str) -> Path:
        """What a topic's readings come to."""
        return self._home / f"{topic}.json"

    @contextmanager
    def folder(self, name: str) -> Iterator[Path]:
        """A fresh copy of a contender's data folder, for a while."""
        folder = Path(tempfile.mkdtemp(dir=self._home))
        try:
            if CONTENDERS[name].encoding != "plain":
                shutil.copytree(self._home / self.topic(name), folder, dirs_exist_ok=True)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def start(self, name: str, folder: Path, python: str, *more: str) -> "subprocess.Popen[bytes]":
        """Starts a contender."""
        topic = self.topic(name)
        command = self._command(name, folder, topic, str(self.load_file(topic)), *more, python=python)
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)

    def run(self, name: str, python: str = sys.executable) -> Result:
        """One round of one contender."""
        with self.folder(name) as folder:
            return result_of(self.start(name, folder, python))

    def _command(self, name: str, folder: Path, *more: str, python: str = sys.executable) -> list[str]:
        module = CONTENDERS[name].module if name in CONTENDERS else "contender"
        return [python, "-W", "ignore", "-m", f"tests.bench.{module}", name, self._servers, str(folder), *more]


class ContenderFailed(Exception):
    """A contender came to no result; the message says how."""


def result_of(process: "subprocess.Popen[bytes]") -> Result:
    """What a contender printed. Raises ContenderFailed if it did not come to an end, and ends it."""
    try:
        said, _ = process.communicate(timeout=SECONDS_MAX)
    except subprocess.TimeoutExpired:
        raise ContenderFailed(f"failed: not done after {SECONDS_MAX} s") from None
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    if process.returncode or not said:
        raise ContenderFailed(f"failed: exit code {process.returncode}")
    result: Result = msgspec.json.decode(said.splitlines()[-1])
    return result


def main() -> int:
    """Starts a broker, sends the load, runs the rounds, prints the table or one JSON object."""
    for module in ("curve", "settlement", "queries", "footprint"):
        option = f"--{module}"
        if option in sys.argv:
            rest = [word for word in sys.argv[1:] if word != option]
            return subprocess.run(
                [sys.executable, "-m", f"tests.bench.{module}", *rest], cwd=ROOT, check=False
            ).returncode
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the broker ends with us
    wanted = [name for name in (*options.contenders, *options.peers) if CONTENDERS[name].dirt in options.dirt]
    python, missing = _install(wanted)
    names = [name for name in wanted if name not in missing]
    with tempfile.TemporaryDirectory(prefix="tallyroot-bench-") as folder:
        kafka = start_kafka(Path(folder) / "kafka")
        try:
            bench = Bench(kafka.bootstrap_servers, Path(folder), options.readings, options.machines)
            _tell("sending the load")
            bench.prepare(names)
            rounds, failed = _rounds(bench, names, python, options.rounds)
        finally:
            kafka.stop()
    skipped = [{"contender": name, "reason": reason} for name, reason in (missing | failed).items()]
    results = [summary([results[name] for results in rounds]) for name in names if name not in failed]
    if options.json:
        print(msgspec.json.encode({"machine": _machine(), "contenders": results, "skipped": skipped}).decode())
    else:
        _print(results, rounds)
        for left_out in skipped:
            print(f"{left_out['contender']:<25} skipped: {left_out['reason']}")
    return 1 if failed or not all(result["correct"] for result in results) else 0


def _install(names: Sequence[str]) -> tuple[str, dict[str, str]]:
    """Brings what the peers among the contenders need. Returns their Python, and who can't run, with the reason."""
    missing = {name: fetch_jars(name) for name in names if CONTENDERS[name].module == JAVA_PEERS}
    in_python = [name for name in names if CONTENDERS[name].module == PEERS]
    python, why = peers_python() if in_python else (None, "")
    missing |= dict.fromkeys(in_python, why)
    return str(python), {name: reason for name, reason in missing.items() if reason}


def summary(results: Sequence[Result]) -> Result:
    """The median of each figure over the rounds, with the range of readings per CPU second."""
    figures = {
        field: _median([result[field] for result in results])
        for field, value in results[0].items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    rates = [result["readings_per_cpu_second"] for result in results]
    return (
        {"contender": results[0]["contender"]}
        | figures
        | {
            "correct": all(result["correct"] for result in results),
            "rounds": len(results),
            "readings_per_cpu_second_range": [min(rates), max(rates)],
        }
    )


def _rounds(
    bench: Bench, names: Sequence[str], peers: str, count: int
) -> tuple[list[dict[str, Result]], dict[str, str]]:
    """The results of each round by contender, and who failed in any; that one is left out from then on."""
    rounds: list[dict[str, Result]] = [{} for _ in range(count)]
    failed: dict[str, str] = {}
    for number, results in enumerate(rounds):
        for name in names:
            if name in failed:
                continue
            _tell(f"round {number + 1}: {name}")
            try:
                results[name] = bench.run(name, peers if CONTENDERS[name].module == PEERS else sys.executable)
            except ContenderFailed as error:
                failed[name] = str(error)
    return rounds, failed


def _median(values: Sequence[float]) -> float:
    middle = median(values)
    return round(middle) if all(isinstance(value, int) for value in values) else round(middle, 3)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench ARGS=...", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--readings", type=int, default=READINGS, help="of tallyroot-json; others get more or fewer")
    parser.add_argument("--machines", type=int, default=MACHINES)
    java = [name for name in CONTENDERS if CONTENDERS[name].module == JAVA_PEERS]
    usual = [name for name in CONTENDERS if name not in java]
    parser.add_argument("--contenders", nargs="+", choices=usual, default=usual)
    parser.add_argument("--peers", nargs="+", choices=java, default=[], help="also these, whose jars are fetched first")
    parser.add_argument("--dirt", nargs="+", type=int, choices=(0, 10, 100), default=[0, 10, 100], help="percent")
    return parser.parse_args()


def _machine() -> dict[str, Any]:
    return {
        "system": platform.system(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
    }


def _print(results: Sequence[Result], rounds: Sequence[dict[str, Result]]) -> None:
    heads = ("readings", 11), ("/second", 12), ("/CPU second", 13), ("range", 24), ("x stock", 9), ("peak MB", 9)
    print(f"{'contender':<25}" + "".join(f"{head:>{width}}" for head, width in heads) + "  sums")
    for result in results:
        name = result["contender"]
        wall = result["readings"] / result["wall_seconds"] if result["wall_seconds"] else 0
        least, most = result["readings_per_cpu_second_range"]
        ratios = [each[name]["readings_per_cpu_second"] / stock for each in rounds if (stock := _stock_rate(each))]
        print(
            f"{name:<25}{result['readings']:>11,}{wall:>12,.0f}{result['readings_per_cpu_second']:>13,}"
            f"{f'{least:,}-{most:,}':>24}{f'{median(ratios):.1f}' if ratios else '-':>9}"
            f"{result['peak_rss_bytes'] / 1e6:>9,.0f}  {'right' if result['correct'] else 'WRONG'}"
        )


def _stock_rate(results: dict[str, Result]) -> int:
    return int(results[STOCK]["readings_per_cpu_second"]) if STOCK in results else 0


def _tell(text: str) -> None:
    sys.stderr.write(f"bench: {text}\n")


if __name__ == "__main__":
    raise SystemExit(main())
