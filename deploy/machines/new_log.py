"""`tallyroot init`: a log, its topic and its operator's key, made where they are missing, checked where they are there.

    (1) the operator's key   (2) servers   (3) the topic   (4) the log's description   (5) a backfill's first moment

Killed anywhere, the same command goes on.
"""

import re
import secrets
from pathlib import Path

from msgspec import Struct

from deploy.data_folder import LOG_FILE, DataFolder
from deploy.importers.tariffs import zone_of
from deploy.keys import keys_of, open_key
from deploy.machines.operator import OPERATOR_FILE, Operator, OperatorFile, key_settings, load_operator, own_keystore
from deploy.stack.disk import check_disk
from files.read import FileMissing, read_json
from files.write import write_json
from schemas.errors import InvalidInput
from schemas.log import Log, Ruleset
from schemas.reading import HEARTBEAT
from streams.kafka.producer import LogProducer
from streams.kafka.reader import KafkaLogReader
from streams.kafka.topics import create_topic

ZONE_FILE = "zone.json"
DEFAULTS = Log(log_id="defaults")


class InitOptions(Struct, frozen=True, kw_only=True):
    """What a new log is to be; None is the default, or for a log that is there as it is. Durations are ms.

    `begins_ms` (epoch ms) makes a log for recorded data, whose records bear their own times from that moment on.
    `operator` is a keystore's path or a remote signer's `URL#0xACCOUNT`; None uses the settings, else makes a key.
    """

    currency: str | None = None
    window_ms: int | None = None
    epoch_ms: int | None = None
    grace_ms: int | None = None
    partitions: int | None = None
    zone: str | None = None
    begins_ms: int | None = None
    operator: str | None = None
    password_file: Path | None = None


class InitResult(Struct, frozen=True, kw_only=True):
    """What there is now. `keystore` is that of a key which is this log's from now on, None where it had one."""

    log: Log
    is_new: bool
    operator: str
    keystore: Path | None
    kafka: str
    zone: str


def init(data: DataFolder, options: InitOptions) -> InitResult:
    """Makes or checks all of it. Raises InvalidInput, naming what differs, for a log or topic with other settings."""
    is_new = not (data.data_dir / LOG_FILE).exists()
    _check(options, is_new=is_new)
    check_disk(data.data_dir)
    zone = _zone(data.data_dir, options.zone)
    operator, keystore = _operator(data, options, is_new=is_new)  # (1)
    log = _new(data, options, operator) if is_new else _kept(data, options, operator)
    data.start_stack()  # (2)
    servers = data.kafka_servers()
    if is_new:
        _check_unused(servers, log)
    create_topic(servers, log)  # (3)
    data.create_log(log)  # (4)
    if options.begins_ms is not None:
        _begin(servers, log, options.begins_ms)  # (5)
    return InitResult(
        log=log, is_new=is_new, operator=operator.address, keystore=keystore, kafka=str(servers), zone=zone,
    )  # fmt: skip


def _check(options: InitOptions, *, is_new: bool) -> None:
    """Raises InvalidInput for what no log can be, before anything is made."""
    if options.currency is not None and not re.fullmatch(r"[A-Z]{3}", options.currency):
        raise InvalidInput(f"'{options.currency}' is not a currency: write three capital letters, such as EUR")
    if options.zone is not None:
        zone_of(options.zone)
    if is_new:
        Log(
            log_id="new", window_ms=options.window_ms or DEFAULTS.window_ms,
            epoch_ms=options.epoch_ms or DEFAULTS.epoch_ms,
        )  # fmt: skip


def operator_of(data: DataFolder) -> Operator:
    """Who signs for this folder's log: by the settings, else as `init` decided, else the development chain's."""
    from settlement.chain.signer import DEVELOPMENT_CHAIN_ID

    way = data.operator_settings()
    if way.is_set:
        return Operator(open_key(way))
    chain_id = DEVELOPMENT_CHAIN_ID if data.settings.chain_rpc_url is None else 0
    return Operator(keys_of(data.settings, chain_id).of("operator"))


def zone_of_log(data_dir: Path) -> str | None:
    """The IANA zone that `init` was given for tariffs that name none; None where it was given none."""
    try:
        return read_json(data_dir / ZONE_FILE, str, what="a zone", remedy="run `tallyroot init --zone`")
    except FileMissing:
        return None


def _zone(data_dir: Path, wanted: str | None) -> str:
    kept = zone_of_log(data_dir)
    if wanted is None or wanted == kept:
        return kept or "UTC"
    write_json(data_dir / ZONE_FILE, wanted)
    return wanted


def _operator(data: DataFolder, options: InitOptions, *, is_new: bool) -> tuple[Operator, Path | None]:
    """Who signs, and the keystore of the log's own new key. A log that is there has its operator: no key is made."""
    kept = load_operator(data.data_dir)
    if options.operator is not None:
        wanted = _named(options.operator, options.password_file)
        if kept is not None and kept != wanted:
            raise InvalidInput(
                f"{data.data_dir / OPERATOR_FILE} names another key than --operator: leave it out, or remove the file"
            )
        operator = Operator(open_key(key_settings(data.data_dir, wanted)))
        write_json(data.data_dir / OPERATOR_FILE, wanted)
        return operator, None
    if not is_new or data.operator_settings().is_set:
        return operator_of(data), None
    own = own_keystore(data.data_dir)
    write_json(data.data_dir / OPERATOR_FILE, own)
    return operator_of(data), data.data_dir / str(own.keystore)


def _named(operator: str, password_file: Path | None) -> OperatorFile:
    if operator.startswith(("http://", "https://")):
        url, _, address = operator.partition("#")
        if not address:
            raise InvalidInput("name the signer's account too: --operator https://signer.example/#0xACCOUNT")
        return OperatorFile(signer=url, address=address)
    if password_file is None:
        raise InvalidInput("a keystore needs --password-file")
    return OperatorFile(keystore=str(Path(operator).absolute()), password_file=str(password_file.absolute()))


def _new(data: DataFolder, options: InitOptions, operator: Operator) -> Log:
    return Log(
        log_id=f"log-{secrets.token_hex(8)}",
        topic=data.settings.topic,
        currency=options.currency or DEFAULTS.currency,
        partitions=options.partitions or DEFAULTS.partitions,
        timestamp_type="LogAppendTime" if options.begins_ms is None else "CreateTime",
        window_ms=options.window_ms or DEFAULTS.window_ms,
        epoch_ms=options.epoch_ms or DEFAULTS.epoch_ms,
        rulesets=(Ruleset(operators=(operator.address,), grace_ms=options.grace_ms or DEFAULTS.rulesets[0].grace_ms),),
    )


def _kept(data: DataFolder, options: InitOptions, operator: Operator) -> Log:
    """The folder's log, if it is what the options say."""
    log = data.log()
    asked = {
        "currency": options.currency, "window_ms": options.window_ms, "epoch_ms": options.epoch_ms,
        "partitions": options.partitions,
    }  # fmt: skip
    differ = [
        f"{name} is {getattr(log, name)}, not {value}"
        for name, value in asked.items()
        if value is not None and value != getattr(log, name)
    ]
    if options.grace_ms not in (None, log.rulesets[-1].grace_ms):
        differ.append(f"grace_ms is {log.rulesets[-1].grace_ms}, not {options.grace_ms}")
    if options.begins_ms is not None and log.timestamp_type != "CreateTime":
        differ.append("its records bear the broker's times, not their own")
    if log.rulesets[-1].operators and operator.address not in log.rulesets[-1].operators:
        operators = ", ".join(log.rulesets[-1].operators)
        differ.append(f"its operator is {operators}, not {operator.address}: name its key with --operator")
    if differ:
        raise InvalidInput(
            f"{data.data_dir} has the log {log.log_id}, which is fixed for life: {'; '.join(differ)};"
            " choose another --data-dir"
        )
    return log


def _check_unused(servers: str, log: Log) -> None:
    """Raises InvalidInput where the topic of a new log holds records already: they would be another log's."""
    try:
        ranges = KafkaLogReader(servers, log.topic, 0).ranges(list(range(log.partitions)))
    except InvalidInput:
        return  # no such topic yet; what else is wrong with it, `create_topic` says
    if any(end > first for first, end in ranges.values()):
        raise InvalidInput(
            f"the topic {log.topic} holds records of another log: set TALLYROOT_TOPIC to a new name, or restore that"
            f" log's {LOG_FILE}"
        )


def _begin(servers: str, log: Log, begins_ms: int) -> None:
    """A heartbeat at the first moment in every partition that is still empty: so all begin with one epoch."""
    ranges = KafkaLogReader(servers, log.topic, 0).ranges(list(range(log.partitions)))
    empty = [partition for partition, (first, end) in ranges.items() if first == end]
    producer = LogProducer(servers, log)
    try:
        for partition in empty:
            producer.send(begins_ms, None, b"{}", [("ce_type", HEARTBEAT.encode())], partition)
        producer.flush()
    finally:
        producer.close()
