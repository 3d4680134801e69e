"""What the log says of its machines now, and what it would make of one more record of the operator's.

Control records are judged by the real core; of all other records only the timestamps count, since readings decide
nothing about versions. They do place orders: those are given, as a worker found them. So a log is read at the speed of
its consumer, and a record can be judged before it is sent.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from schemas.errors import InvalidInput
from schemas.log import Log
from schemas.order import CANCELLED, INVOICED, RECEIVED, Order
from schemas.reading import CORRECTED, REGISTERED
from schemas.reject import Reason
from streams.core.control_step import move_time, take_control
from streams.core.machines import Machine
from streams.core.murmur2 import partition_of
from streams.core.orders import ItemOrder, ItemOrders
from streams.core.records import LogRecord, Record, record_type
from streams.core.state import State
from streams.core.stream_time import NO_TIMESTAMP, later
from streams.storage.log_reader import LogReader

PROGRESS_RECORDS = 100_000
"""How many records are read between two lines of progress."""

OF_MACHINES = (REGISTERED, CORRECTED)
"""The types of records that decide about versions."""

Verdict = Reason | None
"""Why a record is refused; None for one that is accepted, or was there already with equal content."""


class PlacedOrder(NamedTuple):
    """An order, and what has become of it."""

    order: Order
    outcome: ItemOrder


class _Named(msgspec.Struct):
    """The one field of a control record that says whom it is about."""

    machine: str


@dataclass
class _Partition:
    """One partition as far as it was read."""

    state: State
    next_offset: int | None = None
    stream_time_ms: int = NO_TIMESTAMP
    placed: deque[Order] = field(default_factory=deque)


class Registry:
    """The machines of a log by its control records. It reads, and never writes."""

    def __init__(
        self,
        log: Log,
        reader: LogReader,
        machines: Iterable[str] | None = None,
        placed: Mapping[int, Sequence[Order]] | None = None,
        *,
        types: Collection[str] = OF_MACHINES,
        accepted: Callable[[LogRecord], None] | None = None,
        other: Callable[[LogRecord], None] | None = None,
    ) -> None:
        """Of all machines, or of those named: what others' records say is passed over.

        It looks at control records of `types` alone; `accepted` is called with each that the log took, `other` with
        each record that it passes over. `placed` are the machines' orders by partition, in the order of placing;
        without it no record about orders is judged.
        """
        self._log = log
        rulesets = tuple(msgspec.structs.replace(ruleset, operators=()) for ruleset in log.rulesets)
        self._unsigned_log = msgspec.structs.replace(log, rulesets=rulesets)
        self._reader = reader
        self._types = frozenset(types)
        self._accepted = accepted
        self._other = other
        self._wanted = None if machines is None else frozenset(machines)
        self._partitions = [_Partition(State.new(log, number)) for number in range(log.partitions)]
        if placed is not None:
            self._types |= {RECEIVED, INVOICED, CANCELLED}
            for number, orders in placed.items():
                self._partitions[number].placed.extend(orders)
        self.orders: list[PlacedOrder] = []
        """What became of the orders, in the order of placing."""
        self._read = 0
        self._awaited: set[bytes] = set()
        self._verdicts: dict[bytes, Verdict] = {}

    def read(self, progress: Callable[[int], None], partitions: Sequence[int] | None = None) -> None:
        """Reads on to the present end of the partitions (of all). Raises InvalidInput where Kafka doesn't answer.

        `progress` is called with the number of records read so far.
        """
        for number in range(self._log.partitions) if partitions is None else partitions:
            part = self._partitions[number]
            earliest, end = self._reader.range(number)
            first = earliest if part.next_offset is None else part.next_offset
            for record in self._reader.read(number, first, end) if first < end else ():
                self._take(part, record)
                self._read += 1
                if self._read % PROGRESS_RECORDS == 0:
                    progress(self._read)
            _place(part, end, self.orders)
            part.next_offset = end
            if part.stream_time_ms >= 0:
                move_time(part.state, part.stream_time_ms)

    def machines(self) -> Iterator[Machine]:
        """The registered machines, by id."""
        found = {name: machine for part in self._partitions for name, machine in part.state.machines.items()}
        return (found[name] for name in sorted(found))

    def machine(self, name: str) -> Machine | None:
        """A registered machine, or None."""
        return next((part.state.machines[name] for part in self._partitions if name in part.state.machines), None)

    def registered(self, name: str) -> Machine:
        """A machine that must be registered. Raises InvalidInput where it isn't."""
        machine = self.machine(name)
        if machine is None:
            raise InvalidInput(f"{name} is not registered in this log: `tallyroot machines` lists those that are")
        return machine

    def stream_time_ms(self, partition: int) -> int | None:
        """The partition's stream time (epoch ms), None for an empty one."""
        return self._partitions[partition].state.stream_time_ms

    def partition_of(self, route: str) -> int:
        """The partition of a route."""
        return partition_of(route.encode(), self._log.partitions)

    def is_open(self, machine: str, session: str) -> bool:
        """Whether a prepaid session is open, as far as payments and time say: readings are not looked at."""
        return any(part.state.session_of(machine, session) is not None for part in self._partitions)

    def judge(self, record: Record, now_ms: int) -> tuple[Verdict, Machine | None]:
        """What the stream would make of a record that came next, and the machine as it would be then.

        `now_ms` (epoch ms) is the time of sending; the record's timestamp is that, or in a backfill the partition's
        stream time. Who signed it is not asked: `register.signed` does, once there is a signature. The verdict is on a
        state that holds this machine alone: of others it depends on nothing.
        """
        name = msgspec.json.decode(record.value or b"", type=_Named).machine
        number = self.partition_of((record.key or b"").decode())
        part = self._partitions[number]
        state = State.new(self._unsigned_log, number)
        if part.stream_time_ms >= 0:
            move_time(state, part.stream_time_ms)
        known = self.machine(name)
        if known is not None:
            state.adopt(known)
        sent_ms = now_ms if self._log.timestamp_type == "LogAppendTime" else 0
        return _feed(state, record._replace(timestamp=max(sent_ms, part.stream_time_ms))), state.machines.get(name)

    def awaits(self, value: bytes) -> None:
        """From now on keeps the verdict on the first record with this value that is read."""
        self._awaited.add(value)

    def verdict_on(self, value: bytes) -> tuple[bool, Verdict]:
        """Whether an awaited record was read, and what it came to."""
        return value in self._verdicts, self._verdicts.get(value)

    def _take(self, part: _Partition, record: LogRecord) -> None:
        part.stream_time_ms = later(part.stream_time_ms, record.timestamp)
        if not record.headers or record_type(record) not in self._types:
            if self._other is not None:
                self._other(record)
            return
        if self._wanted is not None and _machine_of(record.value) not in self._wanted:
            return
        _place(part, record.offset, self.orders)
        verdict = _feed(
            part.state, Record(record.offset, part.stream_time_ms, record.key, record.value, record.headers)
        )
        if verdict is None and self._accepted is not None:
            self._accepted(record)
        if record.value in self._awaited:
            self._verdicts.setdefault(record.value or b"", verdict)


def _place(part: _Partition, before: int, placed: list[PlacedOrder]) -> None:
    """Adds the orders that readings before an offset placed to their machines."""
    while part.placed and part.placed[0].offset < before:
        order = part.placed.popleft()
        machine = part.state.machines.get(order.machine)
        if machine is None:
            raise InvalidInput(
                f"the order {order.item}/{order.number} is of {order.machine}, which the log doesn't know"
            )
        last = ItemOrder(order.number, order.quantity, order.unit_price, order.supplier, order.placed_at)
        orders = machine.change_rare().orders
        if order.item in orders:
            orders[order.item].last = last
        else:
            orders[order.item] = ItemOrders(last)
        placed.append(PlacedOrder(order, last))


def _machine_of(value: bytes | None) -> str | None:
    try:
        return msgspec.json.decode(value or b"", type=_Named).machine
    except msgspec.DecodeError:
        return None


def _feed(state: State, record: Record) -> Verdict:
    """Takes the state through one record and the ends of epochs in it."""
    outcome = take_control(state, record)
    return None if outcome == "duplicate" else outcome
