"""What whoever checks does: the audit of all posts, and attesting what it found right."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import msgspec

from deploy.cli.money_commands import Treasury
from deploy.cli.terminal import Terminal, money, units
from deploy.data_folder import DataFolder
from deploy.explain import audit_sources as evidence
from deploy.explain.audit_sources import Recount, quickly
from schemas.errors import InvalidInput
from schemas.log import Log
from schemas.manifest import SkippedRange
from settlement import service
from settlement.audit.audit import AuditReport
from settlement.audit.sources import Recompute
from settlement.audit.verdict import Finding
from streams.core.recompute import EpochResult
from streams.core.records import LogRecord
from streams.kafka.reader import KafkaLogReader
from streams.reference.compare import recompute_and_compare


def audit(data: DataFolder, terminal: Terminal, *, from_archive: bool, slow: bool) -> bool:
    """The whole audit; whether all is right. `slow`: every window is counted once more, in fractions."""
    treasury = Treasury(data)
    place_read = "the archive" if from_archive else "Kafka"
    terminal.step(f"recomputing {treasury.log.partitions} partitions from {place_read}")
    differences: list[str] = []
    recount = _slowly(terminal, differences) if slow else quickly
    report = run_audit(treasury, from_archive=from_archive, recount=recount)
    found = tuple(Finding(kind="slow", sequence=0, text=text) for text in differences)
    report = msgspec.structs.replace(report, ok=report.ok and not found, findings=report.findings + found)
    show_audit(terminal, treasury.log, report)
    if slow and not found:
        terminal.say(f"the naive loop counts the same {report.windows:,} windows in fractions")
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
    machines = len({sums.machine for sums in report.machines})
    conserved = all(s.nets_micros == s.paid_micros + s.held_micros + s.carry_micros for s in report.machines)
    terminal.say(
        f"earned = paid + held + carried {'also' if conserved else 'NOT'} for each of {machines:,} machines under each"
        f" of its agreements ({len(report.machines):,})"
    )
    ledger = report.money
    if ledger is not None:
        same = "=" if report.leaves_total == report.total_on_chain else "is NOT"
        leaves, total, *rest = (
            units(amount, ledger.decimals)
            for amount in (
                report.leaves_total, report.total_on_chain, ledger.earned, ledger.funded, ledger.claimed,
                ledger.shortfall,
            )
        )  # fmt: skip
        terminal.say(f"sum of all leaves {leaves} {same} the total on the chain {total}")
        terminal.say("earned {}, funded {}, claimed {}, shortfall {}".format(*rest))
    terminal.say(f"audit: {'ok' if report.ok else 'NOT ok'}")


def show_findings(terminal: Terminal, report: AuditReport) -> None:
    """Everything that is wrong, with what was published and what the log says."""
    for finding in report.findings:
        terminal.say(f"post {finding.sequence}: {finding.text}" if finding.sequence else finding.text)
        if finding.found or finding.expected:
            terminal.say(f"  published: {finding.found or 'nothing'}")
            terminal.say(f"  the log:   {finding.expected or 'nothing'}")


def attest(data: DataFolder, terminal: Terminal) -> None:
    """Audits, and attests what the audit found right, under the very head that it saw."""
    treasury = Treasury(data)
    report = run_audit(treasury, from_archive=False)
    if not report.ok:
        show_findings(terminal, report)
        raise InvalidInput("the audit found a difference: nothing is attested; see `tallyroot audit`")
    attested = service.attest(treasury.data_dir, treasury.chain, treasury.keys, head=bytes.fromhex(report.head))
    terminal.say(f"audit ok; attested up to post {attested.sequence}")
    terminal.result(attested)


def run_audit(treasury: Treasury, *, from_archive: bool, recount: Recount = quickly) -> AuditReport:
    """Recomputes the log and holds every post against it."""
    with recomputing(treasury, from_archive=from_archive, recount=recount) as recompute:
        return service.audit(treasury.data_dir, treasury.chain, treasury.log, recompute)


@contextmanager
def recomputing(treasury: Treasury, *, from_archive: bool, recount: Recount = quickly) -> Iterator[Recompute]:
    """What gives the epochs of a partition, from Kafka or from the archive, while its readers are open."""
    log = treasury.log
    if from_archive:
        treasury.data.fetch_epochs()
        yield lambda partition: evidence.from_archive(log, treasury.data_dir, partition, recount)
        return
    # Its loop rests while windows are recomputed; a fetch that timed out meanwhile is made again and needs no line.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    servers = treasury.data.stack().kafka_bootstrap_servers
    exceptions = treasury.data.exceptions()
    readers = [KafkaLogReader(servers, log.topic, 0, exceptions) for _ in range(log.partitions)]
    try:
        readers[0].topic_id()  # raises InvalidInput if there is no such topic: asked for offsets, Kafka seems away
        yield lambda partition: evidence.from_log(log, readers[partition], partition, exceptions, recount)
    finally:
        for reader in readers:
            reader.close()


def _slowly(terminal: Terminal, differences: list[str]) -> Recount:
    def recount(
        log: Log, partition: int, records: Iterable[LogRecord], exceptions: Sequence[SkippedRange]
    ) -> Iterator[EpochResult]:
        def progress(count: int) -> None:
            terminal.step(f"partition {partition}: {count:,} records counted twice")

        return recompute_and_compare(log, partition, records, exceptions, differences.append, progress)

    return recount
