"""The files of a post as a test has made them, for an audit: None for one that is missing."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from schemas.errors import InvalidInput
from settlement.audit.sources import PublishedWindow


class MadePost(NamedTuple):
    """See audit.sources.Published. Payouts: by account token units and proof."""

    has_manifest: bytes | None
    has_windows: Sequence[PublishedWindow] | None
    has_payouts: Mapping[str, tuple[int, Sequence[bytes]]] | None

    def manifest(self) -> bytes:
        if self.has_manifest is None:
            raise InvalidInput("manifest.json is missing")
        return self.has_manifest

    def windows(self, _: int) -> Sequence[PublishedWindow]:
        if self.has_windows is None:
            raise InvalidInput("windows.parquet is missing")
        return self.has_windows

    def payouts(self, _: int) -> Mapping[str, tuple[int, Sequence[bytes]]]:
        if self.has_payouts is None:
            raise InvalidInput("payouts.json is missing")
        return self.has_payouts
