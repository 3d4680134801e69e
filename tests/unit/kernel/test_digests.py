"""SHA-256 of many texts at once: as hashlib's, by the instructions and without them."""

import random
from hashlib import sha256
from typing import Any

import numpy as np
import pytest

from streams.core.kernel import digests as module
from streams.core.kernel.digests import digests


@pytest.mark.parametrize("by_instructions", [True, False])
def test_they_are_those_of_hashlib(monkeypatch: pytest.MonkeyPatch, by_instructions: bool) -> None:
    write: Any = module._write
    if by_instructions and write is None:
        pytest.skip("this processor has no instructions for SHA-256, or loops run interpreted")
    monkeypatch.setattr(module, "_write", write if by_instructions else None)
    choice = random.Random(7)
    sizes = [*range(300), *(choice.randrange(1 << 17) for _ in range(20)), 0]
    content = choice.randbytes(sum(sizes))
    ends = np.cumsum(sizes)
    found = digests(np.frombuffer(bytearray(content), np.uint8), ends - sizes, ends)
    spans = zip((ends - sizes).tolist(), ends.tolist(), strict=True)
    assert found.tobytes() == b"".join(sha256(content[at:end]).digest() for at, end in spans)


def test_none_are_none() -> None:
    nothing = np.empty(0, np.int64)
    assert not len(digests(np.empty(0, np.uint8), nothing, nothing))


def test_a_text_beyond_the_buffer_is_an_error() -> None:
    if module._write is None:
        pytest.skip("hashlib stops at the end")
    with pytest.raises(IndexError):
        digests(np.zeros(64, np.uint8), np.array([0]), np.array([65]))
