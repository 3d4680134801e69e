"""`report.html`: one file that shows what machines earned and lets anybody check it, without a network.

The page holds the figures, the posts, and a few machine days down to their readings with the proofs of their windows.
Its own script recomputes all of that. What is data stays data: it stands in the page as JSON in which no character can
end it, and the script puts it into the page as text.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from deploy.data_folder import DataFolder
from deploy.explain.availability import refresh_availability
from deploy.explain.meter_signs import MeterSign
from deploy.explain.query import views
from deploy.explain.refused_signs import refused_signs
from deploy.explain.window_document import window_document
from deploy.report.day import Item, MachineDay, read_days, wanted_day
from deploy.report.figures import (
    OTHERS,
    Figures,
    MachineRow,
    Places,
    Views,
    Wish,
    choose_days,
    read_figures,
    read_incomes,
    read_kinds,
    read_machines,
    stretch_days,
)
from deploy.report.money import HELD, OUTSIDE, Money, PostPage, WindowName, WindowProof, read_money
from files.read import FileMissing, read_json
from files.write import write_bytes
from schemas.errors import InvalidInput
from schemas.log import Log
from schemas.units import DAY_MS
from settlement.chain.overview import skipped_in_posts
from settlement.post import PostStanding
from settlement.succession import LedgerStart

REPORT_FILE = "report.html"
SIGNS = 20
"""Meters that earn less than they could are named, at most so many."""
CHAIN_FILE = "chain.json"
FLOW_ACCOUNTS = 20
"""Accounts in the picture of the flow; what the others received is summed."""
LOGIC = ("bytes.js", "keccak.js", "sha256.js", "pricing.js", "proofs.js", "day.js")
"""What computes: it needs no page, so Node can run it."""
PAGE = ("words.js", "dom.js", "charts.js", "flow.js", "overview.js", "window_parts.js", "editor.js", "page.js")
"""What shows."""


class DayWindow(Struct, frozen=True):
    """A sealed window: what its digest covers without the salt, the salt, and where it was settled."""

    document: dict[str, object]
    salt: str
    digest: str
    settled: WindowProof | None


class DayPage(Struct, frozen=True):
    """A machine's day as the page has it; times are epoch ms."""

    machine: str
    kind: str
    day_ms: int
    items: tuple[Item, ...]
    windows: tuple[DayWindow, ...]


Part = TypeVar("Part")


class ChainPage(Struct, frozen=True):
    """The ledger by chain.json: the page needs no node, and so no library that talks to one."""

    chain_id: int
    currency: str
    ledger: str
    token: str
    decimals: int
    log_digest: str
    first_epoch_start_s: int


class PostState(Struct, frozen=True):
    """What the chain said of a post when the tables of settlements were written last."""

    state: str
    transaction: str
    head: str


class Claimed(Struct, frozen=True):
    """What was paid out, token units, to how many accounts, as of a block and its time (Unix seconds; 0: unknown)."""

    units: str
    accounts: int
    block: int
    time_s: int


class SignRow(Struct, frozen=True):
    """A meter that earns less than it could, in one line; and what mends such a one."""

    sign: str
    line: str
    advice: str


class ReportData(Struct, frozen=True, kw_only=True):
    """All that the page knows. Amounts are decimal strings of micros, or of token units where a name says so.

    `flows` are (index of the machine, account or "held", "outside" or "(others)", micros); `incomes` are (index of the
    machine, number of the stretch of `stretch_days` days, micros). Where a post was ever disputed, heads don't simply
    follow each other. `customers` are (index of the machine, payer or "(others)", what the machine kept of what was
    paid for sessions that closed, what goes back), `suppliers` the accounts that were paid invoices. `unsettled` is
    what payees are owed that are no accounts, by their ids. `skipped` says what posts leave out by an operator's
    decision.
    """

    log: Log
    chain: ChainPage | None
    names: dict[str, str]
    figures: Figures
    machines: list[MachineRow]
    stretch_days: int
    incomes: list[tuple[int, int, str]]
    flows: list[tuple[int, str, str]]
    customers: list[tuple[int, str, str, str]]
    suppliers: list[str]
    unposted_micros: str
    posts: tuple[PostPage, ...]
    posts_in_all: int
    states: dict[int, PostState]
    has_disputes: bool
    claimed: Claimed
    unsettled: dict[str, str]
    skipped: list[str]
    signs: list[SignRow]
    signs_in_all: int
    days: tuple[DayPage, ...]


class WrittenReport(Struct, frozen=True):
    """Where the page is, its size, and the machines, one for each day, that it shows down to their readings.

    `chain` is why the chain could not be asked, so that the page shows an older block's claims; None if it was.
    """

    path: Path
    bytes: int
    days: int
    readings: int
    posts: int
    machines: tuple[str, ...]
    chain: str | None


def write_report(
    data: DataFolder, out: Path | None = None, *, wish: Wish | None = None, names: Mapping[str, str] | None = None
) -> WrittenReport:
    """Writes the report into the data folder, or to `out`.

    `wish` chooses what is embedded down to readings; `names` says who an account is.
    Raises InvalidInput where the folder holds no window yet, its files are damaged, or the page can't be written.
    """
    data.whole_archive()
    refresh_availability(data)
    unasked = _ask_chain(data)
    shown = gather(data, wish or Wish(), names or {})
    path = out or data.data_dir / REPORT_FILE
    page = render(shown)
    try:
        write_bytes(path, page)
    except OSError as error:
        raise InvalidInput(f"{path} can't be written ({error.strerror}): choose another --out") from None
    return WrittenReport(
        path=path, bytes=len(page), days=len(shown.days), posts=len(shown.posts),
        readings=sum(len(part.items) for part in shown.days),
        machines=tuple(part.machine for part in shown.days), chain=unasked,
    )  # fmt: skip


def _ask_chain(data: DataFolder) -> str | None:
    """Brings the tables of posts and claims up to the chain's last block, if the folder has a ledger.

    Returns why that was not possible: then the page shows them as of the block that they were read at. Raises
    InvalidInput for a chain that is set and does not answer: what is set is never left out in silence.
    """
    if not (data.data_dir / CHAIN_FILE).exists():
        return None
    try:
        url = data.chain_rpc_url()
        from settlement.chain.node import Chain
        from settlement.chain.overview import refresh_tables

        refresh_tables(data.data_dir, Chain(url))
    except InvalidInput as error:
        if data.settings.chain_rpc_url is not None:
            raise InvalidInput(
                f"{error}; CHAIN_RPC_URL names it: without it the page shows the chain as last seen"
            ) from None
        return str(error)
    except OSError as error:  # the folder may be one that can only be read
        return str(error)
    return None


def gather(data: DataFolder, wish: Wish, names: Mapping[str, str]) -> ReportData:
    """Reads the data folder. Raises InvalidInput."""
    signs = refused_signs(data)  # before: the views' settings are locked once, and for the whole process
    with views(data) as connection:
        return _gather(data, Views(connection), wish, names, signs)


def _gather(
    data: DataFolder, views: Views, wish: Wish, names: Mapping[str, str], signs: Sequence[MeterSign]
) -> ReportData:
    log, folder = data.log(), data.data_dir
    figures = read_figures(views)
    if not figures.windows:
        raise InvalidInput(f"there is no window in {folder} yet: run `tallyroot stream` first")
    kinds = read_kinds(views)
    machines = read_machines(views, kinds)
    choices = choose_days(views, kinds, wish)
    if not choices and (wish.machine is not None or wish.day is not None):
        raise InvalidInput("there is no final day like that here: see `tallyroot machines`")
    wanted = [
        wanted_day(folder, log, c.machine, kinds.get(c.machine, "machine"), c.partition, c.day * DAY_MS)
        for c in choices
    ]
    windows: list[WindowName] = [(w.machine, w.start_ms, w.adjusts_ms or 0) for part in wanted for w in part.windows]
    chain = _chain(folder)
    money = read_money(folder, log, windows, _initial(folder))
    places = Places(machines)
    shown = {post.header.sequence for post in money.posts}
    states = _states(views)
    return ReportData(
        log=log,
        chain=chain,
        names={account.lower(): name for account, name in names.items()},
        figures=figures,
        machines=machines,
        stretch_days=stretch_days(figures),
        incomes=read_incomes(views, figures, places),
        flows=_flows(money, places),
        customers=_customers(views, places),
        suppliers=sorted(money.suppliers),
        unposted_micros=str(money.unposted_micros),
        posts=money.posts,
        posts_in_all=money.posts_in_all,
        states={sequence: state for sequence, state in states if sequence in shown},
        has_disputes=any(post.state == "disputed" for _, post in states),
        claimed=_claimed(views),
        unsettled={payee: str(micros) for payee, micros in sorted(money.unsettled.items()) if micros},
        signs=[SignRow(sign.sign, sign.line, sign.advice) for sign in signs[:SIGNS]],
        signs_in_all=len(signs),
        skipped=[
            f"Post {each.sequence}: {each.range.text}."
            for each in skipped_in_posts(folder, log, range(1, money.posts_in_all + 1))
        ],
        days=tuple(day_page(part, money) for part in read_days(folder, log, wanted)),
    )


def render(data: ReportData) -> bytes:
    """The page. Only the script and the style that we wrote may run in it, by their hashes."""
    style, code = read_part("page.css"), script((*LOGIC, *PAGE))
    policy = (
        f"default-src 'none'; script-src '{_source_hash(code)}'; style-src '{_source_hash(style)}';"
        " img-src data:; base-uri 'none'; form-action 'none'"
    )
    # A parser of JSON reads "<" and its escape alike, and without it no text can end the element.
    text = msgspec.json.encode(data).decode().replace("<", "\\u003c")
    page = read_part("page.html")
    for name, value in (("policy", policy), ("style", style), ("script", code), ("data", text)):
        page = page.replace("{{" + name + "}}", value, 1)
    return page.encode()


def script(names: Sequence[str]) -> str:
    """Parts of the page's script as one, which adds nothing to the page's global names."""
    body = "\n".join(read_part(name) for name in names)
    return f'(() => {{\n"use strict";\n{body}\n}})();\n'


def read_part(name: str) -> str:
    """A file of the page's source."""
    return (resources.files("deploy.report") / "page" / name).read_text(encoding="utf-8")


def _source_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def day_page(day: MachineDay, money: Money) -> DayPage:
    """A machine's day with the proofs of its windows."""
    wanted = day.wanted
    windows = tuple(
        DayWindow(
            window_document(window),
            day.salts.get(window.registration_version, ""),
            window.digest.hex(),
            money.proofs.get((window.machine, window.start_ms, window.adjusts_ms or 0)),
        )
        for window in wanted.windows
    )
    return DayPage(wanted.machine, wanted.kind, wanted.day_ms, day.items, windows)


def _claimed(views: Views) -> Claimed:
    """By the tables, which show the chain as of one block."""
    ((amount, accounts),) = views.ask("SELECT sum(amount)::VARCHAR, count(DISTINCT account) FROM claims")
    seen = views.ask('SELECT block, epoch_ms("timestamp") // 1000 FROM chain_seen')
    block, time_s = (int(str(cell)) for cell in seen[0]) if seen else (0, 0)
    return Claimed(str(amount or 0), int(str(accounts)), block, time_s)


def _flows(money: Money, places: Places) -> list[tuple[int, str, str]]:
    """By index of the machine and account; the accounts behind the first FLOW_ACCOUNTS as one."""
    totals: dict[str, int] = {}
    for (_, account), micros in money.flows.items():
        totals[account] = totals.get(account, 0) + micros
    most = sorted(totals, key=lambda account: (-totals[account], account))[:FLOW_ACCOUNTS]
    kept = {*most, HELD, OUTSIDE}
    sums: dict[tuple[int, str], int] = {}
    for (machine, account), micros in money.flows.items():
        key = (places.of(machine), account if account in kept else OTHERS)
        sums[key] = sums.get(key, 0) + micros
    return [(at, account, str(micros)) for (at, account), micros in sorted(sums.items()) if micros]


def _customers(views: Views, places: Places) -> list[tuple[int, str, str, str]]:
    """By index of the machine and payer, of statements that are final; the payers behind the first as one."""
    rows = views.ask(
        "SELECT machine, payer, sum(paid_micros - refund_micros)::VARCHAR, sum(refund_micros)::VARCHAR FROM statements"
        " WHERE final GROUP BY ALL ORDER BY sum(paid_micros) DESC, payer"
    )
    kept: dict[str, None] = {}
    sums: dict[tuple[int, str], list[int]] = {}
    for machine, payer, left, refund in rows:
        if len(kept) < FLOW_ACCOUNTS:
            kept[str(payer)] = None
        sum_ = sums.setdefault((places.of(str(machine)), str(payer) if str(payer) in kept else OTHERS), [0, 0])
        sum_[0] += int(str(left))
        sum_[1] += int(str(refund))
    return [(at, payer, str(left), str(refund)) for (at, payer), (left, refund) in sorted(sums.items())]


def _states(views: Views) -> list[tuple[int, PostState]]:
    """In the order of their blocks: of a sequence that was posted again the last one stands."""
    rows = views.ask('SELECT "sequence", "state", "transaction", head FROM settlements ORDER BY posted_block')
    return [(int(str(sequence)), PostState(str(state), str(sent), str(head))) for sequence, state, sent, head in rows]


class _Beginning(Struct, frozen=True):
    """Where the ledger of chain.json begins."""

    ledger: str
    start: LedgerStart | None = None


def _initial(folder: Path) -> PostStanding:
    """The state before the first post to the folder's ledger, if it has one."""
    found = _of_chain(folder, _Beginning)
    if found is None:
        return PostStanding.initial()
    return PostStanding.initial(found.ledger) if found.start is None else found.start.standing(found.ledger)


def _chain(folder: Path) -> ChainPage | None:
    return _of_chain(folder, ChainPage)


def _of_chain(folder: Path, kind: type[Part]) -> Part | None:
    path = folder / CHAIN_FILE
    try:
        return read_json(path, kind, what="the description of a ledger", remedy="restore it from a copy")
    except FileMissing:
        return None
