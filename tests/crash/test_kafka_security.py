"""The whole path to a Kafka that asks who is there; and each way to be refused, in one line that names the cause."""

import json
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import msgspec
import pytest
import trustme
from confluent_kafka.admin import AclOperation, ResourceType
from msgspec import structs

from deploy.agent.run import run as agent
from deploy.config import KeySettings, Settings
from deploy.data_folder import DataFolder
from deploy.machines.operator import Operator
from deploy.machines.register import record_of, signed
from deploy.machines.registry import Registry
from deploy.machines.send import send
from deploy.till.commands_hand import CommandsHand
from deploy.till.log_hand import LogHand
from deploy.till.run import offers
from schemas.command import Command
from schemas.errors import InvalidInput
from schemas.log import Log, Ruleset
from schemas.payment import PaymentReceived
from schemas.registration import Meter
from settlement import service
from settlement.chain.node import Chain
from settlement.chain.signer import Keys, Signer
from streams.kafka import reader
from streams.kafka.failures import refusal
from streams.kafka.producer import LogProducer
from streams.kafka.reader import KafkaLogReader
from streams.kafka.security import KafkaAddress, Mechanism, Security, client_config
from streams.kafka.topics import create_topic, orders_topic, rejected_topic
from streams.worker.app import group_of
from tallyroot_gateway import Gateway, kafka_properties
from tests.support import kafka_log
from tests.support.kafka_log import a_log, outcome, without_faust
from tests.support.secured_kafka import PLAIN_USER, Rule, SecuredKafka, secured_kafka
from tests.support.sim_till import registration
from tests.support.workers import Workers

pytestmark = [pytest.mark.crash, pytest.mark.kafka, pytest.mark.slow]

READ, WRITE, DESCRIBE = AclOperation.READ, AclOperation.WRITE, AclOperation.DESCRIBE
TILL_KEY = "22" * 32
TILL = Operator(Signer.from_key(TILL_KEY))
"""Who operates the log of the till."""

CREATE, CONFIGS = AclOperation.CREATE, AclOperation.DESCRIBE_CONFIGS


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    """One broker for all of these tests: topics and users have names of their own."""
    with secured_kafka(Path(tmp_path_factory.mktemp("secured")) / "kafka") as running:
        yield running


@pytest.fixture
def workers(broker: SecuredKafka, tmp_path: Path) -> Iterator[Workers]:
    made: list[Workers] = []
    yield lambda servers: made.append(Workers(servers, tmp_path / "data")) or made[-1]  # type: ignore[misc]
    for each in made:
        each.kill()


def rules_of_operator(log: Log) -> list[Rule]:
    """As docs/how-to/kafka-security.md has them; so are the next ones."""
    own = [(ResourceType.TOPIC, log.topic, right) for right in (CREATE, DESCRIBE, CONFIGS, WRITE, READ)]
    return own + [(ResourceType.TOPIC, name, right) for name in sent(log) for right in (CREATE, DESCRIBE, CONFIGS)]


def sent(log: Log) -> list[str]:
    """The topics that workers write."""
    return [rejected_topic(log.topic), orders_topic(log.topic)]


def rules_of_worker(log: Log) -> list[Rule]:
    own = [(ResourceType.TOPIC, log.topic, right) for right in (READ, DESCRIBE, CONFIGS)]
    own += [(ResourceType.TOPIC, name, right) for name in sent(log) for right in (WRITE, READ, DESCRIBE, CONFIGS)]
    names = [f"tallyroot-{name}-{partition}" for name in sent(log) for partition in range(log.partitions)]
    own += [(ResourceType.TRANSACTIONAL_ID, name, right) for name in names for right in (WRITE, DESCRIBE)]
    return [*own, (ResourceType.GROUP, group_of(log), READ)]


def rules_of_gateway(log: Log) -> list[Rule]:
    return [(ResourceType.TOPIC, log.topic, right) for right in (WRITE, DESCRIBE)]


def rules_of_auditor(log: Log) -> list[Rule]:
    return [(ResourceType.TOPIC, log.topic, right) for right in (READ, DESCRIBE)]


def rules_of_till(log: Log, commands: str) -> list[Rule]:
    own = [(ResourceType.TOPIC, log.topic, right) for right in (READ, WRITE, DESCRIBE)]
    return own + [(ResourceType.TOPIC, commands, right) for right in (WRITE, DESCRIBE)]


def filled(broker: SecuredKafka, name: str) -> Log:
    """A log of three hours with refused records and transactions in it, sent by the administrator."""
    log = a_log(name, partitions=2)
    kafka_log.fill(broker.plain, log, hours=3)
    return log


USERS: list[tuple[str, Mechanism]] = [
    ("worker-512", "SCRAM-SHA-512"), ("worker-256", "SCRAM-SHA-256"), (PLAIN_USER, "PLAIN"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "mechanism"), USERS)
def test_a_worker_with_the_rights_of_its_role_comes_to_the_same(
    broker: SecuredKafka, workers: Workers, tmp_path: Path, name: str, mechanism: Mechanism
) -> None:
    log = filled(broker, f"whole-{name}")
    servers = broker.user(name, mechanism, rules_of_worker(log))
    workers(servers).catch_up(log)  # type: ignore[operator]
    assert outcome(tmp_path / "data").differences(without_faust(broker.plain, log, tmp_path / "alone")) == []


def test_a_certificate_proves_who_a_worker_is(broker: SecuredKafka, workers: Workers, tmp_path: Path) -> None:
    log = filled(broker, "certified")
    servers = broker.certified("worker-7", rules_of_worker(log))
    workers(servers).catch_up(log)  # type: ignore[operator]
    assert outcome(tmp_path / "data").differences(without_faust(broker.plain, log, tmp_path / "alone")) == []


def test_operator_gateway_and_auditor_have_what_they_need(broker: SecuredKafka) -> None:
    log = a_log("roles", partitions=1)
    operator, gateway, auditor = (
        broker.user(name, rules=rules)
        for name, rules in (
            ("an-operator", rules_of_operator(log)),
            ("a-gateway", rules_of_gateway(log)),
            ("an-auditor", rules_of_auditor(log)),
        )
    )
    create_topic(operator, log)
    sender = kafka_log.Sender(gateway, log)
    sender.send(kafka_log.readings(1, machines=1))
    assert sender.kafka.flush(20) == 0
    audited = KafkaLogReader(auditor, log.topic)
    assert len(list(audited.read(0, *audited.range(0)))) == 60
    with pytest.raises(InvalidInput, match="Kafka refuses this user a right on the topic roles"):
        create_topic(gateway, a_log("roles", partitions=1))


def test_a_gateway_goes_through_the_same_door(
    broker: SecuredKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = a_log("a-gateway-s", partitions=1)
    create_topic(broker.plain, log)
    servers = broker.user("gateway-of-its-own", rules=rules_of_gateway(log))
    variables = {name: getattr(servers.security, name) for name in Security.__struct_fields__}
    environment = {f"KAFKA_{name.upper()}": str(value) for name, value in variables.items() if value is not None}
    options = {"log_id": log.log_id, "route": "charger-7", "topic": log.topic, "partitions": 1}
    with Gateway(str(servers), spool=tmp_path / "spool", kafka=kafka_properties(environment), **options) as gateway:  # type: ignore[arg-type]
        gateway.send("charger-7", "energy", register=1)
        gateway.flush()
    given = client_config(servers) | {"sasl.password": "another"}
    del given["bootstrap.servers"], given["log_level"], given["socket.connection.setup.timeout.ms"]
    with Gateway(str(servers), spool=tmp_path / "other", kafka=given, **options) as refused_one:  # type: ignore[arg-type]
        refused_one.send("charger-7", "energy", register=2)
        deadline = time.monotonic() + 20
        while "uthentication" not in (refused_one.status().problem or "") and time.monotonic() < deadline:
            time.sleep(0.1)
        assert "uthentication" in (refused_one.status().problem or "")


def test_a_till_and_an_agent_have_what_they_need(broker: SecuredKafka, evm: str, tmp_path: Path) -> None:
    log = a_log("till", partitions=1, timestamp_type="LogAppendTime", rulesets=(Ruleset(operators=(TILL.address,)),))
    for topic in (log, a_log("till-commands", partitions=1)):
        create_topic(broker.plain, topic)
    registry = Registry(log, KafkaLogReader(broker.plain, log.topic))
    machine = registration("charger-1")
    now_ms = time.time_ns() // 10**6
    battery = Meter("battery", "Wh", "level", 50_000)
    taxi = structs.replace(machine, machine="taxi-7", route="taxi-7", meters=(*machine.meters, battery))
    records = [signed(log, TILL, record_of(one)) for one in (machine, taxi)]
    assert send(log, broker.plain, registry, records, now_ms, lambda _: None) == [None, None]
    servers = broker.user("a-till", rules=rules_of_till(log, "till-commands"))
    auditor = broker.user("no-till", rules=rules_of_auditor(log))

    def folder_of(user: KafkaAddress) -> DataFolder:
        return DataFolder(tmp_path / "data", Settings(
            data_dir=tmp_path / "data", topic=log.topic, kafka_bootstrap_servers=str(user), kafka=user.security,
            chain_rpc_url=evm, operator=KeySettings(key=TILL_KEY), agent=KeySettings(key="44" * 32),
        ))  # fmt: skip

    data = folder_of(servers)
    data.create_log(log)
    chain = Chain(evm, poll_s=0.01)
    service.deploy_contracts(data.data_dir, chain, log, Keys({}, chain.chain_id))
    file = tmp_path / "till.toml"
    file.write_text(
        f'topic = "till-commands"\n[gas]\nkey = "{"33" * 32}"\n[[machines]]\nmachine = "charger-1"\nplace = "kerb"\n'
    )
    assert '"machine":"charger-1"' in offers(data, file).document
    hand = LogHand(log, servers, KafkaLogReader(servers, log.topic), TILL, ())
    payment = PaymentReceived(
        machine="charger-1", version=1, session="x", payer="0x" + "d" * 40, amount=1, valid_until=now_ms + 600_000,
        block=1, transaction="0x" + "1" * 64, log_index=0,
    )  # fmt: skip
    value = msgspec.json.encode(payment)
    assert hand.sent("charger-1", value, hand.signed("charger-1", value)) is None
    command = Command(machine="charger-1", command="start", session="x", valid_until=now_ms + 600_000)
    CommandsHand(servers, "till-commands").send("charger-1", command)
    with pytest.raises(InvalidInput, match=r"did not take a command of the topic till: .*uthorization failed"):
        CommandsHand(auditor, "till").send("charger-1", command)
    other = LogProducer(auditor, log)
    with pytest.raises(InvalidInput, match=r"did not take a record of the topic till .*uthorization failed"):
        other.send(now_ms, b"charger-1", value), other.flush()
    other.close()
    policy = tmp_path / "policy.toml"
    policy.write_text(
        'tills = ["http://127.0.0.1:9"]\n[need]\nmeter = "battery"\nbuy_at = "20 kWh"\nuntil = "30 kWh"\n[limits]\n'
        'price = "USD 0.60 per kWh"\nper_purchase = "3.00"\nper_day = "6.00"\nper_30_days = "60.00"\n'
    )
    ended, _ = agent(folder_of(auditor), "taxi-7", policy, lambda _: None, once=True)
    assert (ended.level, ended.purchases) == (None, [])


def test_an_oauth_client_fetches_its_tokens(broker: SecuredKafka, workers: Workers, tmp_path: Path) -> None:
    log = filled(broker, "oauth")
    broker.allow("worker-oauth", rules_of_worker(log))
    asked: list[str] = []

    class Server(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.headers["Authorization"])
            now = int(time.time())
            claims = {"sub": "worker-oauth", "iat": now, "exp": now + 3_600, "scope": "log"}
            token = f"{_base64({'alg': 'none'})}.{_base64(claims)}."
            body = json.dumps({"access_token": token, "token_type": "bearer", "expires_in": 3_600}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        servers = broker.sasl(
            sasl_mechanism="OAUTHBEARER", sasl_oauthbearer_client_id="worker", sasl_oauthbearer_client_secret="s",
            sasl_oauthbearer_token_endpoint_url=f"http://127.0.0.1:{server.server_port}/token",
        )  # fmt: skip
        workers(servers).catch_up(log)  # type: ignore[operator]
    finally:
        server.shutdown()
    assert len(set(asked)) == 1 and asked[0].startswith("Basic ")
    assert outcome(tmp_path / "data").differences(without_faust(broker.plain, log, tmp_path / "alone")) == []


def _base64(document: dict[str, object]) -> str:
    import base64

    return base64.urlsafe_b64encode(json.dumps(document).encode()).decode().rstrip("=")


def refused(servers: str, topic: str = "telemetry") -> str:
    with pytest.MonkeyPatch.context() as impatient:
        impatient.setattr(reader, "REQUEST_SECONDS", 1.0)
        with pytest.raises(InvalidInput) as told:
            KafkaLogReader(servers, topic).topic_id()
    assert "\n" not in str(told.value)
    return str(told.value)


def test_each_refusal_names_its_cause(broker: SecuredKafka, tmp_path: Path) -> None:
    right = broker.user("somebody")
    wrong = broker.sasl(sasl_mechanism="SCRAM-SHA-512", sasl_username="somebody", sasl_password="not this one")
    said = refused(wrong)
    assert "refuses the user" in said and "check sasl.username and its password" in said and "not this one" not in said
    foreign = tmp_path / "other-ca.pem"
    foreign.write_bytes(trustme.CA().cert_pem.bytes())
    other = broker.sasl(ssl_ca_location=foreign, sasl_mechanism="PLAIN", sasl_username="a", sasl_password="b")
    assert "can't prove who it is: its certificate isn't accepted" in refused(other)
    by_number = KafkaAddress(right.replace("localhost", "127.0.0.1"), right.security)
    assert "127.0.0.1" in refused(by_number) and "isn't accepted (IP address mismatch" in refusal(by_number)
    assert "ends a connection with security.protocol PLAINTEXT" in refused(KafkaAddress(right))
    tls_to_plain = KafkaAddress(broker.plain, right.security)
    assert "ends a connection with security.protocol SASL_SSL" in refused(tls_to_plain)
    assert "knows no sasl.mechanism" not in refusal(right) == ""
    assert refusal("127.0.0.1:9") == ""
    missing = Security(security_protocol="SSL", ssl_ca_location=tmp_path / "none.pem")
    with pytest.raises(InvalidInput, match=r"can't read .*none\.pem, which Kafka's properties name"):
        KafkaLogReader(KafkaAddress(right, missing), "telemetry")


def test_a_certificate_that_has_expired_is_named(tmp_path: Path) -> None:
    with secured_kafka(tmp_path / "kafka") as broker:
        user = broker.user("somebody", "SCRAM-SHA-256")
        broker.certified_anew(broker.expired())
        assert "certificate has expired" in refused(user)


@pytest.mark.parametrize("lost", ["topic", "group"])
def test_a_right_that_is_taken_away_stops_the_worker_and_nothing_is_skipped(
    broker: SecuredKafka, workers: Workers, tmp_path: Path, lost: str
) -> None:
    log = filled(broker, f"lost-{lost}")
    servers = broker.user(f"worker-{lost}", rules=rules_of_worker(log))
    rule = (ResourceType.TOPIC, log.topic, READ) if lost == "topic" else (ResourceType.GROUP, group_of(log), READ)
    mine = workers(servers)  # type: ignore[operator]
    running = mine.start(log, records_max=100, topic_check_seconds=2.0, on_progress="dawdle")  # type: ignore[operator]
    running.wait_for(lambda progress: len(progress) >= 3)
    broker.forbid(f"worker-{lost}", rule)
    assert running.wait(60) == 70
    assert "Kafka refuses this user a right on the topic" in running.said()
    again = mine.start(log, until_caught_up=True)
    assert again.wait(60) != 0
    assert "Kafka refuses this user a right on the topic" in again.said()
    broker.allow(f"worker-{lost}", [rule])
    mine.catch_up(log)
    assert outcome(tmp_path / "data").differences(without_faust(broker.plain, log, tmp_path / "alone")) == []
