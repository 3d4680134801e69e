"""The kinds of files that a replay can read."""

from streams.gateway.acn_sessions import AcnSessions
from streams.gateway.chicago_taxi import ChicagoTaxi
from streams.gateway.pv_power import PvPower
from streams.gateway.source_log import Source

SOURCES: dict[str, Source] = {
    "acn-sessions": AcnSessions(),
    "pv-power": PvPower(),
    "chicago-taxi": ChicagoTaxi(),
}
"""Kind, as the command line names it, to its source."""
