"""Queries on the views of a data folder."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import duckdb

from deploy.data_folder import DataFolder
from schemas.errors import InvalidInput
from streams.storage.views_origin import ANALYTICS_FILE, views_origin


@dataclass(frozen=True)
class Rows:
    """What a query returned."""

    columns: list[str]
    rows: list[tuple[object, ...]]

    def records(self) -> list[dict[str, object]]:
        """One object for each row."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


@contextmanager
def views(data: DataFolder) -> Iterator[duckdb.DuckDBPyConnection]:
    """A read-only connection to the views, over all epochs that workers on any host made final."""
    data.fetch_epochs()
    log = data.log()
    connection = _current_views(data.data_dir, views_origin(data.data_dir, log))
    if connection is None:
        from streams.storage.analytics import make_analytics  # Arrow, which a query of current views needs not

        connection = duckdb.connect(str(make_analytics(data.data_dir, log)), read_only=True)
    with connection:
        yield connection


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


def query(data: DataFolder, text: str) -> Rows:
    """Runs a query on the views. Raises InvalidInput with DuckDB's own first line."""
    with views(data) as connection:
        try:
            result = connection.execute(text)
            if result is None:
                raise InvalidInput("no query: write one after `tallyroot sql`, or send it to its standard input")
            columns = [column[0] for column in result.description or ()]
            return Rows(columns, result.fetchall())
        except duckdb.Error as error:
            raise InvalidInput(f"the query failed: {str(error).splitlines()[0]}") from None
