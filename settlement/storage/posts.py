"""The folder `settlement/`: every post with all that is needed to pay, prove and audit it, and to continue from it.

posts/<sequence>/manifest.json    the canonical bytes whose keccak is on the chain
                 header.json      the arguments of the post, its generation, the token's decimals; the files' format
                 windows.parquet  the windows in the order of accrual: the leaves of the windows root
                 payouts.json     by account: cumulative and amount in micros, cumulative in token units, proof
                 balances.json    what the next post starts from
{settlements,payouts,claims}.parquet   for analysts; rebuilt from posts and chain
seen.json                           the block up to which these tables show the chain
funding.json                        what is earned and not funded, as of the last settlement
"""

import shutil
import uuid
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pyarrow as pa

from files.parquet import publish_table, read_table
from files.read import read_bytes, read_json
from files.write import Temporary, make_folder, plain_json, rename, write_bytes, write_json
from schemas.arrow import MICROS
from schemas.errors import InvalidInput
from schemas.keccak import keccak
from schemas.payout import Carry, ChainSeen, Funding, Payout, Unsettled
from schemas.post import PostManifest, carries_digest
from schemas.window import DUE_KINDS, Due, DueKind
from settlement.accrual import Balances, Earning, Terms
from settlement.head import HeaderFile, PostHeader
from settlement.leaf import payout_leaf
from settlement.post import AssembledPost, PostStanding, payouts_tree, token_units

DUE = pa.struct([("kind", pa.string()), ("account", pa.string()), ("ref", pa.string()), ("micros", pa.int64())])
POST_WINDOWS = pa.schema(
    [
        ("partition", pa.int64()),
        ("machine", pa.string()),
        ("start_ms", pa.int64()),
        ("end_ms", pa.int64()),
        ("adjusts_ms", pa.int64()),
        ("net_micros", MICROS),
        ("trust", pa.int64()),
        ("digest", pa.binary(32)),
        ("agreement", pa.string()),
        ("pays_trust", pa.int64()),
        ("points", pa.map_(pa.string(), pa.int64())),
        ("outside", pa.list_(pa.string())),
        ("dues", pa.list_(DUE)),
    ]
)


RESTORE = "restore the folder settlement/ from a copy"
FILE_BYTES_MAX = 8 << 30
"""A file of a post: proofs of millions of accounts are gigabytes."""

T = TypeVar("T")


class StoredHeader(msgspec.Struct, frozen=True):
    """header.json."""

    header: HeaderFile
    generation: int
    decimals: int


class AccountPayout(msgspec.Struct, frozen=True):
    """One account of payouts.json: micros and token units as decimal strings, the proof as hex.

    `expenses_micros` and `refunds_micros` are what of `cumulative_micros` was paid as dues.
    """

    cumulative_micros: str
    expenses_micros: str
    refunds_micros: str
    amount_micros: str
    cumulative: str
    proof: tuple[str, ...]


class BalancesFile(msgspec.Struct, frozen=True):
    """balances.json: micros as decimal strings; by partition the next epoch and the next offset.

    `dues` are what of `cumulative` was paid as dues, by kind and account.
    """

    sequence: int
    next_epoch: int
    partition_epochs: dict[int, int]
    partition_offsets: dict[int, int]
    cumulative: dict[str, str]
    carries: tuple[Carry, ...]
    unsettled: tuple[Unsettled, ...]
    dues: dict[DueKind, dict[str, str]]


class Store:
    """The posts of a data folder. A post's folder appears whole, by a rename, or not at all."""

    def __init__(self, data_dir: Path) -> None:
        self.folder = data_dir / "settlement"
        self._posts = self.folder / "posts"

    def save(self, post: AssembledPost, header: PostHeader, generation: int, decimals: int) -> None:
        """Writes a post: (1) all its files, durably, in a temporary folder, (2) its rename.

        An existing folder of that sequence (never signed, or disputed) moves aside.
        """
        final = self._posts / str(header.sequence)
        temporary = self._posts / f".{header.sequence}.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        # (1)
        write_bytes(temporary / "manifest.json", post.manifest.canonical())
        write_json(temporary / "header.json", StoredHeader(HeaderFile.of(header), generation, decimals), indent=1)
        publish_table(Temporary(temporary / "windows.parquet"), _windows_table(post.windows))
        write_bytes(temporary / "payouts.json", plain_json(msgspec.json.encode(_payouts(post, decimals)), indent=1))
        write_json(temporary / "balances.json", _balances_file(post.after), indent=1)
        # (2)
        if final.exists():
            self._set_aside(final, header.sequence)
        rename(temporary, final)

    def header(self, sequence: int) -> StoredHeader | None:
        """header.json of a post; None if there is no such folder. Raises InvalidInput if it is damaged."""
        path = self._posts / str(sequence) / "header.json"
        return _read(path, StoredHeader) if path.parent.exists() else None

    def standing(self, sequence: int, initial: PostStanding) -> PostStanding:
        """The state that the next post starts from; `initial` is that before the first.

        Raises InvalidInput if the post's hashes don't cover it.
        """
        if sequence == 0:
            return initial
        kept = self.stored_header(sequence)
        file = _read(self._posts / str(sequence) / "balances.json", BalancesFile)
        balances = Balances(
            {account: int(amount) for account, amount in file.cumulative.items()},
            {(carry.machine, carry.agreement): int(carry.micros) for carry in file.carries},
            {(part.reason, part.machine, part.payee): int(part.micros) for part in file.unsettled},
            {(kind, account): int(micros) for kind, by in file.dues.items() for account, micros in by.items()},
            ledger=initial.balances.ledger,
        )
        root = payouts_tree(balances.payouts(), kept.decimals).root.hex()
        manifest = self.manifest(sequence)
        covered = (
            root == kept.header.payouts_root
            and carries_digest(balances.carries()) == manifest.carries_digest
            and (file.sequence, file.next_epoch) == (sequence, manifest.last_epoch + 1)
            and file.partition_offsets == {r.partition: r.next_offset for r in manifest.partitions}
        )
        if not covered:
            raise InvalidInput(f"{self._posts / str(sequence)} was changed after it was posted: restore it from a copy")
        deposits = {r.partition: int(r.deposits) for r in manifest.partitions}
        return PostStanding(
            sequence, balances, file.next_epoch, file.partition_epochs, file.partition_offsets, deposits
        )

    def stored_header(self, sequence: int) -> StoredHeader:
        """header.json of a post. Raises InvalidInput if it is missing or damaged."""
        kept = self.header(sequence)
        if kept is None:
            raise InvalidInput(f"post {sequence} is not in {self._posts}: `tallyroot restore-posts` rebuilds it")
        return kept

    def manifest_bytes(self, sequence: int) -> bytes | None:
        """The bytes of manifest.json; None if it is missing."""
        path = self._posts / str(sequence) / "manifest.json"
        return read_bytes(path, remedy=RESTORE, max_bytes=FILE_BYTES_MAX) if path.exists() else None

    def manifest(self, sequence: int) -> PostManifest:
        """The post's manifest. Raises InvalidInput if its bytes don't have the manifest hash."""
        content = self.manifest_bytes(sequence)
        if content is None or keccak(content).hex() != self.stored_header(sequence).header.manifest_hash:
            raise InvalidInput(f"the manifest of post {sequence} is missing or was changed: restore it from a copy")
        return msgspec.json.decode(content, type=PostManifest)

    def payouts(self, sequence: int) -> dict[str, AccountPayout]:
        """payouts.json: every account of the post's payouts root. Raises InvalidInput if it is missing or damaged."""
        self.stored_header(sequence)
        return _read(self._posts / str(sequence) / "payouts.json", dict[str, AccountPayout])

    def windows(self, sequence: int) -> list[tuple[int, Earning]] | None:
        """The post's windows with their partitions, in the order of accrual; None if the file is missing."""
        path = self._posts / str(sequence) / "windows.parquet"
        return windows_from(read_table(path, POST_WINDOWS, remedy=RESTORE)) if path.exists() else None

    def payout_rows(self, sequences: Sequence[int]) -> Iterator[Payout]:
        """The rows of payouts.parquet."""
        for sequence in sequences:
            for account, row in self.payouts(sequence).items():
                yield Payout(sequence, account, int(row.cumulative_micros), int(row.amount_micros))

    def write_table(self, name: str, table: pa.Table) -> None:
        """Writes settlement/<name>.parquet, whole or not at all."""
        mark = f".{uuid.uuid4().hex}"  # claims may run beside a settle
        publish_table(Temporary(self.folder / f"{name}.parquet", mark), table)

    def write_seen(self, seen: ChainSeen) -> None:
        """Writes settlement/seen.json, whole or not at all."""
        write_json(self.folder / "seen.json", seen)

    def write_funding(self, funding: Funding) -> None:
        """Writes settlement/funding.json, whole or not at all."""
        make_folder(self.folder)
        write_json(self.folder / "funding.json", funding, indent=1)

    def bring_back(self, header: PostHeader) -> bool:
        """Restores a post that was set aside; returns False if there is none with this header."""
        final = self._posts / str(header.sequence)
        for aside in sorted(self._posts.glob(f"{header.sequence}.replaced-*")):
            if _read(aside / "header.json", StoredHeader).header.header() == header:
                if final.exists():
                    self._set_aside(final, header.sequence)
                rename(aside, final)
                return True
        return False

    def _set_aside(self, folder: Path, sequence: int) -> None:
        number = 1
        while (aside := self._posts / f"{sequence}.replaced-{number}").exists():
            number += 1
        rename(folder, aside)


def _balances_file(after: PostStanding) -> BalancesFile:
    balances = after.balances
    dues: dict[DueKind, dict[str, str]] = {kind: {} for kind in DUE_KINDS}
    for (kind, account), micros in sorted(balances.dues.items()):
        dues[kind][account] = str(micros)
    parts = [Unsettled(*key, str(amount)) for key, amount in sorted(balances.unsettled.items()) if amount]
    return BalancesFile(
        after.sequence, after.next_epoch or 0, dict(after.partition_epochs), dict(after.partition_offsets),
        {account: str(amount) for account, amount in balances.payouts().items()}, balances.carries(), tuple(parts),
        dues,
    )  # fmt: skip


def _payouts(post: AssembledPost, decimals: int) -> dict[str, AccountPayout]:
    before, dues = post.before.balances.cumulative, post.after.balances.dues
    rows = {}
    for account, micros in post.after.balances.payouts().items():
        units = token_units(micros, decimals)
        proof = tuple("0x" + node.hex() for node in post.payouts_tree.proof(payout_leaf(account, units)))
        expenses, refunds = (str(dues.get((kind, account), 0)) for kind in DUE_KINDS)
        rows[account] = AccountPayout(
            str(micros), expenses, refunds, str(micros - before.get(account, 0)), str(units), proof
        )
    return rows


def _windows_table(windows: Sequence[tuple[int, Earning]]) -> pa.Table:
    earnings = [earning for _, earning in windows]
    columns: dict[str, list[Any]] = {
        "partition": [partition for partition, _ in windows],
        "net_micros": [Decimal(e.net_micros) for e in earnings],
        "agreement": [e.terms.digest for e in earnings],
        "pays_trust": [e.terms.pays_trust for e in earnings],
        "points": [e.terms.points for e in earnings],
        "outside": [sorted(e.terms.outside) for e in earnings],
        "dues": [[msgspec.structs.asdict(due) for due in e.dues] for e in earnings],
    }
    for name in ("machine", "start_ms", "end_ms", "adjusts_ms", "trust", "digest"):
        columns[name] = [getattr(e, name) for e in earnings]
    return pa.table([columns[name] for name in POST_WINDOWS.names], schema=POST_WINDOWS)


def windows_from(table: pa.Table | pa.RecordBatch) -> list[tuple[int, Earning]]:
    """The rows of POST_WINDOWS, with the partition of each."""
    rows = zip(*(table.column(name).to_pylist() for name in POST_WINDOWS.names), strict=True)
    known: dict[object, Terms] = {}
    found = []
    for (
        partition,
        machine,
        start,
        end,
        adjusts,
        net,
        trust,
        digest,
        agreement,
        pays_trust,
        points,
        outside,
        dues,
    ) in rows:
        key = (agreement, pays_trust, tuple(points))
        terms = known.get(key)
        if terms is None:
            terms = known[key] = Terms(tuple(points), frozenset(outside), pays_trust, agreement)
        owed = tuple(Due(**due) for due in dues)
        found.append((partition, Earning(machine, start, end, adjusts, int(net), trust, digest, terms, owed)))
    return found


def _read(path: Path, kind: type[T]) -> T:
    return read_json(path, kind, what="a file of a post", remedy=RESTORE, max_bytes=FILE_BYTES_MAX)
