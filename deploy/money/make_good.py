"""`tallyroot fund --makes-good`: pays in the place of a payment that a record states and the chain doesn't have.

A record can't be taken back, and every audit holds it against the chain: one mistake would hold up all later posts. The
operator pays the amount under a nonce (EIP-3009) that names the payment, and audits find that.
"""

from deploy.explain.query import query
from deploy.money.treasury import Treasury
from deploy.till.chain_hand import TOKEN, asset_of, transfer_call
from schemas.errors import InvalidInput
from schemas.payment import AcceptedPayment, PaymentReceived
from settlement import service
from settlement.audit.payments import Payments, make_good_nonce
from settlement.chain.ledger import Ledger
from settlement.chain.transfers import LedgerTransfers
from settlement.results import Funded
from till.authorization import Authorization

HOLDS_S = 3_600
PAYMENTS = (
    'SELECT "partition", "offset", machine, payment, session, payer, amount_micros, epoch_ms(valid_until), block,'
    ' "transaction", log_index FROM payments ORDER BY epoch, "partition", "offset"'
)
"""In the order of an audit."""


def make_good(treasury: Treasury, machine: str, number: int) -> Funded:
    """Pays the machine's payment of that number to the ledger, from the operator's account.

    Raises InvalidInput where there is no such payment, where the chain has it, or where it was made good before.
    """
    ledger = Ledger.open(treasury.data_dir, treasury.chain)
    unit = 10 ** (ledger.deployment.decimals - 6)
    payment = _contradicted(treasury, ledger, machine, number, unit)
    asset = asset_of(treasury.chain, ledger.deployment, "1")
    operator = treasury.keys.of("operator")
    nonce = make_good_nonce(treasury.log.log_id, machine, number)
    if treasury.chain.ask(TOKEN.call(asset.token, "authorizationState", operator.address, nonce)):
        raise InvalidInput(f"payment {number} of {machine} was made good before: run `tallyroot audit`")
    unsigned = Authorization(
        operator.address, asset.ledger, payment.amount * unit, 0, treasury.chain.time_s(at="pending") + HOLDS_S,
        "0x" + nonce.hex(), "",
    )  # fmt: skip
    call = transfer_call(asset, unsigned.signed_by(operator, asset))
    return service.pay_ledger(treasury.data_dir, treasury.log, ledger, treasury.keys, unsigned.value, call)


def _contradicted(treasury: Treasury, ledger: Ledger, machine: str, number: int, unit: int) -> PaymentReceived:
    """The payment, if the chain contradicts it, as an audit would say now."""
    payments = Payments(treasury.log.log_id, unit)
    payments.look(LedgerTransfers(ledger))
    for partition, offset, *fields in query(treasury.data, PAYMENTS).rows:
        accepted = AcceptedPayment(int(str(offset)), PaymentReceived(*fields))  # type: ignore[arg-type]
        fault = payments.fault_of(1, int(str(partition)), accepted, None)
        if (accepted.payment.machine, accepted.payment.version) == (machine, number):
            if fault is None:
                raise InvalidInput(f"the chain has payment {number} of {machine}, or somebody made it good")
            return accepted.payment
    raise InvalidInput(f"no payment {number} of {machine} was accepted: see `tallyroot sql 'FROM payments'`")
