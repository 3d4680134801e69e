"""The admin of a ledger off a development chain: its steps are announced, and carried out once they have waited."""

from collections.abc import Iterator

from msgspec import Struct

from schemas.errors import InvalidInput
from settlement.chain.contract import Call, artefact, moment
from settlement.chain.ledger import Ledger
from settlement.chain.node import Chain
from settlement.chain.rpc import NodeAway

NO_PREDECESSOR = bytes(32)
SALTS = 1_000
"""How many times the same step may have been carried out before."""

UNKNOWN, DONE = 0, 1
"""What the timelock says of a step that was never announced, and of one that was carried out; else when it may be."""


class Announced(Struct, frozen=True):
    """A step that waits: what it does in words, and from when on anybody may carry it out (Unix seconds)."""

    id: str
    text: str
    ready_s: int


class Timelock:
    """OpenZeppelin's TimelockController at an address."""

    def __init__(self, chain: Chain, address: str) -> None:
        self._chain = chain
        self.address = address

    @classmethod
    def at(cls, chain: Chain, address: str) -> "Timelock | None":
        """The timelock at an address; None for a plain key or another contract."""
        if not chain.code(address):
            return None
        found = cls(chain, address)
        try:
            found.delay_s()
        except NodeAway:
            raise
        except InvalidInput:
            return None
        return found

    def delay_s(self) -> int:
        """How long every step waits."""
        return int(self._chain.ask(self._call("getMinDelay")))

    def next_call(self, call: Call) -> tuple[Call, int | None]:
        """The call that takes a step further: its announcement, and None; or once it has waited the step itself, and
        when it could be taken. Raises InvalidInput while it waits.
        """
        for salt in range(SALTS):
            step = (call.to, 0, call.data, NO_PREDECESSOR, salt.to_bytes(32, "big"))
            ready_s = self._ready_s(bytes(self._chain.ask(self._call("hashOperation", *step))))
            if ready_s == UNKNOWN:
                return self._call("schedule", *step, self.delay_s()), None
            if ready_s == DONE:
                continue
            if ready_s > self._chain.time_s(at="pending"):
                raise InvalidInput(
                    f"this was announced and may be done from {moment(ready_s)} on: run it again then; until then"
                    " guardians may cancel it"
                )
            return self._call("execute", *step), ready_s
        raise InvalidInput(f"this was done {SALTS:,} times already: take the step with a wallet, under another salt")

    def execution_of(self, call: Call) -> Call:
        """The call that carries out a step announced for the first time, whether or not it has waited."""
        return self._call("execute", call.to, 0, call.data, NO_PREDECESSOR, bytes(32))

    def cancel(self, step: str) -> Call:
        """The call that cancels an announced step (its id, hex); for a guardian or a proposer."""
        return self._call("cancel", bytes.fromhex(step.removeprefix("0x")))

    def announced(self, first_block: int) -> Iterator[Announced]:
        """The steps that were announced since a block and wait."""
        for log in self._chain.logs(self.address, first_block):
            name, values = artefact("LedgerTimelock").event(log.topics, log.data) or ("", {})
            if name == "CallScheduled" and (ready_s := self._ready_s(bytes(values["id"]))) not in (UNKNOWN, DONE):
                yield Announced("0x" + bytes(values["id"]).hex(), _in_words(values["target"], values["data"]), ready_s)

    def _ready_s(self, step: bytes) -> int:
        return int(self._chain.ask(self._call("getTimestamp", step)))

    def _call(self, function: str, *arguments: object) -> Call:
        return artefact("LedgerTimelock").call(self.address, function, *arguments)


def timelock_of(ledger: Ledger) -> Timelock | None:
    """The timelock that is a ledger's admin; None where that is a plain key."""
    found = (Timelock.at(ledger.chain, account) for account in ledger.holders()["admin"])
    return next((timelock for timelock in found if timelock is not None), None)


def announced_steps(ledger: Ledger) -> tuple[Announced, ...]:
    """The steps of a ledger's admin that wait; none where it is a plain key."""
    timelock = timelock_of(ledger)
    return () if timelock is None else tuple(timelock.announced(ledger.deployment.block))


def _in_words(target: str, data: bytes) -> str:
    for name in ("SettlementLedger", "LedgerTimelock"):
        for function, (selector, _, _) in artefact(name).functions.items():
            if data[:4] == selector:
                return f"{function} of {target.lower()}"
    return f"a call of {target.lower()}"
