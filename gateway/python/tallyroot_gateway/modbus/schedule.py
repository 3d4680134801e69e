"""When each device is polled: on the clock's grid, one after another on a line, and seldom while it is silent."""

import asyncio
import logging
from collections.abc import Iterator, Sequence

from tallyroot_gateway.errors import InvalidInput
from tallyroot_gateway.field.backoff import pauses
from tallyroot_gateway.field.intake import Intake
from tallyroot_gateway.modbus.config import DeviceOptions, LineOptions
from tallyroot_gateway.modbus.line import Line, NoAnswer
from tallyroot_gateway.modbus.poller import Poller, PollMetrics

ON_TIME_MS = 1_000
"""A poll that begins so soon after its time on the grid is stamped with that time."""

SILENT_SECONDS = 600.0
"""A silent device is asked at least so often: so long after dawn an inverter may go unnoticed, and it loses nothing."""

LOST_MS = 24 * 3_600_000
"""A device that is silent for longer doesn't just sleep: /health says so."""

WAIT_MAX_SECONDS = 60.0
"""The wall clock is looked at again after so long: it may have been set meanwhile."""

_log = logging.getLogger("tallyroot.gateway")


class Turn:
    """When one device is polled next, by the wall clock (epoch ms)."""

    def __init__(self, device: DeviceOptions, now_ms: int) -> None:
        self.device = device
        self.due_ms = now_ms
        self.answered_ms = now_ms
        self.silence: Iterator[float] | None = None
        """The pauses of a device that doesn't answer."""

    def stamp(self, now_ms: int) -> int:
        """The time of a poll that begins now: that of the grid, if it is on time."""
        return self.due_ms if 0 <= now_ms - self.due_ms <= ON_TIME_MS else now_ms

    def answered(self, now_ms: int) -> None:
        """It goes on with the grid."""
        self.answered_ms, self.silence = now_ms, None
        self.due_ms = grid_after(now_ms, self.device.poll_s)

    def silent(self, now_ms: int) -> bool:
        """It is asked again on the grid, ever more seldom; whether it has just become silent."""
        is_new = self.silence is None
        if self.silence is None:
            self.silence = pauses(self.device.poll_s, max(SILENT_SECONDS, self.device.poll_s))
        self.due_ms = grid_after(now_ms + int(1000 * next(self.silence)), self.device.poll_s)
        return is_new

    def until(self, now_ms: int) -> float:
        """Seconds until it is due. A clock that was set back doesn't hold it up."""
        pause = 0.0 if self.silence is None else max(SILENT_SECONDS, self.device.poll_s)
        self.due_ms = min(self.due_ms, grid_after(now_ms + int(1000 * pause), self.device.poll_s))
        return max(0, self.due_ms - now_ms) / 1000


def grid_after(now_ms: int, poll_s: int) -> int:
    """The next time on a device's grid: multiples of its interval since 1970 (UTC)."""
    step = 1000 * poll_s
    return (now_ms // step + 1) * step


async def poll_lines(lines: Sequence[LineOptions], intake: Intake) -> None:
    """Polls all lines until it is cancelled, each in a task of its own. Raises InvalidInput for a spool in use."""
    metrics = PollMetrics(intake.metrics)
    turns: list[Turn] = []
    connections = [Line(options, intake.metrics) for options in lines]
    for options in lines:
        for device in options.devices:
            intake.note(device.route or device.machine, "")  # opens its spool, which may be another's
    async with asyncio.TaskGroup() as group:
        for line in connections:
            own = [Turn(device, intake.now_ms()) for device in line.options.devices]
            turns += own
            group.create_task(_poll_line(line, own, Poller(line, intake, metrics), intake))
        group.create_task(_watch(turns, intake))


async def _poll_line(line: Line, turns: list[Turn], poller: Poller, intake: Intake) -> None:
    """Polls the devices of a line, whoever is due first, one at a time."""
    try:
        while True:
            turn = min(turns, key=lambda one: one.due_ms)
            wait = turn.until(intake.now_ms())
            if wait > 0:
                await asyncio.sleep(min(wait, WAIT_MAX_SECONDS))
                continue
            now_ms = intake.now_ms()
            try:
                await poller.poll_once(turn.device, turn.stamp(now_ms))
            except NoAnswer as error:
                if turn.silent(intake.now_ms()):
                    _log.warning("%s: it is asked again, ever more seldom", error)
                continue
            except InvalidInput as error:  # the disk: the register is there at the next poll as well
                if turn.silent(intake.now_ms()):
                    _log.error("%s: %s", turn.device.machine, error)
                continue
            if turn.silence is not None:
                _log.info("%s answers again", turn.device.machine)
            turn.answered(max(now_ms, intake.now_ms()))
    finally:
        line.close()


async def _watch(turns: Sequence[Turn], intake: Intake) -> None:
    """Says in /health who has been silent for longer than a night."""
    while True:
        now_ms = intake.now_ms()
        lost = [turn.device.machine for turn in turns if now_ms - turn.answered_ms > LOST_MS]
        intake.problem = None if not lost else f"no answer for a day: {', '.join(lost[:10])}"
        await asyncio.sleep(WAIT_MAX_SECONDS)
