"""The command line: each command reads its options, calls one function, and shows what came back.

A command imports what it needs when it runs: Faust and web3 take seconds that `status` and `sql` shall not wait for.
"""

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer
from typer.exceptions import TyperException

from deploy import local_commands
from deploy.settings import load_settings
from deploy.terminal import Terminal, fail
from deploy.workplace import Workplace
from schemas.errors import InvalidInput, InvariantBroken

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Turns what machines report into money that anyone can check.",
)

DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Folder of this log's data [./tallyroot-data].")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, for scripts.")]
Sources = Annotated[list[str] | None, typer.Option("--source", metavar="KIND=FILE", help="A data file; repeatable.")]
Epoch = Annotated[str, typer.Option(help="Length of an epoch, such as 1d, 6h or 30d; fixed for a log's life.")]
Unit = Annotated[str | None, typer.Option(help="pv-power: the unit of the column, W or kW.")]
Zone = Annotated[str | None, typer.Option(help="pv-power: IANA zone of time stamps without an offset.")]
Rebase = Annotated[bool, typer.Option("--rebase", help="Move files of different years onto one calendar by weeks.")]


def _place(data_dir: Path | None) -> Workplace:
    settings = load_settings()
    return Workplace((data_dir or settings.data_dir).expanduser().absolute(), settings)


def _unit(text: str | None) -> Literal["W", "kW"] | None:
    if text is None or text in {"W", "kW"}:
        return text  # type: ignore[return-value]
    raise InvalidInput(f"'{text}' is no unit of power: choose W or kW")


@app.command()
def up(data_dir: DataDir = None, json: Json = False) -> None:
    """Start Kafka and the EVM node of this data folder."""
    local_commands.up(_place(data_dir), Terminal(as_json=json))


@app.command()
def down(data_dir: DataDir = None, json: Json = False) -> None:
    """Stop the servers of this data folder; its data stays."""
    local_commands.down(_place(data_dir), Terminal(as_json=json))


@app.command()
def status(data_dir: DataDir = None, json: Json = False) -> None:
    """What runs, and where the log, the windows and the posts stand."""
    local_commands.status(_place(data_dir), Terminal(as_json=json))


@app.command()
def replay(
    kind: Annotated[str | None, typer.Argument(help="acn-sessions, pv-power or chicago-taxi.")] = None,
    file: Annotated[Path | None, typer.Argument(help="CSV or Parquet.")] = None,
    source: Sources = None,
    days: Annotated[int | None, typer.Option(min=1, help="Only the first days of each file.")] = None,
    epoch: Epoch = "1d",
    partitions: Annotated[int, typer.Option(min=1, max=1024, help="Partitions, fixed for a log's life.")] = 4,
    unit: Unit = None,
    zone: Zone = None,
    rebase: Rebase = False,
    payee: Annotated[list[str] | None, typer.Option(metavar="ACCOUNT=POINTS", help="Who is paid; repeatable.")] = None,
    seed: Annotated[str | None, typer.Option(help="Makes the log reproducible; without it salts are random.")] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Turn data files into a new log, in the order of time."""
    from deploy import log_commands

    files = log_commands.parse_sources(source or [], kind, file)
    options = log_commands.ReplayOptions(
        epoch=epoch, partitions=partitions, days=days, unit=_unit(unit), zone=zone, rebase=rebase, seed=seed,
        payees=log_commands.parse_payees(payee or []),
    )  # fmt: skip
    terminal = Terminal(as_json=json)
    terminal.result(log_commands.replay(_place(data_dir), terminal, log_commands.read_sources(files, options), options))


@app.command()
def stream(
    until_caught_up: Annotated[bool, typer.Option("--until-caught-up", help="Stop at the log's present end.")] = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Run one worker; start more of them to share the partitions."""
    from deploy import log_commands

    terminal = Terminal(as_json=json)
    code = log_commands.stream(_place(data_dir), terminal, until_caught_up=until_caught_up)
    terminal.result({"exit_code": code})
    if code:
        raise typer.Exit(code)


@app.command()
def sql(
    query: Annotated[str | None, typer.Argument(help="A query; without one, read from standard input.")] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Query the windows, rejects, epochs and payouts with DuckDB."""
    local_commands.sql(_place(data_dir), Terminal(as_json=json), query)


@app.command()
def receipt(
    machine: Annotated[str, typer.Argument(help="The machine.")],
    meter: Annotated[str, typer.Argument(help="Its meter.")],
    boot: Annotated[int, typer.Argument(min=0, help="The reading's boot.")],
    seq: Annotated[int, typer.Argument(min=0, help="The reading's number in it.")],
    out: Annotated[Path | None, typer.Option(help="Write all of it with its proofs to this file.")] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """What became of one reading, at what price, and the proof that the log held it."""
    from deploy import receipt as receipts
    from deploy.reading_rows import ReadingName

    name = ReadingName(machine, meter, boot, seq)
    receipts.receipt(_place(data_dir), Terminal(as_json=json), name, out)


@app.command("deploy-contracts")
def deploy_contracts(data_dir: DataDir = None, json: Json = False) -> None:
    """Deploy the ledger (and on a development chain a token) and remember where it stands."""
    from deploy import money_commands

    money_commands.deploy_contracts(_place(data_dir), Terminal(as_json=json))


@app.command()
def fund(
    amount: Annotated[str | None, typer.Argument(help="Such as 12.50; without it, what is missing.")] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Send tokens to the ledger, so that posts are covered."""
    from deploy import money_commands

    money_commands.fund(_place(data_dir), Terminal(as_json=json), amount)


@app.command()
def settle(
    epochs: Annotated[int | None, typer.Option(min=1, help="At most so many epochs into one post.")] = None,
    without: Annotated[
        list[int] | None, typer.Option(metavar="PARTITION", help="A dead partition; repeatable.")
    ] = None,
    restate: Annotated[
        bool, typer.Option("--restate", help="Post anew what was disputed and has been mended.")
    ] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Go on as epochs end.")] = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Post what can be posted; run it again as often as you like."""
    from deploy import money_commands
    from settlement.adapters.job import SettleOptions

    options = SettleOptions(max_epochs=epochs, without=frozenset(without or ()), restate=restate)
    money_commands.settle(_place(data_dir), Terminal(as_json=json), options, follow=follow)


@app.command()
def why(
    account: Annotated[str, typer.Argument(help="The account.")],
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Why an account is owed what it is: every window that it has a part in."""
    from deploy import money_commands

    money_commands.why(_place(data_dir), Terminal(as_json=json), account)


@app.command()
def dispute(
    post: Annotated[int, typer.Argument(help="The post's sequence; later ones fall with it.")],
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Kill a post that is not yet active, with the guardian's key."""
    from deploy import money_commands

    money_commands.dispute(_place(data_dir), Terminal(as_json=json), post)


@app.command()
def attest(data_dir: DataDir = None, json: Json = False) -> None:
    """Audit the log and, if all is right, attest the posts with the auditor's key."""
    from deploy import money_commands

    money_commands.attest(_place(data_dir), Terminal(as_json=json))


@app.command()
def settlements(data_dir: DataDir = None, json: Json = False) -> None:
    """The posts: epochs, roots, states, shortfall."""
    from deploy import money_commands

    money_commands.settlements(_place(data_dir), Terminal(as_json=json))


@app.command()
def payouts(
    account: Annotated[str | None, typer.Argument(help="Only this account.")] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """What each account was ever owed, has claimed, and can claim."""
    from deploy import money_commands

    money_commands.payouts(_place(data_dir), Terminal(as_json=json), account)


@app.command()
def claim(
    account: Annotated[str, typer.Argument(help="The account that the money goes to.")],
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Claim all that an account can; anyone may pay the gas."""
    from deploy import money_commands

    money_commands.claim(_place(data_dir), Terminal(as_json=json), account)


@app.command()
def proof(
    account: Annotated[str, typer.Argument(help="The account.")],
    out: Annotated[Path | None, typer.Option(help="Write it to this file.")] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Print what `claim` needs for an account: leaf, proof and post."""
    from deploy import money_commands

    money_commands.proof(_place(data_dir), Terminal(as_json=json), account, out)


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(help="A file that `proof --out` wrote.")],
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Check a proof against the chain."""
    from deploy import money_commands

    money_commands.verify(_place(data_dir), Terminal(as_json=json), file)


@app.command()
def audit(
    from_archive: Annotated[bool, typer.Option("--from-archive", help="Read the archive instead of Kafka.")] = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Recompute every window, root and sum from the log, and name the first that differs."""
    from deploy import money_commands

    if not money_commands.audit(_place(data_dir), Terminal(as_json=json), from_archive=from_archive):
        raise typer.Exit(1)


@app.command()
def demo(
    source: Sources = None,
    full: Annotated[bool, typer.Option("--full", help="All of the files instead of a fortnight.")] = False,
    epoch: Epoch = "1d",
    unit: Unit = None,
    zone: Zone = None,
    rebase: Rebase = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Real data end to end: Kafka, windows, posts, claims, audit."""
    from deploy import demo as demo_run
    from deploy import log_commands

    files = log_commands.parse_sources(source or [], None, None) if source else None
    days = None if full else demo_run.DAYS
    options = log_commands.ReplayOptions(
        epoch=epoch, days=days, unit=_unit(unit), zone=zone, rebase=rebase, seed=demo_run.SEED
    )
    if not demo_run.run(_place(data_dir), Terminal(as_json=json), files, options):
        raise typer.Exit(1)


def main() -> None:
    """The `tallyroot` command. 0 done, 1 an error in one line, 2 usage, 70 an invariant, 130 interrupted."""
    sys.exit(_exit_code(lambda: app(standalone_mode=False)))


def _exit_code(run: Callable[[], object]) -> int:
    try:
        code = run()
    except InvalidInput as error:
        fail(str(error))
        return 1
    except InvariantBroken as error:
        fail(f"stopped, an invariant is broken: {error}")
        return 70
    except TyperException as error:
        if error.format_message():  # empty where the help was shown instead
            fail(f"{error.format_message()} (see `tallyroot --help`)")
        return error.exit_code
    except typer.Abort:
        return 130
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001 - the last resort: a person gets one line, the traceback goes to a file
        path = Path("tallyroot-error.log").absolute()
        path.write_text(traceback.format_exc())
        fail(f"unexpected {type(error).__name__}: {error} (please report it with {path})")
        return 70
    return code if isinstance(code, int) else 0


if __name__ == "__main__":
    main()
