"""What `supplier` does in a data folder: whose key, which prices, the journal, and the log that it invoices to."""

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from decimal import Decimal, InvalidOperation
from pathlib import Path

from msgspec import Struct

from deploy.config import KeySettings
from deploy.data_folder import DataFolder
from deploy.keys import open_key
from deploy.machines.operator import Operator
from deploy.supply.journal import State, SupplyJournal
from deploy.supply.orders_reader import OrdersReader
from deploy.supply.supplier import Supplier
from schemas.errors import InvalidInput
from schemas.log import Log
from schemas.units import COUNT_MAX
from streams.core.murmur2 import partition_of
from streams.core.records import Record
from streams.kafka.producer import LogProducer

FOLDER = "supplier"


class SuppliedOrder(Struct, frozen=True, kw_only=True):
    """An order that the supplier took, and how far it is. It was delivered in simulation only."""

    machine: str
    item: str
    number: int
    quantity: int
    unit_price_micros: int
    state: State


class SupplierEnded(Struct, frozen=True):
    """The supplier's account, and all orders in its journal."""

    account: str
    orders: list[SuppliedOrder]


def supply(
    data: DataFolder, say: Callable[[str], None], *, key_from: Path | None, prices: Sequence[str], delay_ms: int,
    once: bool,
) -> SupplierEnded:  # fmt: skip
    """Supplies until it is interrupted, or `once`. Raises InvalidInput for a price, a key, or a Kafka out of reach."""
    log, priced = data.log(), dict(_price(text) for text in prices)
    account = Operator(open_key(_key(data, key_from)))
    servers = data.kafka_servers()
    with closing(SupplyJournal(data.data_dir / FOLDER / f"{account.address}.sqlite", log.log_id, account.address)) as (
        journal
    ):
        with closing(OrdersReader(servers, log, journal.positions())) as orders:
            say(f"supplying as {account.address}: deliveries are simulated")
            try:
                Supplier(
                    log, account, priced, delay_ms, journal, orders, lambda records: _send(log, servers, records), say
                ).run(once=once)
            except KeyboardInterrupt:
                say("stopped")
        return SupplierEnded(
            account.address,
            [
                SuppliedOrder(
                    machine=each.order.machine, item=each.order.item, number=each.order.number,
                    quantity=each.order.quantity, unit_price_micros=each.order.unit_price, state=each.state,
                )
                for each in journal.supplied()
            ],
        )  # fmt: skip


def _send(log: Log, servers: str, records: Sequence[Record]) -> None:
    """Returns once the log has acknowledged the records. In a backfill they bear the partition's own time."""
    with closing(LogProducer(servers, log)) as producer:
        times = producer.stream_times()
        for record in records:
            headers = [(name, value or b"") for name, value in record.headers]
            at_ms = time.time_ns() // 1_000_000
            if log.timestamp_type == "CreateTime":
                at_ms = times[partition_of(record.key or b"", log.partitions)] or 0
            producer.send(at_ms, record.key, record.value or b"", headers)
        producer.flush()


def _key(data: DataFolder, key_from: Path | None) -> KeySettings:
    """Whose account: a keystore with its password beside it, or by the settings."""
    if key_from is not None:
        return KeySettings(keystore=key_from, password_file=key_from.with_suffix(".password"))
    if not data.settings.supplier.is_set:
        raise InvalidInput(
            "no key for the supplier: name a keystore with --key-from, or set TALLYROOT_SUPPLIER_KEY, _KEYSTORE or"
            " _SIGNER"
        )
    return data.settings.supplier


def _price(text: str) -> tuple[str, int]:
    """An item and its price in micros, from ITEM=AMOUNT."""
    item, _, amount = text.rpartition("=")
    try:
        micros = Decimal(amount) * 1_000_000
    except InvalidOperation:
        micros = Decimal(-1)
    if not item or not micros.is_finite() or not 0 <= micros <= COUNT_MAX or micros != int(micros):
        raise InvalidInput(f"'{text}' is no price: write it as bearing=1.20, with at most 6 decimals")
    return item, int(micros)
