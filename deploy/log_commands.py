"""What the commands about the log do: servers, replay, workers, queries, receipts."""

import re
import secrets
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import duckdb

from deploy.stack import Stack
from deploy.terminal import Terminal
from deploy.workplace import Workplace
from schemas.errors import InvalidInput
from schemas.log import Log, Ruleset
from schemas.registration import POINTS_WHOLE, Agreement
from schemas.units import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS
from streams.adapters.analytics import make_analytics
from streams.adapters.topics import create_topic
from streams.app import WorkerProgress, WorkerSettings, run_worker
from streams.gateway.replay import ReplayReport, rebased
from streams.gateway.replay import replay as send
from streams.gateway.source_log import SourceOptions
from streams.gateway.sources import SOURCES
from streams.signature import operator_account

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


def up(place: Workplace, terminal: Terminal) -> None:
    """Starts what does not run yet."""
    terminal.step("starting Kafka and the EVM node")
    stack = place.start_stack()
    terminal.say(f"Kafka      {stack.kafka_bootstrap_servers}")
    terminal.say(f"EVM node   {stack.chain_rpc_url}")
    terminal.result({"kafka": stack.kafka_bootstrap_servers, "chain": stack.chain_rpc_url})


def down(place: Workplace, terminal: Terminal) -> None:
    """Stops the servers that are ours; their data stays."""
    stack = Stack.load(place.data_dir)
    if stack is not None:
        stack.stop()
    terminal.say("stopped; the data stays")
    terminal.result({"stopped": stack is not None})


def replay(place: Workplace, terminal: Terminal, files: list[tuple[str, Path]], options: ReplayOptions) -> ReplayReport:
    """Produces files into a new log of this folder, which is made where there is none."""
    sources = [
        SOURCES[kind].read(path, SourceOptions(unit=options.unit, zone=options.zone, days=options.days))
        for kind, path in files
    ]
    if options.rebase:
        sources = rebased(sources)
    operator_key = place.operator_key()
    log = place.create_log(
        Log(
            log_id=options.seed or f"log-{secrets.token_hex(8)}",
            topic=place.settings.topic,
            partitions=options.partitions,
            timestamp_type="CreateTime",
            epoch_ms=duration_ms(options.epoch),
            rulesets=(Ruleset(operators=(operator_account(operator_key),)),),
        )
    )
    stack = place.stack()
    create_topic(stack.kafka_bootstrap_servers, log)
    agreement = Agreement(options.payees or place.demo_payees())
    report = send(
        log,
        stack.kafka_bootstrap_servers,
        sources,
        operator_key,
        lambda machine: agreement,
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


def stream(place: Workplace, terminal: Terminal, *, until_caught_up: bool) -> int:
    """One worker in this process; its exit code."""
    log, stack = place.log(), place.stack()

    def progress(done: WorkerProgress) -> None:
        ended = "" if done.cut is None else f", epoch of {day_text(log.epoch_span(done.cut)[0])} ended"
        terminal.step(
            f"  partition {done.partition}: {done.records:,} records up to offset {done.next_offset:,},"
            f" {done.sealed:,} windows sealed, {done.rejected:,} refused{ended}"
        )

    settings = WorkerSettings(
        bootstrap_servers=stack.kafka_bootstrap_servers,
        data_dir=place.data_dir,
        log=log,
        until_caught_up=until_caught_up,
        on_progress=progress,
    )
    code = run_worker(settings)
    make_analytics(place.data_dir, log)
    return code


def moment_text(moment_ms: int) -> str:
    """An epoch ms as 2019-09-01 17:05 UTC."""
    return datetime.fromtimestamp(moment_ms // SECOND_MS, UTC).strftime("%Y-%m-%d %H:%M UTC")


def day_text(moment_ms: int) -> str:
    """An epoch ms as its day, with the time where it isn't midnight."""
    return datetime.fromtimestamp(moment_ms // SECOND_MS, UTC).strftime(
        "%Y-%m-%d" if moment_ms % DAY_MS == 0 else "%Y-%m-%d %H:%M"
    )


def status(place: Workplace, terminal: Terminal) -> None:
    """What runs, and how far each partition's epochs are."""
    stack = Stack.load(place.data_dir)
    running = stack is not None and stack.alive()
    servers = {"kafka": stack.kafka_bootstrap_servers, "chain": stack.chain_rpc_url} if stack and running else {}
    terminal.say("servers run" if running else "no servers run: start them with `tallyroot up`")
    for name, address in servers.items():
        terminal.say(f"  {name:8} {address}")
    log = place.log()
    terminal.say(f"log {log.log_id}: {log.partitions} partitions of topic {log.topic}, {log.currency}")
    rows = query(
        place,
        "SELECT partition, count(*) AS epochs, max(next_offset) AS next_offset, max(end_ms) AS end_ms,"
        " sum(entries)::BIGINT AS entries, sum(rejected)::BIGINT AS rejected FROM epochs GROUP BY 1 ORDER BY 1",
    )
    terminal.table("epochs that ended", rows.columns, rows.rows)
    terminal.result({"running": running, "servers": servers, "log": log, "partitions": rows.records()})


@dataclass(frozen=True)
class Rows:
    """What a query gave."""

    columns: list[str]
    rows: list[tuple[object, ...]]

    def records(self) -> list[dict[str, object]]:
        """One object for each row."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


def query(place: Workplace, text: str) -> Rows:
    """Runs a query on the views of this folder. Raises InvalidInput with DuckDB's own first line."""
    path = make_analytics(place.data_dir, place.log())
    connection = duckdb.connect(str(path), read_only=True)
    try:
        result = connection.execute(text)
        columns = [column[0] for column in result.description or ()]
        return Rows(columns, result.fetchall())
    except duckdb.Error as error:
        raise InvalidInput(f"the query failed: {str(error).splitlines()[0]}") from None
    finally:
        connection.close()


def sql(place: Workplace, terminal: Terminal, text: str | None) -> None:
    """One query, from the command line or from standard input."""
    rows = query(place, text if text is not None else sys.stdin.read())
    terminal.table("", rows.columns, rows.rows)
    terminal.result({"columns": rows.columns, "rows": rows.rows})
