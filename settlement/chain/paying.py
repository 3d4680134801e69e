"""Transactions with a role's key; errors name the account that lacks ether, and its balance."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from schemas.errors import InvalidInput
from settlement.chain.contract import Call
from settlement.chain.node import Chain
from settlement.chain.signer import Keys, Role, Signer

WEI_DIGITS = 18


def transact(chain: Chain, keys: Keys, role: Role, call: Call) -> Mapping[str, Any]:
    """Signs, sends and waits (`Chain.transact`) with the key of a role. Raises InvalidInput."""
    signer = keys.of(role)
    with gas_of(chain, role, signer):
        return chain.transact(signer, call)


@contextmanager
def gas_of(chain: Chain, role: str, signer: Signer) -> Iterator[None]:
    """Turns the node's error about missing ether into one that names the account and its balance."""
    try:
        yield
    except InvalidInput as error:
        if "too little ether" not in str(error):
            raise
        held = ether_text(chain.ether(signer.address))
        raise InvalidInput(
            f"the {role} {signer.address} holds {held} ether, too little for gas: send it some, and run this again"
        ) from None


def hash_of(receipt: Mapping[str, Any]) -> str:
    """The transaction hash of a receipt, 0x-hex."""
    return "0x" + bytes(receipt["transactionHash"]).hex()


def ether_text(wei: int) -> str:
    """Wei as ether, exact, without zeros at the end."""
    whole, part = divmod(wei, 10**WEI_DIGITS)
    return f"{whole}.{part:0{WEI_DIGITS}d}".rstrip("0").rstrip(".")
