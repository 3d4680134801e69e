"""Keccak-256, from the fastest library installed: safe-pysha3 if it has a wheel, else pycryptodome."""

from collections.abc import Callable


def _fastest() -> Callable[[bytes], bytes]:
    try:
        from sha3 import keccak_256  # noqa: PLC0415 (no wheel on macOS and Windows)
    except ImportError:
        return pure_keccak
    return lambda data: bytes(keccak_256(data).digest())


def pure_keccak(data: bytes) -> bytes:
    """Keccak-256 (32 bytes) by pycryptodome, six times slower."""
    from Crypto.Hash import keccak as crypto_keccak  # noqa: PLC0415 (only where it is needed)

    return crypto_keccak.new(digest_bits=256, data=data).digest()


keccak: Callable[[bytes], bytes] = _fastest()
"""Keccak-256 of bytes: 32 bytes."""
