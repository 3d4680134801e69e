"""The pages of metrics of processes that have just begun: all names are on them."""

from pathlib import Path

from deploy.config import load_settings
from deploy.data_folder import DataFolder
from deploy.money.chain_metrics import OF_NODES, OF_SETTLE, OF_WATCH, SettleMetrics, WatchMetrics
from settlement.chain.rpc import RpcCounts
from streams.worker.health import Health
from streams.worker.metrics import OF_A_WORKER, WorkerMetrics
from streams.worker.metrics_page import OF_A_FOLDER, OF_EVERY_PAGE, Described

Pages = dict[str, tuple[str, Described]]
"""By kind of process: its page, and what it is said to show."""


def pages_of(folder: Path) -> Pages:
    """Those of a worker, of `settle --follow` and of `watch`, on a data folder."""
    data = DataFolder(folder, load_settings())
    worker = WorkerMetrics(folder, lambda: Health(reason=None), dict, {}, tuple)
    settle, watch = SettleMetrics(data, RpcCounts()), WatchMetrics(data, RpcCounts())
    told: tuple[tuple[WorkerMetrics | SettleMetrics | WatchMetrics, Described], ...] = (
        (worker, OF_A_FOLDER | OF_A_WORKER),
        (settle, OF_A_FOLDER | OF_SETTLE | OF_NODES),
        (watch, OF_WATCH | OF_NODES),
    )
    return {type(page).__name__: (page.page().decode(), {**OF_EVERY_PAGE, **of}) for page, of in told}
