"""Sends a simulated fleet into a log, in real time or as fast as possible.

A live fleet remembers in the data folder what its machines know, so that it continues where it was stopped. A
backfill that was stopped is computed again, and what the log has of it is not sent twice: the same options make
the same records.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import msgspec

from deploy.data_folder import LOG_FILE, DataFolder
from deploy.importers.replay import Outgoing
from deploy.simulate.fleet import Fleet
from deploy.simulate.fleet_faults import Fault
from deploy.simulate.simulation import FleetMemory, Form, Plan, Simulation, heartbeats, last_heartbeat_ms
from deploy.texts import moment_text
from files.read import FileMissing, read_json
from files.write import write_json
from schemas.errors import InvalidInput
from schemas.log import Log, Ruleset
from schemas.parsing import day_number, duration_ms
from schemas.registration import Agreement
from schemas.units import DAY_MS, SECOND_MS
from streams.core.signature import operator_account
from streams.kafka.producer import LogProducer
from streams.kafka.reader import KafkaLogReader
from streams.kafka.topics import create_topic

MEMORY_FILE = "simulation.json"
SAVE_SECONDS = 10
SAVE_SHARE = 20
"""Between two saves passes at least this many times what one took: a large fleet's memory is large."""

PROGRESS_SECONDS = 10

Mode = Literal["live", "fast"]


@dataclass(frozen=True, kw_only=True)
class SimulateOptions:
    """What the command line says. Durations are such as 5s, 1m or 1d; `start` is a day such as 2026-06-01."""

    machines: int = 6
    seed: str = "1"
    mode: Mode | None = None
    days: int | None = None
    start: str = "2026-06-01"
    runs_for: str | None = None
    every: str | None = None
    speed: int = 1
    form: Form = "json"
    faults: tuple[Fault, ...] = ()
    is_signed: bool = True
    window: str | None = None
    grace: str | None = None
    epoch: str | None = None
    partitions: int = 4
    payees: dict[str, int] | None = None

    def start_ms(self) -> int:
        """When a backfill begins. Raises InvalidInput."""
        return day_number(self.start) * DAY_MS

    def check(self) -> None:
        """Raises InvalidInput for what is seen to be wrong before anything is started."""
        self.start_ms()
        for duration in (self.runs_for, self.every, self.window, self.grace, self.epoch):
            if duration is not None:
                duration_ms(duration)


class SimulateReport(msgspec.Struct, frozen=True, kw_only=True):
    """What went into the log, and what the stream is expected to make of its faults."""

    log: str
    mode: Mode
    machines: int
    records: int
    readings: int
    seconds: float
    faults: dict[str, int]
    expected_rejects: dict[str, int]
    expected_duplicates: int


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What a fleet was started with, and when; of a backfill all its options, of a live one what its machines know."""

    seed: str
    machines: int
    is_signed: bool
    effective_from_ms: int
    payees: dict[str, int]
    backfill: str = ""
    memory: FleetMemory | None = None


def simulate(data: DataFolder, step: Callable[[str], None], options: SimulateOptions) -> SimulateReport:
    """Sends a fleet's readings into this folder's log, which is made where there is none.

    Live: until Ctrl-C, or for as long as asked. Fast: a number of days, then heartbeats that end the last epoch.
    Where no servers run, they are started, and keep running. Raises InvalidInput if they don't come up, the log is of
    the other kind, or another fleet is in it.
    """
    options.check()
    kept = _kept_log(data, options)
    servers, is_new = _servers(data, step)
    log = kept or _new_log(data, options)
    mode = _mode_of(log)
    create_topic(servers, log)
    fleet = Fleet(options.seed, options.machines, options.is_signed)
    producer = LogProducer(servers, log)
    try:
        run = _FleetRun(data, step, log, fleet, options, producer, servers)
        report = run.live() if mode == "live" else run.fast()
    finally:
        producer.close()
        if is_new:
            step("Kafka and the EVM node still run: end them with `tallyroot down`")
    return report


def _servers(data: DataFolder, step: Callable[[str], None]) -> tuple[str, bool]:
    """Where Kafka answers, and whether it was started for this fleet."""
    try:
        return data.kafka_servers(), False
    except InvalidInput:
        step("starting Kafka and the EVM node")
        data.start_stack()
        return data.kafka_servers(), True


def _mode_of(log: Log) -> Mode:
    return "live" if log.timestamp_type == "LogAppendTime" else "fast"


def _kept_log(data: DataFolder, options: SimulateOptions) -> Log | None:
    """The folder's log, None where there is none. Raises InvalidInput for options that it can't have."""
    if not (data.data_dir / LOG_FILE).exists():
        return None
    given = [name for name in ("window", "grace", "epoch") if getattr(options, name) is not None]
    if given:
        raise InvalidInput(f"--{given[0]} is fixed for a log's life: leave it out, or choose another --data-dir")
    log = data.log()
    mode = _mode_of(log)
    if options.mode not in (None, mode) or (options.days and mode == "live"):
        raise InvalidInput(
            f"the log {log.log_id} is of {log.timestamp_type}, for --{mode} only: choose another --data-dir"
        )
    return log


def _new_log(data: DataFolder, options: SimulateOptions) -> Log:
    """A log that is made for the fleet."""
    is_fast = options.mode == "fast" or options.days is not None
    window, grace, epoch = ("15m", "10m", "1d") if is_fast else ("1m", "5s", "10m")
    return data.create_log(
        Log(
            log_id=f"simulated-{options.seed}",
            topic=data.settings.topic,
            partitions=options.partitions,
            timestamp_type="CreateTime" if is_fast else "LogAppendTime",
            window_ms=duration_ms(options.window or window),
            epoch_ms=duration_ms(options.epoch or epoch),
            rulesets=(
                Ruleset(
                    grace_ms=duration_ms(options.grace or grace),
                    operators=(operator_account(data.operator_key()),),
                ),
            ),
        )
    )


class _FleetRun:
    """One run of a fleet into one log."""

    def __init__(
        self,
        data: DataFolder,
        step: Callable[[str], None],
        log: Log,
        fleet: Fleet,
        options: SimulateOptions,
        producer: LogProducer,
        servers: str,
    ) -> None:
        self._data, self._step, self._log, self._fleet = data, step, log, fleet
        self._options, self._producer, self._servers = options, producer, servers
        self._path = data.data_dir / MEMORY_FILE
        self._payees = options.payees or data.demo_payees()
        self._new = 0
        self._there = [0] * log.partitions
        self._began = self._said = time.monotonic()

    def fast(self) -> SimulateReport:
        """The days as a backfill; what an earlier run has sent of it is not sent again."""
        every_ms = duration_ms(self._options.every or "1m")
        start_ms = self._options.start_ms()
        simulation = self._simulation(start_ms, every_ms)
        self._take_up(start_ms)
        moments = -(-(self._options.days or 1) * DAY_MS // every_ms)
        try:
            self._backfill(simulation, start_ms, every_ms, moments)
        except KeyboardInterrupt:
            self._producer.flush()
            self._step(f"  stopped at {simulation.readings:,} readings: the same command continues from there")
            raise
        if any(self._there):
            raise InvalidInput(f"the log {self._log.log_id} holds more than this fleet: choose another --data-dir")
        if not self._new:
            self._step(
                f"  the log {self._log.log_id} has all of this already: for another fleet, choose another --data-dir"
            )
        return self._report(simulation, "fast")

    def _take_up(self, start_ms: int) -> None:
        """Finds out how many records of the backfill each partition has. Raises InvalidInput if they are others."""
        reader = KafkaLogReader(self._servers, self._log.topic)
        try:
            ranges = reader.ranges(list(range(self._log.partitions)))
        finally:
            reader.close()
        self._there = [ranges[partition][1] for partition in range(self._log.partitions)]
        if any(self._there) and not self._path.exists():
            raise InvalidInput(f"the log {self._log.log_id} is in use: simulate into a new one (another --data-dir)")
        options = self._options
        asked = (options.days or 1, options.start, options.every, options.speed, options.form, *options.faults)
        kept = self._kept(start_ms, " ".join(str(one) for one in asked))
        self._write(kept)
        if any(self._there):
            self._step(f"  {sum(self._there):,} records are there; continuing after them")

    def _backfill(self, simulation: Simulation, start_ms: int, every_ms: int, moments: int) -> None:
        self._send(heartbeats(self._log, start_ms))
        self._send(self._registrations(simulation, start_ms))
        step = simulation.moments_a_batch()
        for first in range(0, moments, step):
            count = min(step, moments - first)
            self._send(simulation.moments(first, count))
            self._tell(simulation, start_ms + (first + count) * every_ms)
        self._send(simulation.rest(moments - 1))
        self._send(heartbeats(self._log, last_heartbeat_ms(self._log, start_ms + (moments - 1) * every_ms)))
        self._producer.flush()

    def live(self) -> SimulateReport:
        """In real time, until interrupted or for as long as asked; each moment's readings are sent when it comes."""
        every_ms = duration_ms(self._options.every or "5s")
        lasts_ms = None if self._options.runs_for is None else duration_ms(self._options.runs_for)
        start_ms = _now_ms() // every_ms * every_ms + every_ms
        simulation = self._simulation(start_ms, every_ms)
        kept = self._kept(start_ms)
        if kept.memory is not None:
            simulation.recall(kept.memory)
        kept, save_at = self._save(simulation, kept)
        self._send(self._registrations(simulation, kept.effective_from_ms))
        moment = 0
        try:
            while lasts_ms is None or moment * every_ms < lasts_ms:
                _sleep_until(start_ms + moment * every_ms)
                outgoing = list(simulation.moments(moment, 1))
                is_used = kept.memory and simulation.boot() >= kept.memory.boot
                if time.monotonic() >= save_at or is_used or simulation.goods:
                    # Boots and receipts are saved before they are sent: otherwise the next run would use them again.
                    kept, save_at = self._save(simulation, kept)
                self._send(outgoing)
                self._tell(simulation, start_ms + moment * every_ms)
                moment += 1
        except KeyboardInterrupt:
            self._step("  stopping")
        self._send(simulation.rest(moment))
        self._producer.flush()
        self._save(simulation, kept)
        return self._report(simulation, "live")

    def _simulation(self, start_ms: int, every_ms: int) -> Simulation:
        options = self._options
        plan = Plan(start_ms=start_ms, every_ms=every_ms, speed=options.speed, form=options.form, faults=options.faults)
        return Simulation(self._log, self._fleet, plan)

    def _registrations(self, simulation: Simulation, effective_from_ms: int) -> Iterable[Outgoing]:
        agreement = Agreement(self._payees)
        return simulation.registrations(self._data.operator_key(), agreement, effective_from_ms)

    def _kept(self, start_ms: int, backfill: str = "") -> _Kept:
        fleet = self._fleet
        new = _Kept(
            seed=fleet.seed, machines=fleet.machines, is_signed=fleet.is_signed,
            effective_from_ms=start_ms, payees=self._payees, backfill=backfill,
        )  # fmt: skip
        try:
            kept = read_json(self._path, _Kept, what="a memory of a fleet", remedy="restore it from a copy")
        except FileMissing:
            return new
        if msgspec.structs.replace(kept, effective_from_ms=start_ms, memory=None) != new:
            raise InvalidInput(
                f"another fleet is in this log (--seed {kept.seed} --machines {kept.machines}"
                f"{'' if kept.is_signed else ' --unsigned'}): use the same options, or another --data-dir"
            )
        return kept

    def _save(self, simulation: Simulation, kept: _Kept) -> tuple[_Kept, float]:
        """What is kept now, and when (monotonic seconds) to renew it."""
        began = time.monotonic()
        whole = msgspec.structs.replace(kept, memory=simulation.remember())
        self._write(whole)
        now = time.monotonic()
        return whole, now + max(SAVE_SECONDS, SAVE_SHARE * (now - began))

    def _write(self, kept: _Kept) -> None:
        write_json(self._path, kept)

    def _send(self, records: Iterable[Outgoing]) -> None:
        for out in records:
            if self._there[out.partition]:
                self._there[out.partition] -= 1
                continue
            self._new += 1
            data = out.partition if out.key is None else None
            self._producer.send(out.timestamp_ms, out.key, out.value, out.headers, data)

    def _tell(self, simulation: Simulation, moment_ms: int) -> None:
        now = time.monotonic()
        if now - self._said >= PROGRESS_SECONDS:
            self._said = now
            late_s = (_now_ms() - moment_ms) // SECOND_MS if self._log.timestamp_type == "LogAppendTime" else 0
            behind = f"; {late_s} s behind: a smaller fleet or a longer --every keeps up" if late_s > 10 else ""
            self._step(
                f"  {self._new:,} records, {simulation.readings:,} readings, up to {moment_text(moment_ms)}{behind}"
            )

    def _report(self, simulation: Simulation, mode: Mode) -> SimulateReport:
        expected = simulation.expected
        return SimulateReport(
            log=self._log.log_id,
            mode=mode,
            machines=self._fleet.machines,
            records=self._new,
            readings=simulation.readings,
            seconds=round(time.monotonic() - self._began, 3),
            faults=dict(sorted(expected.happened.items())),
            expected_rejects=dict(sorted(expected.rejects.items())),
            expected_duplicates=expected.duplicates,
        )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _sleep_until(moment_ms: int) -> None:
    wait_ms = moment_ms - _now_ms()
    if wait_ms > 0:
        time.sleep(wait_ms / SECOND_MS)
