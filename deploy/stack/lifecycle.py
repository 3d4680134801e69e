"""Starts and stops what runs for a data folder, and says how it is: servers, supervised workers, the epochs so far."""

import socket
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from deploy.data_folder import DataFolder
from deploy.explain.query import open_views, query
from deploy.stack.outside import ask
from deploy.stack.servers import Stack
from deploy.stack.supervise import Supervised, start_workers, stop_workers
from schemas.errors import InvalidInput
from schemas.log import Log


class WorkerStatus(Struct, frozen=True, kw_only=True):
    """One supervised worker; `state` is what its /health says, "" where it was not asked."""

    worker: int
    pid: int | None
    starts: int
    last_exit: str
    address: str
    log: Path
    state: str = ""


class PartitionStatus(Struct, frozen=True, kw_only=True):
    """One partition with final epochs: how many, the next offset, the end of the last one (UTC), sums of entries."""

    partition: int
    epochs: int
    next_offset: int
    end: datetime
    entries: int
    rejected: int


class Running(Struct, frozen=True):
    """Where Kafka and the EVM node answer, and the workers that were started."""

    kafka: str
    chain: str
    workers: list[WorkerStatus]


class Stopped(Struct, frozen=True):
    """Whether the folder had servers, and how many workers were stopped."""

    stopped: bool
    workers: int


class Status(Struct, frozen=True, kw_only=True):
    """`servers` are name to address of those that run; `faults` says what should run and doesn't."""

    faults: list[str]
    servers: dict[str, str]
    workers: list[WorkerStatus]
    log: Log
    partitions: list[PartitionStatus]


def start(data: DataFolder, step: Callable[[str], None], workers: int | None, metrics_port: int | None) -> Running:
    """Starts the servers that are not set and do not run yet, and `workers` workers in place of those that run.

    Without a number, workers that were given up, or whose supervisor has ended, are started again. The workers serve
    /health and /metrics on `metrics_port` and the ports after it; without one on free ports.
    Raises InvalidInput where something does not start, a port is taken, or workers are asked for and there is no log.
    """
    port = (data.settings.metrics_port if metrics_port is None else metrics_port) or 0
    before, stack_before = Supervised.load(data.data_dir), Stack.load(data.data_dir)
    if workers is None and before is not None and needs_revival(before):
        workers = len(before.workers)
    if workers is not None:
        data.log()  # before anything starts: workers without a log would end at once
        _check_ports(data, port, workers, before)
    for name, setting in (
        ("Kafka", data.settings.kafka_bootstrap_servers),
        ("the EVM node", data.settings.chain_rpc_url),
    ):
        step(f"starting {name}" if setting is None else f"{name} is yours, at {setting}: nothing to start")
    stack = data.start_stack()
    shown: list[WorkerStatus] = []
    if workers is not None:
        step(f"starting workers: {workers}")
        open_views(data).close()  # workers spend their first seconds on imports
        try:
            supervised = start_workers(data.data_dir, workers, port, data.settings.start_patience)
        except BaseException:
            stack.stop_those_not_in(stack_before)
            raise
        shown = _workers(data, supervised, ask=False)
    return Running(stack.kafka_bootstrap_servers, stack.chain_rpc_url, shown)


def needs_revival(supervised: Supervised) -> bool:
    """Whether workers that should run do not, and nobody starts them again."""
    return not supervised.supervisor.alive() or any(worker.given_up for worker in supervised.workers)


def _check_ports(data: DataFolder, first: int, count: int, before: Supervised | None) -> None:
    """Raises InvalidInput for a metrics port that another program has; our own workers' ports will be free."""
    ours = set() if before is None else {worker.port for worker in before.workers}
    for port in range(first, first + count) if first else ():
        if port in ours:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((data.settings.metrics_host, port))
            except OSError as error:
                raise InvalidInput(
                    f"port {port} for a worker's metrics can't be used ({error.strerror}): choose another"
                ) from None


def stop(data: DataFolder) -> Stopped:
    """Stops the supervised workers, then the servers that are ours; their data stays."""
    workers = stop_workers(data.data_dir)
    stack = Stack.load(data.data_dir)
    if stack is not None:
        stack.stop()
    return Stopped(stack is not None, workers)


def status(data: DataFolder) -> Status:
    """What runs, what each worker's /health says, and how far each partition's epochs are."""
    supervised = Supervised.load(data.data_dir)
    servers, faults = {}, []
    for name, address in (("kafka", data.kafka_servers), ("chain", data.chain_rpc_url)):
        try:
            servers[name] = str(address())
        except InvalidInput as error:
            faults.append(str(error))
    workers = [] if supervised is None else _workers(data, supervised, ask=True)
    faults += [f"worker {worker.worker}: {worker.state}" for worker in workers if worker.state != "ok"]
    if supervised is not None and not supervised.supervisor.alive():
        faults.append("the supervisor of the workers has ended: run `tallyroot up` again")
    return Status(
        faults=faults,
        servers=servers,
        workers=workers,
        log=data.log(),
        partitions=msgspec.convert(
            query(
                data,
                'SELECT "partition", count(*) AS epochs, max(next_offset) AS next_offset, max("end") AS "end",'
                " sum(entries) AS entries, sum(rejected) AS rejected FROM epochs GROUP BY 1 ORDER BY 1",
            ).records(),
            list[PartitionStatus],
        ),
    )


def _workers(data: DataFolder, supervised: Supervised, *, ask: bool) -> list[WorkerStatus]:
    host = data.settings.metrics_host
    rows = []
    for worker in supervised.workers:
        process = worker.process if worker.process is not None and worker.process.alive() else None
        waits = f"given up: {worker.last_exit}" if worker.given_up else f"waits for its next start: {worker.last_exit}"
        rows.append(
            WorkerStatus(
                worker=worker.number,
                pid=None if process is None else process.pid,
                starts=worker.starts,
                last_exit=worker.last_exit,
                address=f"http://{host}:{worker.port}",
                log=data.data_dir / "logs" / f"worker-{worker.number}.log",
                state="" if not ask else _health(host, worker.port) if process is not None else waits,
            )
        )
    return rows


def _health(host: str, port: int) -> str:
    """What a worker's /health says: "ok", or what is wrong."""
    answer = ask(host, port)
    return "starting: it doesn't answer yet" if answer is None else answer.reason or "ok"
