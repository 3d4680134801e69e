"""Cheats of an operator with files: the log, its manifests and what was published of a post, changed after the fact."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from deploy.attack.cheat import CUSTOMERS, PAYEES, Cheat, Outcome, Stopwatch
from deploy.attack.ledger_copy import LedgerCopy
from deploy.demo.cheat import change_a_byte
from schemas.errors import InvalidInput, InvariantBroken
from settlement.chain.job import SettleOptions, choose_run
from settlement.post import PostStanding
from settlement.storage.published_epochs import EpochReader

STREAM_TIME = re.compile(rb'("stream_time_ms": ?)(\d)')


def operator_cheats(court: LedgerCopy) -> Iterator[Cheat]:
    """Cheats once a post is settled, each in a copy of its own. Raises InvariantBroken if that was wrong before."""
    if (honest := court.audited(lambda copy: None)).is_caught:
        raise InvariantBroken(f"the copy was audited before anybody cheated: {honest.said}")
    edits: dict[str, Callable[[Path], None]] = {
        "one byte of one reading changed in the log": _change_a_reading,
        "a record removed from the log": lambda copy: _edit_log(copy, _without_one),
        "two records of the log swapped": lambda copy: _edit_log(copy, _swapped),
        "an archive withheld": lambda copy: some_archive(copy).unlink(),
        "a manifest changed": _change_a_manifest,
        "a manifest removed": lambda copy: sorted((copy / "epochs").glob("*/*.manifest.json"))[0].unlink(),
        "a published window raised": _raise_a_window,
        "a published payout lowered": _lower_a_payout,
    }
    for name, edit in edits.items():
        yield Cheat(name, "operator", PAYEES, partial(court.audited, edit))
    yield Cheat("an epoch's windows raised before they are posted", "operator", CUSTOMERS, lambda: _unposted(court))


def _change_a_reading(copy: Path) -> None:
    windows = pq.read_table(copy / "settlement" / "posts" / "1" / "windows.parquet", columns=["machine", "net_micros"])
    earned: Counter[str] = Counter()
    for window in windows.to_pylist():
        earned[window["machine"]] += int(window["net_micros"])
    for machine, _ in earned.most_common():
        try:
            change_a_byte(copy, machine)
        except InvalidInput:
            continue
        return
    raise InvalidInput("no archived reading is JSON with a number to change")


def some_archive(copy: Path) -> Path:
    """The largest one."""
    return max(sorted((copy / "log").glob("*/*.parquet")), key=lambda path: path.stat().st_size)


def _edit_log(copy: Path, edit: Callable[[pa.Table], pa.Table]) -> None:
    path = some_archive(copy)
    pq.write_table(edit(pq.read_table(path)), path)


def _without_one(table: pa.Table) -> pa.Table:
    middle = table.num_rows // 2
    return pa.concat_tables([table.slice(0, middle), table.slice(middle + 1)])


def _swapped(table: pa.Table) -> pa.Table:
    """Swaps the first two neighbours that differ, but not their offsets."""
    values = table.column("value").to_pylist()
    place = next(place for place in range(table.num_rows - 1) if values[place] != values[place + 1])
    order = [*range(place), place + 1, place, *range(place + 2, table.num_rows)]
    return table.take(order).set_column(0, table.schema.field("offset"), table.column("offset"))


def _change_a_manifest(copy: Path) -> None:
    path = sorted((copy / "epochs").glob("*/*.manifest.json"))[-1]
    path.write_bytes(
        STREAM_TIME.sub(lambda found: found[1] + str((int(found[2]) + 1) % 10).encode(), path.read_bytes())
    )


def _raise_a_window(copy: Path) -> None:
    _raise(copy / "settlement" / "posts" / "1" / "windows.parquet", "net_micros")


def _raise(path: Path, name: str) -> None:
    """Raises the first amount of a column by a million micros."""
    table = pq.read_table(path)
    amounts = table.column(name).to_pylist()
    amounts[0] += 10**6
    place = table.schema.get_field_index(name)
    field = table.schema.field(place)
    pq.write_table(table.set_column(place, field, pa.array(amounts, field.type)), path)


def _lower_a_payout(copy: Path) -> None:
    path = copy / "settlement" / "posts" / "1" / "payouts.json"
    payouts = msgspec.json.decode(path.read_bytes())
    account = min(payouts)
    payouts[account]["cumulative"] = str(int(payouts[account]["cumulative"]) - 1)
    path.write_bytes(msgspec.json.encode(payouts))


def _unposted(court: LedgerCopy) -> Outcome:
    """The settlement job first compares every file with its manifest."""
    path = max(sorted((court.folder / "epochs").glob("*/*.windows.parquet")), key=lambda path: path.stat().st_size)
    before = path.read_bytes()
    _raise(path, "net_micros")
    watch = Stopwatch()
    try:
        choose_run(EpochReader(court.folder, court.log), PostStanding.initial(), court.log, SettleOptions())
    except InvalidInput as error:
        return watch.outcome("settle", f"settle: {str(error).replace(f'{court.folder}/', '')}")
    finally:
        path.write_bytes(before)
    return watch.outcome("", "settle: posted")
