"""Schemathesis asks the HTTP gateway what its OpenAPI document allows, and what it doesn't: it finds nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tallyroot_gateway.http.openapi import document
from tests.support.http_gateway import TOKEN, Served, rows_in

pytestmark = [pytest.mark.slow]

HOOKS = """
import json, schemathesis

@schemathesis.serializer("application/x-ndjson")
def lines(context, value):
    return value if isinstance(value, bytes) else json.dumps(value).encode()
"""

CONFIG = """
[checks.positive_data_acceptance]  # no schema says that a time isn't ahead, or that a token speaks for a machine
expected-statuses = ["2xx", "403", "422"]
[checks.negative_data_rejection]
expected-statuses = ["400", "401", "403", "405", "413", "415", "422"]
"""


def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    """The document is the gateway's, with the names of machines that it has, so that many requests are taken."""
    asked = document()
    fields = asked["components"]["schemas"]["ReadingIn"]["properties"]
    fields["machine"] = {"enum": ["charger-2"]}  # it has no meters in the file, so it takes any kind
    # Bodies of 10,000 rows would take a minute; other tests send them.
    del asked["components"]["schemas"]["Readings"]["oneOf"][1]["maxItems"]
    content = asked["paths"]["/v1/readings"]["post"]["requestBody"]["content"]
    del content["application/cloudevents-batch+json"]["schema"]["maxItems"]
    fields["unit"] = {"enum": ["Wh", "kWh", "count"]}
    (tmp_path / "openapi.json").write_text(json.dumps(asked))
    (tmp_path / "lines.py").write_text(HOOKS)
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    with Served(tmp_path) as gateway:
        done = subprocess.run(
            [
                str(Path(sys.executable).with_name("schemathesis")), "run", "openapi.json", "--no-color",
                "--url", f"http://127.0.0.1:{gateway.port}", "--header", f"Authorization: Bearer {TOKEN}",
                "--exclude-path", "/health",  # 503: Kafka is away
                "--max-examples", "30", "--seed", "1",
            ],
            cwd=tmp_path,
            env=dict(os.environ) | {"SCHEMATHESIS_HOOKS": "lines", "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )  # fmt: skip
        assert gateway.ask("GET", "/health").status in (200, 503)
        assert not [row for row in gateway.intake.metrics.registry.collect() if "status=500" in str(row)]
    said = done.stdout + done.stderr
    assert done.returncode == 0, "\n".join(line[:400] for line in said.splitlines())[:20_000]
    assert len(rows_in(tmp_path, "depot-1")) > 5, said[-2_000:]
