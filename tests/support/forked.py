"""Processes that are forked from one that has imported what they need: a worker needs over a second for that alone."""

import multiprocessing

FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(["tests.support.worker_main", "tests.support.partition_runs", "tests.support.store_runs"])
