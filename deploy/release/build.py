"""Everything that a release publishes, in `dist`: `python -m deploy.release.build`, which `make release` calls.

Wheel and source of tallyroot and of the Python gateway, the npm package of the JavaScript gateway, the bill of
materials, and SHA256SUMS of them all, written last: a build that was cut off has none. No registry is asked. Files bear
the time of the commit, so a wheel of the same commit has the same bytes.
"""

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from deploy.release.sbom import bill_of_materials
from deploy.setup.bootstrap import ROOT, find_node
from schemas.errors import InvalidInput

DIST = ROOT / "dist"
SUMS = "SHA256SUMS"
_BUILD = "import sys; from setuptools import build_meta as b; to = sys.argv[1]; b.build_sdist(to); b.build_wheel(to)"


def version() -> str:
    """The version of this checkout, which all three packages share. Raises InvalidInput where they differ."""
    found = {
        "pyproject.toml": _of_pyproject(ROOT),
        "gateway/python/pyproject.toml": _of_pyproject(ROOT / "gateway" / "python"),
        "gateway/js/package.json": json.loads((ROOT / "gateway/js/package.json").read_text("utf-8"))["version"],
    }
    if len(set(found.values())) > 1:
        raise InvalidInput(f"one release has one version: {', '.join(f'{k} says {v}' for k, v in found.items())}")
    return str(found["pyproject.toml"])


def build(dist: Path) -> list[Path]:
    """Makes all files in an empty folder and returns them. Raises InvalidInput where something can't be built."""
    release = version()
    shutil.rmtree(dist, ignore_errors=True)
    dist.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as place:
        source = Path(place) / "source"
        _export(source)
        moment = ["env", f"SOURCE_DATE_EPOCH={_committed_s()}"]
        for package in (source, source / "gateway" / "python"):
            _run([*moment, sys.executable, "-c", _BUILD, str(dist)], package)
        node = find_node()
        if node is None:
            raise InvalidInput("no Node here to pack the JavaScript gateway with: install Node 18 or newer")
        npm = [*moment, str(Path(node) / "npm"), "pack", "--silent", "--pack-destination", str(dist)]
        _run(npm, source / "gateway" / "js")
    bill = bill_of_materials(release)
    (dist / f"tallyroot-{release}.cdx.json").write_text(json.dumps(bill, indent=1) + "\n", "utf-8")
    made = sorted(dist.iterdir())
    sums = "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in made)
    (dist / SUMS).write_text(sums, encoding="utf-8")
    return [*made, dist / SUMS]


def _export(folder: Path) -> None:
    """The files of the commit that is checked out; what is not committed is not released."""
    folder.mkdir()
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, stdout=subprocess.PIPE, check=False)
    if archive.returncode:
        raise InvalidInput(f"{ROOT} is no git checkout: a release is made of a commit")
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InvalidInput(f"`{command[2]}` failed in {folder.name}: {done.stderr.strip()[-500:]}")


def _committed_s() -> int:
    """When the commit that is checked out was made, Unix seconds."""
    said = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True, check=True)
    return int(said.stdout)


def _of_pyproject(folder: Path) -> str:
    return str(tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]["version"])


if __name__ == "__main__":
    try:
        for path in build(DIST):
            sys.stdout.write(f"{path.stat().st_size:>10,}  {path.relative_to(ROOT)}\n")
    except InvalidInput as error:
        sys.exit(f"tallyroot: {error}")
