"""Queries on the views of a data folder, which reach no file but those that the views read.

A query may come from anyone: DuckDB alone would let it write into the sealed epochs. So external access is off but for
the views' own folders, settings are locked, and statements that write or attach files are refused.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import duckdb

from deploy.data_folder import DataFolder
from schemas.errors import InvalidInput
from streams.storage.views_origin import ANALYTICS_FILE, views_origin

VIEW_FOLDERS = ("epochs", "merged", "live", "settlement")
"""The folders whose files the views read."""

VIEW_FILES = ("availability.json",)
"""The files beside them that the views read; where one is missing, DuckDB looks for a folder of that name."""

READING = {"SELECT", "EXPLAIN", "MULTI", "CREATE", "INSERT", "UPDATE", "DELETE", "DROP", "ALTER", "TRANSACTION"}
"""Statements that touch no file in a database that is opened read-only: what they make is temporary. MULTI is PIVOT."""

WRITING = {"copy", "export", "attach", "prepare"}
FILE_NAME = re.compile(r"Table with name \S*[./]\S* does not exist")
"""What DuckDB says of FROM 'file.csv' where it may not look for the file."""

NEEDS_FILES = "reads or writes files, which `tallyroot sql` may do only with --allow-files"


@dataclass(frozen=True)
class Rows:
    """What a query returned."""

    columns: list[str]
    rows: list[tuple[object, ...]]

    def records(self) -> list[dict[str, object]]:
        """One object for each row."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


@contextmanager
def views(data: DataFolder, *, allow_files: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
    """A read-only connection to the views, over all epochs that workers on any host made final.

    Without `allow_files` it can open the files of the views and no others, and that can't be changed.
    """
    data.fetch_epochs()
    with open_views(data) as connection:
        if not allow_files:
            folders = [str(data.data_dir.resolve() / folder) for folder in VIEW_FOLDERS + VIEW_FILES]
            files = [str(data.data_dir.resolve() / file) for file in VIEW_FILES]
            connection.execute("SET allowed_directories = $1", [folders])
            connection.execute("SET allowed_paths = $1", [files])
            connection.execute("SET enable_external_access = false")
            connection.execute("SET lock_configuration = true")
        yield connection


def open_views(data: DataFolder) -> duckdb.DuckDBPyConnection:
    """A read-only connection to `analytics.duckdb`, which is made where it is missing or was made from something else.

    So it is made once, by whoever comes first: `up`, a worker that runs without it, or a query of a folder that moved.
    """
    log = data.log()
    connection = _current_views(data.data_dir, views_origin(data.data_dir, log))
    if connection is not None:
        return connection
    from streams.storage.analytics import make_analytics  # Arrow, which a query of current views needs not

    return duckdb.connect(str(make_analytics(data.data_dir, log)), read_only=True)


def _current_views(data_dir: Path, origin: str) -> duckdb.DuckDBPyConnection | None:
    """A connection to the views that are there, None where they were made from something else or can't be opened."""
    if not (data_dir / ANALYTICS_FILE).exists():
        return None
    with suppress(duckdb.Error):
        connection = duckdb.connect(str(data_dir / ANALYTICS_FILE), read_only=True)
        with suppress(duckdb.Error):
            if connection.execute("FROM files.made_from").fetchall() == [(origin,)]:
                return connection
        connection.close()
    return None


def query(data: DataFolder, text: str, *, allow_files: bool = False) -> Rows:
    """Runs statements on the views; returns what the last one returned. Raises InvalidInput with DuckDB's own words."""
    with views(data, allow_files=allow_files) as connection:
        try:
            result = run(connection, text, allow_files=allow_files)
            columns = [column[0] for column in result.description or ()]
            return Rows(columns, result.fetchall())
        except duckdb.Error as error:
            raise InvalidInput(f"the query failed: {str(error).splitlines()[0]}") from None


def run(connection: duckdb.DuckDBPyConnection, text: str, *, allow_files: bool) -> duckdb.DuckDBPyConnection:
    """Executes statements on the connection of `views`.

    Raises InvalidInput where there is none, or where one needs files that it may not reach; else duckdb.Error.
    """
    statements = connection.extract_statements(text)
    if not statements:
        raise InvalidInput("no query: write one after `tallyroot sql`, or send it to its standard input")
    try:
        for statement in statements:
            kind = statement.type.name
            if not allow_files and (kind not in READING or (kind in ("EXPLAIN", "MULTI") and _may_write(text))):
                raise InvalidInput(f"{_first_words(statement.query)} {NEEDS_FILES}")
        for statement in statements:
            result = connection.execute(statement)
    except duckdb.PermissionException:
        raise InvalidInput(f"the query {NEEDS_FILES}") from None
    except duckdb.CatalogException as error:
        if FILE_NAME.search(str(error)) and not allow_files:
            raise InvalidInput(f"the query {NEEDS_FILES}") from None
        raise
    return result


def _may_write(text: str) -> bool:
    """Whether a word of the text is that of a statement that writes: EXPLAIN ANALYZE runs what follows it."""
    return not WRITING.isdisjoint(text.lower().replace("(", " ").split())


def _first_words(text: str) -> str:
    return " ".join(text.split()[:2])
