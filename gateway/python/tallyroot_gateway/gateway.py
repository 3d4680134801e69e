"""What a machine's gateway calls: `send` a reading, and it is checked, numbered, kept, batched, signed and produced.

1. `send` checks the reading, numbers it and writes it to the spool.
2. The sender's thread makes the spool outlast a loss of power, then produces a batch.
3. What Kafka has acknowledged leaves the spool.
"""

import importlib.util
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import msgspec
from msgspec import Struct

from tallyroot_gateway.errors import InvalidInput
from tallyroot_gateway.reading import NewReading, Reading, flag_fault, is_id, reading_of, receipt_fault, refused
from tallyroot_gateway.receipts import Receipt, Receipts
from tallyroot_gateway.sender import Address, BatchLimits, Sender
from tallyroot_gateway.spool import Notes, Place, Spool
from tallyroot_gateway.wire import CONTENT_TYPES, PARTITIONS_MAX, ROWS_MAX, Format, partition_of, public_key_of

FLUSH_SECONDS = 30.0
CLOSE_SECONDS = 5.0

Sync = Literal["batch", "reading"]

_log = logging.getLogger("tallyroot.gateway")


class GatewayStatus(Struct, frozen=True):
    """How a gateway is doing. Kafka has not acknowledged `waiting` readings and receipts yet; `problem` says why, if
    known.

    `public_key` (64 hex digits) is for the machines' registrations; None if nothing is signed.
    """

    boot: int
    waiting: int
    problem: str | None
    public_key: str | None


def wall_ms() -> int:
    """The wall clock, epoch ms."""
    return time.time_ns() // 1_000_000


class Gateway:
    """One route's gateway. Thread-safe; end it with `close`, or use it as a context manager.

    A reading that `send` returned is on disk and reaches Kafka as soon as it can, in order, also after a crash of the
    process. With `sync="batch"` a loss of power may lose the last readings, which had not left yet; with `"reading"`
    none.
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
        kafka: Mapping[str, str] | None = None,
    ) -> None:
        """`route` is the key of all records, as the machines' registrations say; `partitions` is the log's number.

        With `key_id` and `private_key` (32 bytes of Ed25519) every record is signed. `boot` is the lowest to use,
        where an operator registered one. `now_ms` returns epoch ms. `kafka` are properties to connect by, with
        librdkafka's names (`security.protocol`, `sasl.username`, ...); `kafka_properties` takes them from the
        environment. Kafka may be away; with no `bootstrap_servers` ("") nothing is sent, and readings wait in the spool
        for a start that has some. Raises InvalidInput for options that can't be right, and where another gateway
        has the spool's folder.
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
        self._public_key = None if private_key is None else public_key_of(private_key)
        self._turn = threading.Condition()
        self._spool = Spool(
            Path(spool), log_id, route, now_ms=now_ms(), least_boot=boot, limit_bytes=max(spool_bytes, 1 << 14)
        )
        try:
            self._receipts = Receipts(Path(spool), may_sign=private_key is not None)
        except InvalidInput:
            self._spool.close()
            raise
        for warning in (*self._spool.warnings, *self._receipts.warnings):
            _log.warning("%s", warning)
        limits = BatchLimits(batch_rows, batch_ms)
        connection = {**(kafka or {}), "bootstrap.servers": bootstrap_servers}
        self._sender = Sender(connection, self._spool, self._receipts, self._turn, address, limits)
        self._is_open = True
        if bootstrap_servers:
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
        session_end: bool = False,
        reconstructed: bool = False,
        evidence: str | None = None,
        reset: bool = False,
        rolls_over: bool = False,
    ) -> Reading:
        """Takes one reading, observed now unless `observed_at` (epoch ms) says when; returns it with boot and number.

        Values are integers in the meter's unit. `reset` says that the meter's register began again, so that it may be
        below the last one: a new boot begins. `rolls_over` says that it rolls over at the modulus of its registration,
        so that it may be below the last one within a boot. `evidence` is what the meter signed, an OCMF record.
        Raises InvalidInput for a reading that the log would refuse, or whose register fell without either, and
        SpoolFull where there is no room: it was not taken, and no number is missing.
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
            "session_end": session_end,
            "reconstructed": reconstructed,
            "evidence": evidence,
            "observed_at": self._now_ms() if observed_at is None else observed_at,
        }
        item: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        unnumbered = reading_of(item | {"boot": 0, "seq": 0})
        with self._turn:
            self._check_open()
            last = self._spool.last_register(machine, meter)
            _check_register(unnumbered, last, reset=reset, rolls_over=rolls_over)
            if reset:
                self._spool.begin_boot(machine, meter, self._now_ms())
            reading = _numbered(unnumbered, self._spool.boot, self._spool.next_seq(machine, meter))
            self._spool.append([reading])
            if self._sync == "reading":
                self._spool.sync()
            self._turn.notify_all()
        return reading

    def deliver(
        self, readings: Sequence[NewReading], *, key: str | None = None, notes: Notes | None = None
    ) -> list[Reading]:
        """Takes what a device delivered together, all or none of it, also over a crash; returns it numbered.

        A `key` is taken once: a delivery whose key is among the last 10,000 returns nothing and changes nothing.
        `notes` are kept with the readings, and `note` finds them again, also after a restart. Call `sync` before the
        device is told that it was taken. Raises as `send` does; then nothing was taken.
        """
        with self._turn:
            self._check_open()
            if key is not None and self._spool.has_key(key):
                return []
            numbered: list[Reading] = []
            last: dict[tuple[str, str], tuple[int, int | None]] = {}
            for new in readings:
                meter = new.machine, new.meter
                unnumbered = reading_of(new.fields())
                seq, register = last.get(meter, (self._spool.next_seq(*meter), self._spool.last_register(*meter)))
                _check_register(unnumbered, register, reset=False, rolls_over=new.may_fall)
                numbered.append(_numbered(unnumbered, self._spool.boot, seq))
                last[meter] = seq + 1, register if new.register is msgspec.UNSET else new.register
            if numbered or key is not None or notes:
                self._spool.append(numbered, key, notes)
            self._turn.notify_all()
        return numbered

    def receive(self, machine: str, item: str, number: int, quantity: int, observed_at: int | None = None) -> None:
        """Takes it that goods of an order arrived, now unless `observed_at` (epoch ms) says when; 0 pieces: none came.

        It is on disk for good once this returns, and reaches Kafka as readings do, signed. Of an order the first
        receipt counts; the same again changes nothing. Raises InvalidInput for what the log would refuse and for a
        gateway without a key, SpoolFull where too many wait: then it was not taken.
        """
        observed_at = self._now_ms() if observed_at is None else observed_at
        fault = receipt_fault(machine, item, number, quantity, observed_at)
        if self._public_key is None:
            fault = "goods are received by a signature: make the gateway with key_id and private_key"
        if fault is not None:
            raise InvalidInput(f"this receipt was not taken: {fault}")
        with self._turn:
            self._check_open()
            self._receipts.keep(Receipt(machine, item, number, quantity, observed_at))
            self._turn.notify_all()

    def note(self, name: str) -> str | None:
        """What a delivery noted last under this name; None if nothing."""
        with self._turn:
            return self._spool.note(name)

    def has_taken(self, key: str) -> bool:
        """Whether a delivery of this key is among the last 10,000."""
        with self._turn:
            return self._spool.has_key(key)

    def sync(self) -> None:
        """Makes all that was taken outlast a loss of power. Raises InvalidInput where the disk doesn't."""
        with self._turn:
            self._check_open()
            try:
                self._spool.sync()
            except OSError as error:
                raise InvalidInput(f"the spool {self._spool.folder} can't be written ({error.strerror})") from None

    def flush(self, seconds: float = FLUSH_SECONDS) -> None:
        """Returns once Kafka has all that was sent so far. Raises InvalidInput after `seconds`; the spool keeps all."""
        with self._turn:
            self._check_open()
            if not self._await_sent(seconds):
                why = self._sender.problem or "no answer"
                raise InvalidInput(
                    f"{self._waiting:,} readings still wait for Kafka ({why}): they stay in {self._spool.folder}"
                )

    def status(self) -> GatewayStatus:
        """How it is doing now."""
        with self._turn:
            return GatewayStatus(self._spool.boot, self._waiting, self._sender.problem, self._public_key)

    def close(self, seconds: float = CLOSE_SECONDS) -> int:
        """Sends what it can within `seconds` and ends; returns how many readings and receipts wait for later."""
        with self._turn:
            if not self._is_open:
                return self._waiting
            if self._sender.is_running:
                self._await_sent(seconds)
            self._is_open = False
        self._sender.stop()
        self._spool.close()
        if self._waiting:
            _log.warning("%d readings wait in %s for the next start", self._waiting, self._spool.folder)
        return self._waiting

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _await_sent(self, seconds: float) -> bool:
        """Whether Kafka has all that is written by now, within `seconds`. The turn is held."""
        end = self._spool.end
        self._sender.hurried += 1
        self._turn.notify_all()
        try:
            self._turn.wait_for(lambda: self._has_sent(end) or self._sender.broken is not None, seconds)
            return self._has_sent(end)
        finally:
            self._sender.hurried -= 1

    def _has_sent(self, end: Place) -> bool:
        return (not self._spool.count or self._spool.acked >= end) and not self._receipts.count

    @property
    def _waiting(self) -> int:
        """Readings and receipts that Kafka doesn't have."""
        return self._spool.count + self._receipts.count

    def _check_open(self) -> None:
        if self._sender.broken is not None:
            raise self._sender.broken
        if not self._is_open:
            raise InvalidInput("the gateway is closed: make a new one")


def _numbered(reading: Reading, boot: int, seq: int) -> Reading:
    return msgspec.structs.replace(reading, boot=boot, seq=seq)


def _check_register(reading: Reading, last: int | None, *, reset: bool, rolls_over: bool) -> None:
    """Raises InvalidInput for a register below the last one in this boot that nothing explains."""
    fault = flag_fault("reset", reset) or flag_fault("rolls_over", rolls_over)
    if fault is not None:
        raise refused(fault)
    if reset:
        if reading.register is msgspec.UNSET:
            raise refused("reset needs a register")
    elif last is not None and reading.register is not msgspec.UNSET and reading.register < last and not rolls_over:
        raise refused(
            f"register: {reading.register} is below {last}, the last of {reading.machine}'s {reading.meter}: send"
            " registers in their order; if the meter began again, say so with reset, or with rolls_over"
        )


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
    for name, value in (("log_id", log_id), ("route", route), ("key_id", key_id)):
        if not is_id(value) and (name, value) != ("key_id", None):
            raise InvalidInput(f"{name}: use 1 to 64 of A-Z a-z 0-9 . _ : * -, not {value!r}")
    if (key_id is None) != (private_key is None):
        raise InvalidInput("a gateway that signs needs both key_id and private_key")
    for name, number, most in (("partitions", partitions, PARTITIONS_MAX), ("batch_rows", batch_rows, ROWS_MAX)):
        if type(number) is not int or not 1 <= number <= most:
            raise InvalidInput(f"{name}: use an integer from 1 to {most}, not {number!r}")
    if format not in CONTENT_TYPES:
        raise InvalidInput(f"format: use json or arrow, not {format!r}")
    if format == "arrow" and importlib.util.find_spec("pyarrow") is None:
        raise InvalidInput("format='arrow' needs pyarrow: pip install 'tallyroot-gateway[arrow]'")
    if sync not in ("batch", "reading"):
        raise InvalidInput(f"sync: use batch or reading, not {sync!r}")
