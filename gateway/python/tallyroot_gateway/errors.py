"""The two families of errors. Neither is a ValueError, so that no library's handler swallows one by accident."""


class InvalidInput(Exception):
    """The caller's fault, or the world's (disk, Kafka). The message is one line that says what to do."""


class SpoolFull(InvalidInput):
    """The spool has no room: the reading was not taken and has no number."""


class InvariantBroken(Exception):
    """Ours: something that must never happen has happened, and this gateway sends nothing more."""
