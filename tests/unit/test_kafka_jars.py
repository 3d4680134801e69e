"""The lock of Kafka's jars: what it names, and that other bytes are refused."""

import hashlib
from pathlib import Path

import pytest
from jgo.maven import MavenContext

from deploy.setup import kafka_jars
from deploy.stack.toolchain import JARS_LOCK, jar_entries, jar_path, kafka_classpath
from schemas.errors import InvalidInput

COORDINATE = "org.example.deep:thing_2.13:1.0"
JAR = b"the jar"


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Maven repository in a folder, instead of one on the network."""
    repository = tmp_path / "repository"
    path = repository / jar_path(COORDINATE)
    path.parent.mkdir(parents=True)
    path.write_bytes(JAR)
    monkeypatch.setattr(
        kafka_jars, "_context", lambda folder: MavenContext(repo_cache=folder, local_repos=[repository], offline=True)
    )
    monkeypatch.setattr(kafka_jars, "_PAUSE_S", 0.0)
    return repository


def lock_of(folder: Path, content: bytes) -> Path:
    lock = folder / "lock"
    lock.write_text(f"# what it is\n{hashlib.sha256(content).hexdigest()}  {COORDINATE}\n")
    return lock


def test_the_lock_names_kafka_and_its_logging_once() -> None:
    names = [coordinate for _, coordinate in jar_entries(JARS_LOCK)]
    assert len(set(names)) == len(names)
    assert set(kafka_jars.ENDPOINTS) <= set(names)
    assert "org.apache.kafka:kafka-clients:4.4.0" in names
    artifacts = [name.split(":")[1] for name in names]
    assert len(set(artifacts)) == len(artifacts), "two versions of one jar"


def test_what_the_set_up_fetched_is_what_the_lock_says() -> None:
    assert kafka_classpath().count(".jar") == len(list(jar_entries(JARS_LOCK)))


def test_a_jar_is_fetched_once(tmp_path: Path, repository: Path) -> None:
    del repository
    lock, folder = lock_of(tmp_path, JAR), tmp_path / "jars"
    assert kafka_jars.fetch(lock, folder) == 1
    assert kafka_jars.fetch(lock, folder) == 0


def test_a_torn_jar_is_fetched_again(tmp_path: Path, repository: Path) -> None:
    del repository
    lock, folder = lock_of(tmp_path, JAR), tmp_path / "jars"
    torn = folder / jar_path(COORDINATE)
    torn.parent.mkdir(parents=True)
    torn.write_bytes(JAR[:3])
    assert kafka_jars.fetch(lock, folder) == 1
    assert torn.read_bytes() == JAR


def test_other_bytes_are_refused_and_not_kept(tmp_path: Path, repository: Path) -> None:
    del repository
    folder = tmp_path / "jars"
    with pytest.raises(InvalidInput, match="the lock says"):
        kafka_jars.fetch(lock_of(tmp_path, b"another jar"), folder)
    assert not (folder / jar_path(COORDINATE)).exists()


def test_a_jar_that_is_nowhere_is_named(tmp_path: Path, repository: Path) -> None:
    (repository / jar_path(COORDINATE)).unlink()
    with pytest.raises(InvalidInput, match=f"can't fetch {COORDINATE}"):
        kafka_jars.fetch(lock_of(tmp_path, JAR), tmp_path / "jars")
