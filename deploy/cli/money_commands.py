"""What the commands about money do: contracts, posts, claims, proofs."""

import re
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from deploy.cli.dry_run_page import show_dry_run
from deploy.cli.terminal import Terminal, day_text, money, units
from deploy.data_folder import DataFolder
from deploy.keys import keys_of
from schemas.errors import InvalidInput
from schemas.log import Log
from schemas.payout import Funding
from schemas.units import SECOND_MS
from settlement import service
from settlement.chain.contract import moment
from settlement.chain.driver import NotYet
from settlement.chain.job import Settled, SettleOptions
from settlement.chain.ledger import Deployment
from settlement.chain.node import Chain
from settlement.chain.signer import DEVELOPMENT_CHAIN_ID, ROLES
from settlement.posting import GWEI
from settlement.results import Claimed, ClaimedMany, DryRun, PostRow, SettlementsReport

FOLLOW_S = 5.0
SAY_AGAIN_S = 600.0
"""How often `settle --follow` says that it waits for the chain: what gas costs changes with every block."""


class Treasury:
    """What the money commands need of a data folder: its log, the chain, and the keys of this process."""

    def __init__(self, data: DataFolder) -> None:
        self.data = data
        self.data_dir = data.data_dir
        self.log: Log = data.log()
        tip = data.settings.priority_fee_gwei
        self.chain = Chain(
            data.chain_rpc_url(),
            fee_cap=data.settings.fee_cap_gwei * GWEI,
            priority_fee=None if tip is None else int(tip * GWEI),
        )
        self.keys = keys_of(data.settings, self.chain.chain_id)


def deploy_contracts(
    data: DataFolder, terminal: Terminal, *, token: str | None = None, holders: Mapping[str, str | None] | None = None,
    delay: str | None = None, max_step: int | None = None,
) -> Deployment:  # fmt: skip
    """Deploys the ledger, once for a data folder. `delay` is a duration, `max_step` whole tokens."""
    from deploy.cli.log_commands import duration_ms

    treasury = Treasury(data)
    accounts = {role: account for role in ROLES if (account := (holders or {}).get(role)) is not None}
    deployment = service.deploy_contracts(
        treasury.data_dir, treasury.chain, treasury.log, treasury.keys, token=token, accounts=accounts,
        delay_s=None if delay is None else duration_ms(delay) // SECOND_MS, max_step_whole=max_step,
    )  # fmt: skip
    terminal.say(f"ledger {deployment.ledger} pays in token {deployment.token} on chain {deployment.chain_id}")
    if treasury.chain.chain_id != DEVELOPMENT_CHAIN_ID:
        for holder in service.roles(treasury.data_dir, treasury.chain):
            if holder.role == "admin" and not holder.contract:
                terminal.step(
                    f"warning: the admin {holder.account} is a plain key, and alone can revoke posts and change roles:"
                    " a timelock or a multisig is meant to be the admin"
                )
    terminal.result(deployment)
    return deployment


def fund(data: DataFolder, terminal: Terminal, amount: str | None) -> None:
    """Sends tokens to the ledger: an amount, or what is missing."""
    treasury = Treasury(data)
    report = service.settlements(treasury.data_dir, treasury.chain, treasury.log)
    wanted = None if amount is None else token_amount(amount, report.decimals)
    funded = service.fund(treasury.data_dir, treasury.chain, treasury.log, treasury.keys, wanted)
    terminal.say(
        f"sent {units(funded.amount, report.decimals)}; the ledger holds {units(funded.balance, report.decimals)}"
        if funded.transaction
        else "nothing is missing"
    )
    terminal.result(funded)


def settle(
    data: DataFolder, terminal: Terminal, options: SettleOptions, *, follow: bool, runway_days: int = 0
) -> Settled:
    """Posts what can be posted, once or for ever; warns on stderr when the funds last for under `runway_days`."""
    treasury = Treasury(data)
    silent_until_s = 0.0
    while True:
        data.fetch_epochs()
        try:
            settled = service.settle(treasury.data_dir, treasury.chain, treasury.log, treasury.keys, options)
        except NotYet as error:
            if not follow:
                raise
            if time.monotonic() >= silent_until_s:
                terminal.step(str(error))
                silent_until_s = time.monotonic() + SAY_AGAIN_S
            time.sleep(FOLLOW_S)
            continue
        silent_until_s = 0.0
        if settled.posts or not follow:
            posted = ", ".join(str(sequence) for sequence in settled.posts)
            terminal.say(f"posted {posted}" if posted else "nothing to post")
            if settled.waiting_for:
                terminal.say(f"waiting for {settled.waiting_for}")
            warn_of_runway(terminal, noted_runway(data), runway_days)
            terminal.result(settled)
        if not follow:
            return settled
        time.sleep(FOLLOW_S)


def dry_run(data: DataFolder, terminal: Terminal, options: SettleOptions) -> DryRun:
    """Shows what a settlement would post."""
    treasury = Treasury(data)
    data.fetch_epochs()
    found = service.dry_run(treasury.data_dir, treasury.chain, treasury.log, treasury.keys, options)
    show_dry_run(terminal, treasury.log, found)
    terminal.result(found)
    return found


def settlements(data: DataFolder, terminal: Terminal, runway_days: int = 0) -> SettlementsReport:
    """All posts with their states, and what is missing."""
    treasury = Treasury(data)
    report = service.settlements(treasury.data_dir, treasury.chain, treasury.log)
    show_settlements(terminal, treasury.log, report)
    lasts, decimals = report.runway, report.decimals
    if lasts.days is not None:
        terminal.say(
            f"free {units(lasts.free, decimals)}; a day of the last posts added {units(lasts.per_day, decimals)}:"
            f" the funds last {lasts.days:,} days"
        )
    if report.paused_until_s:
        terminal.say(f"claims are paused until {moment(report.paused_until_s)}")
    warn_of_runway(terminal, lasts.days, runway_days)
    terminal.result(report)
    return report


def warn_of_runway(terminal: Terminal, days: int | None, runway_days: int) -> None:
    """One line on stderr when the ledger's free funds last for fewer days than they should."""
    if days is not None and days < runway_days:
        lasts = f"{days} day" if days == 1 else f"{days} days"
        terminal.step(f"warning: the ledger's free funds last {lasts}, fewer than {runway_days}: `tallyroot fund`")


def noted_runway(data: DataFolder) -> int | None:
    """The days that the settlement which looked last has noted."""
    try:
        noted = (data.data_dir / "settlement" / "funding.json").read_bytes()
    except FileNotFoundError:
        return None
    return msgspec.json.decode(noted, type=Funding).runway_days


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


def restore_posts(data: DataFolder, terminal: Terminal, without: list[int]) -> tuple[int, ...]:
    """Makes the folders of posts anew that are on the chain and not here."""
    treasury = Treasury(data)
    data.fetch_epochs()
    restored = service.restore_posts(treasury.data_dir, treasury.chain, treasury.log, without)
    numbers = ", ".join(str(sequence) for sequence in restored)
    terminal.say(f"made anew, as on the chain: {numbers}" if restored else "every post on the chain is here")
    terminal.result({"restored": restored})
    return restored


def payouts(data: DataFolder, terminal: Terminal, account: str | None) -> None:
    """What accounts were owed, have claimed, and can claim."""
    treasury = Treasury(data)
    rows = service.payouts(treasury.data_dir, treasury.chain, account)
    decimals = service.settlements(treasury.data_dir, treasury.chain, treasury.log).decimals
    amounts = [(row.cumulative, row.claimed, row.claimable, row.waiting) for row in rows]
    terminal.table(
        "payouts",
        ["account", "ever owed", "claimed", "claimable", "not active yet"],
        [(row.account, *(units(amount, decimals) for amount in line)) for row, line in zip(rows, amounts, strict=True)],
    )
    terminal.result({"decimals": decimals, "payouts": rows})


def claim(data: DataFolder, terminal: Terminal, account: str) -> Claimed:
    """Pays an account all that it can have."""
    treasury = Treasury(data)
    claimed = service.claim(treasury.data_dir, treasury.chain, treasury.keys, account)
    terminal.say(f"{claimed.account} got {claimed.amount} token units under post {claimed.sequence}")
    terminal.say(f"transaction {claimed.transaction}")
    terminal.result(claimed)
    return claimed


def claim_many(data: DataFolder, terminal: Terminal, accounts: list[str] | None, batch: int) -> ClaimedMany:
    """Pays many accounts, or all, what they can have; names those that the token refuses."""
    treasury = Treasury(data)
    found = service.claim_many(treasury.data_dir, treasury.chain, treasury.keys, accounts, batch)
    decimals = service.Deployment.load(treasury.data_dir).decimals
    terminal.say(
        f"{len(found.paid):,} accounts got {units(found.amount, decimals)} under post {found.sequence} in"
        f" {len(found.transactions):,} transaction(s); {len(found.already):,} had nothing to claim"
    )
    for row in found.returned:
        terminal.say(f"the token refuses to pay {row.account} its {units(row.amount, decimals)}: it can claim later")
    terminal.result(found)
    return found


def proof(data: DataFolder, terminal: Terminal, account: str, out: Path | None) -> None:
    """What a claim needs, printed and, if asked, written to a file."""
    treasury = Treasury(data)
    found = service.proof(treasury.data_dir, treasury.chain, account)
    if out is not None:
        service.write_proof(out, found)
        terminal.say(f"written to {out}")
    else:
        terminal.say(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    terminal.result(found)


def all_proofs(data: DataFolder, terminal: Terminal, folder: Path) -> int:
    """Writes `<account>.json` for every account of a post: to be published, so that nobody has to ask."""
    treasury = Treasury(data)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput(f"can't make the folder {folder}: {error.strerror}") from None
    written = 0
    for found in service.proofs(treasury.data_dir, treasury.chain):
        service.write_proof(folder / f"{found.account}.json", found)
        written += 1
    terminal.say(f"{written:,} proofs written to {folder}")
    terminal.result({"folder": folder, "proofs": written})
    return written


def verify(data: DataFolder, terminal: Terminal, file: Path) -> bool:
    """Whether the chain stands behind a proof."""
    treasury = Treasury(data)
    verified = service.verify(treasury.data_dir, treasury.chain, service.read_proof(file))
    if verified.valid:
        because = f": {verified.reason}" if verified.reason else ""
        terminal.say(f"valid; claimable now: {verified.claimable} token units{because}")
    else:
        terminal.say(f"not valid: {verified.reason}")
    terminal.result(verified)
    return verified.valid


def dispute(data: DataFolder, terminal: Terminal, sequence: int) -> None:
    """Kills a post that is not yet active."""
    treasury = Treasury(data)
    transaction = service.dispute(treasury.data_dir, treasury.chain, treasury.keys, sequence)
    terminal.say(f"post {sequence} and all after it are dead: {transaction}")
    terminal.result({"sequence": sequence, "transaction": transaction})


def token_amount(text: str, decimals: int, what: str = "amount") -> int:
    """An amount such as 12.50 in token units. Raises InvalidInput, which calls it `what`."""
    match = re.fullmatch(r"([0-9]{1,30})(?:\.([0-9]+))?", text)
    if match is None or len(match[2] or "") > decimals:
        raise InvalidInput(f"'{text}' is no {what}: write it with at most {decimals} decimals, such as 12.50")
    return int(match[1]) * int(10**decimals) + int((match[2] or "").ljust(decimals, "0") or "0")
