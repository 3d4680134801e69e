"""What one should know of a machine before buying a part of its income, read from the data folder alone."""

import re
from typing import Any

from msgspec import UNSET

from deploy.data_folder import DataFolder
from deploy.explain.availability import refresh_availability
from deploy.explain.query import query
from deploy.money.treasury import noted_funding
from schemas.errors import InvalidInput
from schemas.registration import Agreement

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


def machine_facts(data: DataFolder, machine: str) -> dict[str, Any]:
    """The machine's row, months, agreement, and posts and funding of the ledger that pays it.

    Raises InvalidInput where it has no sealed window.
    """
    agreement = agreement_of(data, machine)
    refresh_availability(data)
    (facts,) = query(data, f"SELECT * FROM machines WHERE machine = '{machine}'").records()  # noqa: S608 - as above
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
    funding = noted_funding(data.data_dir)
    locked = None if agreement.locked_until is UNSET else agreement.locked_until
    return {
        "machine": facts, "months": months, "posts": posts,
        "funding": funding and {name: getattr(funding, name) for name in ("shortfall", "decimals", "at_ms")},
        "agreement": {"payees": agreement.payees, "locked_until_ms": locked, "pays_trust": agreement.pays_trust},
    }  # fmt: skip


def _known(machine: str) -> str:
    """The id, safe inside a query. Raises InvalidInput where it is none."""
    if not _ID.fullmatch(machine):
        raise InvalidInput(f"no such machine: '{machine}' is not an id; see `tallyroot machines`")
    return machine
