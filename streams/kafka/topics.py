"""A log's topic: created so that nothing in it is ever deleted, and checked for that at every start."""

import time
from collections.abc import Mapping

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from schemas.errors import InvalidInput
from schemas.log import Log
from schemas.units import MINUTE_MS
from streams.kafka.failures import forbidden, is_forbidden, naming_refusals, unreachable
from streams.kafka.reader import REQUEST_SECONDS, TopicDescription, describe
from streams.kafka.security import client_config

BROKER_DEFAULT = -1
"""The replication factor that leaves the number of copies to the cluster: 1 on one broker, usually 3 elsewhere."""

AHEAD_MAX_MS = 10 * MINUTE_MS
"""A record whose timestamp is further ahead of the wall clock is not committed: one of two clocks is wrong."""

TELEMETRY, ORDERS = "telemetry", "machine.orders"
"""A log's topic, if it has no other name, and that of its orders."""

VISIBLE_SECONDS = 10.0
"""How long a new topic may take until every broker knows it."""


def create_topic(bootstrap_servers: str, log: Log) -> str:
    """Creates the log's topic, and those of its rejects and orders, unless they exist, and checks them.

    Returns the topic id of the log's. Raises InvalidInput if an existing topic does not fit the log, or Kafka doesn't
    answer.
    """
    admin = AdminClient(client_config(bootstrap_servers))
    with naming_refusals(bootstrap_servers):
        _create(admin, log.topic, log.partitions, topic_config(log))
        topic_id = _checked(admin, log)
        create_outbox_topics(bootstrap_servers, log)
    return topic_id


def rejected_topic(log_topic: str) -> str:
    """The name of the topic of a log's refused records."""
    return f"{log_topic}.rejected"


def orders_topic(log_topic: str) -> str:
    """The name of the topic of a log's orders. That of a log whose topic isn't `telemetry` ends with its name."""
    return ORDERS if log_topic == TELEMETRY else f"{ORDERS}.{log_topic}"


def create_outbox_topics(bootstrap_servers: str, log: Log) -> None:
    """Creates the topics of the log's refused records and of its orders unless they exist, and checks them.

    Raises InvalidInput if one can't be created, has another number of partitions, or would lose records.
    """
    admin = AdminClient(client_config(bootstrap_servers))
    for name, what in ((rejected_topic(log.topic), "refuses"), (orders_topic(log.topic), "orders")):
        wanted = outbox_topic_config()
        try:
            found = describe(admin, name)
        except InvalidInput:
            found = _create(admin, name, log.partitions, wanted)
        faults = _config_faults(wanted, _config(admin, name))
        if found.partitions != log.partitions:
            faults.insert(0, f"it has {found.partitions} partitions, the log has {log.partitions}: delete it")
        if faults:
            raise InvalidInput(f"the topic {name} is not fit for what the log {log.log_id} {what}: {'. '.join(faults)}")


def outbox_topic_config() -> dict[str, str]:
    """The configuration of the topics of a log's refused records and orders."""
    return {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}


def check_topic(bootstrap_servers: str, log: Log) -> str:
    """Checks that the log's topic fits the log; returns its topic id.

    Raises InvalidInput, one line for all faults, if it doesn't fit or is missing, or Kafka doesn't answer.
    """
    with naming_refusals(bootstrap_servers):
        return _checked(AdminClient(client_config(bootstrap_servers)), log)


def check_group(bootstrap_servers: str, log: Log, group: str) -> None:
    """Raises InvalidInput if this user may not be in the consumer group: a broker lets it wait, and says nothing."""
    admin = AdminClient(client_config(bootstrap_servers))
    try:
        admin.describe_consumer_groups([group], request_timeout=REQUEST_SECONDS)[group].result(REQUEST_SECONDS + 1)
    except KafkaException as error:
        if is_forbidden(error):
            raise forbidden(log.topic, f"{error.args[0].str()}: {group}") from None
    except TimeoutError:
        pass  # who else asks will say so


def topic_config(log: Log) -> dict[str, str]:
    """The configuration of a log's topic. Retention goes by record timestamp: a backfill would vanish within
    seconds. A record stamped ahead, where a producer stamps it, would stop the log until its moment has come.
    """
    config = {
        "cleanup.policy": "delete",
        "retention.ms": "-1",
        "retention.bytes": "-1",
        "message.timestamp.type": log.timestamp_type,
    }
    if log.timestamp_type == "CreateTime":
        config["message.timestamp.after.max.ms"] = str(AHEAD_MAX_MS)
    return config


def topic_faults(log: Log, partitions: int, config: Mapping[str, str | None]) -> list[str]:
    """The faults of a topic with this number of partitions and this configuration, each with what to do about it."""
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
            remedy = "its records have other timestamps: name the topic made for this log"
        elif name == "message.timestamp.after.max.ms":
            remedy = f"a record stamped far ahead would stop the log: set {name}={wanted} on the topic"
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
