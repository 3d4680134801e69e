"""A log's topic: made so that nothing in it is ever deleted, and checked for just that at every start."""

import time
from collections.abc import Mapping

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from schemas.errors import InvalidInput
from schemas.log import Log
from streams.kafka.reader import (
    REQUEST_SECONDS,
    TopicDescription,
    client_config,
    describe,
    unreachable,
)

BROKER_DEFAULT = -1
"""A replication factor that leaves the number of copies to the cluster: 1 on one broker, usually 3 elsewhere."""

VISIBLE_SECONDS = 10.0
"""How long a topic just made may take until every broker knows it."""


def create_topic(bootstrap_servers: str, log: Log) -> str:
    """Makes the log's topic and that of its rejects unless they are there, checks them, and gives the log's topic id.

    Raises InvalidInput if an existing topic is not as the log needs it, or Kafka doesn't answer.
    """
    admin = AdminClient(client_config(bootstrap_servers))
    _create(admin, log.topic, log.partitions, topic_config(log))
    topic_id = _checked(admin, log)
    create_rejected_topic(bootstrap_servers, log)
    return topic_id


def rejected_topic(log_topic: str) -> str:
    """The name of the topic that a log's refused records go to."""
    return f"{log_topic}.rejected"


def create_rejected_topic(bootstrap_servers: str, log: Log) -> None:
    """Makes the topic of the log's refused records unless it is there, and checks it.

    Raises InvalidInput if it can't be made, if it has another number of partitions, or if it would lose records.
    """
    admin = AdminClient(client_config(bootstrap_servers))
    name = rejected_topic(log.topic)
    wanted = rejected_topic_config()
    try:
        found = describe(admin, name)
    except InvalidInput:
        found = _create(admin, name, log.partitions, wanted)
    faults = _config_faults(wanted, _config(admin, name))
    if found.partitions != log.partitions:
        faults.insert(0, f"it has {found.partitions} partitions, the log has {log.partitions}: delete it")
    if faults:
        raise InvalidInput(f"the topic {name} is not fit for what the log {log.log_id} refuses: {'. '.join(faults)}")


def rejected_topic_config() -> dict[str, str]:
    """What the topic of a log's refused records is told."""
    return {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}


def check_topic(bootstrap_servers: str, log: Log) -> str:
    """The topic id of the log's topic, if the topic is as the log needs it.

    Raises InvalidInput, one line for all that is wrong, if it is not, is not there, or Kafka doesn't answer.
    """
    return _checked(AdminClient(client_config(bootstrap_servers)), log)


def topic_config(log: Log) -> dict[str, str]:
    """What a log's topic is told. Retention goes by record timestamp: a backfill would vanish within seconds."""
    return {
        "cleanup.policy": "delete",
        "retention.ms": "-1",
        "retention.bytes": "-1",
        "message.timestamp.type": log.timestamp_type,
    }


def topic_faults(log: Log, partitions: int, config: Mapping[str, str | None]) -> list[str]:
    """What is wrong with a topic of so many partitions and such a configuration, each with what to do about it."""
    faults = []
    if partitions != log.partitions:
        faults.append(
            f"it has {partitions} partitions, the log has {log.partitions} for life: name the topic made for this log"
        )
    return faults + _config_faults(topic_config(log), config)


def _config_faults(expected: Mapping[str, str], config: Mapping[str, str | None]) -> list[str]:
    faults = []
    for name, wanted in expected.items():
        found = config.get(name)
        if found == wanted:
            continue
        if name == "message.timestamp.type":
            remedy = "its records bear other times: name the topic made for this log"
        else:
            remedy = f"records would be lost: set {name}={wanted} on the topic"
        faults.append(f"{name} is {found}, not {wanted}; {remedy}")
    return faults


def _create(admin: AdminClient, name: str, partitions: int, config: dict[str, str]) -> TopicDescription:
    new = NewTopic(name, partitions, BROKER_DEFAULT, config=config)
    try:
        admin.create_topics([new], request_timeout=REQUEST_SECONDS)[name].result(REQUEST_SECONDS + 1)
    except (KafkaException, TimeoutError) as error:
        if not (isinstance(error, KafkaException) and error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS):
            raise unreachable(name, error) from None
    return _await_visible(admin, name)


def _checked(admin: AdminClient, log: Log) -> str:
    found = describe(admin, log.topic)
    faults = topic_faults(log, found.partitions, _config(admin, log.topic))
    if faults:
        raise InvalidInput(f"the topic {log.topic} is not fit for the log {log.log_id}: {'. '.join(faults)}")
    return found.topic_id


def _config(admin: AdminClient, topic: str) -> dict[str, str | None]:
    resource = ConfigResource(ResourceType.TOPIC, topic)
    try:
        futures = admin.describe_configs([resource], request_timeout=REQUEST_SECONDS)
        entries = futures[resource].result(REQUEST_SECONDS + 1)
    except (KafkaException, TimeoutError) as error:
        raise unreachable(topic, error) from None
    return {name: entry.value for name, entry in entries.items()}


def _await_visible(admin: AdminClient, topic: str) -> TopicDescription:
    deadline = time.monotonic() + VISIBLE_SECONDS
    while True:
        try:
            return describe(admin, topic)
        except InvalidInput:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
