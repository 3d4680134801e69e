"""What the pages about own servers and the wire format list is what the code has."""

import re
from pathlib import Path

import pytest

from deploy.config import ENVIRONMENT, load_settings
from schemas.log import Log
from schemas.reject import REASONS
from streams.kafka.topics import outbox_topic_config, topic_config

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "how-to" / "own-kafka-and-chain.md").read_text("utf-8")
CONTROL_ONLY = {
    "wrong_partition", "stale_version", "agreement_locked", "no_fee", "unknown_order", "order_closed", "over_price",
    "order_received", "payment_reused",
}  # fmt: skip


def test_the_settings_shown_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = re.findall(r"(?ms)^```toml\n(.*?)^```", PAGE)
    (tmp_path / "tallyroot.toml").write_text(block)
    monkeypatch.chdir(tmp_path)
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    settings = load_settings()
    assert settings.kafka_bootstrap_servers == "kafka-1:9092,kafka-2:9092"
    assert settings.auditor.signer == "https://signer.example"
    assert set(re.findall(r"# ([A-Z_]+)", block)) <= set(ENVIRONMENT)


def test_the_topics_settings_are_the_ones_that_are_checked() -> None:
    for topic, wanted in (
        ("telemetry", topic_config(Log(log_id="x"))),
        ("telemetry.rejected", outbox_topic_config()),
        ("machine.orders", outbox_topic_config()),
    ):
        (row,) = re.findall(rf"\| `{re.escape(topic)}` \| (.*) \|", PAGE)
        assert dict(text.split("=") for text in re.findall(r"`([^`]+)`", row)) == wanted


def test_every_reason_that_a_reading_can_have_is_explained() -> None:
    page = (DOCS / "wire-format.md").read_text("utf-8")
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`([a-z_]+)`", row)}
    assert set(REASONS) - CONTROL_ONLY <= named
