"""Queries on the views of a data folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import duckdb

from deploy.data_folder import DataFolder
from schemas.errors import InvalidInput
from streams.storage.analytics import make_analytics


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
    with duckdb.connect(str(make_analytics(data.data_dir, data.log())), read_only=True) as connection:
        yield connection


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
