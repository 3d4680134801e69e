"""What operators start: the options in units, compose and image exist, and nothing runs as root or holds a secret."""

import re
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from deploy.cli import app as cli

ROOT = Path(__file__).resolve().parents[2]
UNITS = sorted((ROOT / "deploy/systemd").glob("*.service"))
COMPOSE = yaml.safe_load((ROOT / "deploy/compose/compose.yaml").read_text())


def check_command(words: list[str]) -> None:
    """Raises what the command line raises for a command that is not there, or an option that it lacks."""
    group: Any = typer.main.get_command(cli.app)
    command = group.commands[words[0]]
    options = {name for parameter in command.params for name in parameter.opts}
    missing = [word for word in words[1:] if word.startswith("--") and word not in options]
    assert not missing, f"{words[0]} has no {missing}"


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_runs_a_real_command_as_nobody_special(unit: Path) -> None:
    text = unit.read_text()
    ((command,),) = [re.findall(r"(?m)^ExecStart=/opt/tallyroot/bin/tallyroot (.*)$", text)]
    check_command(command.split())
    for line in ("User=tallyroot", "NoNewPrivileges=yes", "ProtectSystem=strict", "CapabilityBoundingSet=\n"):
        assert line in text
    assert not re.search(r"(?i)(password|key)=(?!/|%d/)", re.sub(r"LoadCredential=.*", "", text))


def test_compose_runs_real_commands_with_a_read_only_root() -> None:
    roles = {name: service for name, service in COMPOSE["services"].items() if "tallyroot" in str(service["image"])}
    assert roles.keys() >= {"setup", "worker", "settle", "watch", "tallyroot", "chain"}
    for name, service in roles.items():
        assert service["read_only"] is True, name
        if name != "chain":
            assert service["cap_drop"] == ["ALL"], name
    check_command(COMPOSE["services"]["worker"]["command"])
    check_command(COMPOSE["services"]["settle"]["command"])


def test_a_watcher_sees_nothing_of_the_treasury() -> None:
    mounts = [str(mount) for mount in COMPOSE["services"]["watch"]["volumes"]]
    assert not [mount for mount in mounts if mount.startswith("treasury")]
    assert all(mount.endswith(":ro") for mount in mounts if not mount.startswith("auditor:"))


def test_an_acknowledged_record_survives_a_node() -> None:
    for name in ("kafka-1", "kafka-2", "kafka-3"):
        settings = COMPOSE["services"][name]["environment"]
        assert (settings["KAFKA_DEFAULT_REPLICATION_FACTOR"], settings["KAFKA_MIN_INSYNC_REPLICAS"]) == (3, 2)


def test_the_image_is_nobody_special_and_takes_what_the_locks_name() -> None:
    text = (ROOT / "deploy/image/Dockerfile").read_text()
    last = text.rpartition("\nFROM ")[2]
    assert "USER 10001:10001" in last and "HEALTHCHECK" in last
    assert text.count("--require-hashes") == 2 and "ADD http" not in text and "curl" not in text
