"""What a failed call of a Kafka client means, in one line: nobody answers, no topic, no right, refused at the door.

Both libraries say little more than that nobody answers where TLS or a password is at fault. So the door is tried once
more then, and what it says is told.
"""

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import aiokafka.errors
from aiokafka.conn import create_conn
from confluent_kafka import KafkaError, KafkaException

from schemas.errors import InvalidInput
from streams.kafka.security import security_of

DOOR_SECONDS = 5.0
"""How long a broker may take for one connection, with its handshakes."""

_UNKNOWN = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC)
_FORBIDDEN = (
    KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED, KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
)  # fmt: skip
FORBIDDEN = (
    aiokafka.errors.TopicAuthorizationFailedError,
    aiokafka.errors.GroupAuthorizationFailedError,
    aiokafka.errors.ClusterAuthorizationFailedError,
)


class KafkaAway(InvalidInput):
    """Kafka doesn't answer now. The same call may succeed later."""


def is_unknown_topic(error: Exception) -> bool:
    """Whether a call failed because there is no such topic."""
    return isinstance(error, KafkaException) and error.args[0].code() in _UNKNOWN


def is_forbidden(error: BaseException) -> bool:
    """Whether a call failed because the user lacks a right."""
    if isinstance(error, KafkaException):
        return error.args[0].code() in _FORBIDDEN
    return isinstance(error, FORBIDDEN)


def unreachable(topic: str, error: Exception) -> InvalidInput:
    """The InvalidInput for a failed call about a topic; KafkaAway unless the topic or a right is missing."""
    said = error.args[0].str() if isinstance(error, KafkaException) else str(error) or "no answer"
    if is_unknown_topic(error):
        return InvalidInput(f"there is no topic {topic} on this Kafka: create the log first, or name another")
    if is_forbidden(error):
        return forbidden(topic, said)
    return KafkaAway(f"Kafka doesn't answer about the topic {topic} ({said}): check that it is up, and its address")


def forbidden(topic: str, said: str) -> InvalidInput:
    """The InvalidInput for a right that is missing."""
    return InvalidInput(
        f"Kafka refuses this user a right on the topic {topic} or its group ({said.strip()}): give it those of its"
        " role, see docs/how-to/kafka-security.md"
    )


@contextmanager
def naming_refusals(servers: str) -> Iterator[None]:
    """Turns KafkaAway into an InvalidInput that names the property at fault, where a broker is there and refuses us."""
    try:
        yield
    except KafkaAway:
        if said := refusal(servers):
            raise InvalidInput(said) from None
        raise


def refusal(servers: str) -> str:
    """Why the first broker that is there refuses a connection with these properties; empty if none is, or it takes it.

    Not to be called where an event loop runs.
    """
    for server in servers.split(","):
        host, _, port = server.strip().rpartition(":")
        try:
            asyncio.run(_enter(servers, host.strip("[]"), int(port)))
        except InvalidInput as error:
            return str(error)
        except ssl.SSLCertVerificationError as error:
            why = f"its certificate isn't accepted ({error.verify_message}): check ssl.ca.location, and the name"
            return f"Kafka at {server} can't prove who it is: {why} and dates of the certificate"
        except ssl.SSLError as error:
            return f"Kafka at {server} and TLS: {error.reason or error}: check security.protocol and its port"
        except aiokafka.errors.UnsupportedSaslMechanismError:
            return f"Kafka at {server} knows no sasl.mechanism {security_of(servers).sasl_mechanism}: name another"
        except aiokafka.errors.SaslAuthenticationFailed as error:
            return f"Kafka at {server} refuses the user ({_said(error)}): check sasl.username and its password"
        except (aiokafka.errors.KafkaConnectionError, ConnectionResetError) as error:
            return (
                f"Kafka at {server} ends a connection with security.protocol"
                f" {security_of(servers).security_protocol} ({_said(error)}): check it, the port and the client's"
                " certificate"
            )
        except (OSError, TimeoutError, ValueError):
            continue
        else:
            return ""
    return ""


async def _enter(servers: str, host: str, port: int) -> None:
    async with asyncio.timeout(DOOR_SECONDS):
        connection = await create_conn(host, port, client_id="tallyroot", **security_of(servers).aiokafka())
        connection.close()


def _said(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
