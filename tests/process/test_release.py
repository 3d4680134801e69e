"""What a release publishes: one version, sums of every file, a bill of materials that names what the locks name."""

import hashlib
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from deploy.release.build import SUMS, build, version
from deploy.release.sbom import bill_of_materials
from deploy.setup.bootstrap import ROOT, find_node


def names_of(lock: Path) -> dict[str, str]:
    return dict(re.findall(r"(?m)^([A-Za-z0-9._-]+)==([^ ;]+)", lock.read_text()))


def test_the_image_runs_what_is_tested() -> None:
    tested, image = names_of(ROOT / "requirements.lock"), names_of(ROOT / "deploy/image/requirements.lock")
    assert image.items() <= tested.items() and len(image) > 50
    assert names_of(ROOT / "deploy/image/build.lock")["setuptools"] == tested["setuptools"]


def test_the_bill_names_each_package_once() -> None:
    bill = bill_of_materials("1.2.3")
    purls = [component["purl"] for component in bill["components"]]
    assert len(set(purls)) == len(purls)
    for name, at in names_of(ROOT / "deploy/image/requirements.lock").items():
        assert f"pkg:pypi/{name}@{at}" in purls
    assert any(purl.startswith("pkg:maven/org.apache.kafka/kafka_2.13@") for purl in purls)
    assert bill == bill_of_materials("1.2.3")


@pytest.mark.skipif(find_node() is None, reason="no Node here")
@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="a release is made of a commit")
def test_a_release_is_whole(tmp_path: Path) -> None:
    made = {path.name: path for path in build(tmp_path / "dist")}
    at = version()
    assert set(made) == {
        f"tallyroot-{at}-py3-none-any.whl", f"tallyroot-{at}.tar.gz", f"tallyroot_gateway-{at}-py3-none-any.whl",
        f"tallyroot_gateway-{at}.tar.gz", f"tallyroot-gateway-{at}.tgz", f"tallyroot-{at}.cdx.json", SUMS,
    }  # fmt: skip
    sums = dict(reversed(line.split("  ")) for line in made[SUMS].read_text().splitlines())
    assert sums == {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in made.items() if name != SUMS}
    with zipfile.ZipFile(made[f"tallyroot-{at}-py3-none-any.whl"]) as wheel:
        inside = set(wheel.namelist())
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    rooms = ("schemas/", "files/", "streams/", "settlement/", "deploy/", "data/")
    kinds = (".py", ".json", ".sql", "s.lock", ".parquet")
    assert {name for name in tracked if name.startswith(rooms) and name.endswith(kinds)} <= inside
    with tarfile.open(made[f"tallyroot-{at}.tar.gz"]) as source:
        source.extractall(tmp_path, filter="data")
    again = [sys.executable, "-c", "from setuptools import build_meta as b; b.build_wheel('..')"]
    subprocess.run(again, cwd=tmp_path / f"tallyroot-{at}", capture_output=True, check=True)
    with zipfile.ZipFile(tmp_path / f"tallyroot-{at}-py3-none-any.whl") as wheel:
        assert set(wheel.namelist()) == inside
