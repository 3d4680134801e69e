"""What the commands about money do: contracts, posts, claims, proofs."""

import re
import time
from pathlib import Path

import msgspec

from deploy.keys import keys_of
from deploy.terminal import Terminal, day_text, money, units
from deploy.workplace import Workplace
from schemas.errors import InvalidInput
from schemas.log import Log
from settlement import worker
from settlement.adapters.chain import Chain
from settlement.adapters.job import Settled, SettleOptions
from settlement.results import Claimed, PostRow, SettlementsReport

FOLLOW_S = 5.0


class Treasury:
    """What the money commands need of a data folder: its log, the chain, and the keys of this process."""

    def __init__(self, place: Workplace) -> None:
        self.place = place
        self.data_dir = place.data_dir
        self.log: Log = place.log()
        self.chain = Chain(place.chain_rpc_url())
        self.keys = keys_of(place.settings, self.chain.chain_id)


def deploy_contracts(place: Workplace, terminal: Terminal) -> None:
    """Deploys the ledger, once for a data folder."""
    treasury = Treasury(place)
    deployment = worker.deploy_contracts(treasury.data_dir, treasury.chain, treasury.log, treasury.keys)
    terminal.say(f"ledger {deployment.ledger} pays in token {deployment.token} on chain {deployment.chain_id}")
    terminal.result(deployment)


def fund(place: Workplace, terminal: Terminal, amount: str | None) -> None:
    """Sends tokens to the ledger: an amount, or what is missing."""
    treasury = Treasury(place)
    report = worker.settlements(treasury.data_dir, treasury.chain, treasury.log)
    wanted = None if amount is None else _token_units(amount, report.decimals)
    funded = worker.fund(treasury.data_dir, treasury.chain, treasury.log, treasury.keys, wanted)
    terminal.say(
        f"sent {units(funded.amount, report.decimals)}; the ledger holds {units(funded.balance, report.decimals)}"
        if funded.transaction
        else "nothing is missing"
    )
    terminal.result(funded)


def settle(place: Workplace, terminal: Terminal, options: SettleOptions, *, follow: bool) -> Settled:
    """Posts what can be posted, once or for ever."""
    treasury = Treasury(place)
    while True:
        place.fetch_epochs()
        settled = worker.settle(treasury.data_dir, treasury.chain, treasury.log, treasury.keys, options)
        if settled.posts or not follow:
            posted = ", ".join(str(sequence) for sequence in settled.posts)
            terminal.say(f"posted {posted}" if posted else "nothing to post")
            if settled.waiting_for:
                terminal.say(f"waiting for {settled.waiting_for}")
            terminal.result(settled)
        if not follow:
            return settled
        time.sleep(FOLLOW_S)


def settlements(place: Workplace, terminal: Terminal) -> SettlementsReport:
    """All posts with their states, and what is missing."""
    treasury = Treasury(place)
    report = worker.settlements(treasury.data_dir, treasury.chain, treasury.log)
    show_settlements(terminal, treasury.log, report)
    terminal.result(report)
    return report


def show_settlements(terminal: Terminal, log: Log, report: SettlementsReport) -> None:
    """The posts as a table, and the ledger in one line."""
    rows = [
        (
            post.settlement.sequence,
            " to ".join(day_text(log.epoch_span(epoch)[0]) for epoch in _ends(post)),
            post.settlement.state,
            money(post.settlement.total_micros, log.currency),
        )
        for post in report.posts
    ]
    terminal.table("posts", ["post", "epochs", "state", "owed in all"], rows)
    for post in report.posts:
        terminal.say(f"post {post.settlement.sequence} windows root 0x{post.settlement.windows_root}")
        terminal.say(f"       payouts root 0x{post.settlement.payouts_root}")
    decimals = report.decimals
    terminal.say(
        f"owed {units(report.total, decimals)}, claimed {units(report.claimed, decimals)}, the ledger holds"
        f" {units(report.balance, decimals)}; earned and not posted {units(report.unposted, decimals)},"
        f" shortfall {units(report.shortfall, decimals)}"
    )


def _ends(row: PostRow) -> tuple[int, int]:
    return row.settlement.first_epoch, row.settlement.last_epoch


def payouts(place: Workplace, terminal: Terminal, account: str | None) -> None:
    """What accounts were owed, have claimed, and can claim."""
    treasury = Treasury(place)
    rows = worker.payouts(treasury.data_dir, treasury.chain, account)
    decimals = worker.settlements(treasury.data_dir, treasury.chain, treasury.log).decimals
    amounts = [(row.cumulative, row.claimed, row.claimable, row.waiting) for row in rows]
    terminal.table(
        "payouts",
        ["account", "ever owed", "claimed", "claimable", "not active yet"],
        [(row.account, *(units(amount, decimals) for amount in line)) for row, line in zip(rows, amounts, strict=True)],
    )
    terminal.result({"decimals": decimals, "payouts": rows})


def claim(place: Workplace, terminal: Terminal, account: str) -> Claimed:
    """Pays an account all that it can have."""
    treasury = Treasury(place)
    claimed = worker.claim(treasury.data_dir, treasury.chain, treasury.keys, account)
    terminal.say(f"{claimed.account} got {claimed.amount} token units under post {claimed.sequence}")
    terminal.say(f"transaction {claimed.transaction}")
    terminal.result(claimed)
    return claimed


def proof(place: Workplace, terminal: Terminal, account: str, out: Path | None) -> None:
    """What a claim needs, printed and, if asked, written to a file."""
    treasury = Treasury(place)
    found = worker.proof(treasury.data_dir, treasury.chain, account)
    text = msgspec.json.format(msgspec.json.encode(found), indent=2).decode()
    if out is not None:
        out.write_text(text + "\n")
        terminal.say(f"written to {out}")
    else:
        terminal.say(text)
    terminal.result(found)


def verify(place: Workplace, terminal: Terminal, file: Path) -> bool:
    """Whether the chain stands behind a proof."""
    treasury = Treasury(place)
    verified = worker.verify(treasury.data_dir, treasury.chain, worker.read_proof(file))
    if verified.valid:
        because = f": {verified.reason}" if verified.reason else ""
        terminal.say(f"valid; claimable now: {verified.claimable} token units{because}")
    else:
        terminal.say(f"not valid: {verified.reason}")
    terminal.result(verified)
    return verified.valid


def dispute(place: Workplace, terminal: Terminal, sequence: int) -> None:
    """Kills a post that is not yet active."""
    treasury = Treasury(place)
    transaction = worker.dispute(treasury.data_dir, treasury.chain, treasury.keys, sequence)
    terminal.say(f"post {sequence} and all after it are dead: {transaction}")
    terminal.result({"sequence": sequence, "transaction": transaction})


def _token_units(text: str, decimals: int) -> int:
    match = re.fullmatch(r"([0-9]{1,30})(?:\.([0-9]+))?", text)
    if match is None or len(match[2] or "") > decimals:
        raise InvalidInput(f"'{text}' is no amount: write it with at most {decimals} decimals, such as 12.50")
    return int(match[1]) * int(10**decimals) + int((match[2] or "").ljust(decimals, "0") or "0")
