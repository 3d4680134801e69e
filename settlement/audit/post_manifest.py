"""A post's manifest, twice: as it was published, whatever it holds, and as it must be by the log alone."""

import json
from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Raw, Struct

from schemas.canonical import chain_digest, document_digest
from schemas.log import Log
from settlement.audit.recount import Recount
from settlement.audit.sources import Epoch, in_order
from settlement.head import PostHeader

SHOWN = 500
"""How many bytes of a field are shown in a finding."""


class Before(Struct, frozen=True):
    """The recount before a post, amounts in micros: dues are by kind, next offsets and deposits by partition."""

    total: int
    unsettled: Mapping[tuple[str, str, str], int]
    dues: Mapping[str, int]
    next_offsets: Mapping[int, int]
    deposits: Mapping[int, int]


def plain_json(document: object) -> bytes:
    """Canonical bytes as `schemas.canonical` makes them, but of any integers: a header on the chain may hold any."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


class StatedEpoch(Struct, frozen=True):
    """What a published manifest says of an epoch of a partition; other fields are passed over."""

    epoch: int
    log_root: str


class StatedRange(Struct, frozen=True):
    """What a published manifest says of a partition."""

    partition: int
    epochs: tuple[StatedEpoch, ...]


class StatedManifest(Struct, frozen=True):
    """The start of a published manifest: the rest is not decoded, for the poster may have written anything."""

    partitions: tuple[StatedRange, ...]


def stated(manifest: bytes | None) -> tuple[StatedRange, ...] | None:
    """The partitions of a published manifest; None where it has none that can be read."""
    try:
        return None if manifest is None else msgspec.json.decode(manifest, type=StatedManifest).partitions
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def first_other(manifest: bytes | None, expected: Mapping[str, object]) -> tuple[str, str, str] | None:
    """The first field that differs: its name, what was published (its start) and what is right; None if none does."""
    parts = msgspec.defstruct("Parts", [(name, Raw, Raw(b"")) for name in expected])
    try:
        found = msgspec.json.decode(manifest or b"", type=parts)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    for name, value in expected.items():
        text, own = bytes(getattr(found, name)), plain_json(value)
        if text != own:
            return name, text[:SHOWN].decode(errors="replace"), own[:SHOWN].decode(errors="replace")
    return None


def last_epochs(manifest: bytes | None, header: PostHeader, log: Log) -> dict[int, int]:
    """By partition the last epoch that a post settles: by its manifest if readable, else the last one of the post."""
    ranges = stated(manifest)
    if ranges is None:
        return dict.fromkeys(range(log.partitions), header.epoch_end_s * 1_000 // log.epoch_ms - 1)
    return {each.partition: each.epochs[-1].epoch for each in ranges if each.epochs}


def other_records(manifest: bytes | None, taken: Mapping[int, Sequence[Epoch]]) -> str:
    """A text naming the first epoch whose log root isn't the one in a post's manifest; empty if there is none.

    Either the log was rewritten, or this is another log: an audit can't tell which.
    """
    roots = {(each.partition, ref.epoch): ref.log_root for each in stated(manifest) or () for ref in each.epochs}
    for partition, items in taken.items():
        for own in (epoch.manifest for epoch in items):
            if roots.get((partition, own.epoch), own.log_root) != own.log_root:
                return f"the records of partition {partition}, epoch {own.epoch} are not those that were settled from"
    return ""


def expected_manifest(
    log: Log, header: PostHeader, taken: Mapping[int, Sequence[Epoch]], before: Before, recount: Recount
) -> dict[str, object]:
    """The manifest that the post must have by the log; `recount` includes the post."""
    epoch_s = log.epoch_ms // 1_000
    after = recount.unsettled()
    grown = {key: after[key] - before.unsettled.get(key, 0) for key in sorted(after)}
    outside = sum(amount for key, amount in grown.items() if key[0] == "no_account")
    paid = recount.total() - before.total
    digests = [chain_digest("windows 1", (w.digest for w in epoch.windows)) for epoch in in_order(taken)]
    windows = [window for items in taken.values() for epoch in items for window in epoch.windows]
    dues = {kind: recount.dues[kind] - before.dues[kind] for kind in recount.dues}
    ranges = [_range(partition, taken[partition], before) for partition in sorted(taken)]
    return {
        "rules": 2,
        "log_id": log.log_id,
        "currency": log.currency,
        "first_epoch": header.epoch_start_s // epoch_s,
        "last_epoch": header.epoch_end_s // epoch_s - 1,
        "start_ms": header.epoch_start_s * 1_000,
        "end_ms": header.epoch_end_s * 1_000,
        "partitions": ranges,
        "windows_digest": chain_digest("post windows 1", digests).hex(),
        "carries_digest": document_digest("post carries 1", recount.carries()).hex(),
        "totals": {
            "windows": len(windows),
            "net": str(sum(window.net_micros for window in windows)),
            "expenses": str(dues["expense"]),
            "refunds": str(dues["refund"]),
            "payable": str(paid + outside - sum(dues.values())),
            "held": str(sum(amount for key, amount in grown.items() if key[0] == "trust")),
            "paid": str(paid),
            "cumulative": str(recount.total()),
            "deposits": str(sum(int(str(one["deposits"])) for one in ranges)),
        },
        "unsettled": [
            {"reason": reason, "machine": machine, "payee": payee, "micros": str(amount)}
            for (reason, machine, payee), amount in grown.items()
            if amount
        ],
    }


def _range(partition: int, items: Sequence[Epoch], before: Before) -> dict[str, object]:
    offset = before.next_offsets[partition]
    return {
        "partition": partition,
        "first_offset": offset,
        "next_offset": items[-1].manifest.next_offset if items else offset,
        "deposits": items[-1].manifest.deposits_micros if items else str(before.deposits[partition]),
        "epochs": [
            {
                "epoch": manifest.epoch,
                "manifest_digest": manifest.digest().hex(),
                "log_root": manifest.log_root,
                "ruleset_digest": manifest.ruleset_digest,
                "skipped_ranges": len(manifest.skipped_ranges),
            }
            for manifest in (epoch.manifest for epoch in items)
        ],
    }
