"""What the commands about money do: contracts, posts, claims, proofs, audits."""

import logging
import re
import time
from pathlib import Path

import msgspec

from deploy import evidence
from deploy.terminal import Terminal, day_text, moment_text, money, units
from deploy.workplace import Workplace
from schemas.errors import InvalidInput
from schemas.log import Log
from settlement import worker
from settlement.adapters.chain import Chain
from settlement.adapters.job import Settled, SettleOptions
from settlement.adapters.signer import Keys
from settlement.audit import AuditReport
from settlement.results import Claimed, PostRow, SettlementsReport
from streams.adapters.kafka_reader import KafkaLogReader

FOLLOW_S = 5.0


class Treasury:
    """What the money commands need of a data folder: its log, the chain, and the keys of this process."""

    def __init__(self, place: Workplace) -> None:
        self.place = place
        self.data_dir = place.data_dir
        self.log: Log = place.log()
        self.chain = Chain(place.chain_rpc_url())
        settings = place.settings
        self.keys = Keys.load(
            self.chain.chain_id,
            {
                "admin": settings.admin_key,
                "operator": settings.operator_key,
                "poster": settings.poster_key,
                "auditor": settings.auditor_key,
                "guardian": settings.guardian_key,
            },
        )

    def audit(self, *, from_archive: bool) -> AuditReport:
        """Recomputes the log and holds every post against it."""
        if from_archive:
            self.place.fetch_epochs()
            return worker.audit(
                self.data_dir, self.chain, self.log,
                lambda partition: evidence.from_archive(self.log, self.data_dir, partition),
            )  # fmt: skip
        # Its loop rests while windows are recomputed; a fetch that timed out meanwhile is made again and needs no line.
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
        servers = self.place.stack().kafka_bootstrap_servers
        exceptions = self.place.exceptions()
        readers = [KafkaLogReader(servers, self.log.topic, 0, exceptions) for _ in range(self.log.partitions)]
        try:
            return worker.audit(
                self.data_dir, self.chain, self.log,
                lambda partition: evidence.from_log(self.log, readers[partition], partition, exceptions),
            )  # fmt: skip
        finally:
            for reader in readers:
                reader.close()


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


def attest(place: Workplace, terminal: Terminal) -> None:
    """Audits, and attests what the audit found right, under the very head that it saw."""
    treasury = Treasury(place)
    report = treasury.audit(from_archive=False)
    if not report.ok:
        _show_findings(terminal, report)
        raise InvalidInput("the audit found a difference: nothing is attested; see `tallyroot audit`")
    attested = worker.attest(treasury.data_dir, treasury.chain, treasury.keys, head=bytes.fromhex(report.head))
    terminal.say(f"audit ok; attested up to post {attested.sequence}")
    terminal.result(attested)


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


def why(place: Workplace, terminal: Terminal, account: str) -> None:
    """The statement of an account, window by window."""
    treasury = Treasury(place)
    found = worker.why(treasury.data_dir, treasury.chain, account)
    rows = [
        (row.sequence, row.machine, moment_text(row.start_ms), row.net_micros, row.payable_micros, row.points,
         row.amount_micros)
        for row in found.rows
    ]  # fmt: skip
    columns = ["post", "machine", "window", "net micros", "payable micros", "basis points", "micros"]
    terminal.table(
        f"why {found.account} is owed {money(found.cumulative_micros, treasury.log.currency)}", columns, rows
    )
    terminal.result(found)


def dispute(place: Workplace, terminal: Terminal, sequence: int) -> None:
    """Kills a post that is not yet active."""
    treasury = Treasury(place)
    transaction = worker.dispute(treasury.data_dir, treasury.chain, treasury.keys, sequence)
    terminal.say(f"post {sequence} and all after it are dead: {transaction}")
    terminal.result({"sequence": sequence, "transaction": transaction})


def audit(place: Workplace, terminal: Terminal, *, from_archive: bool) -> bool:
    """The whole audit; whether all is right."""
    treasury = Treasury(place)
    place_read = "the archive" if from_archive else "Kafka"
    terminal.step(f"recomputing {treasury.log.partitions} partitions from {place_read}")
    report = treasury.audit(from_archive=from_archive)
    show_audit(terminal, treasury.log, report)
    terminal.result(report)
    return report.ok


def show_audit(terminal: Terminal, log: Log, report: AuditReport) -> None:
    """The audit's verdict, its sums, and everything that it found."""
    _show_findings(terminal, report)
    terminal.say(
        f"{report.posts} posts, {report.epochs} epochs, {report.windows:,} windows recomputed;"
        f" earned {money(report.nets_micros, log.currency)} = paid {money(report.paid_micros, log.currency)}"
        f" + held {money(report.held_micros + report.outside_micros, log.currency)}"
        f" + carried {money(report.carry_micros, log.currency)}"
    )
    terminal.say(f"audit: {'ok' if report.ok else 'NOT ok'}")


def _show_findings(terminal: Terminal, report: AuditReport) -> None:
    for finding in report.findings:
        terminal.say(f"post {finding.sequence}: {finding.text}")
        if finding.found or finding.expected:
            terminal.say(f"  published: {finding.found or 'nothing'}")
            terminal.say(f"  the log:   {finding.expected or 'nothing'}")


def _token_units(text: str, decimals: int) -> int:
    match = re.fullmatch(r"([0-9]{1,30})(?:\.([0-9]+))?", text)
    if match is None or len(match[2] or "") > decimals:
        raise InvalidInput(f"'{text}' is no amount: write it with at most {decimals} decimals, such as 12.50")
    return int(match[1]) * int(10**decimals) + int((match[2] or "").ljust(decimals, "0") or "0")
