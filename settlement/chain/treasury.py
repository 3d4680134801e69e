"""Actions of operator, guardian and admin on a ledger: deploy, fund, pause, revoke, change roles."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from schemas.errors import InvalidInput
from schemas.log import Log
from schemas.units import DAY_MS, MINUTE_MS, SECOND_MS
from settlement.chain.claims import account_name
from settlement.chain.contract import ROLE_HASHES, Call
from settlement.chain.ledger import Deployment, Ledger, token_decimals
from settlement.chain.node import NO_CODE, Chain
from settlement.chain.overview import books, note_funding, refresh_tables, shortfall
from settlement.chain.paying import gas_of, hash_of, transact
from settlement.chain.signer import DEVELOPMENT_CHAIN_ID, Keys, Role
from settlement.post import token_units
from settlement.results import Funded, RoleCall, RoleHolder
from settlement.storage.published_epochs import EpochReader

DEVELOPMENT_DELAY_S = MINUTE_MS // SECOND_MS
DELAY_S = 2 * DAY_MS // SECOND_MS
MAX_STEP_WHOLE = 10**9
"""By how many whole tokens one post may raise the total by default."""


def deploy_contracts(
    data_dir: Path,
    chain: Chain,
    log: Log,
    keys: Keys,
    *,
    token: str | None = None,
    accounts: Mapping[Role, str] | None = None,
    delay_s: int | None = None,
    max_step_whole: int | None = None,
) -> Deployment:
    """Deploys the ledger, and on a development chain without `token` a token; once per data folder.

    `accounts` names the holders of roles whose keys are not here; the operator's key pays; `max_step_whole` is in whole
    tokens. Writes chain.json. Raises InvalidInput for an impossible token or roles, before anything is sent.
    """
    named = {role: account_name(account) for role, account in (accounts or {}).items()}
    development = chain.chain_id == DEVELOPMENT_CHAIN_ID
    if (data_dir / "chain.json").exists():
        return _kept(Ledger.open(data_dir, chain), token, named)
    if token is None and not development:
        raise InvalidInput(
            f"chain {chain.chain_id} is not a development chain: name the token that the ledger pays in (--token 0x…)"
        )
    holders = {role: named.get(role) or _own(keys, role) for role in ROLE_HASHES}
    operator = keys.of("operator")
    if not development:
        _require_distinct({"operator": operator.address, **holders})
    decimals = 6 if token is None else token_decimals(chain, account_name(token))
    token_units(0, decimals)
    delay = delay_s if delay_s is not None else DEVELOPMENT_DELAY_S if development else DELAY_S
    max_step = (MAX_STEP_WHOLE if max_step_whole is None else max_step_whole) * 10**decimals
    with gas_of(chain, "operator", operator):
        paid_in = account_name(token) if token else chain.deploy(operator, "DemoDollar", operator.address)[0]
        ledger, block = chain.deploy(
            operator, "SettlementLedger", paid_in, log.currency.encode(), delay, max_step, *holders.values()
        )
    deployment = Deployment(
        chain_id=chain.chain_id, log_id=log.log_id, currency=log.currency, epoch_ms=log.epoch_ms,
        ledger=ledger, token=paid_in, decimals=decimals, demo_token=token is None,
        operator=operator.address, block=block, code_hash=chain.code_hash(ledger),
        first_epoch=min(EpochReader(data_dir, log).first_epochs().values(), default=None),
    )  # fmt: skip
    deployment.save(data_dir)
    return deployment


def fund(data_dir: Path, chain: Chain, log: Log, keys: Keys, amount: int | None = None) -> Funded:
    """Sends tokens of the operator to the ledger; without an amount, what it lacks for all earned and for deposits.

    A demo token is minted as needed.
    """
    ledger = Ledger.open(data_dir, chain)
    state = ledger.state()
    needed = shortfall(state, books(data_dir, log, ledger)) if amount is None else amount
    if needed < 0:
        raise InvalidInput("the amount must not be below zero")
    if not needed:
        return Funded(0, state.balance, None)
    operator = keys.of("operator")
    own = ledger.balance_of(operator.address)
    if own < needed and ledger.deployment.demo_token:
        transact(chain, keys, "operator", ledger.mint(operator.address, needed - own))
    elif own < needed:
        raise InvalidInput(f"{operator.address} holds {own} token units and needs {needed}: send it some first")
    receipt = transact(chain, keys, "operator", ledger.transfer(ledger.deployment.ledger, needed))
    note_funding(data_dir, log, ledger)
    return Funded(needed, ledger.balance_of(ledger.deployment.ledger), hash_of(receipt))


def call_as_role(data_dir: Path, chain: Chain, keys: Keys | None, role: Role, call: Call) -> RoleCall:
    """Sends a guardian's or admin's call with its key; without `keys` simulates it.

    The latter is for a timelock or a multisig, which sends the call of the result itself.
    Raises InvalidInput with the ledger's refusal.
    """
    ledger = Ledger.open(data_dir, chain)
    if keys is None:
        holders = ledger.holders()[role]
        if not holders:
            raise InvalidInput(f"the ledger has no {role}: see `tallyroot roles`")
        chain.ask(call, holders[0])
        return RoleCall(call.to or "", "0x" + call.data.hex(), holders[0], None)
    receipt = transact(chain, keys, role, call)
    refresh_if_here(data_dir, chain)
    return RoleCall(call.to or "", "0x" + call.data.hex(), keys.of(role).address, hash_of(receipt))


def roles(data_dir: Path, chain: Chain) -> list[RoleHolder]:
    """The holders of each role, and whether each is a contract (a timelock, a multisig) or a plain key."""
    ledger = Ledger.open(data_dir, chain)
    return [
        RoleHolder(role, account, chain.code_hash(account) != NO_CODE)
        for role, accounts in ledger.holders().items()
        for account in accounts
    ]


def refresh_if_here(data_dir: Path, chain: Chain) -> None:
    """Rebuilds the analysts' tables if the posts are here: an auditor or a guardian may have none of them."""
    with suppress(InvalidInput):
        refresh_tables(data_dir, chain)


def _own(keys: Keys, role: Role) -> str:
    if not keys.has(role):
        raise InvalidInput(f"there is no account for the role {role}: pass --{role} 0x…, or set its key")
    return keys.of(role).address


def _require_distinct(accounts: Mapping[Role, str]) -> None:
    seen: dict[str, Role] = {}
    for role, account in accounts.items():
        if account in seen:
            raise InvalidInput(
                f"{seen[account]} and {role} are both {account}: one stolen key would do; use a key of its own for each"
            )
        seen[account] = role


def _kept(ledger: Ledger, token: str | None, named: Mapping[Role, str]) -> Deployment:
    """The folder's deployment. Raises InvalidInput if it is not the one asked for."""
    kept = ledger.deployment
    if token is not None and kept.token != token.lower():
        raise InvalidInput(f"this folder has a ledger for the token {kept.token}: use a new data folder")
    holders = ledger.holders() if named else {}
    for role, account in named.items():
        if account not in holders[role]:
            raise InvalidInput(
                f"this folder has a ledger, and {account} is not its {role}: the admin changes that (`tallyroot roles`)"
            )
    return kept
