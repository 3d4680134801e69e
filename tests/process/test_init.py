"""`init` on a real broker: what it makes, what it makes twice, what it refuses; and a registration that arrives."""

import uuid
from pathlib import Path

import pytest

from deploy.config import Settings
from deploy.data_folder import DataFolder
from deploy.machines.form import example, read_form
from deploy.machines.new_log import InitOptions, init, operator_of, zone_of_log
from deploy.machines.register import planned, record_of, signed
from deploy.machines.registry import Registry
from deploy.machines.send import send
from schemas.errors import InvalidInput
from schemas.units import DAY_MS, HOUR_MS
from streams.kafka.reader import KafkaLogReader

OPTIONS = InitOptions(currency="EUR", epoch_ms=HOUR_MS, partitions=2, zone="Europe/Berlin")
NOW_MS = 1_790_000_000_000


@pytest.fixture
def data(kafka: str, tmp_path: Path) -> DataFolder:
    settings = Settings(
        kafka_bootstrap_servers=kafka, chain_rpc_url="http://127.0.0.1:1", topic=f"t-{uuid.uuid4().hex[:12]}"
    )
    return DataFolder(tmp_path / "data", settings)


def test_a_log_is_made_once(data: DataFolder) -> None:
    made = init(data, OPTIONS)
    assert made.is_new
    assert made.keystore is not None and made.keystore.stat().st_mode & 0o777 == 0o600
    assert (made.log.currency, made.log.partitions, made.log.timestamp_type) == ("EUR", 2, "LogAppendTime")
    assert made.log.rulesets[0].operators == (made.operator,)
    again = init(data, InitOptions())
    assert (again.log, again.is_new, again.keystore, again.operator) == (made.log, False, None, made.operator)
    assert zone_of_log(data.data_dir) == "Europe/Berlin"


@pytest.mark.parametrize(
    "kept",
    [
        {"keys/operator.password"},
        {"keys/operator.password", "keys/operator.json"},
        {"keys/operator.password", "keys/operator.json", "operator.json"},
        {"keys/operator.password", "keys/operator.json", "operator.json", "zone.json"},
    ],
    ids=lambda kept: max(kept) if len(kept) != 2 else "keystore",
)
def test_one_that_was_killed_goes_on(data: DataFolder, kept: set[str]) -> None:
    """The files as each step leaves them: the same command makes the rest, by the key that is there."""
    made = init(data, OPTIONS)
    for path in [path for path in data.data_dir.rglob("*") if path.is_file()]:
        if str(path.relative_to(data.data_dir)) not in kept:
            path.unlink()
    again = init(data, OPTIONS)
    assert again.is_new and again.log.rulesets[0].operators == (again.operator,)
    assert (again.operator == made.operator) == ("keys/operator.json" in kept)
    assert init(data, InitOptions()).operator == operator_of(data).address == again.operator


def test_other_settings_are_refused_by_name(data: DataFolder, tmp_path: Path) -> None:
    init(data, OPTIONS)
    with pytest.raises(InvalidInput, match=r"currency is EUR, not USD; partitions is 2, not 3"):
        init(data, InitOptions(currency="USD", partitions=3))
    elsewhere = DataFolder(tmp_path / "elsewhere", data.settings)
    with pytest.raises(InvalidInput, match="it has 2 partitions, the log has 4"):
        init(elsewhere, InitOptions())
    assert not (elsewhere.data_dir / "log.json").exists()


def register(data: DataFolder, now_ms: int) -> list[str | None]:
    log = data.log()
    path = data.data_dir / "form.toml"
    path.write_text(example("ev_charger"))
    servers = data.settings.kafka_bootstrap_servers or ""
    registry = Registry(log, KafkaLogReader(servers, log.topic, 0), [form.id for form in read_form(path)])
    registry.read(lambda _: None)
    plans = planned(log, registry, read_form(path), zone=None, now_ms=now_ms)
    operator = operator_of(data)
    records = [signed(log, operator, record_of(plan.registration)) for plan in plans if plan.registration is not None]
    return list(send(log, servers, registry, records, now_ms, lambda _: None)) if records else []


def test_a_registration_arrives_and_the_log_says_so(data: DataFolder, tmp_path: Path) -> None:
    init(data, OPTIONS)
    assert register(data, NOW_MS) == [None, None]
    assert register(data, NOW_MS) == []
    with pytest.raises(InvalidInput, match="holds records of another log"):
        init(DataFolder(tmp_path / "elsewhere", data.settings), OPTIONS)


def test_a_log_of_recorded_data_begins_at_its_day(data: DataFolder) -> None:
    day = 17_897 * DAY_MS
    assert init(data, InitOptions(currency="EUR", begins_ms=day)).log.timestamp_type == "CreateTime"
    init(data, InitOptions(begins_ms=day))
    log = data.log()
    reader = KafkaLogReader(data.settings.kafka_bootstrap_servers or "", log.topic, 0)
    assert reader.ranges([0, 1, 2, 3]) == dict.fromkeys(range(4), (0, 1))
    assert register(data, NOW_MS) == [None, None]
    registry = Registry(log, reader)
    registry.read(lambda _: None)
    assert {registry.stream_time_ms(partition) for partition in range(4)} == {day}
