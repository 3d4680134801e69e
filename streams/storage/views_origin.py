"""What the views of a data folder are made from, so that they are made again only where that has changed.

It imports neither Arrow nor DuckDB: a query whose views are current loads no more than it needs.
"""

from hashlib import sha256
from pathlib import Path

import msgspec

from files.read import FileMissing, read_json
from schemas.log import Log

ANALYTICS_FILE = "analytics.duckdb"
MERGED, UNTIL_FILE = "merged", "until.json"
SOURCES = (Path(__file__).parent, Path(__file__).parents[2] / "schemas")
"""Where the text of the views, their comments, and the columns of the files are written down."""


class MergedUntil(msgspec.Struct, frozen=True):
    """merged/until.json: queries read all epochs that start before this moment (epoch ms) from merged/."""

    until_ms: int


def merged_until(data_dir: Path) -> int:
    """The moment in merged/until.json; 0 where nothing was merged. Raises InvalidInput for a damaged file."""
    path = data_dir / MERGED / UNTIL_FILE
    try:
        remedy = "remove merged/, and run `tallyroot merge`"
        return read_json(path, MergedUntil, what="a moment", remedy=remedy).until_ms
    except FileMissing:
        return 0


def views_origin(data_dir: Path, log: Log) -> str:
    """Hex digest of the views' source, the folder's path, its log, what is merged: what `files.made_from` shows."""
    digest = sha256(msgspec.json.encode((str(data_dir.resolve()), log, merged_until(data_dir))))
    for path in sorted(path for folder in SOURCES for path in folder.iterdir() if path.suffix in (".py", ".sql")):
        digest.update(sha256(path.read_bytes()).digest())
    return digest.hexdigest()
