"""A record batch as a producer in another language may send it, which no Kafka client for Python can read."""

import asyncio

from aiokafka import AIOKafkaProducer
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy as Builder

from schemas.log import Log


class RawName(str):
    """A header's name of any bytes."""

    raw: bytes

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return self.raw


def unreadable_batch(count: int, timestamp_ms: int) -> bytes:
    """A batch of so many records, each with a header whose name is not UTF-8."""
    name = RawName("xx")
    name.raw = b"\xff\xfe"
    builder = Builder(2, 0, 0, -1, -1, -1, 1_000_000)
    for place in range(count):
        builder.append(place, timestamp_ms, b"k", b"v", [(name, b"1")])
    return bytes(builder.build())


def send_unreadable(bootstrap_servers: str, log: Log, partition: int, count: int, timestamp_ms: int) -> None:
    """Puts such a batch at the end of a partition."""

    async def send() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=bootstrap_servers, acks="all")
        await producer.start()
        try:
            batch = producer.create_batch()
            for _ in range(count):
                batch.append(key=b"k", value=b"v", timestamp=timestamp_ms)
            batch.close()
            batch._buffer = bytearray(unreadable_batch(count, timestamp_ms))
            await (await producer.send_batch(batch, log.topic, partition=partition))
        finally:
            await producer.stop()

    asyncio.run(send())
