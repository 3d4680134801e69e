"""The watcher of one ledger: audits again and again, attests what is right, disputes what is wrong or withheld."""

import time
from collections.abc import Callable
from typing import Literal

from msgspec import Struct, structs

from deploy.data_folder import DataFolder
from deploy.explain.audit import recomputing
from deploy.explain.watch_sources import LogMemory, reading_on
from deploy.money.treasury import Treasury
from files.confined import ConfinedFiles
from schemas.errors import InvalidInput
from settlement.chain.ledger import Ledger
from settlement.chain.rpc import RpcCounts
from settlement.chain.sight import LedgerSight, sight_of
from settlement.chain.timelock import announced_steps
from settlement.chain.watcher import Done, Look, look

LOOKS_AT_ONCE = 5
"""A dispute changes the head: what is left is audited again at once, at most this often."""
LOOKS_PER_DELAY = 16
SIGHT_S = 60.0
"""How often the ledger's roles and announced steps are asked for while nothing else happens."""
TAKES_AT_MOST = 4
"""While trouble lasts, the pause between two audits is at least this many times what the last one took."""


class WatchOptions(Struct, frozen=True, kw_only=True):
    """Where the log is read, what is disputed, and how long to rest between looks, seconds."""

    from_archive: bool = False
    only_wrong: bool = False
    every_s: float = 10.0


class Turn(Struct, frozen=True):
    """One turn of a watcher: what it came to, its last look, why it could not look, what it did, and what it took.

    unchanged: nothing has happened since all was right; alarm: somebody must look; failed: it could not look. Of
    `actions` there are two: attested and disputed.
    """

    outcome: Literal["unchanged", "calm", "alarm", "failed"]
    look: Look | None
    fault: str
    actions: tuple[str, ...]
    seconds: float


def no_turn(done: Turn) -> None:
    """Nobody looks at the turns."""


class Watch:
    """A watcher of one data folder. `tell` is called with what it did, or why it could not look, once.

    After a look that left nothing to do, `tell` is called with the look itself; `on_turn` after each turn. What nodes
    are asked is counted in `counts`.
    """

    def __init__(
        self,
        data: DataFolder,
        tell: "Callable[[Done | Look], None]",
        options: WatchOptions,
        on_turn: Callable[[Turn], None] = no_turn,
        counts: RpcCounts | None = None,
    ) -> None:
        self._data = data
        self._tell = tell
        self._options = options
        self._on_turn = on_turn
        self._counts = counts
        self._fault = ""
        self._actions: list[str] = []
        self._sight_due_s = 0.0
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
        begun_s = time.monotonic()
        self._actions.clear()
        try:
            is_unchanged = self._is_unchanged()
        except InvalidInput:
            is_unchanged = False  # the look reports it
        outcome: Literal["unchanged", "calm", "alarm", "failed"] = "unchanged"
        if not is_unchanged:
            is_calm = self.once()
            outcome = "failed" if self._last is None else "calm" if is_calm else "alarm"
        took_s = time.monotonic() - begun_s
        self._on_turn(Turn(outcome, self._last, self._fault, tuple(self._actions), took_s))

    def _is_unchanged(self) -> bool:
        last, treasury = self._last, self._treasury
        if last is None or treasury is None or not last.is_calm or last.sight.attested < last.posts:
            return False
        ledger = Ledger.open(treasury.data_dir, treasury.chain)
        if ledger.head().hex() != last.head or ledger.attested() != last.sight.attested:
            return False
        if time.monotonic() < self._sight_due_s:
            return True
        sight = sight_of(ledger, len(announced_steps(ledger)))
        self._sight_due_s = time.monotonic() + SIGHT_S
        self._last = structs.replace(last, sight=sight)
        return _without_posts(sight) == _without_posts(last.sight)

    def _look(self) -> Look | None:
        started = time.monotonic()
        try:
            if self._treasury is None:
                self._treasury = Treasury(self._data, trusts_folder=False, counts=self._counts)
            found = self._look_at(self._treasury)
        except InvalidInput as error:
            self._treasury = self._last = None
            self._fault = f"can't look: {error}"
            self._say([Done("alarm", 0, self._fault)])
            return None
        took_s = time.monotonic() - started
        most_s = max(1.0, found.delay_s / LOOKS_PER_DELAY)
        every_s = self._options.every_s
        self.pause_s = min(every_s if found.is_calm else max(every_s, TAKES_AT_MOST * took_s), most_s)
        self._last, self._fault = found, ""
        self._sight_due_s = time.monotonic() + SIGHT_S
        self._actions += [part.event for part in found.done if part.transaction is not None]
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


def _without_posts(sight: LedgerSight) -> LedgerSight:
    """A sight without the posts: that one matures is no event."""
    return structs.replace(sight, unfinished=())
