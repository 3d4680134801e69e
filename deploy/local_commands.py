"""Servers up and down, what runs, and queries: commands that need the data folder alone, and so start at once."""

import sys
from dataclasses import dataclass

import duckdb

from deploy.stack import Stack
from deploy.terminal import Terminal
from deploy.workplace import Workplace
from schemas.errors import InvalidInput
from streams.adapters.analytics import make_analytics


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
        'SELECT "partition", count(*) AS epochs, max(next_offset) AS next_offset, max("end") AS "end",'
        " sum(entries) AS entries, sum(rejected) AS rejected FROM epochs GROUP BY 1 ORDER BY 1",
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
        if result is None:
            raise InvalidInput("no query: write one behind `tallyroot sql`, or send it to its standard input")
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
