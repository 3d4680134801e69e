"""The audit of all posts from a data folder, against Kafka or the archive; once more in fractions if asked."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import msgspec

from deploy.explain import audit_sources as evidence
from deploy.explain.audit_files import file_findings
from deploy.explain.audit_sources import Recount, Slices, quickly
from deploy.money.treasury import Treasury
from files.confined import ConfinedFiles
from files.foreign import ForeignFiles
from schemas.errors import InvalidInput
from schemas.log import Log
from schemas.manifest import SkippedRange
from settlement import service
from settlement.audit.audit import AuditReport
from settlement.audit.sources import Sources
from settlement.audit.verdict import Finding
from settlement.results import Attested
from settlement.storage.published_post import published_in
from streams.core.recompute import EpochResult
from streams.core.skipped_ranges import SkippedBatches
from streams.kafka.reader import KafkaLogReader
from streams.reference.compare import recompute_and_compare


def audit(treasury: Treasury, *, from_archive: bool, recount: Recount = quickly) -> AuditReport:
    """Recomputes the log, and compares with it every post and every published file."""
    digests: dict[tuple[int, int], str] = {}

    def noting(
        log: Log, partition: int, slices: Slices, skipped: Sequence[SkippedRange], batches: SkippedBatches
    ) -> Iterator[EpochResult]:
        for result in recount(log, partition, slices, skipped, batches):
            digests[partition, result.manifest.epoch] = result.manifest.digest().hex()
            yield result

    with ConfinedFiles(treasury.data_dir) as files:
        with recomputing(treasury, files, from_archive=from_archive, recount=noting) as sources:
            report = service.audit(treasury.data_dir, treasury.chain, treasury.log, sources)
        return _with(report, file_findings(files, digests))


def audit_slowly(treasury: Treasury, step: Callable[[str], None], *, from_archive: bool) -> AuditReport:
    """The audit, with every window counted a second time in fractions; each difference is a finding."""
    differences: list[str] = []
    report = audit(treasury, from_archive=from_archive, recount=_slowly(step, differences))
    return _with(report, [Finding(kind="slow", sequence=0, text=text) for text in differences])


def attest(treasury: Treasury, report: AuditReport) -> Attested:
    """Attests the very head that the audit saw. Raises InvalidInput where it found a difference."""
    if not report.ok:
        raise InvalidInput("the audit found a difference: nothing is attested; see `tallyroot audit`")
    return service.attest(treasury.data_dir, treasury.chain, treasury.keys, head=bytes.fromhex(report.head))


@contextmanager
def recomputing(
    treasury: Treasury, files: ForeignFiles, *, from_archive: bool, recount: Recount = quickly
) -> Iterator[Sources]:
    """The epochs of each partition from Kafka or the archive, while its readers are open. `files` are the folder's."""
    log = treasury.log
    treasury.fetch_posts()
    if from_archive:
        treasury.data.fetch_epochs()
        yield evidence.archived(log, files, recount)
        return
    batches = evidence.skipped_batches(log)
    # The client's loop rests while windows are recomputed; a fetch that timed out meanwhile is retried silently.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    servers = treasury.data.kafka_servers()
    skipped = treasury.data.skipped_ranges()
    readers = [KafkaLogReader(servers, log.topic, 0, skipped, is_auditing=True) for _ in range(log.partitions)]
    try:
        readers[0].topic_id()  # raises InvalidInput if there is no such topic; offsets alone would look like no answer
        yield Sources(
            lambda partition: evidence.from_log(
                log, readers[partition], partition, skipped, batches[partition], recount
            ),
            evidence.refuting(batches),
            published_in(files),
        )
    finally:
        for reader in readers:
            reader.close()


def _slowly(step: Callable[[str], None], differences: list[str]) -> Recount:
    def recount(
        log: Log, partition: int, slices: Slices, skipped: Sequence[SkippedRange], batches: SkippedBatches
    ) -> Iterator[EpochResult]:
        def progress(count: int) -> None:
            step(f"partition {partition}: {count:,} records counted twice")

        return recompute_and_compare(log, partition, slices, skipped, batches, differences.append, progress)

    return recount


def _with(report: AuditReport, found: Sequence[Finding]) -> AuditReport:
    return msgspec.structs.replace(report, ok=report.ok and not found, findings=(*report.findings, *found))
