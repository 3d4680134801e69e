"""Where a package has no wheel: no coincurve (Python 3.14), no safe-pysha3 (macOS), Faust without compiled parts."""

import random
import subprocess
import sys

import pytest

from schemas.keccak import keccak
from streams.core.signature import operator_of, sign_control

RECORD = ("log-1", "machine-1", "machine.registered", "application/json", b'{"version":1}')
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141

CHILD = """
import sys
sys.modules["coincurve"] = sys.modules["sha3"] = None
import faust, streams.worker.app
from eth_keys.backends import get_backend
from tests.process.test_without_wheels import verdicts
print(type(get_backend()).__name__, "faust._cython.streams" in sys.modules)
print(verdicts())
"""


def signatures() -> list[bytes]:
    """Right ones, and all manner of wrong ones, always the same."""
    chance = random.Random(7)
    right = [sign_control(chance.randbytes(32), *RECORD) for _ in range(3)]
    numbers = (0, 1, ORDER // 2, ORDER - 1, ORDER, ORDER + 1, 2**256 - 1)
    wrong = [r.to_bytes(32, "big") + s.to_bytes(32, "big") + bytes([27]) for r in numbers for s in numbers]
    torn = [right[0][:64] + bytes([v]) for v in (0, 1, 26, 27, 28, 29)] + [right[0][:64], b"", bytes(65)]
    changed = [right[1][:at] + bytes([right[1][at] ^ 1]) + right[1][at + 1 :] for at in (0, 31, 32, 63)]
    return right + wrong + torn + changed + [chance.randbytes(64) + bytes([chance.choice((27, 28))]) for _ in range(6)]


def verdicts() -> list[str]:
    """A digest, the signatures that are made, and whom each signature is of."""
    made = signatures()
    return [keccak(b"x" * 200).hex(), made[0].hex(), *(str(operator_of(signature, *RECORD)) for signature in made)]


def test_every_signature_and_digest_is_judged_alike() -> None:
    pytest.importorskip("coincurve")
    child = subprocess.run(
        ["/usr/bin/env", "NO_CYTHON=1", sys.executable, "-c", CHILD], capture_output=True, text=True, check=True
    )
    backend, said = child.stdout.splitlines()
    assert backend == "NativeECCBackend False"
    assert said == str(verdicts())
    assert len(set(verdicts())) > 10
