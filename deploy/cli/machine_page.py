"""A machine's page of figures: what one should know before one buys a part of its income.

All of it is read from the data folder: the views over what the log says, and what the settlement wrote down.
"""

import re
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import UNSET

from deploy.cli.local_commands import query
from deploy.cli.terminal import Terminal, units
from deploy.data_folder import DataFolder
from schemas.errors import InvalidInput
from schemas.payout import Funding
from schemas.registration import Agreement

FUNDING_FILE = "settlement/funding.json"
MONTHS = 12
_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")


def agreement_of(data: DataFolder, machine: str) -> Agreement:
    """The agreement that the machine's latest sealed window is split by. Raises InvalidInput where there is none."""
    rows = query(
        data,
        "SELECT map_entries(payees) AS payees, epoch_ms(locked_until) AS locked_until, pays_trust"  # noqa: S608 - safe ids
        f" FROM windows WHERE machine = '{_known(machine)}' AND mends IS NULL ORDER BY start_ms DESC LIMIT 1",
    ).rows
    if not rows:
        raise InvalidInput(f"no such machine: {machine} has no sealed window here; see `tallyroot machines`")
    payees, locked_until, pays_trust = rows[0]
    points: Any = payees
    return Agreement(
        {entry["key"]: entry["value"] for entry in points},
        locked_until=UNSET if locked_until is None else locked_until,  # type: ignore[arg-type]
        pays_trust=pays_trust,  # type: ignore[arg-type]
    )


def machine_page(data: DataFolder, terminal: Terminal, machine: str) -> dict[str, Any]:
    """Shows income, uptime, trust, agreement, and how the ledger that pays it is funded."""
    agreement = agreement_of(data, machine)
    (facts,) = query(data, f"SELECT * FROM machines WHERE machine = '{machine}'").records()  # noqa: S608 - as above
    months = query(
        data,
        "SELECT strftime(start, '%Y-%m') AS month, count(*) AS windows,"  # noqa: S608 - as above
        " sum(readings)::BIGINT AS readings, sum(gross) AS gross, sum(expenses) AS expenses, sum(net) AS net"
        f" FROM windows WHERE machine = '{machine}' GROUP BY 1 ORDER BY 1 DESC LIMIT {MONTHS}",
    ).records()
    posts = query(
        data, 'SELECT "sequence", first_epoch, last_epoch, "state", total FROM settlements ORDER BY 1'
    ).records()
    funding = _funding(data)
    locked = None if agreement.locked_until is UNSET else agreement.locked_until
    page = {
        "machine": facts, "months": months, "posts": posts, "funding": funding,
        "agreement": {"payees": agreement.payees, "locked_until_ms": locked, "pays_trust": agreement.pays_trust},
    }  # fmt: skip
    _show(terminal, machine, page)
    terminal.result(page)
    return page


def _show(terminal: Terminal, machine: str, page: dict[str, Any]) -> None:
    facts, agreement, funding, currency = (
        page["machine"],
        page["agreement"],
        page["funding"],
        page["machine"]["currency"],
    )
    terminal.say(f"{machine}: seen {facts['first_seen']} to {facts['last_seen']} (UTC)")
    terminal.say(f"  earned    gross {facts['gross']}, net {facts['net']} {currency} in {facts['windows']} windows")
    terminal.say(f"  uptime    {facts['uptime']} % of {facts['uptime_from']} to {facts['uptime_until']}")
    flags = ", ".join(facts["flags"]) or "none"
    terminal.say(
        f"  trust     {facts['trust']} (0 unsigned, 1 signed, 2 signed in hardware); flags: {flags};"
        f" equivocations {facts['equivocations']}"
    )
    lock = (
        "not locked" if agreement["locked_until_ms"] is None else f"locked until {_day(agreement['locked_until_ms'])}"
    )
    terminal.say(f"  agreement {lock}; it pays for trust {agreement['pays_trust']} and above")
    for payee, points in sorted(agreement["payees"].items()):
        terminal.say(f"            {payee}: {points / 100:.2f} %")
    states = ", ".join(f"{post['sequence']} {post['state']}" for post in page["posts"][-3:]) or "none yet"
    terminal.say(f"  posts     {states}")
    if funding is None:
        terminal.say("  funding   unknown: nothing has been settled from this folder")
    else:
        missing = int(funding["shortfall"])
        text = (
            "all that is earned is funded"
            if not missing
            else f"{units(missing, funding['decimals'])} earned, not funded"
        )
        terminal.say(f"  funding   {text}, as of {_day(funding['at_ms'])} (all machines of the ledger)")
    columns = ["month", "windows", "readings", "gross", "expenses", "net"]
    terminal.table(f"income, {currency}", columns, [[row[name] for name in columns] for row in page["months"]])


def _funding(data: DataFolder) -> dict[str, Any] | None:
    path = data.data_dir / FUNDING_FILE
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Funding)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        raise InvalidInput(f"{path} is damaged ({error}): run `tallyroot settle` again") from None
    return {"shortfall": found.shortfall, "decimals": found.decimals, "at_ms": found.at_ms}


def _known(machine: str) -> str:
    """The id, safe inside a query. Raises InvalidInput where it is no id."""
    if not _ID.fullmatch(machine):
        raise InvalidInput(f"no such machine: '{machine}' is no id; see `tallyroot machines`")
    return machine


def _day(moment_ms: int) -> str:
    return datetime.fromtimestamp(moment_ms // 1_000, UTC).strftime("%Y-%m-%d %H:%M UTC")
