"""An audit accepts what follows from the log, and names what does not."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import pytest
from msgspec import structs

from schemas.registration import Agreement
from schemas.window import Due, Window
from settlement.accrual import Earning, earning_of
from settlement.audit.audit import Auditor, AuditReport
from settlement.audit.sources import Epoch, SourceMissing, Sources
from settlement.audit.verdict import PostVerdict, judged
from settlement.head import disputed_head
from settlement.history import Disputed, Posted
from settlement.leaf import payout_leaf
from settlement.post import AssembledPost, PartitionEpoch, PostStanding, Run, assemble, token_units
from tests.support.published_post import MadePost
from tests.support.settlement_data import ALICE, FIRST_EPOCH, LOG, manifest_of, window

GENESIS = b"g" * 32
DECIMALS = 18
DAY = FIRST_EPOCH
ODD = Agreement({"coop": 1_000, ALICE: 9_000}, pays_trust=1)

SUPPLIER = "0x" + "5e" * 20
CUSTOMER = "0x" + "c0" * 20
THIEF = "0x" + "d4" * 20

Log = Mapping[int, Sequence[Sequence[Window]]]
TRUTH: Log = {
    0: [
        [window("a", DAY, 1_000), window("b", DAY, -7, place=1)],
        [
            window("a", DAY + 1, 501, dues=[Due("expense", SUPPLIER, "x/1", 40), Due("refund", CUSTOMER, "s", 6)]),
            window("b", DAY + 1, 100, adjusts=5),
        ],
        [window("a", DAY + 2, 11, agreement=ODD, trust=1), window("a", DAY + 2, 5, place=1, agreement=ODD)],
    ],
    1: [[window("z", DAY, 33)], [], [window("z", DAY + 2, 9)]],
}


def epoch(partition: int, day: int, windows: Sequence[Window]) -> Epoch:
    return Epoch(manifest_of(partition, DAY + day, windows, deposits=100 * day + partition), windows)


def recompute(log: Log) -> Callable[[int], list[Epoch]]:
    return lambda partition: [epoch(partition, day, windows) for day, windows in enumerate(log[partition])]


def post(log: Log, runs: Sequence[tuple[int, int]] = ((0, 1), (2, 2))) -> tuple[list[Posted], dict[int, MadePost]]:
    """Settles a log as the job does: the events that the chain would have, and the files."""
    standing, head = PostStanding.initial(), GENESIS
    events, files = [], {}
    for first, last in runs:
        epochs = {
            partition: [
                PartitionEpoch(epoch(partition, day, days[day])[0], [earning_of(w) for w in days[day]])
                for day in range(first, last + 1)
            ]
            for partition, days in log.items()
        }
        made = assemble(standing, Run(DAY + first, DAY + last, epochs), DECIMALS)
        assert made is not None
        header = made.header(head, DECIMALS)
        events.append(Posted(header, header.head(), 0, "0x", len(events)))
        files[header.sequence] = published(made)
        standing, head = made.after, header.head()
    return events, files


def published(made: AssembledPost) -> MadePost:
    payouts = {}
    for account, micros in made.after.balances.payouts().items():
        units = token_units(micros, DECIMALS)
        payouts[account] = (units, made.payouts_tree.proof(payout_leaf(account, units)))
    return MadePost(made.manifest.canonical(), [earning for _, earning in made.windows], payouts)


def audit(events: Sequence[Posted | Disputed], files: Mapping[int, MadePost], log: Log = TRUTH) -> AuditReport:
    return Auditor(LOG, GENESIS, DECIMALS).run(events, lambda sequence: files[sequence], Sources(recompute(log)))


def changed(log: Log, partition: int, day: int, place: int, **change: object) -> Log:
    days = [list(windows) for windows in log[partition]]
    days[day][place] = structs.replace(days[day][place], **change)
    return {**log, partition: days}


def test_what_follows_from_the_log_is_accepted() -> None:
    events, files = post(TRUTH)
    report = audit(events, files)
    assert report.findings == ()
    assert report.ok
    assert (report.posts, report.epochs, report.windows, report.unposted_epochs) == (2, 6, 8, 0)
    assert report.head == events[-1].head.hex()
    spread = report.paid_micros + report.outside_micros + report.held_micros + report.carry_micros
    assert report.nets_micros == 1_000 - 7 + 501 + 100 + 11 + 5 + 33 + 9
    assert (report.expenses_micros, report.refunds_micros) == (40, 6)
    assert report.nets_micros + 46 == spread
    assert report.deposits_micros == 401
    assert [posted.header.deposits for posted in events] == [201 * 10**12, 401 * 10**12]
    assert report.total_on_chain == report.paid_micros * 10**12


def test_what_is_not_posted_yet_is_counted() -> None:
    events, files = post(TRUTH, [(0, 0)])
    report = audit(events, files)
    assert report.ok
    assert report.unposted_epochs == 4
    assert report.unposted_micros == 501 + 46 + 93 + 10 + 9


@pytest.mark.parametrize("change", [{"net_micros": 502}, {"digest": b"x" * 32}, {"machine": "q"}, {"adjusts_ms": 3}])
def test_one_changed_window_is_named(change: dict[str, object]) -> None:
    events, files = post(changed(TRUTH, 0, 1, 0, **change))
    report = audit(events, files)
    first = report.findings[0]
    assert not report.ok
    assert (first.kind, first.sequence, first.machine) == ("window", 1, "a")
    assert first.window_start_ms == LOG.epoch_span(DAY + 1)[0]
    assert "net 0.000501" in first.expected
    assert {finding.kind for finding in report.findings} >= {"window", "windows_root"}


def test_a_window_left_out_and_one_invented_are_named() -> None:
    short = {**TRUTH, 1: [[], [], TRUTH[1][2]]}
    (first, *_) = audit(*post(short)).findings
    assert (first.kind, first.sequence, first.machine) == ("window", 1, "z")
    assert "is in the log and was left out" in first.text
    more = {**TRUTH, 1: [*TRUTH[1][:2], [*TRUTH[1][2], window("z", DAY + 2, 1, place=5)]]}
    (first, *_) = audit(*post(more)).findings
    assert (first.kind, first.sequence) == ("window", 2)
    assert "is published and not in the log" in first.text


def test_a_due_sent_to_a_thief_is_named_and_the_post_is_wrong() -> None:
    """The leaf of a window covers its net alone: what its dues come to is under the payouts root."""
    stolen = (TRUTH[0][1][0].dues[0], Due("refund", THIEF, "s", 6))
    events, files = post(changed(TRUTH, 0, 1, 0, dues=stolen))
    report = audit(events, files)
    assert verdicts(report)[0] == "wrong"
    first, *others = report.findings
    assert (first.kind, first.machine, first.window_start_ms) == ("due", "a", LOG.epoch_span(DAY + 1)[0])
    assert first.text.endswith("owes another due (the 2. of it)")
    assert (first.found, first.expected) == (f"refund s of 0.000006 to {THIEF}", f"refund s of 0.000006 to {CUSTOMER}")
    assert "payouts_root" in {finding.kind for finding in others}
    honest = post(TRUTH)[1]  # files that tell the truth beside a root that does not
    assert verdicts(audit(events, {**files, 1: files[1]._replace(has_windows=honest[1].has_windows)}))[0] == "wrong"


def test_a_due_left_out_of_the_files_alone_is_found_and_the_post_is_right() -> None:
    events, files = post(TRUTH)
    windows = [structs.replace(one, dues=one.dues[:1]) for one in files[1].has_windows or ()]  # type: ignore[type-var]
    report = audit(events, {**files, 1: files[1]._replace(has_windows=windows)})
    assert [(finding.kind, finding.about, finding.found) for finding in report.findings] == [("due", "files", "")]
    assert verdicts(report) == ["unpublished", "right"]


def test_deposits_that_are_not_the_log_s_make_a_post_wrong() -> None:
    """A poster who leaves deposits out frees customers' money for payouts: the head covers what was said."""
    events, files = post(TRUTH, [(0, 2)])
    header = structs.replace(events[0].header, deposits=0)
    report = audit([structs.replace(events[0], header=header, head=header.head())], files)
    assert [(finding.kind, finding.found, finding.expected) for finding in report.findings] == [
        ("deposits", "0", str(401 * 10**12)),
    ]  # fmt: skip
    assert verdicts(report) == ["wrong"]


def test_a_partition_left_out_keeps_the_deposits_of_its_last_cut() -> None:
    standing = PostStanding.initial()
    made = None
    for first, last, left_out in ((0, 0, None), (1, 1, 1), (2, 2, None)):
        epochs = {}
        for partition in (0, 1):
            begin = first if partition == 0 else standing.partition_epochs.get(1, DAY) - DAY
            epochs[partition] = [
                PartitionEpoch(
                    epoch(partition, day, TRUTH[partition][day])[0], [earning_of(w) for w in TRUTH[partition][day]]
                )
                for day in (range(begin, last + 1) if partition != left_out else ())
            ]
        made = assemble(standing, Run(DAY + first, DAY + last, epochs), DECIMALS)
        assert made is not None
        standing = made.after
        assert made.manifest.totals.deposits == str({0: 0 + 1, 1: 100 + 1, 2: 200 + 201}[last])
    assert made is not None
    assert [part.deposits for part in made.manifest.partitions] == ["200", "201"]


def test_files_that_lie_about_right_roots_are_found() -> None:
    events, files = post(TRUTH)
    one = files[1]
    rows: list[Earning] = [structs.replace(one.has_windows[0], net_micros=5), *one.has_windows[1:]]  # type: ignore[index, type-var]
    (finding,) = audit(events, {**files, 1: one._replace(has_windows=rows)}).findings
    assert (finding.kind, finding.machine) == ("window", "a")
    payouts = dict(one.has_payouts or {})
    payouts[ALICE] = (payouts[ALICE][0] + 1, payouts[ALICE][1])
    (finding,) = audit(events, {**files, 1: one._replace(has_payouts=payouts)}).findings
    assert finding.kind == "payout"
    payouts[ALICE] = (payouts[ALICE][0] - 1, payouts[ALICE][1][1:])
    (finding,) = audit(events, {**files, 1: one._replace(has_payouts=payouts)}).findings
    assert finding.kind == "proof"
    kinds = [finding.kind for finding in audit(events, {**files, 1: MadePost(None, None, None)}).findings]
    assert kinds == ["manifest", "windows", "payouts"]


def test_a_total_that_is_too_high_is_found() -> None:
    events, files = post(TRUTH, [(0, 2)])
    header = structs.replace(events[0].header, total=events[0].header.total + 1)
    report = audit([structs.replace(events[0], header=header, head=header.head())], files)
    assert [finding.kind for finding in report.findings] == ["total"]


def test_disputes_fold_into_the_head_and_kill() -> None:
    events, files = post(changed(TRUTH, 0, 0, 0, net_micros=1), [(0, 0)])
    killed = disputed_head(events[0].head, 1)
    report = audit([*events, Disputed(1, killed, 9)], files)
    assert report.ok
    assert (report.posts, report.disputed, report.head) == (0, 1, killed.hex())
    assert not audit([*events, Disputed(1, GENESIS, 9)], files).ok


def verdicts(report: AuditReport) -> list[str]:
    return [verdict.verdict for verdict in report.verdicts]


def test_each_post_has_its_verdict() -> None:
    events, files = post(TRUTH)
    assert verdicts(audit(events, files)) == ["right", "right"]
    assert verdicts(audit(events, {**files, 1: files[1]._replace(has_payouts=None)})) == ["unpublished", "right"]
    # Without the manifest whatever is left out may be left out rightly: nothing is wrong, and nothing is known.
    assert verdicts(audit(events, {**files, 1: files[1]._replace(has_manifest=None)})) == ["unpublished", "right"]
    events, files = post(changed(TRUTH, 1, 0, 0, net_micros=7))
    assert verdicts(audit(events, files)) == ["wrong", "wrong"]
    assert verdicts(audit(events, {**files, 1: files[1]._replace(has_manifest=None)})) == ["withheld", "unknown"]


def test_a_post_of_epochs_that_the_log_has_not_ended_is_withheld() -> None:
    events, files = post(TRUTH)
    short = {0: TRUTH[0], 1: TRUTH[1][:2]}
    report = audit(events, files, short)
    assert verdicts(report) == ["right", "withheld"]
    assert "does not reach the end of epoch" in report.verdicts[1].text
    assert verdicts(audit(events, files, {0: TRUTH[0], 1: []})) == ["unknown", "unknown"]


def test_evidence_that_ends_is_no_proof_against_a_post() -> None:
    events, files = post(TRUTH)
    for withheld, first in ((True, "withheld"), (False, "unknown")):

        def recompute(partition: int, withheld: bool = withheld) -> Iterator[Epoch]:
            yield epoch(partition, 0, TRUTH[partition][0])
            raise SourceMissing("gone", withheld=withheld)

        report = Auditor(LOG, GENESIS, DECIMALS).run(events, lambda sequence: files[sequence], Sources(recompute))
        assert (verdicts(report), report.findings, report.gap) == ([first, "unknown"], (), "gone")


def test_a_post_begins_where_the_one_before_ended() -> None:
    events, files = post(TRUTH, [(0, 2)])
    header = events[0].header
    for change in ({"epoch_start_s": header.epoch_start_s - 86_400}, {"epoch_end_s": header.epoch_end_s + 86_400}):
        moved = structs.replace(header, **change)
        report = audit([structs.replace(events[0], header=moved, head=moved.head())], files)
        assert (verdicts(report), report.findings[0].kind) == (["wrong"], "epochs")


def test_a_source_that_lacks_is_no_verdict_on_a_post_that_is_not_there() -> None:
    """A ledger that follows another one may lack the archive of before its first post: there is nothing to dispute."""
    lacks = PostVerdict(1, "withheld", "the archive ends")
    assert judged([lacks], 0) == ()
    assert judged([lacks], 1) == (lacks,)
