"""The embedded Kafka: one real broker in KRaft mode, small, on 127.0.0.1, its data in one folder."""

import base64
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from deploy.stack import processes, toolchain
from deploy.stack.processes import LOOPBACK, Process, Server
from schemas.errors import InvalidInput

_HEAP = ("-Xms128m", "-Xmx512m", "-XX:+UseSerialGC")

# Topics are created by name only, so a mistyped one is an error. Thread counts, buffers and internal topics are those
# of one small broker; its short session is what a restart after a crash waits for. Paths are relative, for Java's
# properties files know no UTF-8. The voter is static, so that the ports may change from one start to the next.
_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller_port}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=PLAINTEXT://{host}:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs=data
auto.create.topics.enable=false
message.max.bytes=4194304
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
num.network.threads=2
num.io.threads=4
background.threads=2
num.replica.fetchers=1
log.cleaner.threads=1
log.cleaner.dedupe.buffer.size=16777216
log.retention.check.interval.ms=2000
log.segment.delete.delay.ms=1000
auto.leader.rebalance.enable=false
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
"""

_LOGGING = """\
rootLogger.level=warn
rootLogger.appenderRef.out.ref=out
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=[%d] %p %m (%c)%n
"""


class KafkaServer(Server, frozen=True):
    """A running embedded broker."""

    controller_port: int

    @property
    def bootstrap_servers(self) -> str:
        """What a client connects to."""
        return f"{LOOPBACK}:{self.port}"


def start_kafka(
    folder: Path,
    wanted_ports: tuple[int, ...] = (),
    patience_s: float = processes.START_PATIENCE_S,
    note: Callable[[Process], None] = lambda process: None,
) -> KafkaServer:
    """Starts a broker on the folder, new or from an earlier start, and returns once it serves.

    `wanted_ports` are the client's and the controller's; others are taken where these are not free. `note` writes its
    process down before it runs.
    Raises InvalidInput, with the tail of the broker's log, if it does not come up.
    """
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    return processes.on_free_ports(
        "Kafka", 2, wanted_ports, lambda port, controller: _start_on(folder, port, controller, patience_s, note)
    )


def _start_on(
    folder: Path, port: int, controller_port: int, patience_s: float, note: Callable[[Process], None]
) -> KafkaServer:
    text = _PROPERTIES.format(host=LOOPBACK, port=port, controller_port=controller_port)
    (folder / "server.properties").write_text(text, encoding="ascii")
    (folder / "log4j2.properties").write_text(_LOGGING, encoding="ascii")
    java = _java()
    if not (folder / "data" / "meta.properties").exists():
        _format(java, folder)
    log = folder / "server.log"
    process = processes.start([*java, *_HEAP, "kafka.Kafka", "server.properties"], folder, log, note)
    processes.await_ready("Kafka", process, lambda: _serves(port), log, patience_s)
    return KafkaServer(process, port, controller_port)


def _java() -> list[str]:
    """Java with Kafka's classes, and its first compiler alone: for millions of records the second costs more than it
    saves.
    """
    logging = "-Dlog4j2.configurationFile=log4j2.properties"
    return [str(toolchain.java()), "-XX:TieredStopAtLevel=1", logging, "-cp", toolchain.kafka_classpath()]


def _format(java: list[str], folder: Path) -> None:
    """Makes the broker's data folder. An incomplete one has no data: its meta.properties come first."""
    cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode("ascii").rstrip("=")
    # Such an id may begin with a dash, so it is written after an equals sign.
    words = ["kafka.tools.StorageTool", "format", f"--cluster-id={cluster_id}", "--config", "server.properties"]
    done = subprocess.run(
        [*processes.CLEAN_ENVIRONMENT, *java, *words],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if done.returncode:
        said = " ".join((done.stdout + done.stderr).decode("utf-8", "replace").split())[-600:]
        raise InvalidInput(f"can't prepare {folder} for the embedded Kafka: {said}")


def _serves(port: int) -> bool:
    """Whether the broker answers and lists itself."""
    if not processes.accepts(port):
        return False
    client = AdminClient({"bootstrap.servers": f"{LOOPBACK}:{port}", "socket.timeout.ms": 2_000, "log_level": 0})
    try:
        return len(client.list_topics(timeout=2.0).brokers) > 0
    except KafkaException:
        return False
