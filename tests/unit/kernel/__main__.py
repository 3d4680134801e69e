"""Reads odd values with kernel and definition: `python -m tests.unit.kernel --count 1000000 [--seed N]`.

Prints what they became, each value that was read differently, and a digest of all that was read: with
NUMBA_DISABLE_JIT=1 the same loops run interpreted, and the digest is the same.
"""

import argparse
import sys

from tests.support.odd_values import ARROW_VALUES, JSON_VALUES, compare

SHOWN = 10


def main() -> int:
    """Returns 1 if any value was read differently."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--count", type=int, default=20_000, help="values of each media type")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    differ = 0
    for spoil, content_type in (JSON_VALUES, ARROW_VALUES):
        compared = compare(chosen.count, chosen.seed, spoil, content_type)
        became = ", ".join(f"{count} {name}" for name, count in sorted(compared.became.items()))
        print(f"{content_type}: {became}; {len(compared.differ)} differ; digest {compared.hash.hexdigest()}")
        for value, mine, whole in compared.differ[:SHOWN]:
            print(f"  {value!r}\n    kernel {mine}\n    definition {whole}")
        differ += len(compared.differ)
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
