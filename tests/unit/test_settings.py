"""Settings: the environment before the file, one line on a mistake, never a secret in it."""

from pathlib import Path

import pytest

from deploy.config import ENVIRONMENT, load_settings, origins
from deploy.data_folder import DataFolder
from schemas.errors import InvalidInput
from streams.kafka.security import client_config

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


SECURED = """
[kafka]
security.protocol = "SASL_SSL"
sasl.mechanism = "SCRAM-SHA-512"
"sasl.username" = "worker"
sasl.password.file = "password"
ssl.ca.location = "ca.pem"
"""


def test_kafka_s_properties_have_kafka_s_names(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("tallyroot.toml").write_text(SECURED)
    Path("password").write_text("the secret\n")
    Path("ca.pem").write_text("")
    kafka = load_settings().kafka
    assert kafka.librdkafka() == {
        "security.protocol": "SASL_SSL", "sasl.mechanism": "SCRAM-SHA-512", "sasl.username": "worker",
        "sasl.password": "the secret", "ssl.ca.location": "ca.pem",
    }  # fmt: skip
    monkeypatch.setenv("KAFKA_SASL_USERNAME", "another")
    monkeypatch.setenv("KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT")
    with pytest.raises(InvalidInput, match=r"ssl\.ca\.location is of no use with security\.protocol SASL_PLAINTEXT"):
        load_settings()
    Path("tallyroot.toml").write_text(SECURED.replace("ssl.ca", "# ssl.ca"))
    assert load_settings().kafka.aiokafka() == {
        "security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "another", "sasl_plain_password": "the secret",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"SECURITY_PROTOCOL": "TLS"}, "KAFKA_SECURITY_PROTOCOL"),
        ({"SECURITY_PROTOCOL": "SASL_SSL"}, "sasl.mechanism is missing"),
        ({"SECURITY_PROTOCOL": "SASL_SSL", "SASL_MECHANISM": "PLAIN"}, "sasl.username is missing"),
        (
            {"SECURITY_PROTOCOL": "SASL_SSL", "SASL_MECHANISM": "PLAIN", "SASL_USERNAME": "a"},
            "sasl.password is missing",
        ),
        ({"SECURITY_PROTOCOL": "SASL_SSL", "SASL_MECHANISM": "OAUTHBEARER"}, "endpoint.url is missing"),
        ({"SASL_USERNAME": "a"}, "sasl.username is of no use with security.protocol PLAINTEXT"),
        ({"SECURITY_PROTOCOL": "SSL", "SASL_PASSWORD": "secret"}, "sasl.password is of no use"),
        (
            {"SASL_PASSWORD": "secret", "SASL_PASSWORD_FILE": "secret"},
            "set one of sasl.password and sasl.password.file",
        ),
    ],
)
def test_what_is_wrong_with_kafka_s_properties_is_named(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], said: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"KAFKA_{name}", value)
    with pytest.raises(InvalidInput) as caught:
        load_settings()
    assert said in str(caught.value) and "secret" not in str(caught.value)


def test_an_address_shows_its_brokers_and_no_password(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in {
        "BOOTSTRAP_SERVERS": "broker-1:9093", "SECURITY_PROTOCOL": "SASL_SSL", "SASL_MECHANISM": "PLAIN",
        "SASL_USERNAME": "worker", "SASL_PASSWORD": "the secret",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"KAFKA_{name}", value)
    servers = DataFolder(tmp_path, load_settings()).kafka_servers()
    assert servers == "broker-1:9093" and client_config(servers)["sasl.password"] == "the secret"
    shown = [str(servers), repr(servers), repr(servers.security), repr(load_settings()), repr(origins(None))]
    assert "the secret" not in " ".join(shown)
