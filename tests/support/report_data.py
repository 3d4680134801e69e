"""A data folder with windows, an archive and two posts, made without servers; and the page's script, run by Node."""

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest

from deploy.report.report import LOGIC, read_part
from schemas.log import Log
from schemas.payout import CLAIMS, PAYOUTS, SETTLEMENTS, Claim, Settlement, rows_table
from schemas.units import MINUTE_MS
from settlement.head import genesis_head
from settlement.post import PartitionEpoch, PostStanding, Run, assemble
from settlement.storage.posts import Store
from settlement.storage.published_epochs import EpochReader
from streams.core.records import Record
from streams.worker.partition import Partition
from tests.support.sim_log import HOURLY, START_MS, SimLog, heartbeat, reading, registration

OWNER, SITE = "0x" + "a1" * 20, "0x" + "b2" * 20
LEDGER, TOKEN = "0x" + "11" * 20, "0x" + "22" * 20
CHAIN = {
    "chain_id": 31337,
    "currency": "USD",
    "ledger": LEDGER,
    "token": TOKEN,
    "decimals": 6,
    "log_digest": "00" * 32,
    "first_epoch_start_s": 0,
}
STEPS_WH = (0, 1_000, 1_777, 900, 1_234, 2_000, 50, 1_999)
"""What the energy meter moves by in each quarter of an hour, over and over."""


def at(minutes: int) -> int:
    """Epoch ms of a minute after the log's start."""
    return START_MS + minutes * MINUTE_MS


def paid(record: Record, **changes: Any) -> Record:
    """A registration whose payees have accounts, with a salt."""
    document = json.loads(record.value or b"")
    document |= {"agreement": {"payees": {OWNER: 6_667, SITE: 3_333}}, "salt": "5a" * 16} | changes
    return record._replace(value=msgspec.json.encode(document))


def small_fleet(changes: Mapping[int, int] | None = None) -> SimLog:
    """Six hours of two chargers and an inverter; `changes` says by offset what a register shows too much."""
    names = ("ev1", "ev2", "pv1")
    tariff = {
        "elements": [{"components": [{"meter": "energy", "price": 123_457, "per": 1_000}]}],
        "offsets": [[0, 3600]],
    }
    records = [paid(registration("ev1", 0)), paid(registration("ev2", 1)),
               paid(registration("pv1", 2), kind="inverter", tariff=tariff)]  # fmt: skip
    offset = len(records)
    registers = dict.fromkeys(names, 1_000)
    for place in range(24):
        for machine, name in enumerate(names):
            registers[name] += STEPS_WH[(place + machine) % len(STEPS_WH)]
            register = registers[name] + (changes or {}).get(offset, 0)
            records.append(reading(name, offset, at(15 * place + 1), place + 1, register))
            offset += 1
    records.append(Record(offset, at(361), b"ev1", b"{ no json", []))
    records += [heartbeat(offset + 1, at(600)), heartbeat(offset + 2, at(601))]
    return SimLog(records)


def fill(data_dir: Path, log: Log, records: SimLog) -> Path:
    """A worker's files of a log of one partition."""
    opened = Partition.open(data_dir, log, 0, records.topic_id(), records)
    assert opened is not None
    opened.process(0, records.end, records.records)
    opened.close()
    (data_dir / "log.json").write_bytes(msgspec.json.encode(log))
    return data_dir


def post_all(data_dir: Path, log: Log, at_once: int) -> None:
    """Posts all epochs, so many at once, as a ledger would hold them, and what an account claimed."""
    (data_dir / "chain.json").write_bytes(msgspec.json.encode(CHAIN))
    reader, store = EpochReader(data_dir, log), Store(data_dir)
    epochs: list[PartitionEpoch] = []
    for epoch in count(reader.first_epochs()[0]):
        if reader.manifest(0, epoch) is None:
            break
        epochs.append(reader.read(0, epoch))
    standing, head = PostStanding.initial(), genesis_head(31337, LEDGER, TOKEN, "USD", bytes(32), 0)
    rows = []
    for start in range(0, len(epochs), at_once):
        part = epochs[start : start + at_once]
        post = assemble(standing, Run(part[0].manifest.epoch, part[-1].manifest.epoch, {0: part}), 6)
        if post is None:
            continue
        header = post.header(head, 6)
        store.save(post, header, 1, 6)
        standing, head = post.after, header.head()
        rows.append(Settlement(
            sequence=header.sequence, first_epoch=part[0].manifest.epoch, last_epoch=part[-1].manifest.epoch,
            windows_root=header.windows_root.hex(), payouts_root=header.payouts_root.hex(), head=head.hex(),
            transaction="0x" + "cd" * 32, state="active", total_micros=header.total,
            deposits_micros=header.deposits, posted_block=header.sequence,
        ))  # fmt: skip
    store.write_table("settlements", rows_table(rows, SETTLEMENTS))
    store.write_table("payouts", rows_table(list(store.payout_rows([row.sequence for row in rows])), PAYOUTS))
    store.write_table("claims", rows_table([Claim(OWNER, 1, 1_000, "0x" + "ef" * 32, 9)], CLAIMS))


def small_folder(data_dir: Path, changes: Mapping[int, int] | None = None) -> Path:
    """The fleet's folder, posted in two."""
    fill(data_dir, HOURLY, small_fleet(changes))
    post_all(data_dir, HOURLY, 4)
    return data_dir


def run_script(code: str, given: object, parts: Sequence[str] = LOGIC) -> Any:
    """What `code` returns in Node, after the page's own parts; `given` is its variable of that name."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node isn't installed: `make setup` brings it where it is missing")
    whole = "\n".join(read_part(part) for part in parts)
    text = json.dumps(msgspec.to_builtins(given, str_keys=True))
    source = f'"use strict";\n{whole}\nconst given = JSON.parse({json.dumps(text)});\n'
    source += (
        f"process.stdout.write(JSON.stringify((() => {{{code}}})(), (_, v) => typeof v === 'bigint' ? String(v) : v));"
    )
    done = subprocess.run([node, "-"], input=source, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
