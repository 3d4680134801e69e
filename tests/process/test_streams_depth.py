"""Brackets without end are refused before a decoder recurses: a lifted recursion limit can't end the process."""

import subprocess
import sys

import pytest

from streams.core.records import decode_plainly

DEEP = """
import sys
sys.setrecursionlimit(100_000)
from streams.core.records import decode_plainly
for value in (b"[" * 200_000, b'{"a":' * 200_000, b'{"x":' + b"[" * 200_000 + b"]" * 200_000 + b"}"):
    assert decode_plainly(value) == "undecodable"
"""


def test_a_lifted_recursion_limit_does_no_harm() -> None:
    assert subprocess.run([sys.executable, "-c", DEEP], check=False, timeout=60).returncode == 0


@pytest.mark.parametrize(
    ("value", "outcome"),
    [
        (b"[" * 64 + b"]" * 64, [None]),
        (b"[" * 65 + b"]" * 65, "undecodable"),
        (b'["' + b"[" * 200 + b'"]', [None]),
        (b'["\\"' + b"[" * 200 + b'"]', [None]),
        (b"[" + b"[]," * 200 + b"[]]", [None] * 201),
    ],
)
def test_only_nesting_counts(value: bytes, outcome: object) -> None:
    assert decode_plainly(value) == outcome
