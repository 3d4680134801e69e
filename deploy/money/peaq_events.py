"""What machines earned by settled windows, as events of peaqOS: one JSON object a line.

    the values of a machine's events in their order add up to its nets, rounded down to the minor unit

A window's value is what its machine's nets come to with it, rounded down, less what they came to before it: the rest
that one window leaves, the next one has. So no sum is ever off by a whole unit, and the same posts make the same
lines. A window that costs more than it earned has a value below 0, which the registry of peaqOS may refuse.

An event is of a post that pays (active): what may still be disputed, or was revoked, isn't exported.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from files.write import make_folder, write_bytes
from schemas.errors import InvalidInput
from schemas.units import SECOND_MS
from settlement.accrual import Earning
from settlement.chain.ledger import Ledger
from settlement.chain.node import Chain
from settlement.chain.overview import post_rows
from settlement.storage.posts import Store

REVENUE = 0
"""The type of an event that says what was earned."""

MICROS_DIGITS = 6
USUAL_DIGITS = 2
MINOR_DIGITS = (
    dict.fromkeys(
        ("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND", "VUV", "XAF",
         "XOF", "XPF"), 0,
    )
    | dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3)
    | dict.fromkeys(("CLF", "UYW"), 4)
)  # fmt: skip
"""Decimals of the minor unit by ISO 4217, where they are not two."""


class PeaqEvent(Struct, frozen=True, rename="camel"):
    """What one window earned: `value` in minor units of the currency, `timestamp` its end in Unix seconds.

    `data_hash` is the window's digest, a leaf's last word under the post of `source_tx_hash` (both 0x-hex).
    `trust_level`: 0 nobody signed the readings, 1 registered keys did, 2 keys in hardware or the meters themselves.
    """

    machine_id: str
    event_type: int
    value: int
    currency: str
    timestamp: int
    data_hash: str
    trust_level: int
    source_tx_hash: str


class PeaqExport(Struct, frozen=True):
    """Where the events were written, how many there are, and the sum of their values in minor units."""

    file: Path
    events: int
    value: int
    currency: str


def write_peaq_events(data_dir: Path, chain: Chain, currency: str, out: Path) -> PeaqExport:
    """Writes the events of all active posts, in one step: a file that is there is replaced by the same and more.

    Raises InvalidInput where the windows of such a post are missing, or the file can't be written.
    """
    ledger, store = Ledger.open(data_dir, chain), Store(data_dir)
    settled: list[tuple[str, Sequence[Earning]]] = []
    for row in post_rows(ledger):
        post = row.settlement
        if post.state != "active":
            continue
        windows = store.windows(post.sequence)
        if windows is None:
            raise InvalidInput(f"the windows of post {post.sequence} are missing: run `tallyroot restore-posts`")
        settled.append((post.transaction, [earning for _, earning in windows]))
    events = list(events_of(settled, currency))
    try:
        make_folder(out.absolute().parent)
        write_bytes(out, b"".join(msgspec.json.encode(event) + b"\n" for event in events))
    except OSError as error:
        raise InvalidInput(f"can't write {out}: {error.strerror}") from None
    return PeaqExport(out, len(events), sum(event.value for event in events), currency)


def events_of(settled: Sequence[tuple[str, Sequence[Earning]]], currency: str) -> Iterator[PeaqEvent]:
    """The events of posts in their order: each the transaction, and the windows in the order of accrual."""
    minor = 10 ** (MICROS_DIGITS - MINOR_DIGITS.get(currency, USUAL_DIGITS))
    earned: dict[str, int] = {}
    for transaction, windows in settled:
        for window in windows:
            before = earned.get(window.machine, 0)
            after = earned[window.machine] = before + window.net_micros
            yield PeaqEvent(
                window.machine, REVENUE, after // minor - before // minor, currency, window.end_ms // SECOND_MS,
                "0x" + window.digest.hex(), window.trust, transaction,
            )  # fmt: skip
