"""The agent's hand on tills: bounded requests, and how long each kind may take."""

from collections.abc import Mapping

from agent.ports import Answer, Away
from deploy.strangers import NoAnswer, ask
from till import wire

ANSWER_S = 10.0
PAY_S = 60.0
"""For the answer to a payment: a till may wait for the session's start."""


class WebHand:
    """Asks tills over HTTP."""

    def ask(self, method: str, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """One request. Raises Away."""
        try:
            found = ask(method, url, body, headers, PAY_S if wire.SIGNATURE_HEADER in headers else ANSWER_S)
        except NoAnswer as error:
            raise Away(str(error)) from None
        return Answer(found.status, found.headers.get(wire.REQUIRED_HEADER.lower(), ""), found.body)
