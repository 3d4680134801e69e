"""What an audit says of one post: what is wrong with it, and what that makes of the post.

What is on the chain is held against the log, and nothing else makes a post wrong. Whoever can't read the log, or is not
given what leads to the hashes on the chain, knows nothing; and that nobody shows the right files is not the same as
that the post is wrong.
"""

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

VerdictKind = Literal["right", "wrong", "unpublished", "withheld", "unknown"]
"""right: all of it follows from the log, and its files are there.
wrong: what is on the chain does not follow from the log.
unpublished: what is on the chain follows from the log, but a published file is missing or says something else.
withheld: the place where its evidence should be answers, and hasn't got what leads to the hashes on the chain.
unknown: the evidence can't be read here and now; that says nothing about the post.
"""


class Finding(Struct, frozen=True, kw_only=True):
    """One thing that is wrong, on the chain (`about` is "post") or with the published files ("files").

    `window_start_ms` and `machine` name the first window that differs, if it is one.
    """

    kind: str
    sequence: int
    text: str
    about: Literal["post", "files"] = "post"
    machine: str | None = None
    window_start_ms: int | None = None
    found: str = ""
    expected: str = ""


class PostVerdict(Struct, frozen=True):
    """What became of one live post, and the first thing that says so."""

    sequence: int
    verdict: VerdictKind
    text: str = ""


def verdict_of(sequence: int, findings: Sequence[Finding], lacking: str) -> PostVerdict:
    """The verdict of a post that could be judged. `lacking` names evidence that should lead to its hashes and doesn't.

    Without that evidence a difference proves nothing: a partition may have been left out, or an archive be another's.
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
    """The verdicts of so many posts: what comes after one that could not be judged can't be judged either."""
    found: list[PostVerdict] = []
    for verdict in verdicts:
        found.append(verdict)
        if verdict.verdict in ("withheld", "unknown"):
            break
    last = len(found)
    text = f"post {last} before it could not be judged"
    return (*found, *(PostVerdict(sequence, "unknown", text) for sequence in range(last + 1, posts + 1)))
