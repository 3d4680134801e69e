"""Who may import whom, and who may touch the world: the layers of the project, read from the source."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("files", "schemas", "streams", "settlement", "till", "agent", "deploy", "tallyroot_gateway")
FOLDERS = {"tallyroot_gateway": "gateway/python/tallyroot_gateway"}
"""Where a package lies, if not under its name."""
MAY_IMPORT = {
    "tallyroot_gateway": {"tallyroot_gateway"},
    "schemas": {"schemas"},
    "files": {"files", "schemas"},
    "streams": {"files", "schemas", "streams"},
    "settlement": {"files", "schemas", "settlement"},
    "till": {"schemas", "streams", "till", "tallyroot_gateway"},
    "agent": {"schemas", "streams", "till", "agent"},
    "deploy": set(PACKAGES),
}
# Faust, the chain, sockets, processes, clocks and the environment: the shell's alone.
WORLD = {
    "faust", "mode", "aiokafka", "confluent_kafka", "web3", "socket", "http", "urllib", "requests", "aiohttp",
    "sqlite3", "subprocess", "time", "random", "secrets", "fcntl", "signal", "os", "threading", "asyncio",
    "dotenv", "pydantic_settings", "docker", "jgo",
}  # fmt: skip
CALLS_OF_THE_WORLD = {
    ("duckdb", "connect"), ("datetime", "now"), ("datetime", "utcnow"), ("datetime", "today"), ("date", "today"),
    ("uuid", "uuid1"), ("uuid", "uuid4"),
}  # fmt: skip
SHELL_FOLDERS = (
    "files", "streams/kafka", "streams/storage", "streams/worker", "settlement/chain",
    "settlement/storage", "settlement/contracts", "deploy",
)  # fmt: skip
SHELL_FILES = ("settlement/service.py",)
READS_ENVIRONMENT = ("deploy/config.py", "deploy/setup/bootstrap.py", "gateway/python/tallyroot_gateway/__main__.py")


def sources(package: str) -> Iterator[Path]:
    """Every Python file of a package, relative to the root."""
    return (path.relative_to(ROOT) for path in sorted((ROOT / FOLDERS.get(package, package)).rglob("*.py")))


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, module) of every import, wherever it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, "." * node.level + (node.module or "")


def parse(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"))


def in_shell(path: Path) -> bool:
    text = path.as_posix()
    return text in SHELL_FILES or any(text.startswith(folder + "/") for folder in SHELL_FOLDERS)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_what_lies_under_it(package: str) -> None:
    wrong = [
        f"{path}:{line} imports {module}"
        for path in sources(package)
        for line, module in imports(parse(path))
        if module.startswith(".")
        or (module.split(".")[0] in (*PACKAGES, "tests") and module.split(".")[0] not in MAY_IMPORT[package])
    ]
    assert not wrong, "\n".join(wrong)


EXTRAS = {
    "arrow.py": {"pyarrow"},
    "field": {"prometheus_client"},
    "ocpp": {"ocpp", "websockets", "pyocmf", "prometheus_client"},
    "modbus": {"pymodbus", "serial", "sunspec2", "prometheus_client"},
    "mqtt": {"aiomqtt", "paho", "google", "prometheus_client"},
    "http": {"starlette", "uvicorn", "prometheus_client"},
}
"""What a file or a folder of the gateway's library may import beside the library's three packages."""


def test_the_gateway_s_library_needs_three_packages_and_extras() -> None:
    """A device installs little: what is imported must be in its own pyproject.toml, under the extra of its folder."""
    wrong = []
    for path in sources("tallyroot_gateway"):
        allowed = {*sys.stdlib_module_names, "tallyroot_gateway", "confluent_kafka", "msgspec", "nacl"}
        allowed |= EXTRAS.get(path.name, set()) | EXTRAS.get(path.parent.name, set())
        wrong += [
            f"{path}:{line} imports {module}"
            for line, module in imports(parse(path))
            if module.split(".")[0] not in allowed
        ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("package", ["schemas", "streams", "settlement"])
def test_only_the_shell_touches_the_world(package: str) -> None:
    wrong = []
    for path in sources(package):
        if in_shell(path):
            continue
        tree = parse(path)
        wrong += [f"{path}:{line} imports {name}" for line, name in imports(tree) if name.split(".")[0] in WORLD]
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name | ast.Attribute):
                owner = node.value.id if isinstance(node.value, ast.Name) else node.value.attr
                if (owner, node.attr) in CALLS_OF_THE_WORLD:
                    wrong.append(f"{path}:{node.lineno} uses {owner}.{node.attr}")
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "open":
                wrong.append(f"{path}:{node.lineno} opens a file")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("package", PACKAGES)
def test_only_the_settings_read_the_environment(package: str) -> None:
    wrong = [
        f"{path}:{node.lineno} uses os.{node.attr}"
        for path in sources(package)
        if path.as_posix() not in READS_ENVIRONMENT
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv", "putenv")
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("package", ["till", "agent"])
def test_money_at_the_kerb_takes_only_the_core_of_streams(package: str) -> None:
    wrong = [
        f"{path}:{line} imports {module}"
        for path in sources(package)
        for line, module in imports(parse(path))
        if module.startswith("streams") and not module.startswith("streams.core")
    ]
    assert not wrong, "\n".join(wrong)


def test_the_pure_core_imports_no_shell() -> None:
    shell = tuple(path.removesuffix(".py").replace("/", ".") for path in (*SHELL_FOLDERS, *SHELL_FILES))
    wrong = [
        f"{path}:{line} imports {module}"
        for package in ("streams", "settlement")
        for path in sources(package)
        if not in_shell(path)
        for line, module in imports(parse(path))
        if module.startswith(shell)
    ]
    assert not wrong, "\n".join(wrong)
