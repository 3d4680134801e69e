"""The file that starts a gateway: what is wrong with one is a line that names it."""

from pathlib import Path

import pytest

from tallyroot_gateway import InvalidInput
from tallyroot_gateway.field.config import GatewayConfig, private_key, read_config

WHOLE = '[log]\nbootstrap_servers = "localhost:9092"\nlog_id = "log-1"\n'


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "gateway.toml"
    path.write_text(text)
    return path


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    config = read_config(written(tmp_path, WHOLE + 'private_key_file = "key"\n'), GatewayConfig)
    assert (config.log.spool, config.log.private_key_file) == (str(tmp_path / "spool"), str(tmp_path / "key"))
    assert config.serve.rejects == str(tmp_path / "rejects.jsonl")


def test_a_data_folder_fills_in_where_the_log_is(tmp_path: Path) -> None:
    known = {"bootstrap_servers": "here:1", "log_id": "log-7", "partitions": 8}
    config = read_config(written(tmp_path, '[log]\nlog_id = "log-1"\n'), GatewayConfig, known)
    assert (config.log.bootstrap_servers, config.log.log_id, config.log.partitions) == ("here:1", "log-1", 8)


@pytest.mark.parametrize(
    "text, words",
    [
        ("", r"\[log\] lacks bootstrap_servers and log_id: say them there, or run `tallyroot gateway`"),
        (WHOLE + 'topc = "t"\n', r"unknown field `topc` - at `\$.log`"),
        (WHOLE.replace("log-1", "log 1"), r"matching regex"),
        (WHOLE + "partitions = 0\n", r"Expected `int` >= 1"),
        ("[log", "gateway.toml"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as raised:
        read_config(written(tmp_path, text), GatewayConfig)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"can't read .*No such file"):
        read_config(tmp_path / "gateway.toml", GatewayConfig)


def test_a_key_is_its_owner_s_alone(tmp_path: Path) -> None:
    config = read_config(written(tmp_path, WHOLE + 'private_key_file = "key"\n'), GatewayConfig)
    (tmp_path / "key").write_text("ab" * 32)
    (tmp_path / "key").chmod(0o640)
    with pytest.raises(InvalidInput, match=r"others may read .*chmod 600"):
        private_key(config.log)
    (tmp_path / "key").chmod(0o600)
    assert private_key(config.log) == bytes.fromhex("ab" * 32)
    (tmp_path / "key").write_text("no key")
    with pytest.raises(InvalidInput, match="write 64 hex digits"):
        private_key(config.log)
