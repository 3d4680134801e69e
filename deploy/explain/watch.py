"""The watcher of one ledger: audits again and again, attests what is right, disputes what is wrong or withheld."""

import time
from collections.abc import Callable

from msgspec import Struct

from deploy.data_folder import DataFolder
from deploy.explain.audit import recomputing
from deploy.explain.watch_sources import LogMemory, reading_on
from deploy.money.treasury import Treasury
from files.confined import ConfinedFiles
from schemas.errors import InvalidInput
from settlement.chain.ledger import Ledger
from settlement.chain.watcher import Done, Look, look

LOOKS_AT_ONCE = 5
"""A dispute changes the head: what is left is audited again at once, at most this often."""
LOOKS_PER_DELAY = 16
TAKES_AT_MOST = 4
"""While trouble lasts, the pause between two audits is at least this many times what the last one took."""


class WatchOptions(Struct, frozen=True, kw_only=True):
    """Where the log is read, what is disputed, and how long to rest between looks, seconds."""

    from_archive: bool = False
    only_wrong: bool = False
    every_s: float = 10.0


class Watch:
    """A watcher of one data folder. `tell` is called with what it did, or why it could not look, once.

    After a look that left nothing to do, `tell` is called with the look itself.
    """

    def __init__(self, data: DataFolder, tell: "Callable[[Done | Look], None]", options: WatchOptions) -> None:
        self._data = data
        self._tell = tell
        self._options = options
        self._treasury: Treasury | None = None
        self._kept: LogMemory | None = None
        self._last: Look | None = None
        self._said: list[Done] = []
        self.pause_s = options.every_s
        """Seconds to rest before the next look."""

    def once(self) -> bool:
        """Looks until nothing is left to do. False where a person has to act."""
        is_calm = True
        for _ in range(LOOKS_AT_ONCE):
            found = self._look()
            is_calm = is_calm and found is not None and found.is_calm
            if found is None or not found.again:
                break
        else:
            text = "the ledger moves on at each look, or the node leaves events out: use another node"
            self._say([Done("alarm", 0, text)])
            is_calm = False
        if is_calm and self._last is not None:
            self._tell(self._last)
        return is_calm

    def follow(self) -> None:
        """Looks for ever."""
        while True:
            self.turn()
            time.sleep(self.pause_s)

    def turn(self) -> None:
        """One turn of `follow`: nothing is read again where nothing has happened since all was right."""
        try:
            if self._is_unchanged():
                return
        except InvalidInput:
            pass  # the look reports it
        self.once()

    def _is_unchanged(self) -> bool:
        last, treasury = self._last, self._treasury
        if last is None or treasury is None or not last.is_calm or last.attested < last.posts:
            return False
        ledger = Ledger.open(treasury.data_dir, treasury.chain)
        return ledger.head().hex() == last.head and ledger.attested() == last.attested

    def _look(self) -> Look | None:
        started = time.monotonic()
        try:
            if self._treasury is None:
                self._treasury = Treasury(self._data, trusts_folder=False)
            found = self._look_at(self._treasury)
        except InvalidInput as error:
            self._treasury = self._last = None
            self._say([Done("alarm", 0, f"can't look: {error}")])
            return None
        took_s = time.monotonic() - started
        most_s = max(1.0, found.delay_s / LOOKS_PER_DELAY)
        every_s = self._options.every_s
        self.pause_s = min(every_s if found.is_calm else max(every_s, TAKES_AT_MOST * took_s), most_s)
        self._last = found
        self._say(found.done)
        return found

    def _look_at(self, treasury: Treasury) -> Look:
        """An archive is read from its start each time: a stand-in, not a record, ends its last epoch."""
        of_treasury = (treasury.data_dir, treasury.chain, treasury.log, treasury.keys)
        only_wrong = self._options.only_wrong
        if self._options.from_archive:
            files = ConfinedFiles(treasury.data_dir)
            with files, recomputing(treasury, files, from_archive=True) as sources:
                return look(*of_treasury, sources, only_wrong=only_wrong)
        if self._kept is None:
            self._kept = LogMemory(treasury.log)
        with reading_on(treasury, self._kept) as sources:
            return look(*of_treasury, sources, only_wrong=only_wrong, memory=self._kept.memory)

    def _say(self, done: tuple[Done, ...] | list[Done]) -> None:
        for part in done:
            if part not in self._said:
                self._tell(part)
        self._said = list(done)
