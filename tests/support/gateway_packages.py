"""The gateway's distributions, built as they are released and installed where nothing else is: a device's environment.

No registry is asked: what the wheel says that it needs is linked from the project's own environment, and nothing more.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement

from deploy.setup.bootstrap import find_node

ROOT = Path(__file__).parents[2]


def run(command: list[str], cwd: Path, environment: Mapping[str, str] | None = None) -> str:
    """What a command printed; its own words fail the test that it failed in."""
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def python_device(folder: Path) -> Path:
    """The `python` of a new environment in a folder, with the gateway's wheel and what that requires."""
    source = folder / "source"  # a build leaves its traces where it is made
    shutil.copytree(
        ROOT / "gateway" / "python", source, ignore=shutil.ignore_patterns("*.egg-info", "build", "__pycache__")
    )
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    run(
        [*pip, "wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(folder), str(source)],
        folder,
    )
    run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], folder)
    python = folder / "venv" / "bin" / "python"
    (wheel,) = folder.glob("*.whl")
    run([*pip, "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)], folder)
    (packages,) = (folder / "venv").glob("lib/python*/site-packages")
    (metadata,) = packages.glob("tallyroot_gateway-*.dist-info/METADATA")
    for line in re.findall(r"(?m)^Requires-Dist: (.*)$", metadata.read_text()):
        _link(Requirement(line), packages)
    return python


def _link(requirement: Requirement, packages: Path) -> None:
    """Links a distribution that is required without an extra, and what it requires, from the project's environment."""
    if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
        return
    found = distribution(requirement.name)
    assert requirement.specifier.contains(found.version)
    for top in {path.parts[0] for path in found.files or () if ".." not in path.parts}:
        if top != "__pycache__" and not (packages / top).exists():
            (packages / top).symlink_to(Path(sysconfig.get_path("platlib")) / top)
    for line in found.requires or ():
        _link(Requirement(line), packages)


def node_environment() -> dict[str, str]:
    """Variables with which `node` and `npm` are found, and npm asks no registry."""
    folder = find_node()
    assert folder is not None, "no Node: run `make setup`"
    return dict(os.environ) | {"PATH": folder + os.pathsep + os.environ.get("PATH", ""), "npm_config_offline": "true"}


def node_device(folder: Path) -> Path:
    """A folder with the packed package in its `node_modules`, and nothing else."""
    environment = node_environment() | {"npm_config_cache": str(folder / "cache")}
    run(["npm", "pack", "--pack-destination", str(folder)], ROOT / "gateway" / "js", environment)
    (folder / "package.json").write_text('{"private": true}')
    (tarball,) = folder.glob("*.tgz")
    run(["npm", "install", "--no-audit", "--no-fund", f"./{tarball.name}"], folder, environment)
    return folder
