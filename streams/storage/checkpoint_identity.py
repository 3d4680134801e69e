"""What a checkpoint belongs to: it can only be continued for the same partition, topic and log."""

from pathlib import Path
from typing import Any

import msgspec

from schemas.errors import InvalidInput
from schemas.log import Log, Ruleset

FORMAT = 5
"""Grows with every change of a checkpoint's tables. Other formats are refused; the log rebuilds the checkpoint."""


class CheckpointIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """Compared whenever a checkpoint is opened, and when a snapshot is restored into one."""

    format: int
    partition: int
    topic_id: str
    log: Log

    def compare(self, path: Path | str, given: "CheckpointIdentity", judged: int | None) -> None:
        """Raises InvalidInput, which names `path`, if `given` is another identity.

        Rulesets may be added for epochs after the last one `judged`.
        """
        if self.format != given.format:
            remedy = (
                "use the version that wrote it, or a later one"
                if self.format > given.format
                else "remove it, and `tallyroot stream` rebuilds it from the log"
            )
            raise InvalidInput(f"{path} has format {self.format}, this version reads {given.format}: {remedy}")
        for name in ("partition", "topic_id"):
            _same(path, name, getattr(self, name), getattr(given, name))
        for name in Log.__struct_fields__:
            if name != "rulesets":
                _same(path, name, getattr(self.log, name), getattr(given.log, name))
        if judged is not None and _until(self.log, judged) != _until(given.log, judged):
            raise InvalidInput(
                f"the list of rulesets contradicts {path}, which has judged records up to epoch {judged}:"
                f" restore the list as it was, and let a new ruleset begin at epoch {judged + 1} or later"
            )


def _same(path: Path | str, name: str, stored: Any, given: Any) -> None:
    if stored == given:
        return
    what = "the topic was recreated" if name == "topic_id" else "the log is another one"
    raise InvalidInput(
        f"{path} was made with {name} {stored}, now it is {given}: {what};"
        " restore it, or start a new log with a new data folder"
    )


def _until(log: Log, epoch: int) -> list[Ruleset]:
    return [ruleset for ruleset in log.rulesets if ruleset.first_epoch <= epoch]
