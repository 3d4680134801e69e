"""A new token, and the table that the gateway's file needs.

python -m tallyroot_gateway.http.new_token NAME MACHINE...
"""

import secrets
import sys
from collections.abc import Sequence

from tallyroot_gateway.http.tokens import hash_of

PREFIX = "tr_"


def main(arguments: Sequence[str]) -> int:
    """Prints a new token and its table. Returns the exit code."""
    if len(arguments) < 2:
        print("python -m tallyroot_gateway.http.new_token NAME MACHINE...", file=sys.stderr)
        return 2
    token = PREFIX + secrets.token_urlsafe(32)
    print(f"# the token, which only its sender keeps: {token}")
    machines = ", ".join(f'"{machine}"' for machine in arguments[1:])
    print(f'[[tokens]]\nname = "{arguments[0]}"\nsha256 = "{hash_of(token)}"\nmachines = [{machines}]')
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
