"""Processes that are forked from one that has imported what they need: a worker needs over a second for that alone."""

import multiprocessing
import os
from pathlib import Path

FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(
    [
        "tests.support.worker_main",
        "tests.support.partition_runs",
        "tests.support.store_runs",
        "deploy.cli.app",
        "settlement.service",
        "streams.storage.analytics",
    ]
)


def send_output_to(out: Path, err: Path) -> None:
    """From here on this process and its children write into two files."""
    for number, path in ((1, out), (2, err)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(file, number)
        os.close(file)
