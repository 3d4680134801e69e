"""The ledger's head: a hash chain over everything posted and disputed, as ISettlementLedger.sol defines it.

genesis      = keccak(abi.encode(GENESIS, chain id, ledger, token, currency, log, start of the first epoch))
after a post = keccak(abi.encode(POST, the nine arguments of post))
after a dispute = keccak(abi.encode(DISPUTE, previous head, sequence))
"""

from msgspec import Struct

from schemas.keccak import keccak
from settlement.leaf import account_bytes

GENESIS = keccak(
    b"Genesis(uint256 chainId,address ledger,address token,bytes3 currency,bytes32 log,uint64 firstEpochStart)"
)
POST = keccak(
    b"Post(uint256 sequence,bytes32 previousHead,bytes32 windowsRoot,bytes32 payoutsRoot,bytes32 manifestHash,"
    b"uint64 epochStart,uint64 epochEnd,uint256 total,uint256 deposits)"
)
DISPUTE = keccak(b"Dispute(bytes32 previousHead,uint256 sequence)")


class PostHeader(Struct, frozen=True, kw_only=True):
    """The nine arguments of the ledger's `post`: hashes are 32 bytes, times Unix seconds, amounts token units.

    The ledger must hold the total, less what was claimed, and the deposits beside it.
    """

    sequence: int
    previous_head: bytes
    windows_root: bytes
    payouts_root: bytes
    manifest_hash: bytes
    epoch_start_s: int
    epoch_end_s: int
    total: int
    deposits: int

    @property
    def arguments(self) -> tuple[int, bytes, bytes, bytes, bytes, int, int, int, int]:
        """The arguments in the contract's order."""
        return (
            self.sequence, self.previous_head, self.windows_root, self.payouts_root, self.manifest_hash,
            self.epoch_start_s, self.epoch_end_s, self.total, self.deposits,
        )  # fmt: skip

    def head(self) -> bytes:
        """The head after this post."""
        words = (word if isinstance(word, bytes) else _word(word) for word in self.arguments)
        return keccak(POST + b"".join(words))


class HeaderFile(Struct, frozen=True, kw_only=True):
    """A header as JSON: hashes as hex, amounts as decimal strings (they may leave the safe integers)."""

    sequence: int
    previous_head: str
    windows_root: str
    payouts_root: str
    manifest_hash: str
    epoch_start_s: int
    epoch_end_s: int
    total: str
    deposits: str

    @classmethod
    def of(cls, header: PostHeader) -> "HeaderFile":
        """A header in the file's form."""
        return cls(
            sequence=header.sequence,
            previous_head=header.previous_head.hex(),
            windows_root=header.windows_root.hex(),
            payouts_root=header.payouts_root.hex(),
            manifest_hash=header.manifest_hash.hex(),
            epoch_start_s=header.epoch_start_s,
            epoch_end_s=header.epoch_end_s,
            total=str(header.total),
            deposits=str(header.deposits),
        )

    def header(self) -> PostHeader:
        """The header of this form."""
        return PostHeader(
            sequence=self.sequence,
            previous_head=bytes.fromhex(self.previous_head),
            windows_root=bytes.fromhex(self.windows_root),
            payouts_root=bytes.fromhex(self.payouts_root),
            manifest_hash=bytes.fromhex(self.manifest_hash),
            epoch_start_s=self.epoch_start_s,
            epoch_end_s=self.epoch_end_s,
            total=int(self.total),
            deposits=int(self.deposits),
        )


def genesis_head(
    chain_id: int, ledger: str, token: str, currency: str, log_digest: bytes, first_epoch_start_s: int
) -> bytes:
    """The first head of a ledger; addresses are hex of any case, `log_digest` is the log's `birth_digest`."""
    words = (account_bytes(address.lower()).rjust(32, b"\0") for address in (ledger, token))
    parts = (currency.encode().ljust(32, b"\0"), log_digest, _word(first_epoch_start_s))
    return keccak(GENESIS + _word(chain_id) + b"".join(words) + b"".join(parts))


def disputed_head(previous_head: bytes, sequence: int) -> bytes:
    """The head after a dispute of `sequence`."""
    return keccak(DISPUTE + previous_head + _word(sequence))


def _word(value: int) -> bytes:
    return value.to_bytes(32, "big")
