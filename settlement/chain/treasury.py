"""Actions of operator, guardian and admin on a ledger: deploy, fund, pause, revoke, change roles."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypedDict, Unpack

from schemas.errors import InvalidInput
from schemas.log import Log
from schemas.units import DAY_MS, MINUTE_MS, SECOND_MS
from settlement.chain.claims import account_name
from settlement.chain.contract import ROLE_HASHES, Call, refusal
from settlement.chain.ledger import CHAIN_FILE, NEXT_FILE, Deployment, Ledger, token_decimals
from settlement.chain.node import Chain
from settlement.chain.overview import books, note_funding, refresh_tables, shortfall
from settlement.chain.paying import gas_of, hash_of, transact
from settlement.chain.signer import DEVELOPMENT_CHAIN_ID, Keys, Role
from settlement.chain.timelock import Timelock, timelock_of
from settlement.post import token_units
from settlement.results import Funded, RoleCall, RoleHolder
from settlement.storage.published_epochs import EpochReader
from settlement.succession import LedgerStart

DEVELOPMENT_DELAY_S = MINUTE_MS // SECOND_MS
DELAY_S, DELAY_MAX_S = 2 * DAY_MS // SECOND_MS, 90 * DAY_MS // SECOND_MS
MAX_RATE_WHOLE, DEVELOPMENT_RATE_WHOLE = 10**6, 10**12
"""By how many whole tokens posts may raise the total for each day that they settle by default; on a development chain
days pass in minutes.
"""

Holders = Mapping[Role, Sequence[str]]


class LedgerSettings(TypedDict, total=False):
    """What a ledger is deployed with: see `deploy_contracts`."""

    token: str | None
    accounts: Holders | None
    quorum: int | None
    delay_s: int | None
    max_rate_whole: int | None


def deploy_contracts(
    data_dir: Path, chain: Chain, log: Log, keys: Keys, *, start: LedgerStart | None = None,
    **settings: Unpack[LedgerSettings],
) -> Deployment:  # fmt: skip
    """Deploys the ledger, and on a development chain without `token` a token; once per data folder.

    `accounts` names the holders of roles whose keys are not here: one admin and poster, any number of auditors and
    guardians; `quorum` is by default more than half of the auditors. Off a development chain the admin is a timelock:
    an account that is none gets one, and is its proposer. The operator's key pays; `max_rate_whole` is in whole tokens
    a day. A ledger with a `start` follows another one. Writes chain.json, or for such a one chain.next.json. Raises
    InvalidInput for an impossible token or roles, before anything is sent.
    """
    token, quorum, delay_s = settings.get("token"), settings.get("quorum"), settings.get("delay_s")
    accounts, max_rate_whole = settings.get("accounts") or {}, settings.get("max_rate_whole")
    named: Holders = {role: [*map(account_name, held)] for role, held in accounts.items() if held}
    development = chain.chain_id == DEVELOPMENT_CHAIN_ID
    if start is None and (data_dir / "chain.json").exists():
        return _kept(Ledger.open(data_dir, chain), token, named)
    if token is None and not development:
        raise InvalidInput(
            f"chain {chain.chain_id} is not a development chain: name the token that the ledger pays in (--token 0x…)"
        )
    holders: Holders = {role: named.get(role) or [_own(keys, role)] for role in ROLE_HASHES}
    operator = keys.of("operator")
    needed = _checked_quorum(holders, quorum)
    decimals = 6 if token is None else token_decimals(chain, account_name(token))
    token_units(0, decimals)
    delay = delay_s if delay_s is not None else DEVELOPMENT_DELAY_S if development else DELAY_S
    if not development:
        _require_distinct({"operator": [operator.address], **{str(role): held for role, held in holders.items()}})
        if not DELAY_S <= delay <= DELAY_MAX_S:
            raise refusal("DelayOutOfRange", (delay, DELAY_S, DELAY_MAX_S))
    rate = DEVELOPMENT_RATE_WHOLE if development else MAX_RATE_WHOLE
    max_rate = (rate if max_rate_whole is None else max_rate_whole) * 10**decimals
    first_epoch = min(EpochReader(data_dir, log).first_epochs().values(), default=None)
    first_epoch = first_epoch if start is None else start.next_epoch
    first_s = 0 if first_epoch is None else log.epoch_span(first_epoch)[0] // SECOND_MS
    digest = log.birth_digest() if start is None else start.digest(log.birth_digest())
    with gas_of(chain, "operator", operator):
        paid_in = account_name(token) if token else chain.deploy(operator, "DemoDollar", operator.address)[0]
        admin = holders["admin"][0]
        if not development and Timelock.at(chain, admin) is None:
            admin, _ = chain.deploy(operator, "LedgerTimelock", delay, [admin], holders["guardian"])
        ledger, block = chain.deploy(
            operator,
            "SettlementLedger",
            (paid_in, log.currency.encode(), delay, max_rate, first_s, digest),
            (admin, holders["poster"][0], holders["auditor"], holders["guardian"], needed),
        )
    deployment = Deployment(
        chain_id=chain.chain_id, log_id=log.log_id, currency=log.currency, epoch_ms=log.epoch_ms,
        ledger=ledger, token=paid_in, decimals=decimals,
        demo_token=token is None or _mints_before(data_dir, token, start), operator=operator.address, block=block,
        log_digest=digest.hex(), first_epoch_start_s=first_s, start=start,
    )  # fmt: skip
    deployment.save(data_dir, CHAIN_FILE if start is None else NEXT_FILE)
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
    return pay_ledger(data_dir, log, ledger, keys, needed, ledger.transfer(ledger.deployment.ledger, needed))


def pay_ledger(data_dir: Path, log: Log, ledger: Ledger, keys: Keys, amount: int, call: Call) -> Funded:
    """Sends the operator's call that pays the ledger so many token units; a demo token is minted as needed.

    Raises InvalidInput where the operator holds less, or with the token's refusal.
    """
    chain, operator = ledger.chain, keys.of("operator")
    own = ledger.balance_of(operator.address)
    if own < amount and ledger.deployment.demo_token:
        transact(chain, keys, "operator", ledger.mint(operator.address, amount - own))
    elif own < amount:
        raise InvalidInput(f"{operator.address} holds {own} token units and needs {amount}: send it some first")
    receipt = transact(chain, keys, "operator", call)
    note_funding(data_dir, log, ledger)
    return Funded(amount, ledger.balance_of(ledger.deployment.ledger), hash_of(receipt))


def call_as_role(
    data_dir: Path, chain: Chain, keys: Keys | None, role: Role, call: Call, *, is_of_timelock: bool = False
) -> RoleCall:
    """Sends a guardian's or admin's call with its key; without `keys` simulates it, for a wallet that sends the result.

    Where the admin is a timelock, the call is announced, or carried out if it was and has waited; a guardian's call may
    be one of the timelock itself. Raises InvalidInput with the ledger's refusal.
    """
    ledger = Ledger.open(data_dir, chain)
    holders = ledger.holders()[role]
    if not holders:
        raise InvalidInput(f"the ledger has no {role}: see `tallyroot roles`")
    timelock = Timelock.at(chain, holders[0]) if role == "admin" else None
    ready_s = None
    if timelock is not None:
        chain.ask(call, timelock.address)
        call, done_at_s = timelock.next_call(call)
        if done_at_s is None:
            ready_s = chain.time_s(at="pending") + timelock.delay_s()
    if keys is None:
        if timelock is None and not is_of_timelock:
            chain.ask(call, holders[0])
        return RoleCall(call.to or "", "0x" + call.data.hex(), holders[0], None, ready_s)
    receipt = transact(chain, keys, role, call)
    refresh_if_here(data_dir, chain)
    return RoleCall(call.to or "", "0x" + call.data.hex(), keys.of(role).address, hash_of(receipt), ready_s)


def cancel_announced(data_dir: Path, chain: Chain, keys: Keys, step: str) -> RoleCall:
    """Cancels what the admin has announced (its id, hex), with a guardian's key. Raises InvalidInput."""
    timelock = timelock_of(Ledger.open(data_dir, chain))
    if timelock is None:
        raise InvalidInput("the admin of this ledger is a plain key, and announces nothing: see `tallyroot roles`")
    return call_as_role(data_dir, chain, keys, "guardian", timelock.cancel(step), is_of_timelock=True)


def roles(data_dir: Path, chain: Chain) -> list[RoleHolder]:
    """The holders of each role, and whether each is a contract (a timelock, a multisig) or a plain key."""
    ledger = Ledger.open(data_dir, chain)
    return [
        RoleHolder(role, account, bool(chain.code(account)))
        for role, accounts in ledger.holders().items()
        for account in accounts
    ]


def refresh_if_here(data_dir: Path, chain: Chain) -> None:
    """Rebuilds the analysts' tables if the posts are here: an auditor or a guardian may have none of them."""
    with suppress(InvalidInput):
        refresh_tables(data_dir, chain)


def _checked_quorum(holders: Holders, quorum: int | None) -> int:
    for role in ("admin", "poster"):
        if len(holders[role]) > 1:
            raise InvalidInput(f"a ledger has one {role} at its birth: name one, grant others later")
    auditors = len(holders["auditor"])
    needed = auditors // 2 + 1 if quorum is None else quorum
    if not 1 <= needed <= auditors:
        raise InvalidInput(f"a quorum of {needed} needs as many auditors, and {auditors} are named (--auditor)")
    return needed


def _own(keys: Keys, role: Role) -> str:
    if not keys.has(role):
        raise InvalidInput(f"there is no account for the role {role}: pass --{role} 0x…, or set its key")
    return keys.of(role).address


def _require_distinct(accounts: Mapping[str, Sequence[str]]) -> None:
    seen: dict[str, str] = {}
    for role, account in ((role, account) for role, held in accounts.items() for account in held):
        if account in seen:
            raise InvalidInput(
                f"{seen[account]} and {role} are both {account}: one stolen key would do; use a key of its own for each"
            )
        seen[account] = role


def _mints_before(data_dir: Path, token: str, start: LedgerStart | None) -> bool:
    """Whether a ledger that follows another one pays in its token, and that one's was ours to mint."""
    before = None if start is None else Deployment.load(data_dir)
    return before is not None and before.demo_token and before.token == account_name(token)


def _kept(ledger: Ledger, token: str | None, named: Holders) -> Deployment:
    """The folder's deployment. Raises InvalidInput if it is not the one asked for."""
    kept = ledger.deployment
    if token is not None and kept.token != token.lower():
        raise InvalidInput(f"this folder has a ledger for the token {kept.token}: use a new data folder")
    holders = ledger.holders() if named else {}
    for role, account in ((role, account) for role, held in named.items() for account in held):
        if account not in holders[role]:
            raise InvalidInput(
                f"this folder has a ledger, and {account} is not its {role}: the admin changes that (`tallyroot roles`)"
            )
    return kept
