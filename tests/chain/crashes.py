"""How tests end a settlement in its midst, and what they ask of the development node."""

from collections.abc import Callable
from pathlib import Path

from settlement.posting import Posting
from settlement.storage.journal import Journal


class Killed(BaseException):
    """Stands for SIGKILL: nothing handles it."""


def killed_at(step: int) -> Callable[[int], None]:
    """Ends the job after one of its steps."""

    def crash(reached: int) -> None:
        if reached == step:
            raise Killed

    return crash


def journal_of(data_dir: Path) -> list[Posting]:
    """What the journal of a data folder knows."""
    with Journal(data_dir / "settlement" / "journal.sqlite") as journal:
        return journal.postings()
