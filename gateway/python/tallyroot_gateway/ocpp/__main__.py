"""`python -m tallyroot_gateway.ocpp`: reads a charger's password and prints its hash, for the gateway's file."""

import getpass
import sys

from tallyroot_gateway.ocpp.passwords import hashed

if __name__ == "__main__":
    print(hashed(getpass.getpass("password: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")))
