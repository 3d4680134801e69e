"""A machine's gateway to a tallyroot log: `Gateway.send` numbers, keeps, batches, signs and sends readings."""

from tallyroot_gateway.connection import kafka_properties
from tallyroot_gateway.errors import InvalidInput, InvariantBroken, SpoolFull
from tallyroot_gateway.gateway import Gateway, GatewayStatus
from tallyroot_gateway.reading import NewReading, Reading

__all__ = [
    "Gateway",
    "GatewayStatus",
    "InvalidInput",
    "InvariantBroken",
    "NewReading",
    "Reading",
    "SpoolFull",
    "kafka_properties",
]
