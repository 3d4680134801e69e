"""Servers up and down, what runs, and queries: commands that need the data folder alone, and so start at once."""

import http.client
import json
import sys
from dataclasses import dataclass

import duckdb

from deploy.cli.sql_shell import SqlShell
from deploy.cli.terminal import Terminal
from deploy.data_folder import DataFolder
from deploy.stack.servers import Stack
from deploy.stack.supervise import Supervised, start_workers, stop_workers
from schemas.errors import InvalidInput
from streams.storage.analytics import make_analytics


def up(data: DataFolder, terminal: Terminal, workers: int | None = None, metrics_port: int | None = None) -> None:
    """Starts the servers that do not run yet, and so many supervised workers in place of those that run.

    The workers serve /health and /metrics on `metrics_port` and those behind it, without one on free ports.
    """
    if workers is not None:
        data.log()  # before anything starts: workers without a log would end at once
    terminal.step("starting Kafka and the EVM node")
    stack = data.start_stack()
    terminal.say(f"Kafka      {stack.kafka_bootstrap_servers}")
    terminal.say(f"EVM node   {stack.chain_rpc_url}")
    shown = []
    if workers is not None:
        terminal.step(f"starting workers: {workers}")
        port = data.settings.metrics_port if metrics_port is None else metrics_port
        shown = _worker_rows(data, start_workers(data.data_dir, workers, port or 0))
        for row in shown:
            terminal.say(f"worker {row['worker']}   {row['address']}/health, log {row['log']}")
    terminal.result({"kafka": stack.kafka_bootstrap_servers, "chain": stack.chain_rpc_url, "workers": shown})


def down(data: DataFolder, terminal: Terminal) -> None:
    """Stops the workers that are supervised, then the servers that are ours; their data stays."""
    workers = stop_workers(data.data_dir)
    stack = Stack.load(data.data_dir)
    if stack is not None:
        stack.stop()
    terminal.say("stopped; the data stays")
    terminal.result({"stopped": stack is not None, "workers": workers})


def status(data: DataFolder, terminal: Terminal) -> None:
    """What runs, how the supervised workers are, and how far each partition's epochs are."""
    stack = Stack.load(data.data_dir)
    running = stack is not None and stack.alive()
    servers = {"kafka": stack.kafka_bootstrap_servers, "chain": stack.chain_rpc_url} if stack and running else {}
    terminal.say("servers run" if running else "no servers run: start them with `tallyroot up`")
    for name, address in servers.items():
        terminal.say(f"  {name:8} {address}")
    supervised = Supervised.load(data.data_dir)
    workers = [] if supervised is None else _worker_rows(data, supervised, ask=True)
    if supervised is not None:
        if not supervised.supervisor.alive():
            terminal.say("nobody restarts the workers: run `tallyroot up --workers` again")
        terminal.table("workers", ["worker", "pid", "starts", "state"], [
            [row["worker"], row["pid"], row["starts"], row["state"]] for row in workers
        ])  # fmt: skip
    log = data.log()
    terminal.say(f"log {log.log_id}: {log.partitions} partitions of topic {log.topic}, {log.currency}")
    rows = query(
        data,
        'SELECT "partition", count(*) AS epochs, max(next_offset) AS next_offset, max("end") AS "end",'
        " sum(entries) AS entries, sum(rejected) AS rejected FROM epochs GROUP BY 1 ORDER BY 1",
    )
    terminal.table("epochs that ended", rows.columns, rows.rows)
    terminal.result(
        {"running": running, "servers": servers, "workers": workers, "log": log, "partitions": rows.records()}
    )


def _worker_rows(data: DataFolder, supervised: Supervised, *, ask: bool = False) -> list[dict[str, object]]:
    """One object for each supervised worker; with `ask` also what its /health says now."""
    host = data.settings.metrics_host
    rows: list[dict[str, object]] = []
    for worker in supervised.workers:
        runs = worker.process is not None and worker.process.alive()
        row: dict[str, object] = {
            "worker": worker.number,
            "pid": worker.process.pid if worker.process is not None and runs else None,
            "starts": worker.starts,
            "last_exit": worker.last_exit,
            "address": f"http://{host}:{worker.port}",
            "log": data.data_dir / "logs" / f"worker-{worker.number}.log",
        }
        if ask:
            waits = (
                f"given up: {worker.last_exit}" if worker.given_up else f"waits for its next start: {worker.last_exit}"
            )
            row["state"] = _health(host, worker.port) if runs else waits
        rows.append(row)
    return rows


def _health(host: str, port: int) -> str:
    """What a worker's /health says: "ok", or what is wrong."""
    connection = http.client.HTTPConnection("127.0.0.1" if host == "0.0.0.0" else host, port, timeout=5.0)  # noqa: S104
    try:
        connection.request("GET", "/health")
        answer = json.loads(connection.getresponse().read())
        return str(answer["reason"] or "ok")
    except (OSError, http.client.HTTPException, ValueError, KeyError):
        return "starting: it doesn't answer yet"
    finally:
        connection.close()


def machines(data: DataFolder, terminal: Terminal) -> None:
    """Every machine, how it does, and the stretch of time that its uptime is of."""
    rows = query(data, "SELECT * FROM machines ORDER BY machine")
    columns = {
        "machine": "machine", "last_seen": "last seen (UTC)", "windows": "windows", "readings": "readings",
        "gross": "gross", "currency": "", "trust": "trust", "flags": "flags", "equivocations": "equivocations",
        "uptime": "uptime %", "uptime_from": "from (UTC)", "uptime_until": "until (UTC)",
    }  # fmt: skip
    records = rows.records()
    shown = [
        [", ".join(cell) if isinstance(cell := record[name], list) else cell for name in columns] for record in records
    ]
    terminal.table("machines", list(columns.values()), shown)
    terminal.result({"machines": records})


@dataclass(frozen=True)
class Rows:
    """What a query gave."""

    columns: list[str]
    rows: list[tuple[object, ...]]

    def records(self) -> list[dict[str, object]]:
        """One object for each row."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


def query(data: DataFolder, text: str) -> Rows:
    """Runs a query on the views of this folder. Raises InvalidInput with DuckDB's own first line."""
    data.fetch_epochs()
    path = make_analytics(data.data_dir, data.log())
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


def sql(data: DataFolder, terminal: Terminal, text: str | None) -> None:
    """One query, from the command line or from standard input; on a terminal without one, a shell."""
    if text is None and not terminal.as_json and sys.stdin.isatty() and sys.stdout.isatty():
        data.fetch_epochs()
        with duckdb.connect(str(make_analytics(data.data_dir, data.log())), read_only=True) as connection:
            SqlShell(connection, terminal, data.data_dir / ".sql_history").run()
        return
    rows = query(data, text if text is not None else sys.stdin.read())
    terminal.table("", rows.columns, rows.rows)
    terminal.result({"columns": rows.columns, "rows": rows.rows})
