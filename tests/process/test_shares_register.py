"""The shares of a machine become a locked payee in the log, by command; then they can be offered."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from deploy.cli import app as cli
from deploy.config import load_settings
from deploy.data_folder import DataFolder
from deploy.stack.servers import Stack
from schemas.errors import InvalidInput
from schemas.log import Log, Ruleset
from schemas.reading import HEARTBEAT, READING, REGISTERED
from schemas.registration import Agreement
from schemas.units import DAY_MS, HOUR_MS, MINUTE_MS
from settlement import service
from settlement.chain.node import Chain
from settlement.chain.signer import Keys
from streams.core.encode import signed_headers
from streams.core.recompute import recompute
from streams.core.records import JSON
from streams.core.signature import operator_account, sign_control
from streams.kafka.producer import LogProducer
from streams.kafka.reader import KafkaLogReader
from streams.kafka.topics import create_topic
from tests.support.settlement_data import publish

START_MS = 19_000 * DAY_MS
OWNER, SITE = "0x" + "a1" * 20, "0x" + "b2" * 20


class Machine:
    """A robot in a log that an operator signs for."""

    def __init__(self, kafka: str, folder: Path, log_id: str) -> None:
        place = DataFolder(folder, load_settings())
        self.folder, self.kafka, self.key = folder, kafka, place.operator_key()
        rules = (Ruleset(operators=(operator_account(self.key),)),)
        self.log = Log(log_id=log_id, topic=log_id, partitions=1, timestamp_type="CreateTime", rulesets=rules)
        place.create_log(self.log)
        create_topic(kafka, self.log)
        self.producer = LogProducer(kafka, self.log)

    def send(self, kind: str, at_ms: int, document: object, *, signed: bool = False) -> None:
        value = msgspec.json.encode(document)
        headers: tuple[tuple[str, bytes], ...] = (("ce_type", kind.encode()),)
        if signed:
            signature = sign_control(self.key, self.log.log_id, "m", kind, JSON, value)
            headers += signed_headers(JSON, operator_account(self.key), signature)
        self.producer.send(START_MS + at_ms, b"m", value, headers)
        self.producer.flush()

    def trip(self, seq: int, at_ms: int) -> None:
        row = {"machine": "m", "meter": "trips", "boot": 1, "seq": seq, "observed_at": START_MS + at_ms, "quantity": 1}
        self.send(READING, at_ms, row)

    def publish(self) -> None:
        """The log's windows, as far as epochs have ended, where the views look for them."""
        reader = KafkaLogReader(self.kafka, self.log.topic)
        records = list(reader.read(0, *reader.range(0)))
        for result in recompute(self.log, 0, [records]):
            publish(self.folder, 0, result.manifest.epoch, result.windows, self.log, first=19_000)

    def run(self, *words: str) -> Any:
        done = CliRunner().invoke(cli.app, ["shares", *words, "--data-dir", str(self.folder), "--json"])
        if isinstance(done.exception, InvalidInput):
            raise done.exception
        assert done.exit_code == 0, (words, done.output, done.exception)
        return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.kafka
@pytest.mark.chain
def test_shares_become_a_locked_payee_and_can_be_offered(kafka: str, evm: str, tmp_path: Path) -> None:
    machine = Machine(kafka, tmp_path, "shares-register")
    Stack.start(tmp_path, kafka_bootstrap_servers=kafka, chain_rpc_url=evm)
    chain = Chain(evm, poll_s=0.01)
    service.deploy_contracts(tmp_path, chain, machine.log, Keys({}, chain.chain_id))
    shares = machine.run("issue", "m", "--new", "--supply", "100", "--symbol", "M1")["shares"]
    with pytest.raises(InvalidInput, match="no such machine"):
        machine.run("register", "M1", "--points", "4000", "--until", "2090-01-01")
    machine.send(REGISTERED, 0, {
        "machine": "m", "route": "m", "version": 1, "kind": "robot", "effective_from": 0,
        "meters": [{"meter": "trips", "unit": "count", "kind": "quantity", "capacity_per_hour": 60}],
        "tariff": {"elements": [{"components": [{"meter": "trips", "price": 500, "per": 1}]}], "offsets": [[0, 0]]},
        "agreement": msgspec.to_builtins(Agreement({OWNER: 7_000, SITE: 3_000})),
    }, signed=True)  # fmt: skip
    machine.trip(1, 5 * MINUTE_MS)

    with pytest.raises(InvalidInput, match="has 3000 basis points and can't pass on 4000"):
        machine.run("register", "M1", "--points", "4000", "--until", "2090-01-01", "--from", SITE)
    sent = machine.run("register", "M1", "--points", "4000", "--until", "2090-01-01")
    assert (sent["version"], sent["payees"]) == (2, {OWNER: 3_000, SITE: 3_000, shares: 4_000})
    with pytest.raises(InvalidInput, match="would reject it"):  # Now the owner's own part is locked as well.
        machine.run("register", "M1", "--points", "5000", "--until", "2090-01-01")

    machine.trip(2, 2 * HOUR_MS)
    machine.send(HEARTBEAT, DAY_MS + HOUR_MS, None)
    machine.send(HEARTBEAT, 2 * DAY_MS + HOUR_MS, None)
    machine.publish()
    page = machine.run("machine", "m")
    assert page["agreement"]["payees"] == {OWNER: 3_000, SITE: 3_000, shares: 4_000}
    offering = machine.run("offer", "M1", "--price", "1", "--cap", "10", "--until", "2089-12-31")
    assert (offering["available"], offering["terms"]["points"]) == (10, 4_000)
