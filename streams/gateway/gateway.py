"""What a machine's gateway calls: `send` a reading, and it is numbered, kept, batched, signed and brought to Kafka."""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import msgspec
from msgspec import Struct

from deploy.explain.advice import reading_of
from schemas.errors import InvalidInput
from schemas.reading import ROWS_MAX, Reading
from schemas.units import Id
from streams.core.encode import Format
from streams.core.murmur2 import partition_of
from streams.core.signature import reading_key
from streams.gateway.sender import Address, BatchLimits, Sender
from streams.gateway.spool import Spool

FLUSH_SECONDS = 30.0
CLOSE_SECONDS = 5.0

Sync = Literal["batch", "reading"]

_log = logging.getLogger("tallyroot.gateway")


class GatewayStatus(Struct, frozen=True):
    """How a gateway does. `waiting` readings are in the spool and not confirmed by Kafka; `problem` says why, if known.

    `public_key` (64 hex digits) is what the machines' registrations name; None where nothing is signed.
    """

    boot: int
    waiting: int
    problem: str | None
    public_key: str | None


def wall_ms() -> int:
    """The wall clock, epoch ms."""
    return time.time_ns() // 1_000_000


class Gateway:
    """One route's gateway. Any thread may call it; it ends with `close`, or as a context manager.

    What `send` has returned is on disk and reaches Kafka once it can, in order, after any crash of the process. With
    `sync="batch"` a loss of power may take the readings of the last batch that had not left yet; with `"reading"` none.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        *,
        log_id: str,
        route: str,
        spool: Path | str,
        topic: str = "telemetry",
        partitions: int = 4,
        key_id: str | None = None,
        private_key: bytes | None = None,
        format: Format = "json",
        batch_rows: int = 1_000,
        batch_ms: int = 200,
        boot: int = 0,
        spool_bytes: int = 1 << 28,
        sync: Sync = "batch",
        now_ms: Callable[[], int] = wall_ms,
    ) -> None:
        """`route` is the key of all records, as the machines' registrations say; `partitions` is the log's number.

        With `key_id` and `private_key` (32 bytes of Ed25519) every record is signed. `boot` is the lowest to be used,
        where an operator registered one. Kafka may be away. Raises InvalidInput for what can't be right, and where
        another gateway has the spool's folder.
        """
        _check(log_id, route, partitions, key_id, private_key, format, batch_rows, sync)
        address = Address(
            log_id=log_id,
            topic=topic,
            partitions=partitions,
            partition=partition_of(route.encode(), partitions),
            key=route.encode(),
            format=format,
            key_id=key_id,
            private_key=private_key,
        )
        self._now_ms = now_ms
        self._sync = sync
        self._public_key = None if private_key is None else reading_key(private_key)
        self._turn = threading.Condition()
        self._spool = Spool(
            Path(spool), log_id, route, now_ms=now_ms(), least_boot=boot, limit_bytes=max(spool_bytes, 1 << 14)
        )
        for warning in self._spool.warnings:
            _log.warning("%s", warning)
        limits = BatchLimits(batch_rows, batch_ms)
        self._sender = Sender(bootstrap_servers, self._spool, self._turn, address, limits)
        self._is_open = True
        self._sender.start()

    def send(
        self,
        machine: str,
        meter: str,
        *,
        register: int | None = None,
        quantity: int | None = None,
        level: int | None = None,
        observed_at: int | None = None,
        session: str | None = None,
        session_started_at: int | None = None,
        session_start: bool = False,
        reconstructed: bool = False,
    ) -> Reading:
        """Takes one reading, observed now unless it says when (epoch ms), and gives it back with its boot and number.

        Values are integers in the meter's unit. Raises InvalidInput for what the log would refuse as malformed, and
        SpoolFull where there is no room: then it was not taken, and no number is missing.
        """
        given = {
            "machine": machine,
            "meter": meter,
            "register": register,
            "quantity": quantity,
            "level": level,
            "session": session,
            "session_started_at": session_started_at,
            "session_start": session_start,
            "reconstructed": reconstructed,
            "observed_at": self._now_ms() if observed_at is None else observed_at,
        }
        item: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        unnumbered = reading_of(item | {"boot": self._spool.boot, "seq": 0})
        with self._turn:
            self._check_open()
            reading = msgspec.structs.replace(unnumbered, seq=self._spool.next_seq(machine, meter))
            self._spool.append(reading)
            if self._sync == "reading":
                self._spool.sync()
            self._turn.notify_all()
        return reading

    def flush(self, seconds: float = FLUSH_SECONDS) -> None:
        """Returns once Kafka has all that was sent so far. Raises InvalidInput after so many seconds; it all stays."""
        with self._turn:
            self._check_open()
            if not self._await_sent(seconds):
                why = self._sender.problem or "it gives no answer"
                raise InvalidInput(
                    f"{self._spool.count:,} readings still wait for Kafka ({why}): they stay in {self._spool.folder}"
                )

    def status(self) -> GatewayStatus:
        """How it does right now."""
        with self._turn:
            return GatewayStatus(self._spool.boot, self._spool.count, self._sender.problem, self._public_key)

    def close(self, seconds: float = CLOSE_SECONDS) -> int:
        """Sends what it can within so many seconds and ends; how many readings wait in the spool for the next start."""
        with self._turn:
            if not self._is_open:
                return self._spool.count
            self._await_sent(seconds)
            self._is_open = False
        self._sender.stop()
        self._spool.close()
        if self._spool.count:
            _log.warning("%d readings wait in %s for the next start", self._spool.count, self._spool.folder)
        return self._spool.count

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _await_sent(self, seconds: float) -> bool:
        """Whether Kafka had all that is written by now within so many seconds. The turn is held."""
        end = self._spool.end
        self._sender.hurried += 1
        self._turn.notify_all()
        try:
            return self._turn.wait_for(
                lambda: not self._spool.count or self._spool.acked >= end or self._sender.broken is not None, seconds
            ) and (not self._spool.count or self._spool.acked >= end)
        finally:
            self._sender.hurried -= 1

    def _check_open(self) -> None:
        if self._sender.broken is not None:
            raise self._sender.broken
        if not self._is_open:
            raise InvalidInput("the gateway is closed: make a new one")


def _check(
    log_id: str,
    route: str,
    partitions: int,
    key_id: str | None,
    private_key: bytes | None,
    format: str,
    batch_rows: int,
    sync: str,
) -> None:
    for name, value in (("log id", log_id), ("route", route), ("key id", key_id)):
        try:
            msgspec.convert(value, Id | None)
        except msgspec.ValidationError:
            raise InvalidInput(f"'{value}' is no {name}: use at most 64 of A-Z a-z 0-9 . _ : -") from None
    if (key_id is None) != (private_key is None):
        raise InvalidInput("a signing gateway needs both, key_id and private_key")
    if not 1 <= partitions <= 1_024:
        raise InvalidInput(f"a log has 1 to 1,024 partitions, not {partitions}")
    if format not in ("json", "arrow"):
        raise InvalidInput(f"'{format}' is no format: choose json or arrow")
    if not 1 <= batch_rows <= ROWS_MAX:
        raise InvalidInput(f"a batch has 1 to {ROWS_MAX:,} rows, not {batch_rows}")
    if sync not in ("batch", "reading"):
        raise InvalidInput(f"'{sync}' is no way to sync: choose batch or reading")
