"""Renders the chart with each example's values into `rendered`, and holds all of it against Kubernetes' own schemas.

`make chart`. Helm is the path's, else built by Go from its module; the schemas are those of kubernetes-validate, in an
environment of its own. `make test` compares `rendered` with the chart and needs neither.
"""

import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from deploy.setup.bootstrap import CACHE, ROOT
from schemas.errors import InvalidInput

HERE = Path(__file__).resolve().parent
CHART = HERE / "tallyroot"
EXAMPLES = HERE / "examples"
RENDERED = HERE / "rendered"
HELM = "helm.sh/helm/v3/cmd/helm@v3.22.0"
KUBERNETES = ("1.27.0", "1.34.0")
"""The oldest that the chart is for, and a new one."""

_VALIDATE = """
import sys, yaml, kubernetes_validate
for document in filter(None, yaml.safe_load_all(sys.stdin)):
    if document["apiVersion"].partition("/")[0] != "monitoring.coreos.com":  # the operator's, not Kubernetes'
        kubernetes_validate.validate(document, sys.argv[1], strict=True)
"""


def helm() -> str:
    """The program. Raises InvalidInput where there is neither helm nor Go."""
    found = shutil.which("helm") or shutil.which("helm", path=str(CACHE / "helm"))
    if found is None:
        if shutil.which("go") is None:
            raise InvalidInput("neither helm nor Go is here: install one of them")
        sys.stdout.write("building helm (once, some minutes)\n")
        subprocess.run(["env", f"GOBIN={CACHE / 'helm'}", "go", "install", HELM], check=True)
        found = str(CACHE / "helm" / "helm")
    return found


def validator() -> Path:
    """The Python of the schemas' environment, which is made again when its lock has changed."""
    lock, home = ROOT / "deploy/setup/locks/chart.lock", CACHE / "chart"
    made, wanted = home / "lock.sha256", hashlib.sha256(lock.read_bytes()).hexdigest()
    if not made.exists() or made.read_text() != wanted:
        venv.create(home, with_pip=True, clear=True)
        options = ("--quiet", "--require-hashes", "--no-deps")
        subprocess.run([home / "bin/python", "-m", "pip", "install", *options, "-r", lock], check=True)
        made.write_text(wanted)
    return home / "bin" / "python"


def stamp(example: Path) -> str:
    """A digest of the chart and an example's values: a rendering bears it, so an old one is known."""
    digest = hashlib.sha256(example.read_bytes())
    for path in sorted(path for path in CHART.rglob("*") if path.is_file()):
        digest.update(path.relative_to(CHART).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def render(program: str, example: Path, version: str) -> str:
    """What helm makes of the chart with an example's values. Raises InvalidInput with helm's words."""
    values = ("--values", str(example), "--kube-version", version)
    for command in (("lint", str(CHART)), ("template", "tallyroot", str(CHART))):
        done = subprocess.run([program, *command, *values], capture_output=True, text=True, check=False, cwd=ROOT)
        if done.returncode:
            raise InvalidInput(f"helm {command[0]} with {example.name}: {done.stdout}{done.stderr}")
    return done.stdout


def main() -> int:
    """Renders, validates and writes."""
    try:
        program, python = helm(), validator()
        for example in sorted(EXAMPLES.glob("*.yaml")):
            for version in KUBERNETES:
                text = render(program, example, version)
                subprocess.run([python, "-c", _VALIDATE, version], input=text, text=True, check=True)
            (RENDERED / example.name).write_text(f"# Rendered from {stamp(example)} by `make chart`.\n{text}", "utf-8")
            sys.stdout.write(f"{example.stem}: rendered, and as Kubernetes {' and '.join(KUBERNETES)} want it\n")
    except InvalidInput as error:
        sys.stderr.write(f"tallyroot: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
