"""`python -m streams.reference FILE` prints the result of a log in the vectors' form."""

import sys

from streams.reference.vectors import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
