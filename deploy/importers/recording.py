"""Recorded files as a new log of a data folder, which is made where there is none."""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from deploy.data_folder import DataFolder
from deploy.importers.replay import ReplayReport, rebased, replay
from deploy.importers.source_log import SourceLog, SourceOptions
from deploy.importers.sources import SOURCES
from deploy.texts import moment_text
from schemas.errors import InvalidInput
from schemas.log import Log, Ruleset
from schemas.parsing import duration_ms
from schemas.registration import Agreement
from streams.core.signature import operator_account
from streams.kafka.topics import create_topic


@dataclass(frozen=True)
class ReplayOptions:
    """How data files become a log: `days` limits each file, `epoch` is a duration such as 1d.

    With a `seed` the log's id and its salts follow from it: the same files then have the same roots everywhere.
    """

    epoch: str = "1d"
    partitions: int = 4
    days: int | None = None
    unit: Literal["W", "kW"] | None = None
    zone: str | None = None
    capacity_w: int | None = None
    rebase: bool = False
    seed: str | None = None
    payees: dict[str, int] | None = None

    def of_source(self) -> SourceOptions:
        """The part of them that a source needs."""
        return SourceOptions(unit=self.unit, zone=self.zone, capacity_w=self.capacity_w, days=self.days)


def read_sources(files: list[tuple[str, Path]], options: ReplayOptions) -> list[SourceLog]:
    """(kind, file) pairs as logs, on one calendar if that is asked for. Raises InvalidInput."""
    for kind, path in files:
        if kind not in SOURCES:
            raise InvalidInput(f"'{kind}' is not a kind of source: choose one of {', '.join(SOURCES)}")
        if not path.is_file():
            raise InvalidInput(f"there is no file {path}: check the path")
    read = [SOURCES[kind].read(path, options.of_source()) for kind, path in files]
    return rebased(read) if options.rebase else read


def make_log(data: DataFolder, options: ReplayOptions) -> Log:
    """This folder's log for recorded files, with its topic; a log that is there is kept. Servers must run."""
    # Asked first: a replay that is refused leaves no log behind.
    operator_key, servers = data.operator_key(), data.kafka_servers()
    log = data.create_log(
        Log(
            log_id=options.seed or f"log-{secrets.token_hex(8)}",
            topic=data.settings.topic,
            partitions=options.partitions,
            timestamp_type="CreateTime",
            epoch_ms=duration_ms(options.epoch),
            rulesets=(Ruleset(operators=(operator_account(operator_key),)),),
        )
    )
    create_topic(servers, log)
    return log


def replay_into(
    data: DataFolder,
    progress: Callable[[float, str], None],
    sources: list[SourceLog],
    options: ReplayOptions,
    agreements: Mapping[str, Agreement] | None = None,
) -> ReplayReport:
    """Produces sources into a new log of this folder; `progress` hears what part of their time is done, and words.

    `agreements` are those of machines that do not pay the options' payees, by machine.
    """
    log, operator_key = make_log(data, options), data.operator_key()
    own, agreement = agreements or {}, Agreement(options.payees or data.demo_payees())
    first_ms, last_ms = (
        min((part.start_ms for part in sources), default=0),
        max((part.end_ms for part in sources), default=0),
    )
    return replay(
        log,
        data.kafka_servers(),
        sources,
        operator_key,
        lambda machine: own.get(machine.machine, agreement),
        lambda records, moment_ms: progress(
            (moment_ms - first_ms) / max(last_ms - first_ms, 1), f"{records:,} records, up to {moment_text(moment_ms)}"
        ),
        seed=options.seed,
    )
