"""Verdicts of an audit on single posts, and the findings behind them.

Only a contradiction between the chain and the log makes a post wrong. An auditor who can't read the log, or lacks the
sources that lead to the hashes on the chain, knows nothing; and missing files don't make a post wrong.
"""

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

VerdictKind = Literal["right", "wrong", "unpublished", "withheld", "unknown"]
"""right: all of it follows from the log, and its files are there.
wrong: what is on the chain does not follow from the log.
unpublished: what is on the chain follows from the log, but a published file is missing or differs.
withheld: the server or folder that should hold its sources answers, and lacks what leads to the hashes on the chain.
unknown: the sources can't be read here and now; that says nothing about the post.
"""


class Finding(Struct, frozen=True, kw_only=True):
    """One fault, on the chain (`about` is "post") or in the published files ("files").

    `machine` and `window_start_ms` name the first window that differs, if the fault is about one; `machine`, `session`,
    `partition` and `offset` the record of a payment.
    """

    kind: str
    sequence: int
    text: str
    about: Literal["post", "files"] = "post"
    machine: str | None = None
    window_start_ms: int | None = None
    session: str | None = None
    partition: int | None = None
    offset: int | None = None
    found: str = ""
    expected: str = ""


class PostVerdict(Struct, frozen=True):
    """The verdict on one live post, and its first reason."""

    sequence: int
    verdict: VerdictKind
    text: str = ""


def verdict_of(sequence: int, findings: Sequence[Finding], lacking: str) -> PostVerdict:
    """The verdict on a post that could be judged. `lacking` names a source that should lead to its hashes and doesn't.

    Without that source a difference proves nothing: a partition may be missing, or the archive be another log's.
    """
    wrong = [finding for finding in findings if finding.about == "post"]
    if wrong and lacking:
        return PostVerdict(sequence, "withheld", lacking)
    if wrong:
        return PostVerdict(sequence, "wrong", wrong[0].text)
    if findings:
        return PostVerdict(sequence, "unpublished", findings[0].text)
    return PostVerdict(sequence, "right")


def judged(verdicts: Sequence[PostVerdict], posts: int) -> tuple[PostVerdict, ...]:
    """The verdicts on all of `posts`: those after one that could not be judged are unknown."""
    found: list[PostVerdict] = []
    for verdict in verdicts[:posts]:  # without any post there may still be a source that lacks
        found.append(verdict)
        if verdict.verdict in ("withheld", "unknown"):
            break
    last = len(found)
    text = f"post {last} before it could not be judged"
    return (*found, *(PostVerdict(sequence, "unknown", text) for sequence in range(last + 1, posts + 1)))
