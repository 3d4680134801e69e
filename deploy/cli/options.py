"""Options that several commands take, and where a command works."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from schemas.errors import InvalidInput

if TYPE_CHECKING:
    from deploy.data_folder import DataFolder
    from deploy.money.treasury import Treasury

DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Folder of this log's data [./tallyroot-data].")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, for scripts.")]
Sources = Annotated[list[str] | None, typer.Option("--source", metavar="KIND=FILE", help="A data file; repeatable.")]
Epoch = Annotated[str, typer.Option(help="Length of an epoch, such as 1d, 6h or 30d; fixed for a log's life.")]
Partitions = Annotated[int, typer.Option(min=1, max=1024, help="Partitions, fixed for a log's life.")]
Unit = Annotated[str | None, typer.Option(help="pv-power: the unit of the column, W or kW.")]
Zone = Annotated[str | None, typer.Option(help="pv-power: IANA zone of timestamps without an offset.")]
Capacity = Annotated[
    str | None,
    typer.Option(
        help="acn-sessions, pv-power: rated power of each station or plant, such as '22 kW'; without it what the file"
        " shows."
    ),
]
Rebase = Annotated[
    bool, typer.Option("--rebase", help="Move files of different years onto one calendar, by whole weeks.")
]
Payees = Annotated[list[str] | None, typer.Option("--payee", metavar="ACCOUNT=POINTS", help="Who is paid; repeatable.")]
MetricsPort = Annotated[
    int | None, typer.Option(min=0, max=65_535, help="Serve /health and /metrics on this port; 0: on any free port.")
]


def data_folder(data_dir: Path | None) -> "DataFolder":
    """The data folder that a command works in, with the settings of this process. Raises InvalidInput for a file."""
    from deploy.config import load_settings
    from deploy.data_folder import DataFolder

    settings = load_settings()
    folder = (data_dir or settings.data_dir).expanduser().absolute()
    if folder.exists() and not folder.is_dir():
        raise InvalidInput(f"{folder} is a file: name a folder with --data-dir or TALLYROOT_DATA_DIR")
    return DataFolder(folder, settings)


def treasury_of(data_dir: Path | None, *, trusts_folder: bool = True) -> "Treasury":
    """The same with its chain and keys, for commands about money."""
    from deploy.money.treasury import Treasury

    return Treasury(data_folder(data_dir), trusts_folder=trusts_folder)


def power_unit(text: str | None) -> Literal["W", "kW"] | None:
    """The unit that --unit names. Raises InvalidInput."""
    if text is None or text in {"W", "kW"}:
        return text  # type: ignore[return-value]
    raise InvalidInput(f"'{text}' is not a unit of power: choose W or kW")


def rated_w(text: str | None) -> int | None:
    """The power that --capacity names, in W. Raises InvalidInput."""
    from deploy.machines.quantities import per_hour

    return None if text is None else per_hour(text, "Wh")


def named_files(pairs: list[str], kind: str | None = None, file: Path | None = None) -> list[tuple[str, Path]]:
    """(kind, file) of every source on a command line: KIND FILE, then KIND=FILE pairs. Raises InvalidInput."""
    sources: list[tuple[str, Path]] = []
    if kind is not None:
        if file is None:
            raise InvalidInput("name the file too: tallyroot replay KIND FILE")
        sources.append((kind, file))
    for pair in pairs:
        name, _, file_name = pair.partition("=")
        if not file_name:
            raise InvalidInput(f"'{pair}' is not a source: write KIND=FILE, such as acn-sessions=sessions.csv")
        sources.append((name, Path(file_name)))
    if not sources:
        raise InvalidInput("name a source: tallyroot replay KIND FILE, or --source KIND=FILE")
    return sources


def payees_of(pairs: list[str] | None) -> dict[str, int] | None:
    """Account to basis points of 10,000, None where nobody is named. Raises InvalidInput."""
    from schemas.parsing import shares_of

    return shares_of(pairs or [], 10_000)
