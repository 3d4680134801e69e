"""The two families of errors. Neither is a ValueError, so that no library's handler swallows one by accident."""


class InvalidInput(Exception):
    """The caller's fault. The message is one line that says what to do; the command line prints it and exits with 1."""


class InvariantBroken(Exception):
    """A bug or corrupted data: a state that must be impossible. Nothing below `main` catches it; the process stops."""
