"""SHA-256 (FIPS 180-4) of many texts by the instructions that x86 processors have for it."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from streams.core.kernel.archived import put
from streams.core.kernel.columns import Bytes, Ints
from streams.core.kernel.words import byte, copy

BLOCK, LENGTH, DIGEST = 64, 8, 32
"""Bytes of a block, of the length that ends a text, and of a digest."""

_PRIMES = [n for n in range(2, 312) if all(n % d for d in range(2, n))]
_LANES = (5, 4, 1, 0, 7, 6, 3, 2)
"""The eight words of a state, A to H, in the order in which the instructions want them: F, E, B, A; H, G, D, C."""

INITIAL = np.array([math.isqrt(_PRIMES[word] << 64) & 0xFFFFFFFF for word in _LANES], "<u4").view(np.uint8)
"""The state before the first block, little-endian: the fractions of the first primes' square roots."""

PLACES = np.array([4 * _LANES.index(k // 4) + 3 - k % 4 for k in range(DIGEST)], np.int64)
"""The byte of a state that each byte of the digest is."""

ARE_THERE = {"+sha", "+avx"} <= set(cpu_target.target_context.codegen()._tm_features.split(","))
"""Whether loops are compiled for a processor that has the instructions. (`avx` readies the registers.)"""


def _cube_root(number: int) -> int:
    root = round(number ** (1 / 3))
    while root**3 > number:
        root -= 1
    while (root + 1) ** 3 <= number:
        root += 1
    return root


_ROUNDS = [_cube_root(prime << 96) & 0xFFFFFFFF for prime in _PRIMES]
"""What each of the 64 rounds adds: the fractions of the primes' cube roots."""


def _compress(_typing: Any, _state: Any, _content: Any, _at: Any) -> Any:
    """The state moves on by the 64 bytes of the buffer from `at` on. The caller compares the bounds."""
    return types.void(_state, _content, types.int64), _write_compress


def _write_compress(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    four = ir.VectorType(ir.IntType(32), 4)
    sixteen = ir.VectorType(ir.IntType(8), 16)

    def call(name: str, *vectors: Any) -> Any:
        kind = ir.FunctionType(four, [four] * len(vectors))
        return builder.call(builder.module.declare_intrinsic(f"llvm.x86.sha256{name}", fnty=kind), vectors)

    def pick(one: Any, other: Any, places: Sequence[int]) -> Any:
        return builder.shuffle_vector(one, other, ir.VectorType(ir.IntType(32), len(places))(list(places)))

    def first_byte(argument: int) -> Any:
        return context.make_array(signature.args[argument])(context, builder, arguments[argument]).data

    # While wide instructions have the registers' upper halves in use, each of these takes a hundred times as long.
    none = ir.FunctionType(ir.VoidType(), [])
    builder.call(builder.module.declare_intrinsic("llvm.x86.avx.vzeroupper", fnty=none), [])
    state = builder.bitcast(first_byte(0), four.as_pointer())
    places = [builder.gep(state, [ir.IntType(32)(k)]) for k in range(2)]
    before = [builder.load(place, align=1) for place in places]
    abef, cdgh = before
    start = builder.gep(first_byte(1), [arguments[2]])
    words: list[Any] = []
    for k in range(16):
        if k < 4:
            place = builder.bitcast(builder.gep(start, [ir.IntType(32)(16 * k)]), sixteen.as_pointer())
            content = builder.load(place, align=1)
            swapped = [4 * (b // 4) + 3 - b % 4 for b in range(16)]
            words.append(builder.bitcast(pick(content, content, swapped), four))
        else:
            mixed = builder.add(call("msg1", words[-4], words[-3]), pick(words[-2], words[-1], (1, 2, 3, 4)))
            words.append(call("msg2", mixed, words[-1]))
        added = builder.add(words[-1], four(_ROUNDS[4 * k : 4 * k + 4]))
        cdgh = call("rnds2", cdgh, abef, added)
        abef = call("rnds2", abef, cdgh, pick(added, added, (2, 3, 0, 0)))
    for place, old, new in zip(places, before, (abef, cdgh), strict=True):
        builder.store(builder.add(old, new), place, align=1)
    return context.get_dummy_value()


compress: Any = intrinsic(_compress)


def write_digests(
    buffer: Bytes, starts: Ints, ends: Ints, initial: Bytes, places: Ints, state: Bytes, tail: Bytes, out: Bytes
) -> None:
    """The digests of the texts [start, end) of a buffer, 32 bytes each. `state` and `tail` are room: 32, 128 bytes.

    Raises IndexError for a text beyond the buffer.
    """
    for k in range(len(starts)):
        p, end = starts[k], ends[k]
        size = end - p
        if size > 0:
            byte(buffer, p)
            byte(buffer, end - 1)
        for b in range(DIGEST):
            state[b] = initial[b]
        while end - p >= BLOCK:
            compress(state, buffer, p)
            p += BLOCK
        left = end - p
        blocks = 1 if left < BLOCK - LENGTH else 2
        for b in range(blocks * BLOCK):
            tail[b] = 0
        tail[copy(buffer, p, left, tail, 0)] = 128
        put(tail, blocks * BLOCK - LENGTH, 8 * size, LENGTH)
        for block in range(blocks):
            compress(state, tail, block * BLOCK)
        for b in range(DIGEST):
            out[DIGEST * k + b] = state[places[b]]
