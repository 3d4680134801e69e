"""What streams/gateway/README.md shows runs as it stands there, but for the broker, the topic and the folder."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.setup.bootstrap import find_node
from streams.core.signature import reading_key
from tests.support.gateway_logs import arrived, new_log

ROOT = Path(__file__).parents[2]
README = ROOT / "streams" / "gateway" / "README.md"
KEY = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")


def blocks(language: str) -> list[str]:
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```", README.read_text(encoding="utf-8"))


def test_both_examples_are_accepted(kafka: str, tmp_path: Path) -> None:
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

    (example,) = blocks("python")
    subprocess.run([sys.executable, "-c", mine(example)], cwd=ROOT, check=True, timeout=60)
    _, line = blocks("sh")
    done = subprocess.run(["/bin/sh", "-c", mine(line)], cwd=ROOT, check=True, timeout=60, capture_output=True)
    assert done.stdout == b"0 left\n"
    _, done_in_core, records = arrived(kafka, log)
    assert [record.key for record in records] == [b"taxi-1", b"taxi-1"]
    # The shell's line has a boot far under the gateway's, but is its first: the previous boot.
    assert (done_in_core.rejects, done_in_core.counts.accepted) == ([], 3)


def test_the_javascript_example_hands_over_a_record(tmp_path: Path) -> None:
    (example,) = blocks("js")
    folder = find_node()
    node = shutil.which("node", path=folder)
    if node is None:
        pytest.fail("no Node: run `make setup`")
    stub = "const producer = { send: async (sent) => console.log(JSON.stringify(sent)) };\n"
    text = example.replace("./gateway.mjs", (ROOT / "streams" / "gateway" / "gateway.mjs").as_uri())
    text = text.replace("/var/lib/gateway", str(tmp_path))
    script = tmp_path / "example.mjs"
    script.write_text(stub + text)
    done = subprocess.run([node, str(script)], check=True, timeout=60, capture_output=True, text=True)
    sent = json.loads(done.stdout)
    (message,) = sent["messages"]
    assert (sent["topic"], sent["acks"]) == ("telemetry", -1)
    assert json.loads(bytes(message["value"]["data"]))["register"] == 1_234_567
    assert set(message["headers"]) == {"content-type", "signature", "key-id"}
