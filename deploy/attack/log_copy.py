"""A broker of the run's own, with the first records of a real log, and a real worker that reads them."""

import http.client
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from confluent_kafka import Consumer, Producer

import deploy
from deploy.data_folder import LOG_FILE
from deploy.stack.outside import ask
from deploy.stack.processes import LOOPBACK, free_ports, wait_until
from deploy.stack.servers import KafkaServer, start_kafka
from schemas.log import Log
from streams.core.records import LogRecord
from streams.kafka.security import client_config
from streams.kafka.topics import create_topic
from streams.worker.app import group_of

PATIENCE_S = 90.0
"""How long a worker may take for what a cheat waits for."""


class LogCopy:
    """A copy of a log's first records by partition. `folder` is the worker's data folder."""

    def __init__(self, scratch: Path, log: Log, records: Mapping[int, Sequence[LogRecord]]) -> None:
        self.folder, self.log, self._records = scratch / "worker", log, records
        self.last_ms = max((record.timestamp for each in records.values() for record in each), default=0)
        self._disk, self._said = scratch / "kafka", scratch / "worker.txt"
        self._worker: subprocess.Popen[bytes] | None = None
        self._is_stopping = False
        self._port = 0
        self.folder.mkdir(mode=0o700)
        (self.folder / LOG_FILE).write_bytes(msgspec.json.encode(log))
        (self.folder / LOG_FILE).chmod(0o600)
        self.kafka: KafkaServer = start_kafka(self._disk)
        create_topic(self.kafka.bootstrap_servers, log)

    def stop(self) -> None:
        """Ends the worker and the broker, and what waits for them."""
        self._is_stopping = True
        self.stop_worker()
        self.kafka.stop()

    def send(self, *, second_half: bool, tail: bytes = b"") -> None:
        """Sends one half of each partition's records, `tail` after each value."""
        producer = self.producer()
        for partition, records in self._records.items():
            half = len(records) // 2
            for record in records[half:] if second_half else records[:half]:
                value = None if record.value is None else record.value + tail
                headers: Any = list(record.headers)
                producer.produce(
                    self.log.topic, value, record.key, partition, timestamp=record.timestamp, headers=headers
                )
        producer.flush(PATIENCE_S)

    def producer(self, **settings: Any) -> Producer:
        """A producer to this broker."""
        return Producer(client_config(self.kafka.bootstrap_servers) | settings)

    def stranger(self) -> Consumer:
        """A consumer in the workers' group."""
        settings = {
            "group.id": group_of(self.log),
            "partition.assignment.strategy": "range",
            "enable.auto.commit": False,
        }
        return Consumer(client_config(self.kafka.bootstrap_servers) | settings)

    def run_worker(self, *words: str) -> "subprocess.Popen[bytes]":
        """Starts `tallyroot stream` with its health at `_port`."""
        (self._port,) = free_ports(1)
        command = ["stream", "--metrics-port", str(self._port), "--data-dir", str(self.folder), *words]
        with self._said.open("wb") as output:
            self._worker = subprocess.Popen(
                self.command("-m", "deploy", *command), cwd=self.folder, stdout=output, stderr=output
            )
        return self._worker

    def command(self, *words: str, **environment: str) -> list[str]:
        """Python with this broker and none of the caller's settings, in a folder without `tallyroot.toml`."""
        root = Path(deploy.__file__).parents[1]
        names = {"HOME": self.folder, "PATH": "/usr/bin:/bin", "PYTHONPATH": root, "LC_ALL": "C.UTF-8"} | environment
        names |= {"KAFKA_BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers}
        return ["/usr/bin/env", "-i", *(f"{name}={value}" for name, value in names.items()), sys.executable, *words]

    def stop_worker(self) -> None:
        """Ends the worker."""
        if self._worker is not None:
            self._worker.terminate()
            self._worker.wait(PATIENCE_S)

    def catch_up(self) -> str:
        """Reads to the log's end; the worker's last line."""
        try:
            self.run_worker("--until-caught-up").wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.stop_worker()
        return (self._said.read_text().strip().splitlines() or [""])[-1]

    def is_well(self) -> bool:
        """Whether the worker reads all partitions and finds nothing wrong."""
        answer = ask(LOOPBACK, self._port)
        return answer is not None and answer.reason is None and len(answer.partitions) == self.log.partitions

    def fault(self) -> str:
        """What the worker says is wrong."""
        answer = ask(LOOPBACK, self._port)
        return "" if answer is None or answer.reason is None else answer.reason

    def hidden(self) -> int:
        """How many records the worker says lie behind an open transaction."""
        connection = http.client.HTTPConnection(LOOPBACK, self._port, timeout=5)
        try:
            connection.request("GET", "/metrics")
            page = connection.getresponse().read().decode()
        except OSError:
            return 0
        finally:
            connection.close()
        return int(sum(map(float, re.findall(r"^tallyroot_partition_hidden_records\{.*\} (\S+)$", page, re.MULTILINE))))

    def waited(self, condition: Callable[[], bool]) -> bool:
        """Whether it became true while a cheat may wait."""
        return wait_until(lambda: self._is_stopping or condition(), PATIENCE_S) and not self._is_stopping

    @contextmanager
    def disk_put_back(self) -> Iterator[None]:
        """At the end the broker's disk is what it was at the beginning."""
        copy = self._disk.with_name("copy")
        self.kafka.stop()
        shutil.copytree(self._disk, copy)
        self._start_again()
        yield
        self.kafka.stop()
        shutil.rmtree(self._disk)
        copy.rename(self._disk)
        self._start_again()

    def _start_again(self) -> None:
        self.kafka = start_kafka(self._disk, (self.kafka.port, self.kafka.controller_port))


@contextmanager
def log_copy(scratch: Path, log: Log, records: Mapping[int, Sequence[LogRecord]]) -> Iterator[LogCopy]:
    """A copy whose broker and worker are ended after use."""
    scratch.mkdir(mode=0o700)
    copy = LogCopy(scratch, log, records)
    try:
        yield copy
    finally:
        copy.stop()
