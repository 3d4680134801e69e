"""What each command returns under `--json`, as types: `python -m deploy.cli.answers` writes a JSON Schema for each.

The schemas are in `schemas/json/cli/`; a test holds them equal to the types, and another runs commands against them.
"""

from pathlib import Path
from typing import Any

from msgspec import json

from deploy.agent.run import AgentEnded
from deploy.attack.attack import Attacked
from deploy.backup.backup import BackedUpResult
from deploy.backup.prune import Pruned, Unpruned
from deploy.backup.rehearsal import Rehearsed
from deploy.backup.restore import RestoredFolder
from deploy.cli.dialect import schema
from deploy.cli.results import (
    Accepted,
    Disputed,
    GatewayEnded,
    MachinesShown,
    ProofFolder,
    Restored,
    RolesShown,
    SettingsShown,
    SkippedShown,
    TillEnded,
    WorkerEnded,
    Written,
)
from deploy.config import Origin
from deploy.demo.demo import DemoResult
from deploy.explain.gateway_check import CheckResult
from deploy.explain.machine_facts import MachineFacts
from deploy.explain.query import Rows
from deploy.explain.receipt import ReadingReceipt
from deploy.explain.statement_page import PayeeStatement
from deploy.explain.why import Explained
from deploy.importers.ingest import IngestReport
from deploy.importers.replay import ReplayReport
from deploy.machines.apply import Corrected, MachinePage, Registered
from deploy.machines.new_log import InitResult
from deploy.machines.orders import CancelledOrder, OrdersShown
from deploy.money.peaq_events import PeaqExport
from deploy.money.shares import Bought, Collected, Holders, SharesIncome, Transferred, Withdrawn
from deploy.money.shares_registration import SharesRegistered
from deploy.report.report import WrittenReport
from deploy.simulate.run import SimulateReport
from deploy.stack.lifecycle import Running, Status, Stopped
from deploy.supply.supply import SupplierEnded
from schemas.payout import ProofFile
from settlement.audit.audit import AuditReport
from settlement.chain.job import Settled
from settlement.chain.ledger import Deployment
from settlement.chain.move import Moved
from settlement.chain.shares import Issue, Offering
from settlement.chain.watcher import Done
from settlement.results import (
    Attested,
    Claimed,
    ClaimedMany,
    DryRun,
    Funded,
    Payouts,
    RoleCall,
    SettlementsReport,
    Verified,
)
from streams.storage.merged import Merged
from till.desk import SignedOffers

FOLDER = Path(__file__).parents[2] / "schemas" / "json" / "cli"
ANSWERS: dict[str, tuple[type, ...]] = {
    "agent": (AgentEnded,), "attack": (Attacked,), "attest": (Attested,), "audit": (AuditReport,),
    "backup": (BackedUpResult,), "check-gateway": (CheckResult,),
    "cancel-announced": (RoleCall,), "claim": (Claimed, ClaimedMany), "close-ledger": (RoleCall,),
    "config": (SettingsShown, Origin), "correct": (Corrected,), "demo": (DemoResult,),
    "deploy-contracts": (Deployment,), "dispute": (Disputed,), "down": (Stopped,), "fund": (Funded,),
    "gateway": (GatewayEnded,),
    "ingest": (IngestReport, Written), "init": (InitResult,), "machines": (MachinesShown, MachinePage),
    "max-rate": (RoleCall,), "merge": (Merged,), "move-ledger": (Moved,), "pause": (RoleCall,),
    "orders": (OrdersShown, CancelledOrder), "payouts": (Payouts,), "peaq-events": (PeaqExport,),
    "proof": (ProofFile, ProofFolder),
    "quorum": (RoleCall,), "receipt": (ReadingReceipt,), "recover-token": (RoleCall,),
    "register": (Registered, Accepted), "replay": (ReplayReport,),
    "prune": (Pruned, Unpruned), "report": (WrittenReport,),
    "restore": (RestoredFolder, Rehearsed),
    "restore-posts": (Restored,), "retire": (Registered,), "revoke": (RoleCall,), "roles": (RolesShown, RoleCall),
    "settle": (Settled, DryRun), "settlements": (SettlementsReport,),
    "shares buy": (Bought,), "shares collect": (Collected,), "shares holders": (Holders,),
    "shares income": (SharesIncome,), "shares issue": (Issue,), "shares machine": (MachineFacts,),
    "shares offer": (Offering,), "shares register": (SharesRegistered,), "shares transfer": (Transferred,),
    "shares withdraw": (Withdrawn,), "simulate": (SimulateReport,), "skip-range": (SkippedShown,), "sql": (Rows,),
    "statement": (PayeeStatement,), "status": (Status,), "stream": (WorkerEnded,), "supplier": (SupplierEnded,),
    "till": (SignedOffers, TillEnded), "unpause": (RoleCall,),
    "up": (Running,), "verify": (Verified,), "watch": (Done,), "why": (Explained,),
}  # fmt: skip
"""Command to the types of its result: more than one where its options decide."""


def answer_schema(command: str) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of what a command returns."""
    found = [schema(kind) for kind in ANSWERS[command]]
    document = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"tallyroot {command} --json"}
    return document | (found[0] if len(found) == 1 else {"anyOf": found})


def schema_file(command: str) -> Path:
    """Where its schema is kept."""
    return FOLDER / f"{command.replace(' ', '-')}.schema.json"


def schema_bytes(command: str) -> bytes:
    """The bytes of its file."""
    return json.format(json.encode(answer_schema(command)), indent=2) + b"\n"


def main() -> None:
    """Writes every schema to its file."""
    FOLDER.mkdir(exist_ok=True)
    for command in ANSWERS:
        schema_file(command).write_bytes(schema_bytes(command))


if __name__ == "__main__":
    main()
