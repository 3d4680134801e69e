"""The two families of errors. Neither is a ValueError, so that no library's handler swallows one by accident."""


class InvalidInput(Exception):
    """The caller's fault. The message is one line that says what to do; the command line prints it and exits with 1."""


class InvariantBroken(Exception):
    """Ours. Something that must never be is: nothing below `main` catches it, and the process stops."""
