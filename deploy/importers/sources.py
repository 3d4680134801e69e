"""The kinds of files that a replay can read."""

from deploy.importers.acn_sessions import AcnSessions
from deploy.importers.chicago_taxi import ChicagoTaxi
from deploy.importers.pv_power import PvPower
from deploy.importers.source_log import Source

SOURCES: dict[str, Source] = {
    "acn-sessions": AcnSessions(),
    "pv-power": PvPower(),
    "chicago-taxi": ChicagoTaxi(),
}
"""Kind, as the command line names it, to its source."""
