"""The files of a post as an auditor reads them: the poster may have written anything, so each has a bound."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import msgspec
import pyarrow as pa

from files.foreign import ForeignFiles
from files.read import HostFault
from schemas.errors import InvalidInput
from settlement.accrual import Earning
from settlement.audit.sources import SourceMissing
from settlement.storage.posts import POST_WINDOWS, AccountPayout, windows_from

MANIFEST_BYTES_MAX = 64 << 20
ROWS_SPARE = 1_024
"""A file may hold twice as many rows as are right and this many: enough to name the first that differs."""

ACCOUNT_BYTES = 4_096
"""More than an account takes in payouts.json, with a proof as deep as any."""

POST_FILES = ("manifest.json", "windows.parquet", "payouts.json")
UNREADABLE = (pa.ArrowException, OSError, ValueError, TypeError, LookupError, ArithmeticError, RecursionError)
"""The errors of taking rows out of a file that holds anything else."""

T = TypeVar("T")


def published_in(files: ForeignFiles) -> "Callable[[int], PublishedPost]":
    """The files of a post by its sequence."""
    return lambda sequence: PublishedPost(files, sequence)


class PublishedPost:
    """The files of one post in a data folder: see audit.sources.Published."""

    def __init__(self, files: ForeignFiles, sequence: int) -> None:
        """Raises SourceMissing where no post's files are here at all."""
        self._files = files
        posts = files.folder / "settlement" / "posts"
        self._folder = posts / str(sequence)
        if not posts.is_dir():
            raise SourceMissing(
                f"no files of any post are here: copy {posts} from where they are published", withheld=False
            )

    def manifest(self) -> bytes:
        """See Published."""
        return self._read("manifest.json", lambda: self._content("manifest.json", MANIFEST_BYTES_MAX))

    def windows(self, expected: int) -> Sequence[Earning]:
        """See Published."""
        path = self._folder / "windows.parquet"

        def read() -> list[Earning]:
            batches = self._files.batches(path, POST_WINDOWS, 2 * expected + ROWS_SPARE)
            return [_whole(earning) for batch in batches for _, earning in windows_from(batch)]

        return self._read(path.name, read)

    def payouts(self, expected: int) -> Mapping[str, tuple[int, Sequence[bytes]]]:
        """See Published."""

        def read() -> dict[str, tuple[int, Sequence[bytes]]]:
            content = self._content("payouts.json", (2 * expected + ROWS_SPARE) * ACCOUNT_BYTES)
            rows = msgspec.json.decode(content, type=dict[str, AccountPayout])
            return {
                account: (int(row.cumulative), [bytes.fromhex(node[2:]) for node in row.proof])
                for account, row in rows.items()
            }

        return self._read("payouts.json", read)

    def _content(self, name: str, max_bytes: int) -> bytes:
        return b"".join(self._files.chunks(self._folder / name, max_bytes))

    def _read(self, name: str, read: Callable[[], T]) -> T:
        try:
            return read()
        except HostFault as error:
            raise SourceMissing(str(error), withheld=False) from None
        except UNREADABLE as error:  # msgspec's are ValueErrors
            line = (str(error).splitlines() or [type(error).__name__])[0]
            raise InvalidInput(f"{self._folder / name} is not what a post has ({line[:200]})") from None


def _whole(earning: Earning) -> Earning:
    """The window. Raises TypeError if a value of it is missing."""
    kinds = (str, int, int, int, int, int, bytes) + (str, str, str, int) * len(earning.dues)
    parts: tuple[object, ...] = (
        earning.machine, earning.start_ms, earning.end_ms, earning.adjusts_ms, earning.net_micros, earning.trust,
        earning.digest, *(value for due in earning.dues for value in msgspec.structs.astuple(due)),
    )  # fmt: skip
    if not all(isinstance(part, kind) for part, kind in zip(parts, kinds, strict=True)):
        raise TypeError("a window lacks a column")
    return earning
