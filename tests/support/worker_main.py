"""A worker in a process of its own: `python -m tests.support.worker_main '{"bootstrap_servers": ...}'`.

It prints a line for each commit. `on_progress` names what it does besides: nothing, `dawdle`, `raise` or `hang`.
"""

import sys
import time
from pathlib import Path

import msgspec

from schemas.errors import InvalidInput
from schemas.log import Log
from streams.kafka.security import PLAINTEXT, KafkaAddress, Security
from streams.storage.object_store import ObjectStore
from streams.worker.app import WorkerProgress, WorkerSettings, run_worker
from tests.support.forked import send_output_to


class Order(msgspec.Struct, kw_only=True):
    """What the parent wants."""

    bootstrap_servers: str
    security: Security = PLAINTEXT
    data_dir: str
    log: Log
    until_caught_up: bool = False
    stall_seconds: float = 60.0
    records_max: int = 20_000
    heartbeat_seconds: float = 60.0
    topic_check_seconds: float = 120.0
    session_seconds: float = 6.0
    on_progress: str = ""
    store: str = ""
    metrics_port: int | None = None


def main_of_forked(document: str, out: str, err: str) -> None:
    """The same in a process that was forked, with its output in two files."""
    send_output_to(Path(out), Path(err))
    sys.exit(main(document))


def main(document: str) -> int:
    """Does what the order says until it is done or ended; the exit code."""
    order = msgspec.json.decode(document, type=Order, dec_hook=lambda kind, value: kind(value))

    def report(progress: WorkerProgress) -> None:
        print(msgspec.json.encode(progress).decode(), flush=True)
        if order.on_progress == "dawdle":
            time.sleep(0.1)
        if order.on_progress == "raise":
            raise RuntimeError("the callback failed")
        if order.on_progress == "hang":
            time.sleep(1_000)

    settings = WorkerSettings(
        bootstrap_servers=KafkaAddress(order.bootstrap_servers, order.security),
        data_dir=Path(order.data_dir),
        log=order.log,
        until_caught_up=order.until_caught_up,
        metrics_port=order.metrics_port,
        on_progress=report,
        stall_seconds=order.stall_seconds,
        records_max=order.records_max,
        heartbeat_seconds=order.heartbeat_seconds,
        topic_check_seconds=order.topic_check_seconds,
        session_seconds=order.session_seconds,
        store=ObjectStore(order.store) if order.store else None,
    )
    try:
        return run_worker(settings)
    except InvalidInput as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
