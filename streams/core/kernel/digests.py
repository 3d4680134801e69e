"""SHA-256 of many texts at once, without an object for each where the processor has instructions for it."""

from hashlib import sha256

import numpy as np

from streams.core.kernel.columns import Bytes, Ints
from streams.core.kernel.compiled import compiled, is_interpreted

if is_interpreted():
    _write = None
else:
    from streams.core.kernel import sha_instructions as sha

    _write = compiled(sha.write_digests, checks_bounds=False) if sha.ARE_THERE else None


def digests(buffer: Bytes, starts: Ints, ends: Ints) -> Bytes:
    """The SHA-256 of each text [start, end) of a buffer, 32 bytes each, one after the other."""
    if _write is None:
        content = buffer.data
        spans = zip(starts.tolist(), ends.tolist(), strict=True)
        return np.frombuffer(b"".join([sha256(content[at:end]).digest() for at, end in spans]), np.uint8)
    out, state, tail = (np.empty(size, np.uint8) for size in (32 * len(starts), 32, 128))
    _write(buffer, np.ascontiguousarray(starts), np.ascontiguousarray(ends), sha.INITIAL, sha.PLACES, state, tail, out)
    return out
