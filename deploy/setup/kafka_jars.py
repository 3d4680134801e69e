"""Kafka's jars: a lock that names each of them with its SHA-256, and the fetching of exactly these.

The lock was resolved once (`make lock`); setting up never resolves, it fetches what the lock names and refuses other
bytes. jgo does the fetching, from the repositories that the machine's jgo settings name or else its default.
"""

import hashlib
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from jgo.config import GlobalSettings
from jgo.maven import MavenContext

from deploy.stack.toolchain import JARS_FOLDER, JARS_LOCK, jar_entries, jar_path
from schemas.errors import InvalidInput

# Two resolutions: joined into one, the second drags kafka-clients down to an older release.
ENDPOINTS = ("org.apache.kafka:kafka_2.13:4.4.0", "org.apache.logging.log4j:log4j-slf4j-impl:2.25.5")
_RUNTIME_SCOPES = (None, "compile", "runtime")
_TIMEOUT_S = 60
_TRIES = 3
_PAUSE_S = 2.0


def fetch(lock: Path, folder: Path) -> int:
    """Brings every jar of the lock into the folder, fetching only what is missing. Returns how many it fetched.

    Raises InvalidInput if a jar can't be had or its SHA-256 differs.
    """
    context = _context(folder)
    fetched = 0
    for sha256, coordinate in jar_entries(lock):
        jar = folder / jar_path(coordinate)
        if jar.exists() and _sha256(jar) == sha256:
            continue
        _fetch_one(context, coordinate, jar, sha256)
        fetched += 1
    return fetched


def relock(lock: Path, folder: Path, whose: str, endpoints: Sequence[str]) -> None:
    """Resolves the endpoints again and writes the lock: those that `+` joins together, the others each alone."""
    context = _context(folder)
    lines = set()
    for endpoint in endpoints:
        wanted = [context.create_dependency(coordinate) for coordinate in endpoint.split("+")]
        inputs, transitive = context.resolver.resolve(wanted)
        for dependency in [*inputs, *transitive]:
            if dependency.scope in _RUNTIME_SCOPES and not dependency.optional:
                artifact = dependency.artifact
                coordinate = f"{artifact.groupId}:{artifact.artifactId}:{artifact.version}"
                lines.add((coordinate, _sha256(Path(artifact.resolve()))))
    header = f"# SHA-256 and name of every jar of {whose}, written by `make lock`.\n"
    body = "".join(f"{sha256}  {coordinate}\n" for coordinate, sha256 in sorted(lines))
    lock.write_text(header + body, encoding="utf-8")


def _context(folder: Path) -> MavenContext:
    return MavenContext(
        repo_cache=folder, local_repos=[], remote_repos=GlobalSettings.load().repositories or None, timeout=_TIMEOUT_S
    )


def _fetch_one(context: MavenContext, coordinate: str, jar: Path, sha256: str) -> None:
    """Fetches one jar; what an interrupted or broken transfer left is removed first."""
    group, artifact, version = coordinate.split(":")
    for left in reversed(range(_TRIES)):
        jar.unlink(missing_ok=True)
        try:
            resolved = Path(context.project(group, artifact).at_version(version).artifact().resolve())
            if resolved != jar:  # a repository in a folder returns its own file
                jar.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(resolved, jar)
            found = _sha256(jar)
        except (OSError, RuntimeError) as error:  # what requests, jgo and a full disk raise
            if not left:
                raise InvalidInput(f"can't fetch {coordinate}: {' '.join(str(error).split())[:300]}") from error
            time.sleep(_PAUSE_S)
            continue
        if found == sha256:
            return
        if not left:
            jar.unlink()
            raise InvalidInput(f"{coordinate} has the SHA-256 {found}, the lock says {sha256}: nothing was installed")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    try:
        if sys.argv[1:] == ["lock"]:
            relock(JARS_LOCK, JARS_FOLDER, "the embedded Kafka", ENDPOINTS)
        else:
            sys.stdout.write(f"{fetch(JARS_LOCK, JARS_FOLDER)} jars fetched\n")
    except InvalidInput as error:
        sys.exit(f"tallyroot: {error}")
