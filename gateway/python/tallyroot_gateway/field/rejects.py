"""What a device said and no reading could be made of: kept in a file, with the reason, and counted.

One line of JSON each: `at` (epoch ms), `source`, `reason`, `detail`, `raw` (text; base64 where it is none, then
`base64` is true). A file of 16 MiB becomes `<name>.1`, that one `<name>.2`; of more than eight the oldest goes.
"""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from tallyroot_gateway.field.metrics import Metrics

FILE_BYTES = 1 << 24
FILES = 8

RAW_MAX = 1 << 16
"""How much of what was said is kept, in bytes."""


class Rejects:
    """The file, written line by line."""

    def __init__(self, path: Path, metrics: Metrics, now_ms: Callable[[], int]) -> None:
        self._path, self._metrics, self._now_ms = path, metrics, now_ms

    def add(self, source: str, reason: str, detail: str, raw: bytes | str) -> None:
        """Keeps what `source` said, unless the disk is full. `reason` is one of a few words; `detail` is a sentence."""
        self._metrics.rejected.labels(reason).inc()
        data = raw.encode("utf-8", "surrogatepass") if isinstance(raw, str) else raw
        line: dict[str, Any] = {"at": self._now_ms(), "source": source, "reason": reason, "detail": detail}
        try:
            line["raw"] = data[:RAW_MAX].decode()
        except UnicodeDecodeError:
            line |= {"raw": base64.b64encode(data[:RAW_MAX]).decode(), "base64": True}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if self._path.exists() and self._path.stat().st_size >= FILE_BYTES:
                self._turn_over()
            with self._path.open("ab") as file:
                file.write(msgspec.json.encode(line) + b"\n")
        except OSError:
            self._metrics.rejected.labels("reject_not_written").inc()

    def _turn_over(self) -> None:
        for number in range(FILES - 1, 0, -1):
            older = self._path.with_name(f"{self._path.name}.{number}")
            newer = self._path if number == 1 else self._path.with_name(f"{self._path.name}.{number - 1}")
            if newer.exists():
                newer.replace(older)
