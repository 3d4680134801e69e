"""A watcher's actions on live posts, given the audit's verdicts: pure, so that every turn can be tested.

A post pays only once its delay is over and an auditor has attested it. So in doubt a watcher does nothing but raise an
alarm: not attesting is safe, while a wrong dispute stops a right settlement.

right        attested, unless one before it isn't right
wrong        disputed at once: its hashes contradict the log
unpublished  files that claims need are missing: disputed after the wait, unless it is attested already
withheld     sources that would show whether it is right are missing: disputed after the wait
unknown      an alarm and nothing else, for as long as it lasts

The wait ends before half of the delay is over, so that a guardian's transaction has the other half to be mined in.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from msgspec import Struct

from settlement.audit.verdict import PostVerdict

WAIT_EIGHTHS = 3
"""How long a post's sources may take to arrive, in eighths of the delay."""


class WatchView(Struct, frozen=True, kw_only=True):
    """The ledger and the verdicts at one moment, under one head.

    `verdicts` are those of all live posts by ascending sequence, `delay_ends_s` their ends of delay and `now_s` the
    chain's time, in Unix seconds; `delay_s` is the ledger's delay. `revoked` posts no longer pay. `distrust` is why the
    view itself can't be trusted. `can_attest` and `can_dispute` state which keys are here; with `only_wrong` withheld
    sources cause an alarm, never a dispute.
    """

    verdicts: Sequence[PostVerdict]
    attested: int
    delay_ends_s: Mapping[int, int]
    delay_s: int
    now_s: int
    revoked: frozenset[int] = frozenset()
    distrust: str = ""
    can_attest: bool = True
    can_dispute: bool = True
    only_wrong: bool = False

    def is_mature(self, sequence: int) -> bool:
        """Whether a post can no longer be disputed."""
        return sequence <= self.attested and self.now_s >= self.delay_ends_s[sequence]

    def waits_until_s(self, sequence: int) -> int:
        """Until when a post's sources may be missing, Unix seconds."""
        return self.delay_ends_s[sequence] - self.delay_s + self.delay_s * WAIT_EIGHTHS // 8


class WatchStep(Struct, frozen=True):
    """One action or report. `until_s` (Unix seconds) is the end of a wait.

    attest: all posts up to `sequence`; dispute: `sequence` and all above; alarm: an operator must investigate; wait:
    for missing sources; idle: a post is right, and there is no key to attest it with.
    """

    kind: Literal["attest", "dispute", "alarm", "wait", "idle"]
    sequence: int
    text: str = ""
    until_s: int | None = None


def decide(view: WatchView) -> list[WatchStep]:
    """The steps, in order; none if all posts are right and attested. After a dispute the caller must look again."""
    if view.distrust:
        return [WatchStep("alarm", 0, view.distrust)]
    steps: list[WatchStep] = []
    attest_to, is_blocked = view.attested, False
    for verdict in view.verdicts:
        if verdict.verdict == "right":
            attest_to = attest_to if is_blocked else max(attest_to, verdict.sequence)
            continue
        if verdict.sequence in view.revoked and verdict.verdict in ("wrong", "unpublished"):
            continue
        step = _step(view, verdict)
        steps.append(step)
        is_blocked = is_blocked or verdict.sequence > view.attested
        if step.kind == "dispute" or verdict.verdict in ("withheld", "unknown"):
            break
    if steps and steps[-1].kind == "dispute":
        if view.can_dispute:
            return steps
        last = steps.pop()
        steps.append(WatchStep("alarm", last.sequence, f"{last.text}; no guardian's key is here to dispute it with"))
    if attest_to > view.attested:
        steps.append(WatchStep("attest" if view.can_attest else "idle", attest_to))
    return steps


def _step(view: WatchView, verdict: PostVerdict) -> WatchStep:
    sequence, text = verdict.sequence, verdict.text
    if verdict.verdict == "unknown":
        return WatchStep("alarm", sequence, text)
    if view.is_mature(sequence):
        what = "wrong" if verdict.verdict == "wrong" else verdict.verdict
        return WatchStep(
            "alarm", sequence, f"{text}; it is {what} and mature: only the admin can stop it, by revoking it"
        )
    if verdict.verdict == "wrong":
        return WatchStep("dispute", sequence, text)
    if verdict.verdict == "unpublished" and sequence <= view.attested:
        return WatchStep("alarm", sequence, text)  # Its auditor found it right, and so does this audit.
    until_s = view.waits_until_s(sequence)
    if view.now_s < until_s:
        return WatchStep("wait", sequence, text, until_s)
    if view.only_wrong:
        return WatchStep("alarm", sequence, f"{text}, for longer than allowed")
    return WatchStep("dispute", sequence, f"{text}, for longer than allowed")
