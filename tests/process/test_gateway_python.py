"""The Python gateway as a device has it: its wheel in an empty environment, light, with nothing of ours beside it."""

import json
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway_packages import ROOT, python_device, run

MODULES_MAX = 120
"""How many modules the library may load beyond what its Kafka client loads: a device has little memory."""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return python_device(tmp_path_factory.mktemp("device"))


def said(python: Path, text: str) -> Any:
    """What a script printed as JSON, run by a device's Python in a folder of its own."""
    return json.loads(run([str(python), "-c", text], python.parent))


def test_it_loads_few_modules(python: Path) -> None:
    loaded = said(
        python,
        "import json, sys, confluent_kafka; before = set(sys.modules)\n"
        "from tallyroot_gateway import Gateway; print(json.dumps(sorted(set(sys.modules) - before)))",
    )
    assert "tallyroot_gateway.sender" in loaded
    assert len(loaded) < MODULES_MAX, loaded
    assert not [name for name in loaded if name.split(".")[0] in ("pyarrow", "numpy", "json", "asyncio")]


def test_it_needs_nothing_else(python: Path) -> None:
    names = ["schemas", "streams", "files", "settlement", "deploy", "pyarrow", "numpy", "pydantic", "aiokafka"]
    assert said(
        python,
        "import importlib.util, json\n"
        f"print(json.dumps([name for name in {names} if importlib.util.find_spec(name) is not None]))",
    ) == []  # fmt: skip


def test_arrow_without_the_extra_says_what_to_install(python: Path, tmp_path: Path) -> None:
    text = (
        "from tallyroot_gateway import Gateway\n"
        f"Gateway('127.0.0.1:1', log_id='l', route='r', spool={str(tmp_path)!r}, format='arrow')"
    )
    done = subprocess.run([str(python), "-c", text], capture_output=True, text=True, check=False, timeout=60)
    assert done.stderr.splitlines()[-1].endswith(
        "InvalidInput: format='arrow' needs pyarrow: pip install 'tallyroot-gateway[arrow]'"
    )


def test_the_wheel_has_its_types_its_licence_and_its_page(python: Path) -> None:
    (packages,) = python.parents[1].glob("lib/python*/site-packages")
    (info,) = packages.glob("tallyroot_gateway-*.dist-info")
    assert (packages / "tallyroot_gateway" / "py.typed").exists()
    assert (info / "licenses" / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert (ROOT / "gateway" / "python" / "README.md").read_text() in (info / "METADATA").read_text()


def test_it_is_pinned_as_the_project_is() -> None:
    ours, its = (
        tomllib.loads((ROOT / folder / "pyproject.toml").read_text()) for folder in (".", "gateway/python")
    )  # fmt: skip
    assert its["build-system"] == ours["build-system"]
    assert its["project"]["requires-python"] == ours["project"]["requires-python"]
    wanted = [*its["project"]["dependencies"], *its["project"]["optional-dependencies"]["arrow"]]
    assert set(wanted) <= set(ours["project"]["dependencies"])
    assert json.loads((ROOT / "gateway/js/package.json").read_text())["version"] == its["project"]["version"]
