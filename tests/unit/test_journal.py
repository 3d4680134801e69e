"""A damaged journal is one line that names the file and the cure, wherever the bit is."""

import random
import re
from pathlib import Path

import pytest

from schemas.errors import InvalidInput
from settlement.head import PostHeader
from settlement.posting import GWEI, Attempt, Fees
from settlement.storage.journal import Journal

HEADER = PostHeader(
    sequence=1, previous_head=b"p" * 32, windows_root=b"w" * 32, payouts_root=b"o" * 32, manifest_hash=b"m" * 32,
    epoch_start_s=0, epoch_end_s=3_600, total=10**9, deposits=0,
)  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "journal.sqlite"
    with Journal(path) as journal:
        posting = journal.prepare(HEADER, 1)
        attempt = Attempt(7, "0x" + "ab" * 32, b"raw", Fees(2 * GWEI, GWEI), None)
        journal.sent(journal.sign(posting, attempt), attempt, 12)
    return path


def read(path: Path) -> str:
    """What a journal holds, or the line that says why it can't be read."""
    try:
        with Journal(path) as journal:
            return repr(journal.postings())
    except InvalidInput as error:
        return str(error)


@pytest.mark.parametrize("seed", range(24))
def test_a_flipped_bit_is_told_or_changes_nothing_that_is_trusted(path: Path, seed: int) -> None:
    content = bytearray(path.read_bytes())
    draw = random.Random(seed)
    for at in draw.sample(range(len(content)), 8):
        content[at] ^= 1 << draw.randrange(8)
    path.write_bytes(content)
    said = read(path)
    assert said.startswith(("[Posting(", "[]", f"the journal {path} ")) and "\n" not in said


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"SQLite format 3\0" + b"\xff" * 4_080])
def test_what_is_no_journal_says_what_to_do(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert re.search(r"is damaged \(.+\): move it away with its -wal file", read(path))


def test_a_header_that_can_t_be_read_says_what_to_do(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"sequence"', b'"sequenze"'))
    assert "is damaged" in read(path)


def test_half_a_journal_says_what_to_do(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5_000])
    assert "is damaged" in read(path)
