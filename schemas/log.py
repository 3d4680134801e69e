"""One log = one topic = one currency = one ledger: what is fixed for its life, and the rules by first epoch."""

from itertools import pairwise
from typing import Annotated, Literal

from msgspec import Meta, Struct, to_builtins

from schemas.canonical import document_digest
from schemas.errors import InvalidInput
from schemas.units import DAY_MS, MINUTE_MS, Count, Id, Positive

TimestampType = Literal["CreateTime", "LogAppendTime"]


class Ruleset(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The rules from `first_epoch` (its number, not its time) on. `operators` are EVM accounts in lower case."""

    number: Literal[2] = 2
    first_epoch: Count = 0
    grace_ms: Positive = 10 * MINUTE_MS
    horizon_ms: Positive = 35 * DAY_MS
    skew_ms: Count = 5 * MINUTE_MS
    operators: tuple[Annotated[str, Meta(pattern="^0x[0-9a-f]{40}$")], ...] = ()


class Log(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A log's identity. An epoch's number is its start divided by `epoch_ms`; epochs are whole numbers of windows."""

    log_id: Id
    topic: Id = "telemetry"
    currency: Annotated[str, Meta(pattern="^[A-Z]{3}$")] = "USD"
    partitions: Annotated[int, Meta(ge=1, le=1_024)] = 4
    timestamp_type: TimestampType = "LogAppendTime"
    window_ms: Positive = 15 * MINUTE_MS
    epoch_ms: Positive = DAY_MS
    rulesets: Annotated[tuple[Ruleset, ...], Meta(min_length=1)] = (Ruleset(),)

    def __post_init__(self) -> None:
        if self.epoch_ms % self.window_ms:
            raise InvalidInput("an epoch must be a whole number of windows: choose --epoch as a multiple of --window")
        firsts = [ruleset.first_epoch for ruleset in self.rulesets]
        if firsts[0] != 0 or any(a >= b for a, b in pairwise(firsts)):
            raise InvalidInput("rulesets must ascend by first_epoch, the first one from epoch 0")

    def ruleset_at(self, epoch: int) -> Ruleset:
        """The rules in force for an epoch."""
        return next(ruleset for ruleset in reversed(self.rulesets) if ruleset.first_epoch <= epoch)

    def ruleset_digest(self, epoch: int) -> bytes:
        """32 bytes over the log's identity and the rules in force for an epoch."""
        document = to_builtins(self)
        document["rulesets"] = [to_builtins(self.ruleset_at(epoch))]
        return document_digest("ruleset 1", document)

    def birth_digest(self) -> bytes:
        """32 bytes over what never changes of a log, and its first rules: a ledger is bound to it for life."""
        return self.ruleset_digest(0)

    def window_start(self, moment_ms: int) -> int:
        """The start (epoch ms) of the window that holds a moment."""
        return moment_ms - moment_ms % self.window_ms

    def epoch_of(self, moment_ms: int) -> int:
        """The number of the epoch that holds a moment."""
        return moment_ms // self.epoch_ms

    def epoch_span(self, epoch: int) -> tuple[int, int]:
        """[start, end) of an epoch in epoch ms."""
        return epoch * self.epoch_ms, (epoch + 1) * self.epoch_ms
