"""Kafka in a container, for the tests that use the `kafka` fixture: TALLYROOT_TEST_KAFKA=testcontainers."""

from collections.abc import Iterator
from contextlib import contextmanager

import docker
from docker.errors import DockerException
from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import LogMessageWaitStrategy

from deploy.stack.processes import LOOPBACK, free_ports

IMAGE = "apache/kafka:4.1.1"


class ApacheKafkaContainer(DockerContainer):  # type: ignore[misc]
    """The project's own image; testcontainers' KafkaContainer knows only Confluent's.

    Its port is the same inside and outside: the broker also reaches itself (for transactions) as clients do.
    """

    def __init__(self, port: int) -> None:
        settings = {
            "NODE_ID": "1",
            "PROCESS_ROLES": "broker,controller",
            "CONTROLLER_QUORUM_VOTERS": "1@localhost:19093",
            "CONTROLLER_LISTENER_NAMES": "CONTROLLER",
            "LISTENERS": f"PLAINTEXT://:{port},CONTROLLER://:19093",
            "ADVERTISED_LISTENERS": f"PLAINTEXT://{LOOPBACK}:{port}",
            "LISTENER_SECURITY_PROTOCOL_MAP": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "AUTO_CREATE_TOPICS_ENABLE": "false",
            "MESSAGE_MAX_BYTES": "4194304",
            "OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
            "TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
            "TRANSACTION_STATE_LOG_MIN_ISR": "1",
            "GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
            "GROUP_MIN_SESSION_TIMEOUT_MS": "1000",
            "LOG_RETENTION_CHECK_INTERVAL_MS": "2000",
        }
        super().__init__(IMAGE)
        for name, value in settings.items():
            self.with_env(f"KAFKA_{name}", value)
        self.ports[f"{port}/tcp"] = (LOOPBACK, port)
        self.waiting_for(LogMessageWaitStrategy("Kafka Server started"))


def engine_fault() -> str | None:
    """Why no container can be run here, or None if an engine answers."""
    try:
        client = docker.from_env(timeout=5)
        client.ping()
        client.close()
    except DockerException as error:
        return f"no container engine answers ({error}): set DOCKER_HOST, or start one"
    return None


@contextmanager
def kafka_container() -> Iterator[str]:
    """Bootstrap servers of a broker in a container that ends with the block."""
    (port,) = free_ports(1)
    with ApacheKafkaContainer(port):
        yield f"{LOOPBACK}:{port}"
