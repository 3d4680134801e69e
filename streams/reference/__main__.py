"""`python -m streams.reference FILE` prints what a log in the form of the vectors comes to."""

import sys

from streams.reference.vectors import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
