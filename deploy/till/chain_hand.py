"""The till's hand on the chain: what the token says, and x402's facilitator in process, if it has gas of its own."""

import threading

from eth_abi.abi import encode

from schemas.errors import InvalidInput, InvariantBroken
from schemas.keccak import keccak
from settlement.chain.contract import Call, artefact
from settlement.chain.ledger import Deployment
from settlement.chain.node import Chain
from settlement.chain.rpc import NodeAway, NodeRefuses
from settlement.chain.signer import Signer
from settlement.chain.transfers import AUTHORIZATION_USED, own_transfer
from settlement.posting import Fees
from till.authorization import Asset, Authorization
from till.purchase import Attempt, Place

TOKEN = artefact("DemoDollar")
"""The interface: any token with EIP-3009 has these functions and events."""

CANCELLED = keccak(b"AuthorizationCanceled(address,bytes32)")
BYTES_TYPES = ["address", "address", "uint256", "uint256", "uint256", "bytes32", "bytes"]
BYTES_SELECTOR = keccak(f"transferWithAuthorization({','.join(BYTES_TYPES)})".encode())[:4]
"""As the dollars have it since their version 2.2: with a signature that the payer's own contract judges (EIP-1271)."""

GAS_MAX = 400_000
"""A transfer costs 60,000 to 90,000. One whose payer is a contract runs that contract's code, and the till pays."""

BLOCKS_AT_ONCE = 1_000
"""Providers allow so many in one question."""


def asset_of(chain: Chain, deployment: Deployment, version: str) -> Asset:
    """The ledger's token. Raises InvalidInput where it has no EIP-3009, or its domain is another than thought."""
    token = deployment.token
    try:
        version = str(chain.ask(Call(token, keccak(b"version()")[:4], ("string",))))
    except (NodeAway, NodeRefuses):
        raise
    except InvalidInput:  # the token has none: the file's
        pass
    asset = Asset(
        chain_id=chain.chain_id, token=token, ledger=deployment.ledger, decimals=deployment.decimals,
        name=str(chain.ask(TOKEN.call(token, "name"))), version=version,
    )  # fmt: skip
    domain = keccak(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
    words = ["bytes32", "bytes32", "bytes32", "uint256", "address"]
    parts = (domain, keccak(asset.name.encode()), keccak(version.encode()), asset.chain_id, token)
    try:
        found = bytes(chain.ask(TOKEN.call(token, "DOMAIN_SEPARATOR")))
        chain.ask(TOKEN.call(token, "authorizationState", token, bytes(32)))
    except (NodeAway, NodeRefuses):
        raise
    except InvalidInput:
        raise InvalidInput(
            f"the token {token} has no EIP-3009: a till needs a ledger that pays in one that has"
        ) from None
    if found != keccak(encode(words, parts)):
        raise InvalidInput(f"the token's EIP-712 domain is not {asset.name} {version}: set token_version in the file")
    return asset


def transfer_call(asset: Asset, signed: Authorization) -> Call:
    """The call by which anybody sends what a payer signed."""
    signature = bytes.fromhex(signed.signature[2:])
    if not signed.is_signed(asset):
        words = [signed.payer, signed.to, signed.value, signed.valid_after, signed.valid_before]
        return Call(
            asset.token, BYTES_SELECTOR + encode(BYTES_TYPES, [*words, bytes.fromhex(signed.nonce[2:]), signature])
        )
    return TOKEN.call(
        asset.token, "transferWithAuthorization", signed.payer, signed.to, signed.value, signed.valid_after,
        signed.valid_before, bytes.fromhex(signed.nonce[2:]), signature[64], signature[:32], signature[32:64],
    )  # fmt: skip


class ChainHand:
    """The token and the till's own account. Threads may share it."""

    def __init__(self, chain: Chain, asset: Asset, gas: Signer | None = None) -> None:
        """Without an account for `gas` it only looks."""
        self._chain, self._asset, self._gas = chain, asset, gas
        self._lock = threading.RLock()
        self._fees: dict[str, Fees] = {}

    @property
    def _account(self) -> Signer:
        if self._gas is None:
            raise InvariantBroken("a transaction is to be sent without an account that pays for it")
        return self._gas

    def latest(self) -> tuple[int, int]:
        """Number of the latest block, and the time (Unix seconds) of the next one."""
        with self._lock:
            return self._chain.block_number(), self._chain.time_s(at="pending")

    def final(self) -> tuple[int, int]:
        """Number and time of the last final block; (-1, 0) where there is none yet."""
        with self._lock:
            self._chain.keep_time()
            block = self._chain.final_block()
            return (block, self._chain.block_time_s(block)) if block >= 0 else (-1, 0)

    def balance(self, payer: str) -> int:
        """Token units."""
        with self._lock:
            return int(self._chain.ask(TOKEN.call(self._asset.token, "balanceOf", payer)))

    def is_used(self, authorization: Authorization) -> bool:
        """Whether the nonce was used or cancelled, at the latest block."""
        nonce = bytes.fromhex(authorization.nonce[2:])
        with self._lock:
            return bool(
                self._chain.ask(TOKEN.call(self._asset.token, "authorizationState", authorization.payer, nonce))
            )

    def refuses(self, authorization: Authorization) -> str | None:
        """Why the token would refuse the transfer now; None if it wouldn't."""
        with self._lock:
            sender = None if self._gas is None else self._gas.address
            try:
                gas = self._chain.gas(transfer_call(self._asset, authorization), sender, at="pending")
            except (NodeAway, NodeRefuses):
                raise
            except InvalidInput as error:
                return str(error)
            return None if gas <= GAS_MAX else f"the payer's account makes the transfer cost {gas:,} gas"

    def is_contract(self, account: str) -> bool:
        """Whether an account has code, which may say what it signed (EIP-1271)."""
        with self._lock:
            return bool(self._chain.code(account))

    def transfer(self, authorization: Authorization, first: int, last: int) -> Place | None:
        """The transfer that used the nonce in the blocks `first` to `last`, whoever sent it."""
        found = self._events(AUTHORIZATION_USED, authorization, first, last)
        if not found:
            return None
        transaction, index = found[0]
        payer, ledger = (bytes(12) + bytes.fromhex(part[2:]) for part in (authorization.payer, self._asset.ledger))
        with self._lock:
            log = own_transfer(self._chain.events_of(transaction), self._asset.token, index)
        if log is None or log.block > last:
            return None
        is_ours = log.topics[1:] == (payer, ledger) and int.from_bytes(log.data, "big") == authorization.value
        return Place(log.block, log.index, log.transaction) if is_ours else None

    def is_cancelled(self, authorization: Authorization, first: int, last: int) -> bool:
        """Whether the payer cancelled the nonce in those blocks."""
        return bool(self._events(CANCELLED, authorization, first, last))

    def nonce(self) -> int:
        """The next nonce of the till's account; pending transactions don't count."""
        with self._lock:
            return self._chain.nonce(self._account.address)

    def signed(self, authorization: Authorization, before: Attempt | None) -> Attempt:
        """A transaction that sends it, with the next nonce, or in the place of one that waits and for more gas."""
        with self._lock:
            now = self._chain.fees()
            if before is None:
                nonce, fees = (
                    self._chain.nonce(self._account.address),
                    now.within(self._chain.fee_cap, now.max_fee // 2),
                )
            else:
                nonce = before.nonce
                fees = self._fees.get(before.transaction, now).replaced(now, self._chain.fee_cap)
            if fees is None:
                raise InvalidInput("gas costs more than the cap: wait, or raise TALLYROOT_FEE_CAP_GWEI")
            call = transfer_call(self._asset, authorization)
            raw, transaction = self._chain.signed(self._account, call, nonce, fees, at="pending", gas_max=GAS_MAX)
            self._fees[transaction] = fees
            return Attempt(nonce, raw, transaction)

    def send(self, attempt: Attempt) -> None:
        """Hands a transaction to the node; what its nonce was used for meanwhile, the next look shows."""
        with self._lock:
            self._chain.send_raw(attempt.raw)

    def _events(self, event: bytes, signed: Authorization, first: int, last: int) -> list[tuple[str, int]]:
        """Transaction and log index of each such event of the authorisation."""
        topics = [event, bytes(12) + bytes.fromhex(signed.payer[2:]), bytes.fromhex(signed.nonce[2:])]
        found = []
        with self._lock:
            for start in range(first, last + 1, BLOCKS_AT_ONCE):
                end = min(last, start + BLOCKS_AT_ONCE - 1)
                found += self._chain.logs_about(self._asset.token, topics, start, end)
        return [(log.transaction, log.index) for log in found]
