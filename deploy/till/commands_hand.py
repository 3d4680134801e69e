"""The till's hand on the topic of commands to gateways."""

import msgspec
from confluent_kafka import Producer

from schemas.command import Command
from schemas.errors import InvalidInput
from streams.kafka.producer import FAILURES, producer_config, words_of

SEND_S = 10.0


class CommandsHand:
    """Produces one command at a time, each acknowledged before the call returns."""

    def __init__(self, servers: str, topic: str) -> None:
        self._topic = topic
        self._producer = Producer(producer_config(servers) | {"message.timeout.ms": int(SEND_S * 1000)})

    def send(self, route: str, command: Command) -> None:
        """Returns once Kafka has acknowledged the command. Raises InvalidInput if it hasn't."""
        failed: list[str] = []
        value = msgspec.json.encode(command)

        def delivered(error: object, _: object) -> None:
            if error is not None:
                failed.append(str(error))

        try:
            self._producer.produce(self._topic, value, route.encode(), on_delivery=delivered)
            left = self._producer.flush(SEND_S + 2)
        except BufferError as error:
            raise InvalidInput(f"Kafka did not take a command of the topic {self._topic}: {error}") from None
        except FAILURES as error:
            raise InvalidInput(f"Kafka did not take a command of the topic {self._topic}: {words_of(error)}") from None
        if left or failed:
            said = failed[0] if failed else "no answer"
            raise InvalidInput(f"Kafka did not take a command of the topic {self._topic} ({said}): check that it is up")
