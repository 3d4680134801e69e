"""What the commands about the log do: servers, replay, workers, queries, receipts."""

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from deploy.cli.terminal import Terminal, day_text, moment_text
from deploy.data_folder import DataFolder
from deploy.importers.replay import ReplayReport, rebased
from deploy.importers.replay import replay as send
from deploy.importers.source_log import SourceLog, SourceOptions
from deploy.importers.sources import SOURCES
from schemas.errors import InvalidInput
from schemas.log import Log, Ruleset
from schemas.registration import POINTS_WHOLE, Agreement
from schemas.units import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS
from streams.core.signature import operator_account
from streams.kafka.topics import create_topic
from streams.storage.analytics import make_analytics
from streams.storage.shared_epochs import share_log

UNITS_MS = {"s": SECOND_MS, "m": MINUTE_MS, "h": HOUR_MS, "d": DAY_MS, "w": 7 * DAY_MS}


@dataclass(frozen=True)
class ReplayOptions:
    """How data files become a log: `days` limits each file, `epoch` is a duration such as 1d.

    With a `seed` the log's id and its salts follow from it: the same files then give the same roots everywhere.
    """

    epoch: str = "1d"
    partitions: int = 4
    days: int | None = None
    unit: Literal["W", "kW"] | None = None
    zone: str | None = None
    rebase: bool = False
    seed: str | None = None
    payees: dict[str, int] | None = None

    def of_source(self) -> SourceOptions:
        """What a source needs of them."""
        return SourceOptions(unit=self.unit, zone=self.zone, days=self.days)


def duration_ms(text: str) -> int:
    """A duration such as 15m, 6h or 30d in ms. Raises InvalidInput."""
    match = re.fullmatch(r"([1-9][0-9]{0,5})([smhdw])", text)
    if match is None:
        raise InvalidInput(f"'{text}' is no duration: write a number and s, m, h, d or w, such as 1d")
    return int(match[1]) * UNITS_MS[match[2]]


def parse_sources(pairs: list[str], kind: str | None, file: Path | None) -> list[tuple[str, Path]]:
    """(kind, file) of every source named on a command line. Raises InvalidInput."""
    sources: list[tuple[str, Path]] = []
    if kind is not None:
        if file is None:
            raise InvalidInput("name the file too: tallyroot replay KIND FILE")
        sources.append((kind, file))
    for pair in pairs:
        name, _, file_name = pair.partition("=")
        if not file_name:
            raise InvalidInput(f"'{pair}' is no source: write KIND=FILE, such as acn-sessions=sessions.csv")
        sources.append((name, Path(file_name)))
    if not sources:
        raise InvalidInput("name a source: tallyroot replay KIND FILE, or --source KIND=FILE")
    for name, path in sources:
        if name not in SOURCES:
            raise InvalidInput(f"'{name}' is no kind of source: choose one of {', '.join(SOURCES)}")
        if not path.is_file():
            raise InvalidInput(f"no file {path}: check the path")
    return sources


def parse_payees(pairs: list[str]) -> dict[str, int] | None:
    """Account to basis points, None where nobody is named. Raises InvalidInput."""
    payees: dict[str, int] = {}
    for pair in pairs:
        account, _, points = pair.partition("=")
        if not re.fullmatch(r"0x[0-9a-fA-F]{40}", account) or not re.fullmatch(r"[1-9][0-9]{0,4}", points):
            raise InvalidInput(f"'{pair}' is no payee: write 0xACCOUNT=POINTS, in basis points")
        payees[account.lower()] = int(points)
    if payees and sum(payees.values()) != POINTS_WHOLE:
        raise InvalidInput(f"the payees' basis points add up to {sum(payees.values())}, not to 10,000")
    return payees or None


def read_sources(files: list[tuple[str, Path]], options: ReplayOptions) -> list[SourceLog]:
    """The files as logs, on one calendar if that is asked for. Raises InvalidInput."""
    read = [SOURCES[kind].read(path, options.of_source()) for kind, path in files]
    return rebased(read) if options.rebase else read


def make_log(data: DataFolder, options: ReplayOptions) -> Log:
    """This folder's log for recorded files, with its topic; a folder that has it keeps it. Servers must run."""
    operator_key, stack = data.operator_key(), data.stack()  # Asked first: a refused replay leaves no log behind.
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
    create_topic(stack.kafka_bootstrap_servers, log)
    return log


def replay(
    data: DataFolder,
    terminal: Terminal,
    sources: list[SourceLog],
    options: ReplayOptions,
    agreements: Mapping[str, Agreement] | None = None,
) -> ReplayReport:
    """Produces sources into a new log of this folder, which is made where there is none.

    `agreements` are those of machines that do not pay the options' payees.
    """
    log, operator_key, stack = make_log(data, options), data.operator_key(), data.stack()
    own, agreement = agreements or {}, Agreement(options.payees or data.demo_payees())
    report = send(
        log,
        stack.kafka_bootstrap_servers,
        sources,
        operator_key,
        lambda machine: own.get(machine.machine, agreement),
        lambda records, moment: terminal.step(f"  {records:,} records, up to {moment_text(moment)}"),
        seed=options.seed,
    )
    _show_replay(terminal, report)
    return report


def _show_replay(terminal: Terminal, report: ReplayReport) -> None:
    terminal.say(
        f"{report.records:,} records of {report.machines} machines,"
        f" {moment_text(report.first_ms)} to {moment_text(report.last_ms)}"
    )
    for name, skipped in report.skipped.items():
        for row, reason in skipped:
            terminal.say(f"  left out: {name} row {row}: {reason}")
    for name, weeks in report.moved_weeks.items():
        terminal.say(f"  moved: {name} by {weeks} weeks")


def stream(
    data: DataFolder,
    terminal: Terminal,
    *,
    until_caught_up: bool,
    commit_records: int | None = None,
    metrics_port: int | None = None,
    log_json: bool = False,
) -> int:
    """One worker in this process; its exit code. What isn't said here is as the settings say."""
    from streams.kafka.consumer import RECORDS_MAX
    from streams.worker.app import (  # Faust: half a second that others don't need
        WorkerProgress,
        WorkerSettings,
        run_worker,
    )

    log, stack, settings = data.log(), data.stack(), data.settings
    log_json = log_json or settings.log == "json"
    store = data.store()
    if store is not None:
        store.check()
        share_log(store, log)

    def progress(done: WorkerProgress) -> None:
        ended = "" if done.cut is None else f", epoch of {day_text(log.epoch_span(done.cut)[0])} ended"
        terminal.step(
            f"  partition {done.partition}: {done.records:,} records up to offset {done.next_offset:,},"
            f" {done.sealed:,} windows sealed, {done.rejected:,} refused{ended}"
        )

    code = run_worker(
        WorkerSettings(
            bootstrap_servers=stack.kafka_bootstrap_servers,
            data_dir=data.data_dir,
            log=log,
            until_caught_up=until_caught_up,
            records_max=commit_records or RECORDS_MAX,
            on_progress=None if log_json else progress,
            metrics_host=settings.metrics_host,
            metrics_port=settings.metrics_port if metrics_port is None else metrics_port,
            on_listening=None if log_json else lambda url: terminal.step(f"  {url}/health and {url}/metrics"),
            log_json=log_json,
            store=store,
        )
    )
    make_analytics(data.data_dir, log)
    return code
