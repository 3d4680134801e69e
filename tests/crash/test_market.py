"""The shortest market: processes are killed and the chain is taken back; then all sheets add up."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.stack.servers import start_evm
from tests.conftest import ends_with_us
from tests.crash.market import Market, prove
from tests.support.market_plan import Wanted

pytestmark = [pytest.mark.crash, pytest.mark.kafka, pytest.mark.chain, pytest.mark.slow]

SHORT = Wanted(
    machines=4, suppliers=1, payers=4, seed=3, seconds=3.0, kills=3, reorgs=1, block_s=0.1, epoch_ms=2_000,
    begin_s=1.0, workers=1, follows=False,
)  # fmt: skip


@pytest.fixture
def rpc_url(tmp_path: Path) -> Iterator[str]:
    """A node of the test's own: its blocks are undone."""
    server = start_evm(tmp_path / "evm")
    with ends_with_us(server.pid):
        yield server.rpc_url
        server.stop()


def test_no_micro_is_lost_where_processes_die_and_the_chain_is_taken_back(
    kafka: str, rpc_url: str, tmp_path: Path
) -> None:
    market = Market(tmp_path, kafka, rpc_url, SHORT, forked=True)
    sheet, faults = prove(market, slowly=False)
    assert faults == []
    assert sheet.customers > 0 and sheet.collected > 0 and sheet.claimed == sheet.total > 0
