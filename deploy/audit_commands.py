"""What whoever checks does: the audit of all posts, and attesting what it found right."""

import logging

from deploy import evidence
from deploy.money_commands import Treasury
from deploy.terminal import Terminal, money
from deploy.workplace import Workplace
from schemas.errors import InvalidInput
from schemas.log import Log
from settlement import worker
from settlement.audit import AuditReport
from streams.adapters.kafka_reader import KafkaLogReader


def audit(place: Workplace, terminal: Terminal, *, from_archive: bool) -> bool:
    """The whole audit; whether all is right."""
    treasury = Treasury(place)
    place_read = "the archive" if from_archive else "Kafka"
    terminal.step(f"recomputing {treasury.log.partitions} partitions from {place_read}")
    report = run_audit(treasury, from_archive=from_archive)
    show_audit(terminal, treasury.log, report)
    terminal.result(report)
    return report.ok


def show_audit(terminal: Terminal, log: Log, report: AuditReport) -> None:
    """The audit's verdict, its sums, and everything that it found."""
    show_findings(terminal, report)
    terminal.say(
        f"{report.posts} posts, {report.epochs} epochs, {report.windows:,} windows recomputed;"
        f" earned {money(report.nets_micros, log.currency)} = paid {money(report.paid_micros, log.currency)}"
        f" + held {money(report.held_micros + report.outside_micros, log.currency)}"
        f" + carried {money(report.carry_micros, log.currency)}"
    )
    terminal.say(f"audit: {'ok' if report.ok else 'NOT ok'}")


def show_findings(terminal: Terminal, report: AuditReport) -> None:
    for finding in report.findings:
        terminal.say(f"post {finding.sequence}: {finding.text}")
        if finding.found or finding.expected:
            terminal.say(f"  published: {finding.found or 'nothing'}")
            terminal.say(f"  the log:   {finding.expected or 'nothing'}")


def attest(place: Workplace, terminal: Terminal) -> None:
    """Audits, and attests what the audit found right, under the very head that it saw."""
    treasury = Treasury(place)
    report = run_audit(treasury, from_archive=False)
    if not report.ok:
        show_findings(terminal, report)
        raise InvalidInput("the audit found a difference: nothing is attested; see `tallyroot audit`")
    attested = worker.attest(treasury.data_dir, treasury.chain, treasury.keys, head=bytes.fromhex(report.head))
    terminal.say(f"audit ok; attested up to post {attested.sequence}")
    terminal.result(attested)


def run_audit(treasury: Treasury, *, from_archive: bool) -> AuditReport:
    """Recomputes the log and holds every post against it."""
    if from_archive:
        treasury.place.fetch_epochs()
        return worker.audit(
            treasury.data_dir, treasury.chain, treasury.log,
            lambda partition: evidence.from_archive(treasury.log, treasury.data_dir, partition),
        )  # fmt: skip
    # Its loop rests while windows are recomputed; a fetch that timed out meanwhile is made again and needs no line.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    servers = treasury.place.stack().kafka_bootstrap_servers
    exceptions = treasury.place.exceptions()
    readers = [KafkaLogReader(servers, treasury.log.topic, 0, exceptions) for _ in range(treasury.log.partitions)]
    try:
        return worker.audit(
            treasury.data_dir, treasury.chain, treasury.log,
            lambda partition: evidence.from_log(treasury.log, readers[partition], partition, exceptions),
        )  # fmt: skip
    finally:
        for reader in readers:
            reader.close()
