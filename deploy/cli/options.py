"""Options that several commands take, and where a command works."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from deploy.config import load_settings
from deploy.data_folder import DataFolder
from schemas.errors import InvalidInput

DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Folder of this log's data [./tallyroot-data].")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, for scripts.")]
Sources = Annotated[list[str] | None, typer.Option("--source", metavar="KIND=FILE", help="A data file; repeatable.")]
Epoch = Annotated[str, typer.Option(help="Length of an epoch, such as 1d, 6h or 30d; fixed for a log's life.")]
Partitions = Annotated[int, typer.Option(min=1, max=1024, help="Partitions, fixed for a log's life.")]
Unit = Annotated[str | None, typer.Option(help="pv-power: the unit of the column, W or kW.")]
Zone = Annotated[str | None, typer.Option(help="pv-power: IANA zone of time stamps without an offset.")]
Rebase = Annotated[bool, typer.Option("--rebase", help="Move files of different years onto one calendar by weeks.")]


def data_folder(data_dir: Path | None) -> DataFolder:
    """The data folder that a command works in, with the settings of this process."""
    settings = load_settings()
    return DataFolder((data_dir or settings.data_dir).expanduser().absolute(), settings)


def power_unit(text: str | None) -> Literal["W", "kW"] | None:
    """The unit that --unit names. Raises InvalidInput."""
    if text is None or text in {"W", "kW"}:
        return text  # type: ignore[return-value]
    raise InvalidInput(f"'{text}' is no unit of power: choose W or kW")
