"""What the gateway's READMEs show runs on a device as it stands there, but for the broker, the topic and the folder."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from streams.core.signature import reading_key
from tests.support.gateway_logs import arrived, new_log
from tests.support.gateway_packages import ROOT, node_device, node_environment, python_device, run

READMES = ["gateway/README.md", "gateway/python/README.md", "gateway/js/README.md"]
KEY = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")


def blocks(readme: str, language: str) -> list[str]:
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```", (ROOT / readme).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return python_device(tmp_path_factory.mktemp("python"))


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return node_device(tmp_path_factory.mktemp("node"))


def test_ten_lines_and_a_shell_s_reading_are_accepted(kafka: str, python: Path, tmp_path: Path) -> None:
    log = new_log(
        kafka, "gateway-readme", machine="charger-7", keys=[{"key_id": "gateway-1", "public_key": reading_key(KEY)}]
    )
    own = {
        "telemetry charger-7": f"{log.topic} taxi-1", "localhost:9092": kafka, '"telemetry"': f'"{log.topic}"',
        '"log-1"': f'"{log.log_id}"', "/var/lib/gateway": str(tmp_path),
        ".venv/bin/python": shlex.quote(sys.executable),
        # The route of the log's machine is another one.
        'route="charger-7"': 'route="taxi-1"',
    }  # fmt: skip

    def mine(text: str) -> str:
        for theirs, ours in own.items():
            text = text.replace(theirs, ours)
        return text

    for readme in READMES[:2]:
        (example,) = blocks(readme, "python")
        run([str(python), "-c", mine(example)], tmp_path)
    *_, line = blocks(READMES[0], "sh")
    done = subprocess.run(["/bin/sh", "-c", mine(line)], cwd=ROOT, check=True, timeout=60, capture_output=True)
    assert done.stdout == b"0 left\n"
    _, done_in_core, records = arrived(kafka, log)
    assert [record.key for record in records] == [b"taxi-1"] * 3
    # The shell's line has a boot far under the gateway's, but is its first: the previous boot.
    assert (done_in_core.rejects, done_in_core.counts.accepted) == ([], 4)


@pytest.mark.parametrize("readme", [READMES[0], READMES[2]])
def test_the_javascript_example_hands_over_a_record(node: Path, tmp_path: Path, readme: str) -> None:
    (example,) = blocks(readme, "js")
    stub = "const producer = { send: async (sent) => console.log(JSON.stringify(sent)) };\n"
    script = node / "example.mjs"
    script.write_text(stub + example.replace("/var/lib/gateway", str(tmp_path)))
    sent = json.loads(run(["node", str(script)], node, node_environment()))
    (message,) = sent["messages"]
    assert (sent["topic"], sent["acks"]) == ("telemetry", -1)
    assert json.loads(bytes(message["value"]["data"]))["register"] == 1_234_567
    assert set(message["headers"]) == {"content-type", "signature", "key-id"}
