"""What an operator's Prometheus and Grafana load: every name in it is on a page of the code, and leads somewhere."""

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.monitoring import board
from tests.support.metric_pages import Pages, pages_of

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "monitoring"
RULES = [rule for group in yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"] for rule in group["rules"]]
PANELS: list[dict[str, Any]] = board.board()["panels"]
QUERIES = [query["expr"] for panel in PANELS for query in panel.get("targets", ())]
PARTS = {"counter": ("",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Pages:
    """The page of each kind of process, and what it is said to show."""
    return pages_of(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def names(pages: Pages) -> set[str]:
    """Every series' name on the pages, with those of histograms."""
    kinds = [kind for page, _ in pages.values() for kind in re.findall(r"(?m)^# TYPE (\S+) (\S+)$", page)]
    return {name + part for name, kind in kinds for part in PARTS[kind]} | {"up", "ALERTS"}


def test_every_page_has_what_the_table_says(pages: Pages) -> None:
    """With its meaning and its kind, which the name tells."""
    for page, described in pages.values():
        found = re.findall(r"(?m)^# HELP tallyroot_(\S+) (.*)\n# TYPE \S+ (\S+)$", page)
        assert {name: meaning for name, meaning, _ in found} == {name: said[0] for name, said in described.items()}
        for name, _, kind in found:
            told = "counter" if name.endswith("_total") else "histogram" if "_duration_seconds" in name else "gauge"
            assert kind == told, name


def test_the_board_and_the_table_are_written_by_the_code_of_now() -> None:
    assert board.BOARD.read_text() == board.board_text(), "run `python -m deploy.monitoring.board`"
    assert board.HOW_TO.read_text() == board.how_to(), "run `python -m deploy.monitoring.board`"


def test_every_metric_in_an_alert_or_on_the_board_is_on_a_page(names: set[str]) -> None:
    for query in [*QUERIES, *(rule["expr"] for rule in RULES)]:
        used = set(re.findall(r"\b(?:tallyroot|process)_\w+", query)) or set(re.findall(r"\b(?:up|ALERTS)\b", query))
        assert used, query
        assert used <= names, f"{used - names} in {query}"


def test_every_label_in_an_alert_or_on_the_board_is_on_a_page_or_a_target() -> None:
    targets = {"log", "job", "instance", "le", "alertname", "alertstate"}
    known = targets | {label for of in board.METRICS.values() for _, *labels in of.values() for label in labels}
    for query in [*QUERIES, *(rule["expr"] for rule in RULES)]:
        listed = re.findall(r"\b(?:by|on|group_left|group_right) ?\(([^)]*)\)", query)
        matched = re.findall(r"(\w+)\s*(?:=~|!=|!~|=)\s*\"", query)
        used = {label.strip() for labels in listed for label in labels.split(",") if label.strip().isidentifier()}
        assert used | set(matched) <= known, query


def test_every_alert_says_what_to_do_and_leads_into_the_runbook() -> None:
    headings = set(re.findall(r"(?m)^### (\w+)$", (ROOT / "docs" / "runbook.md").read_text()))
    assert {rule["alert"] for rule in RULES} == {name for name in headings if name.startswith("Tallyroot")}
    for rule in RULES:
        name, notes = rule["alert"], rule["annotations"]
        assert rule["labels"]["severity"] in ("critical", "warning"), name
        assert re.search(r"[:,] .", notes["summary"]), f"{name} says what is wrong, and what to do"
        assert notes["runbook_url"] == f"docs/runbook.md#{name.lower()}"


def test_panels_have_numbers_and_places_of_their_own() -> None:
    numbers = [panel["id"] for panel in PANELS]
    assert len(set(numbers)) == len(numbers)
    places = [panel["gridPos"] for panel in PANELS]
    for place, after in pairwise(places):
        beside = after["y"] == place["y"] and after["x"] == place["x"] + place["w"]
        below = after["y"] == place["y"] + place["h"] and after["x"] == 0
        assert beside or below, after
        assert after["x"] + after["w"] <= board.WIDTH
