"""Whether a charger's ports can be used: statuses, the connection, and readings of the level `availability`.

A port is up (1) while the charger is connected and neither it nor the charger as a whole is faulted or unavailable.
"""

from msgspec import Struct

from tallyroot_gateway.field.clocks import Moment
from tallyroot_gateway.ocpp.config import Connector
from tallyroot_gateway.ocpp.uptime import Excluded, Uptime
from tallyroot_gateway.reading import NewReading

DOWN = ("Faulted", "Unavailable")
"""Statuses in which nobody can charge; in all others it can be, or is, used."""

STATUSES_MAX = 64


class PortAvailability(Struct, omit_defaults=True):
    """A port's level, as it was last taken, and its outages."""

    uptime: Uptime
    level: int | None = None


class Availability(Struct, omit_defaults=True):
    """What is known of a charger: statuses by connector (`0` is the charger, `2.1` connector 1 of EVSE 2), ports."""

    statuses: dict[str, str] = {}
    ports: dict[str, PortAvailability] = {}
    is_lost: bool = False

    def say(self, name: str, status: str) -> None:
        """A status that the charger said."""
        if name in self.statuses or len(self.statuses) < STATUSES_MAX:
            self.statuses[name] = status

    def readings(self, connectors: dict[int, Connector], at: Moment, excluded: Excluded) -> list[NewReading]:
        """Readings of the levels that changed, and the outages that began or ended, at a moment."""
        changed = []
        for number, connector in connectors.items():
            level = self._level(number)
            if level is None:
                continue
            port = self.ports.setdefault(str(number), PortAvailability(Uptime(at.observed_at)))
            if level == port.level:
                continue
            if level:
                port.uptime.went_up(at.observed_at, excluded)
            else:
                port.uptime.went_down(at.observed_at)
            port.level = level
            if connector.availability is not None:
                changed.append(
                    NewReading(
                        machine=connector.machine,
                        meter=connector.availability,
                        observed_at=at.observed_at,
                        reconstructed=at.reconstructed,
                        level=level,
                    )
                )
        return changed

    def _level(self, number: int) -> int | None:
        """1 or 0; None before anything is known. Of an EVSE with several plugs one is enough."""
        own = [status for name, status in self.statuses.items() if name.split(".")[0] == str(number)]
        if self.is_lost or self.statuses.get("0") in DOWN:
            return 0
        if not own:
            return None
        return int(any(status not in DOWN for status in own))
