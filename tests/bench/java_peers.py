"""Stream processors of the JVM: the same 15-minute tumbling SUM and COUNT as a job of ours in `jobs`, on a small heap.

Their jars are fetched on demand into the set-up's folder of jars, each peer's from a lock of its own that names every
jar with its SHA-256; the Eclipse compiler, a jar of each lock, compiles the job, so any Java that runs Kafka will do.
Arguments: the contender's name, the broker, a folder, the topic, the load's file. Prints one JSON object. `lock` alone
writes the locks again.
"""

import json
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from deploy.setup.kafka_jars import fetch, relock
from deploy.stack.processes import CLEAN_ENVIRONMENT
from deploy.stack.toolchain import JARS_FOLDER, jar_entries, jar_path, java
from schemas.errors import InvalidInput
from tests.bench.clock import Clock
from tests.bench.peers import PARTITIONS, Sums, are_right

JOBS = Path(__file__).with_name("jobs")
SHARED = ("Bench", "Reading", "Window")
COMPILER = "org.eclipse.jdt:ecj:3.40.0"
"""It runs on Java 17, as Kafka does, and on a Java without a compiler of its own."""

LOGGING = "org.slf4j:slf4j-simple:1.7.36"
OPTIONS = (
    "-Xms512m", "-Xmx512m", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error",
    "--enable-native-access=ALL-UNNAMED",  # lz4 and snappy: newer Javas warn without
)  # fmt: skip


class Peer(NamedTuple):
    """The class of its job, and what its jars are resolved from: joined by `+` together, else each alone."""

    job: str
    endpoints: Sequence[str]


PEERS = {
    "flink": Peer(
        "FlinkSum",
        (
            "org.apache.flink:flink-clients:2.2.1",
            # The connector leaves its base to Flink's distribution; together with Flink it would drag it down to 2.1.
            "org.apache.flink:flink-connector-kafka:5.0.0-2.2+org.apache.flink:flink-connector-base:2.2.1",
        ),
    ),
    "kafka-streams": Peer("KafkaStreamsSum", ("org.apache.kafka:kafka-streams:4.4.0",)),
}


def lock_of(name: str) -> Path:
    """The lock of a peer's jars."""
    return JOBS / f"{name}.lock"


def fetch_jars(name: str) -> str:
    """Fetches what is missing of a peer's jars. Returns why they can't be had, else an empty text."""
    sys.stderr.write(f"bench: fetching the jars of {name} that are not there yet\n")
    try:
        fetch(lock_of(name), JARS_FOLDER)
    except InvalidInput as error:
        return str(error)
    return ""


def run(name: str, servers: str, folder: Path, topic: str, messages: int, clock: Clock) -> Sums:
    """Runs a peer's job to the end of the topic. Raises CalledProcessError if the job does not compile or fails."""
    lock, classes, result = lock_of(name), folder / "classes", folder / "result"
    class_path = ":".join(str(JARS_FOLDER / jar_path(coordinate)) for _, coordinate in jar_entries(lock))
    sources = [str(JOBS / f"{job}.java") for job in (*SHARED, PEERS[name].job)]
    launch = [*CLEAN_ENVIRONMENT, str(java())]
    compiler = str(JARS_FOLDER / jar_path(COMPILER))
    subprocess.run(
        [*launch, "-jar", compiler, "-17", "-nowarn", "-cp", class_path, "-d", str(classes), *sources], check=True
    )
    job = [PEERS[name].job, servers, topic, str(messages), str(folder / "state"), str(result)]
    command = [*launch, *OPTIONS, "-cp", f"{classes}:{class_path}", *job]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=sys.stderr) as process:
        code = process.wait()  # its standard input stays open until then: it ends with us
    if code:
        raise subprocess.CalledProcessError(code, job)
    clock.peak_bytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (
        1 if sys.platform == "darwin" else 1_024
    )
    seconds, *machines = (line.split("\t") for line in result.read_text(encoding="utf-8").splitlines())
    clock.began, clock.ended, clock.first = (0.0, 0.0), (float(seconds[0]), float(seconds[1])), 1
    return {machine: (int(count), int(total)) for machine, count, total in machines}


def main(arguments: Sequence[str]) -> None:
    """Runs the contender that is named, or writes the locks."""
    if list(arguments) == ["lock"]:
        for name, peer in PEERS.items():
            relock(lock_of(name), JARS_FOLDER, f"the bench's {name}", (*peer.endpoints, COMPILER, LOGGING))
        return
    name, servers, folder, topic, load_file = arguments
    load = json.loads(Path(load_file).read_bytes())
    clock = Clock()
    sums = run(name, servers, Path(folder), topic, load["readings"] + PARTITIONS, clock)
    clock.report(name, load["readings"], are_right(sums, load))


if __name__ == "__main__":
    main(sys.argv[1:])
