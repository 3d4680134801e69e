"""The cashier's thread: what it can't wait for is the end of the till, not of the thread alone."""

import threading

from deploy.till.run import Driver
from schemas.errors import InvalidInput, InvariantBroken
from till.cashier import Cashier


class Broken(Cashier):
    """One whose servers are away at first, and whose journal is damaged then."""

    def __init__(self) -> None:
        self.turns = 0

    def go_on(self) -> bool:
        self.turns += 1
        if self.turns == 1:
            raise InvalidInput("no EVM node answers")
        raise InvariantBroken("the journal has a paid purchase without its transfer")


def test_a_till_without_a_cashier_ends() -> None:
    ended = threading.Event()
    cashier = Broken()
    driver = Driver(cashier, ended.set)
    driver.start()
    while not ended.wait(0.01):
        driver.wake()
    driver.stop()
    assert isinstance(driver.fault, InvariantBroken) and cashier.turns == 2
