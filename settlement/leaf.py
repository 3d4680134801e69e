"""Leaves of both trees: keccak(keccak(abi.encode(fields))), as OpenZeppelin's standard-v1 has them.

All fields are static, so the ABI encoding is 32 bytes a field: unsigned big-endian, two's complement, or as they are.
"""

from schemas.errors import InvariantBroken
from schemas.keccak import keccak

UINT64_MAX = 2**64 - 1
UINT256_MAX = 2**256 - 1


def machine_hash(machine: str) -> bytes:
    """32 bytes: keccak of the machine's id in UTF-8."""
    return keccak(machine.encode())


def account_bytes(account: str) -> bytes:
    """20 bytes of an account in lower case. Raises InvariantBroken for another length."""
    raw = bytes.fromhex(account.removeprefix("0x"))
    if len(raw) != 20:
        raise InvariantBroken(f"{account} is not an account of 20 bytes")
    return raw


def window_leaf(machine: bytes, span_ms: tuple[int, int], adjusts_ms: int, net_micros: int, digest: bytes) -> bytes:
    """Leaf of `(bytes32 machine, uint64 start, uint64 end, uint64 adjusts, int256 net, bytes32 windowDigest)`.

    `machine` is its hash, times are epoch ms ([start, end)), `adjusts_ms` is 0 for a plain window.
    Raises InvariantBroken if a field doesn't fit its type.
    """
    start_ms, end_ms = span_ms
    if len(machine) != 32 or len(digest) != 32 or min(start_ms, end_ms, adjusts_ms) < 0:
        raise InvariantBroken("a window's leaf has two words of 32 bytes and times from 1970 on")
    if max(start_ms, end_ms, adjusts_ms) > UINT64_MAX:
        raise InvariantBroken("a window's time does not fit 64 bits")
    packed = (
        machine
        + start_ms.to_bytes(32, "big")
        + end_ms.to_bytes(32, "big")
        + adjusts_ms.to_bytes(32, "big")
        + net_micros.to_bytes(32, "big", signed=True)
        + digest
    )
    return keccak(keccak(packed))


def payout_leaf(account: str, cumulative: int) -> bytes:
    """Leaf of `(address account, uint256 cumulative)`; `cumulative` is in token units. Raises InvariantBroken."""
    if not 0 <= cumulative <= UINT256_MAX:
        raise InvariantBroken(f"{account} has a cumulative amount outside 256 bits")
    return keccak(keccak(account_bytes(account).rjust(32, b"\0") + cumulative.to_bytes(32, "big")))
