"""One connection to one or more devices: one request at a time, each answered in time or not at all.

An answer that comes after its time must never be taken for the next request's: a line that was silent once is closed,
and one without numbers of requests, as a serial one, stays quiet for as long before it is used again.
"""

import asyncio
import contextlib
import ssl
import time
from collections.abc import Callable, Iterator
from typing import Any

from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient, AsyncModbusTlsClient
from pymodbus.client.base import ModbusBaseClient
from pymodbus.exceptions import ModbusException
from pymodbus.framer import FramerType

from tallyroot_gateway.errors import InvalidInput
from tallyroot_gateway.field.backoff import pauses
from tallyroot_gateway.field.metrics import Metrics
from tallyroot_gateway.modbus.config import LineOptions, TlsOptions


class NoAnswer(InvalidInput):
    """A device gave no usable answer; `reason` is one of a few words."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Line:
    """A connection that is made when it is needed."""

    def __init__(
        self, options: LineOptions, metrics: Metrics | None = None, seconds: Callable[[], float] = time.monotonic
    ) -> None:
        """`seconds` is a clock that never goes back. Raises InvalidInput for certificates that can't be used."""
        self.options = options
        self._metrics, self._seconds = metrics, seconds
        self._client: ModbusBaseClient | None = None
        self._tls = None if options.tls is None else _tls_context(options.tls)
        self._turn = asyncio.Lock()
        self._pauses: Iterator[float] = pauses()
        self._not_before = 0.0
        self._quiet_until = 0.0
        self._was_connected = False
        self._is_bus = options.serial is not None or options.framing == "rtu"
        """Nothing tells one request's answer from another's but their order."""

    async def read(self, unit_id: int, address: int, count: int, function: int = 3) -> list[int]:
        """Registers of a device, from one answer. Raises NoAnswer."""
        async with self._turn:
            client = await self._connected()
            await self._wait_for_quiet()
            ask = client.read_holding_registers if function == 3 else client.read_input_registers
            try:
                async with asyncio.timeout(self.options.timeout_s + 1):
                    answer: Any = await ask(address, count=count, device_id=unit_id)
            except (ModbusException, TimeoutError, OSError):
                self._close(quiet=True)
                raise NoAnswer("timeout", f"unit {unit_id} of {self.options.name} gave no answer in time") from None
            except asyncio.CancelledError:  # its answer is still on the way
                self._close(quiet=True)
                raise
            self._quiet_until = self._seconds() + self.options.pause_ms / 1000
            if answer.isError():
                code = int(answer.exception_code)
                raise NoAnswer(f"exception_{code}", f"unit {unit_id} of {self.options.name} answered exception {code}")
            if len(answer.registers) != count:
                self._close(quiet=True)
                said = f"unit {unit_id} of {self.options.name} sent {len(answer.registers)} registers, not {count}"
                raise NoAnswer("wrong_answer", said)
            return list(answer.registers)

    def close(self) -> None:
        """Ends the connection."""
        self._close(quiet=False)

    async def _connected(self) -> ModbusBaseClient:
        if self._client is not None and self._client.connected:
            return self._client
        self._close(quiet=False)
        if self._seconds() < self._not_before:
            raise NoAnswer("no_connection", f"there is no connection to {self.options.name}")
        await self._wait_for_quiet()
        client = self._new_client()
        if not await client.connect():
            client.close()
            self._not_before = self._seconds() + next(self._pauses)
            raise NoAnswer("no_connection", f"can't connect to {self.options.name}")
        self._client, self._pauses = client, pauses()
        if self._metrics is not None:
            self._metrics.connected.inc()
            if self._was_connected:
                self._metrics.reconnects.inc()
        self._was_connected = True
        return client

    def _new_client(self) -> ModbusBaseClient:
        options = self.options
        if options.serial is not None:
            return AsyncModbusSerialClient(
                options.serial, baudrate=options.baud, parity=options.parity, stopbits=options.stop_bits,
                timeout=options.timeout_s, retries=0, reconnect_delay=0,
            )  # fmt: skip
        host, port = options.host_and_port()
        if self._tls is None:
            framer = FramerType.RTU if options.framing == "rtu" else FramerType.SOCKET
            return AsyncModbusTcpClient(
                host, port=port, framer=framer, timeout=options.timeout_s, retries=0, reconnect_delay=0
            )
        return AsyncModbusTlsClient(
            host, port=port, sslctx=self._tls, timeout=options.timeout_s, retries=0, reconnect_delay=0
        )

    async def _wait_for_quiet(self) -> None:
        wait = self._quiet_until - self._seconds()
        if wait > 0:
            await asyncio.sleep(wait)

    def _close(self, *, quiet: bool) -> None:
        if quiet and self._is_bus:
            self._quiet_until = self._seconds() + self.options.timeout_s
        if self._client is None:
            return
        client, self._client = self._client, None
        with contextlib.suppress(OSError):
            client.close()
        if self._metrics is not None:
            self._metrics.connected.dec()


def _tls_context(options: TlsOptions) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=options.ca_file)
        if options.certificate_file is not None:
            context.load_cert_chain(options.certificate_file, options.key_file)
    except OSError as error:  # an SSLError is one
        raise InvalidInput(f"the certificates of a line can't be used: {error}") from None
    return context
