"""What the views of a data folder are made from, so that they are made again only where that has changed.

It imports neither Arrow nor DuckDB: a query whose views are current loads no more than it needs.
"""

from hashlib import sha256
from pathlib import Path

import msgspec

from schemas.log import Log

ANALYTICS_FILE = "analytics.duckdb"
SOURCES = (Path(__file__).parent, Path(__file__).parents[2] / "schemas")
"""Where the text of the views, their comments, and the columns of the files are written down."""


def views_origin(data_dir: Path, log: Log) -> str:
    """Hex digest of the source of the views, the folder's path and its log: what `files.made_from` shows."""
    digest = sha256(msgspec.json.encode((str(data_dir.resolve()), log)))
    for path in sorted(path for folder in SOURCES for path in folder.iterdir() if path.suffix in (".py", ".sql")):
        digest.update(sha256(path.read_bytes()).digest())
    return digest.hexdigest()
