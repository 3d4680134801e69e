"""One worker in this process: what `tallyroot stream` runs."""

from collections.abc import Callable

from deploy.data_folder import DataFolder
from deploy.explain.query import open_views
from deploy.texts import day_text
from streams.kafka.consumer import RECORDS_MAX
from streams.storage.shared_epochs import share_log
from streams.worker.app import WorkerProgress, WorkerSettings, run_worker


def run_one_worker(
    data: DataFolder,
    step: Callable[[str], None],
    *,
    until_caught_up: bool,
    commit_records: int | None = None,
    metrics_port: int | None = None,
    log_json: bool = False,
) -> int:
    """Runs until it is stopped, or to the log's present end; its exit code. What is None here the settings say."""
    log, servers, settings = data.log(), data.kafka_servers(), data.settings
    log_json = log_json or settings.log == "json"
    store = data.store()
    if store is not None:
        store.check()
        share_log(store, log)

    def progress(done: WorkerProgress) -> None:
        ended = "" if done.cut is None else f", epoch of {day_text(log.epoch_span(done.cut)[0])} ended"
        step(
            f"  partition {done.partition}: {done.records:,} records up to offset {done.next_offset:,},"
            f" {done.sealed:,} windows sealed, {done.rejected:,} rejected{ended}"
        )

    open_views(data).close()  # from its first second on, analysts find them
    return run_worker(
        WorkerSettings(
            bootstrap_servers=servers,
            data_dir=data.data_dir,
            log=log,
            until_caught_up=until_caught_up,
            records_max=commit_records or RECORDS_MAX,
            on_progress=None if log_json else progress,
            metrics_host=settings.metrics_host,
            metrics_port=settings.metrics_port if metrics_port is None else metrics_port,
            on_listening=None if log_json else lambda url: step(f"  {url}/health and {url}/metrics"),
            log_json=log_json,
            store=store,
        )
    )
