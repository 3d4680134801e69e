"""What `watch` does: looks again and again, and says in one line each what it did, or why it can't look."""

import time

from msgspec import Struct

from deploy.cli.audit_commands import recomputing
from deploy.cli.money_commands import Treasury
from deploy.cli.terminal import Terminal, moment_text
from deploy.data_folder import DataFolder
from deploy.explain.watch_sources import LogMemory, reading_on
from schemas.errors import InvalidInput
from schemas.units import SECOND_MS
from settlement.chain.ledger import Ledger
from settlement.chain.watcher import Done, Look, look

LOOKS_AT_ONCE = 5
"""After a dispute the head is another one: what is left is looked at again at once, at most so often."""
LOOKS_PER_DELAY = 16
TAKES_AT_MOST = 4
"""A look that finds a trouble again is made no sooner than after so many times what it took."""


class WatchOptions(Struct, frozen=True, kw_only=True):
    """Where the log is read, what is disputed, and how long to rest between looks, seconds."""

    from_archive: bool = False
    only_wrong: bool = False
    every_s: float = 10.0


class Watch:
    """A watcher of one data folder. What it says twice in a row, it says once."""

    def __init__(self, data: DataFolder, terminal: Terminal, options: WatchOptions) -> None:
        self._data = data
        self._terminal = terminal
        self._options = options
        self._treasury: Treasury | None = None
        self._kept: LogMemory | None = None
        self._last: Look | None = None
        self._said: list[Done] = []
        self.pause_s = options.every_s
        """How long to rest before the next look."""

    def once(self) -> bool:
        """Looks until nothing is left to do; whether no person is needed."""
        is_calm = True
        for _ in range(LOOKS_AT_ONCE):
            found = self._look()
            is_calm = is_calm and found is not None and found.is_calm
            if found is None or not found.again:
                break
        else:
            text = "the ledger moves on at each look, or the node leaves events out: ask another node"
            self._say([Done("alarm", 0, text)])
            is_calm = False
        if is_calm and self._last is not None:
            self._terminal.say(f"{self._last.posts} posts follow from the log, {self._last.attested} are attested")
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
            pass  # The look says it.
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
                self._treasury = Treasury(self._data)
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
        """An archive is read from its start each time: it has no record that ends its last epoch, only a stand-in."""
        of_treasury = (treasury.data_dir, treasury.chain, treasury.log, treasury.keys)
        only_wrong = self._options.only_wrong
        if self._options.from_archive:
            with recomputing(treasury, from_archive=True) as recompute:
                return look(*of_treasury, recompute, only_wrong=only_wrong)
        if self._kept is None:
            self._kept = LogMemory(treasury.log)
        with reading_on(treasury, self._kept) as recompute:
            return look(*of_treasury, recompute, only_wrong=only_wrong, memory=self._kept.memory)

    def _say(self, done: tuple[Done, ...] | list[Done]) -> None:
        for part in done:
            if part not in self._said:
                self._terminal.say(_line(part))
                self._terminal.result(part)
        self._said = list(done)


def watch(data: DataFolder, terminal: Terminal, options: WatchOptions, *, once: bool) -> bool:
    """Watches for ever, or once; whether no person is needed."""
    watcher = Watch(data, terminal, options)
    if once:
        return watcher.once()
    watcher.follow()
    return True


def _line(done: Done) -> str:
    of_post = f"post {done.sequence}: " if done.sequence else ""
    match done.event:
        case "attested":
            return f"attested up to post {done.sequence}: all of it follows from the log; {done.transaction}"
        case "disputed":
            return f"DISPUTED {of_post}{done.text}; {done.transaction}"
        case "idle":
            return f"right up to post {done.sequence}; no auditor's key is here to attest it with"
        case "wait":
            until = "" if done.until_s is None else f", waiting until {moment_text(done.until_s * SECOND_MS)}"
            return f"{of_post}{done.text}{until}"
        case _:
            return f"ALARM {of_post}{done.text}"
