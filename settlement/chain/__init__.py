"""The part of settlement that talks to the chain or holds a key."""

import sys

_LIMIT = min(1_000, sys.getrecursionlimit())  # Python's own, also where eth_account was imported before

import py_ecc  # noqa: E402, F401 - web3 and eth_account import it; it lets Python recurse until the stack overflows

sys.setrecursionlimit(_LIMIT)  # a nested document is an error again, not the end of the process
