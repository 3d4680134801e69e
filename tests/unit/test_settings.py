"""Settings: the environment before the file, one line on a mistake, never a secret in it."""

from pathlib import Path

import pytest

from deploy.config import ENVIRONMENT, load_settings
from schemas.errors import InvalidInput

KEY = "11" * 32


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty working folder and none of our variables."""
    monkeypatch.chdir(tmp_path)
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)


def test_defaults_are_the_embedded_servers() -> None:
    settings = load_settings()
    assert settings.data_dir == Path("tallyroot-data")
    assert settings.kafka_bootstrap_servers is None
    assert settings.chain_rpc_url is None


def test_environment_goes_before_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("tallyroot.toml").write_text('data_dir = "of the file"\ntopic = "of-the-file"\n')
    monkeypatch.setenv("TALLYROOT_DATA_DIR", "of the environment")
    settings = load_settings()
    assert settings.data_dir == Path("of the environment")
    assert settings.topic == "of-the-file"


def test_an_empty_variable_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "")
    assert load_settings().kafka_bootstrap_servers is None


def test_a_key_is_taken_with_or_without_prefix_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALLYROOT_POSTER_KEY", KEY)
    settings = load_settings()
    assert settings.poster.key == KEY
    assert KEY not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CHAIN_RPC_URL", "ftp://secret"),
        ("TALLYROOT_POSTER_KEY", "secret"),
        ("TALLYROOT_TOPIC", "no secret"),
    ],
)
def test_a_wrong_value_is_named_but_not_shown(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidInput, match=name) as caught:
        load_settings()
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["not toml", "unknown = 1", "[data_dir]", "\x00"])
def test_a_file_that_says_nonsense_is_refused_in_one_line(text: str) -> None:
    Path("tallyroot.toml").write_text(text)
    with pytest.raises(InvalidInput, match=r"tallyroot\.toml") as caught:
        load_settings()
    assert "\n" not in str(caught.value)
