"""Prometheus' own checks of the rules, the board's queries and the pages: its `promtool`, where it is installed."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from deploy.monitoring import board
from tests.support.metric_pages import pages_of

pytestmark = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed: Debian's package prometheus has it"
)


def promtool(*words: str, said: str = "") -> None:
    done = subprocess.run(
        ["promtool", *words], cwd=board.FOLDER, input=said, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_are_sound_and_fire_when_they_should() -> None:
    promtool("check", "rules", "alerts.yaml")
    promtool("test", "rules", "alerts_test.yaml")


def test_every_query_of_the_board_parses(tmp_path: Path) -> None:
    queries = [query["expr"] for panel in board.board()["panels"] for query in panel.get("targets", ())]
    rules = [
        {"record": f"panel:{number}", "expr": re.sub(r"\$__rate_interval", "5m", query)}
        for number, query in enumerate(queries)
    ]
    path = tmp_path / "board.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "board", "rules": rules}]}))
    promtool("check", "rules", str(path))


def test_metrics_are_named_as_prometheus_asks(tmp_path: Path) -> None:
    for page, _ in pages_of(tmp_path).values():
        promtool("check", "metrics", said=page)
