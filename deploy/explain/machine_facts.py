"""What one should know of a machine before buying a part of its income, read from the data folder alone."""

import re
from decimal import Decimal
from typing import Any

from msgspec import UNSET, Struct, convert

from deploy.data_folder import DataFolder
from deploy.explain.machine_rows import MachineRow, machine_rows
from deploy.explain.query import query
from deploy.money.treasury import noted_funding
from schemas.errors import InvalidInput
from schemas.registration import Agreement
from schemas.units import TokenUnits

MONTHS = 12
_ID = re.compile(r"[A-Za-z0-9._:*-]{1,64}")


def agreement_of(data: DataFolder, machine: str) -> Agreement:
    """The agreement by which the machine's latest sealed window is split. Raises InvalidInput where there is none."""
    rows = query(
        data,
        "SELECT payee, points, epoch_ms(locked_until) AS locked_until_ms, pays_trust"  # noqa: S608 - safe ids
        " FROM agreements WHERE agreement = (SELECT agreement FROM windows"
        f" WHERE machine = '{_known(machine)}' AND adjusts IS NULL ORDER BY start_ms DESC LIMIT 1) ORDER BY payee",
    ).rows
    if not rows:
        raise InvalidInput(f"no such machine: {machine} has no sealed window here; see `tallyroot machines`")
    points: Any = {payee: part for payee, part, _, _ in rows}
    locked_until, pays_trust = rows[0][2:]
    return Agreement(
        points,
        locked_until=UNSET if locked_until is None else locked_until,  # type: ignore[arg-type]
        pays_trust=pays_trust,  # type: ignore[arg-type]
    )


class MonthFacts(Struct, frozen=True, kw_only=True):
    """A month (UTC, YYYY-MM) of a machine; amounts are in the log's currency."""

    month: str
    windows: int
    readings: int
    gross: Decimal
    expenses: Decimal
    net: Decimal


class PostFacts(Struct, frozen=True, kw_only=True):
    """A post of the ledger that pays the machine."""

    sequence: int
    first_epoch: int
    last_epoch: int
    state: str
    total: Decimal


class FundingFacts(Struct, frozen=True, kw_only=True):
    """What all machines of the ledger have earned that is not funded, as of a moment."""

    shortfall: TokenUnits
    decimals: int
    at_ms: int


class MachineFacts(Struct, frozen=True, kw_only=True):
    """The machine, its last months, its agreement, and posts and funding of its ledger, None before the first post."""

    machine: MachineRow
    months: list[MonthFacts]
    agreement: Agreement
    posts: list[PostFacts]
    funding: FundingFacts | None


def machine_facts(data: DataFolder, machine: str) -> MachineFacts:
    """What the folder has of a machine. Raises InvalidInput where it has no sealed window."""
    agreement = agreement_of(data, machine)
    months = query(
        data,
        "SELECT strftime(start, '%Y-%m') AS month, count(*) AS windows,"  # noqa: S608 - as above
        " sum(readings)::BIGINT AS readings, sum(gross) AS gross, sum(expenses) AS expenses,"
        " sum(uncollected) AS uncollected, sum(net) AS net, sum(collected) AS collected"
        f" FROM windows WHERE machine = '{machine}' GROUP BY 1 ORDER BY 1 DESC LIMIT {MONTHS}",
    ).records()
    posts = query(
        data, 'SELECT "sequence", first_epoch, last_epoch, "state", total FROM settlements ORDER BY 1'
    ).records()
    return MachineFacts(
        machine=next(row for row in machine_rows(data) if row.machine == machine),
        months=convert(months, list[MonthFacts]), agreement=agreement, posts=convert(posts, list[PostFacts]),
        funding=_funding(data),
    )  # fmt: skip


def _funding(data: DataFolder) -> FundingFacts | None:
    noted = noted_funding(data.data_dir)
    if noted is None:
        return None
    return FundingFacts(shortfall=int(noted.shortfall), decimals=noted.decimals, at_ms=noted.at_ms)


def _known(machine: str) -> str:
    """The id, safe inside a query. Raises InvalidInput where it is none."""
    if not _ID.fullmatch(machine):
        raise InvalidInput(f"no such machine: '{machine}' is not an id; see `tallyroot machines`")
    return machine
