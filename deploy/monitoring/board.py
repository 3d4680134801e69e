"""Writes the Grafana board and the how-to's table of metrics: `python -m deploy.monitoring.board`.

Each panel is a line or two here: a title, a unit, and queries with what names their lines. Ids and places follow.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct

from deploy.money.chain_metrics import OF_NODES, OF_SETTLE, OF_WATCH
from files.write import write_bytes
from streams.worker.metrics import OF_A_WORKER
from streams.worker.metrics_page import OF_A_FOLDER, OF_EVERY_PAGE, Described

FOLDER = Path(__file__).resolve().parent
BOARD = FOLDER / "board.json"
HOW_TO = FOLDER.parents[1] / "docs" / "how-to" / "monitoring.md"
TABLE_BEGINS, TABLE_ENDS = "<!-- written by python -m deploy.monitoring.board -->\n", "<!-- end -->\n"

METRICS: dict[str, Described] = {
    "every page": OF_EVERY_PAGE,
    "a worker and `settle --follow`": OF_A_FOLDER,
    "a worker": OF_A_WORKER,
    "`settle --follow`": OF_SETTLE,
    "`watch`": OF_WATCH,
    "`settle --follow` and `watch`": OF_NODES,
}

SCHEMA_VERSION = 39
"""Of Grafana's dashboards: any version from 10.1 on reads it, and newer ones move it on."""

WIDTH = 24
SOURCE = {"type": "prometheus", "uid": "${source}"}
LOG = '{log=~"$log"}'


class Panel(Struct, frozen=True):
    """One panel. A query stands for `{LOG}` where it takes the chosen log; by query, what names its lines."""

    title: str
    unit: str
    queries: dict[str, str]
    meaning: str = ""
    kind: Literal["timeseries", "stat"] = "timeseries"
    width: int = 8
    alarm: float | None = None
    """A figure that is above this is red."""

    @property
    def height(self) -> int:
        """Rows of the grid."""
        return 8 if self.kind == "timeseries" else 4

    def document(self, number: int, x: int, y: int) -> dict[str, Any]:
        """The panel as Grafana reads it."""
        steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
        if self.alarm is not None:
            steps.append({"color": "red", "value": self.alarm})
        defaults: dict[str, Any] = {"unit": self.unit, "thresholds": {"mode": "absolute", "steps": steps}}
        if self.kind == "timeseries":
            defaults["min"] = 0
            defaults["custom"] = {"lineWidth": 1, "fillOpacity": 10, "showPoints": "never", "spanNulls": False}
            options: dict[str, Any] = {
                "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
                "tooltip": {"mode": "multi", "sort": "desc"},
            }
        else:
            options = {
                "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
                "colorMode": "value", "graphMode": "none", "justifyMode": "auto", "orientation": "auto",
                "textMode": "auto",
            }  # fmt: skip
        return {
            "id": number, "type": self.kind, "title": self.title, "description": self.meaning, "datasource": SOURCE,
            "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height},
            "fieldConfig": {"defaults": defaults, "overrides": []}, "options": options,
            "targets": [
                {"refId": chr(ord("A") + at), "datasource": SOURCE, "expr": of_log(query), "legendFormat": legend}
                for at, (query, legend) in enumerate(self.queries.items())
            ],
        }  # fmt: skip


def stat(title: str, unit: str, query: str, meaning: str = "", *, width: int = 4, alarm: float | None = None) -> Panel:
    """A panel with one figure, as of now."""
    return Panel(title, unit, {query: ""}, meaning, "stat", width, alarm)


def quantiles(name: str) -> dict[str, str]:
    """The median and the 99th percentile of a histogram."""
    rate = f"sum by (le) (rate(tallyroot_{name}_bucket{LOG}[$__rate_interval]))"
    return {f"histogram_quantile({part}, {rate})": label for part, label in ((0.5, "median"), (0.99, "99 %"))}


ROWS: dict[str, tuple[Panel, ...]] = {
    "Fleet": (
        stat("Machines", "none", "sum(max by (partition) (tallyroot_partition_machines{LOG}))"),
        stat("Entries in a day", "short", "sum(increase(tallyroot_entries_total{LOG}[1d]))"),
        stat(
            "Refused in a day", "percentunit",
            "sum(increase(tallyroot_rejects_total{LOG}[1d])) / sum(increase(tallyroot_entries_total{LOG}[1d]))",
            alarm=0.05,
        ),
        stat("Windows sealed in a day", "short", "sum(increase(tallyroot_windows_sealed_total{LOG}[1d]))"),
        stat("Epochs ended in a day", "short", "sum(increase(tallyroot_epochs_cut_total{LOG}[1d]))"),
        stat("Partitions that nobody reads", "none", "max(tallyroot_uncovered_partitions{LOG})", alarm=1),
        Panel("Entries", "reqps", {
            "sum by (outcome) (rate(tallyroot_entries_total{LOG}[$__rate_interval]))": "{{outcome}}",
        }),
        Panel("Refused, by reason", "reqps", {
            "sum by (reason) (rate(tallyroot_rejects_total{LOG}[$__rate_interval]))": "{{reason}}",
        }, "Reasons and what helps: `tallyroot machines`, `tallyroot check-gateway`."),
        Panel("Stream time behind the clock", "s", {
            "time() - max by (partition) (tallyroot_partition_stream_time_seconds{LOG})": "partition {{partition}}",
        }, "A log of recorded data is as far behind as its records are old."),
    ),
    "Workers": (
        Panel("Lag", "short", {
            "max by (partition) (tallyroot_partition_lag_records{LOG})": "partition {{partition}}",
        }, "Offsets that wait in the log behind the last commit."),
        Panel("Records", "rps", {
            "sum by (partition) (rate(tallyroot_records_total{LOG}[$__rate_interval]))": "partition {{partition}}",
        }),
        Panel("Hidden by open transactions, and epochs that wait for their files", "short", {
            "max by (partition) (tallyroot_partition_hidden_records{LOG}) > 0": "hidden in partition {{partition}}",
            "max by (partition) (tallyroot_partition_epochs_pending{LOG}) > 0": "epochs of partition {{partition}}",
        }),
        Panel("Fetch", "s", quantiles("fetch_duration_seconds")),
        Panel("Commit", "s", quantiles("commit_duration_seconds")),
        Panel("Seal to query", "s", quantiles("seal_to_query_duration_seconds"),
              "From the fetch of the record that seals a window to the file that queries find it in."),
        Panel("Healthy", "none", {"tallyroot_healthy{LOG}": "{{job}} {{instance}}"}, "1 where /health answers 200."),
        Panel("Since the last commit", "s", {
            "time() - max by (partition) (tallyroot_partition_last_commit_timestamp_seconds{LOG})":
                "partition {{partition}}",
        }),
        Panel("Store", "short", {
            "tallyroot_store_up{LOG}": "answers {{instance}}",
            "max(tallyroot_store_uploads_waiting{LOG})": "epochs that wait for it",
            "sum(increase(tallyroot_store_failures_total{LOG}[$__rate_interval]))": "failures",
        }, "Where TALLYROOT_STORE is set."),
        Panel("Memory", "bytes", {
            'process_resident_memory_bytes{job=~"tallyroot.*", log=~"$log"}': "{{job}} {{instance}}",
        }),
        Panel("CPU", "percentunit", {
            'rate(process_cpu_seconds_total{job=~"tallyroot.*", log=~"$log"}[$__rate_interval])':
                "{{job}} {{instance}}",
        }),
        Panel("Disk", "bytes", {
            "min by (instance) (tallyroot_disk_free_bytes{LOG})": "free {{instance}}",
            "max by (part) (tallyroot_data_folder_bytes{LOG})": "{{part}}",
        }),
    ),
    "Settlement": (
        stat("Posts", "none", "max(tallyroot_ledger_posts{LOG})"),
        stat("Since the last post", "s", "time() - max(tallyroot_ledger_last_post_timestamp_seconds{LOG})"),
        stat("Since these figures were noted", "s", "time() - max(tallyroot_ledger_noted_timestamp_seconds{LOG})",
             "Figures of the ledger are those of the last settlement.", alarm=26 * 3_600),
        stat("Since settle came through", "s", "time() - max(tallyroot_settle_last_round_timestamp_seconds{LOG})",
             "`settle --follow`.", alarm=3_600),
        stat("Runway", "s", "min(tallyroot_ledger_runway_seconds{LOG})"),
        stat("Shortfall", "none", "max(tallyroot_ledger_shortfall_tokens{LOG})", "Above 0 nothing is posted.",
             alarm=1e-9),
        Panel("Rounds of settle", "short", {
            "sum by (outcome) (increase(tallyroot_settle_rounds_total{LOG}[$__rate_interval]))": "{{outcome}}",
        }),
        Panel("A round of settle", "s", quantiles("settle_round_duration_seconds")),
        Panel("EVM nodes", "reqps", {
            "sum by (node) (rate(tallyroot_rpc_requests_total{LOG}[$__rate_interval]))": "{{node}}",
            "sum by (node) (rate(tallyroot_rpc_failures_total{LOG}[$__rate_interval]))": "{{node}} fails",
        }),
    ),
    "Money": (
        *(
            stat(title, "none", f"max(tallyroot_ledger_{name}_tokens{LOG})", meaning, width=4)
            for title, name, meaning in (
                ("Earned", "earned", "All that was ever earned, posted or not, in whole tokens."),
                ("Funded", "funded", "All that the ledger was ever sent."),
                ("Collected", "collected", "What customers really paid for what was used."),
                ("Claimed", "claimed", "What payees have claimed."),
                ("Deposits", "deposits", "What customers paid for sessions that are still open."),
            )
        ),
        stat(
            "Earned, not claimed", "none",
            "max(tallyroot_ledger_earned_tokens{LOG}) - max(tallyroot_ledger_claimed_tokens{LOG})",
        ),
        Panel("Earned, funded, collected, claimed, shortfall", "none", {
            f"max(tallyroot_ledger_{name}_tokens{LOG})": name
            for name in ("earned", "funded", "collected", "claimed", "shortfall")
        }, "In whole tokens.", width=16),
        Panel("Runway", "s", {"min(tallyroot_ledger_runway_seconds{LOG})": "runway"},
              "How long free funds last at the pace of the last posts."),
    ),
    "Watcher": (
        stat("Calm", "bool_yes_no", "min(tallyroot_watch_calm{LOG})", "Whether nobody must look at anything."),
        stat("Since the last look", "s", "time() - max(tallyroot_watch_last_look_timestamp_seconds{LOG})", alarm=1_800),
        stat("Attested up to post", "none", "max(tallyroot_ledger_attested_posts{LOG})"),
        stat("Disputes", "none", "max(tallyroot_ledger_disputes{LOG})", "Ever."),
        stat("Changes of roles", "none", "max(tallyroot_ledger_role_changes{LOG})",
             "Ever, the grants of the deployment among these."),
        stat("Announced by the admin", "none", "max(tallyroot_ledger_announced_steps{LOG})", alarm=1),
        Panel("Attestations that posts lack", "none", {
            "max(tallyroot_ledger_quorum{LOG}) - on () group_right max by (post) (tallyroot_post_attestations{LOG})":
                "post {{post}}",
        }, "Of posts that can still be disputed."),
        Panel("Left of their delay", "s", {
            "max by (post) (tallyroot_post_delay_end_timestamp_seconds{LOG}) - time() > 0": "post {{post}}",
        }, "Of posts that can still be disputed."),
        Panel("Posts by verdict", "none", {"max by (verdict) (tallyroot_watch_posts{LOG})": "{{verdict}}"}),
        Panel("Looks", "short", {
            "sum by (outcome) (increase(tallyroot_watch_looks_total{LOG}[$__rate_interval]))": "{{outcome}}",
            "sum by (action) (increase(tallyroot_watch_actions_total{LOG}[$__rate_interval]))": "{{action}}",
        }),
        Panel("A look", "s", quantiles("watch_look_duration_seconds")),
        Panel("Disputed", "none", {"max(tallyroot_ledger_disputed{LOG})": "from a dispute to the next post"}),
    ),
}  # fmt: skip


def of_log(query: str) -> str:
    """A query on the log that the board shows."""
    return query.replace("{LOG}", LOG)


def board() -> dict[str, Any]:
    """The board as Grafana imports it."""
    return {
        "uid": "tallyroot", "title": "tallyroot", "tags": ["tallyroot"], "schemaVersion": SCHEMA_VERSION, "version": 1,
        "description": "Fleet, workers, settlement, money and watcher of one log.",
        "editable": True, "graphTooltip": 1, "refresh": "30s", "time": {"from": "now-6h", "to": "now"},
        "timezone": "utc",
        "templating": {"list": [
            {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus", "refresh": 1},
            {
                "name": "log", "label": "Log", "type": "query", "datasource": SOURCE, "refresh": 2, "sort": 1,
                "query": {"query": "label_values(tallyroot_healthy, log)", "refId": "log"},
                "includeAll": True, "allValue": ".*", "current": {"text": "All", "value": "$__all"},
            },
        ]},
        "annotations": {"list": [{
            "name": "Alerts", "enable": True, "datasource": SOURCE, "iconColor": "red",
            "expr": 'ALERTS{alertname=~"Tallyroot.*", alertstate="firing"}',
        }]},
        "panels": list(_panels()),
    }  # fmt: skip


def _panels() -> Iterator[dict[str, Any]]:
    """Row after row, each from the left to the right."""
    number, y = 1, 0
    for title, panels in ROWS.items():
        yield {"id": number, "type": "row", "title": title, "collapsed": False, "panels": [],
               "gridPos": {"x": 0, "y": y, "w": WIDTH, "h": 1}}  # fmt: skip
        number, x, y, height = number + 1, 0, y + 1, 0
        for panel in panels:
            if x + panel.width > WIDTH or (x and panel.height != height):
                x, y = 0, y + height
            yield panel.document(number, x, y)
            number, x, height = number + 1, x + panel.width, panel.height
        y += height


def table() -> str:
    """Every metric as Markdown, those of every page first."""
    lines = ["| metric | labels | what it says |", "|---|---|---|"]
    for whose, described in METRICS.items():
        lines.append(f"| **{whose}** | | |")
        for name, (meaning, *labels) in described.items():
            lines.append(f"| `tallyroot_{name}` | {', '.join(f'`{label}`' for label in labels)} | {meaning} |")
    return "\n".join(lines) + "\n"


def how_to() -> str:
    """The how-to with the table of now."""
    text = HOW_TO.read_text(encoding="utf-8")
    before, _, rest = text.partition(TABLE_BEGINS)
    return f"{before}{TABLE_BEGINS}{table()}{TABLE_ENDS}{rest.partition(TABLE_ENDS)[2]}"


def board_text() -> str:
    """The board's file: a line for each part, and for each panel."""
    parts = board()
    panels = ",\n  ".join(json.dumps(panel) for panel in parts.pop("panels"))
    lines = [f" {json.dumps(name)}: {json.dumps(part)}" for name, part in parts.items()]
    return "{\n" + ",\n".join([*lines, f' "panels": [\n  {panels}\n ]']) + "\n}\n"


if __name__ == "__main__":
    write_bytes(BOARD, board_text().encode())
    write_bytes(HOW_TO, how_to().encode())
