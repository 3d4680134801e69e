"""What a driver can check without us: what a meter signed of a session, for the public transparency software.

The file is what that software opens: https://github.com/SAFE-eV/transparenzsoftware. It verifies each value under the
meter's key, which also stands on the meter's label.
"""

from collections.abc import Iterator
from functools import partial
from itertools import count, takewhile
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import pyarrow.parquet as pq
from msgspec import UNSET, Struct

from deploy.explain.reading_rows import ReadingName, records_naming
from deploy.machines.meter_keys import public_key_info
from files.write import write_bytes
from schemas.errors import InvalidInput
from schemas.log import Log
from schemas.reading import READING, Reading
from schemas.registration import MeterKey
from settlement.storage.published_epochs import EpochReader
from streams.core.evidence import is_verified
from streams.core.records import decode_readings, media_type, record_type
from streams.storage.epoch_files import epoch_paths


class SignedValue(Struct, frozen=True, kw_only=True):
    """A value that a meter signed: an OCMF record, where in its session it stands, whether the key verifies it."""

    context: str
    ocmf: str
    verified: bool


def session_values(data_dir: Path, log: Log, name: ReadingName, key: MeterKey) -> list[SignedValue]:
    """What the meter signed of the session of a reading, from its begin to its end; of the reading alone without one.

    Raises InvalidInput where it signed nothing there.
    """
    rows = [row for row in _rows(data_dir, log, name) if row.evidence is not UNSET]
    named = next((row for row in rows if (row.boot, row.seq) == (name.boot, name.seq)), None)
    if named is None:
        raise InvalidInput(f"the reading {name} carries nothing that its meter signed: ask for the last of its session")
    found: dict[str, SignedValue] = {}
    for row in sorted(rows, key=lambda row: row.observed_at):
        is_of_session = row.session is not UNSET and row.session == named.session
        if row is named or is_of_session:
            text = str(row.evidence)
            context = "Begin" if row.session_start else "End" if row.session_end else "Current"
            found[text] = SignedValue(  # a record of both goes with both rows, and is one of the end
                context=f"Transaction.{context}", ocmf=text, verified=is_verified(text, key)
            )
    return list(found.values())


def write_ocmf(path: Path, session: str, values: list[SignedValue], key: MeterKey) -> None:
    """Writes values for the transparency software. Raises InvalidInput where the file can't be written."""
    public_key = public_key_info(key)
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', "<values>"]
    for value in values:
        lines += [
            f"  <value transactionId={quoteattr(session)} context={quoteattr(value.context)}>",
            f'    <signedData format="OCMF" encoding="plain">{escape(value.ocmf)}</signedData>',
            f'    <publicKey encoding="plain">{public_key}</publicKey>',
            "  </value>",
        ]
    try:
        write_bytes(path, ("\n".join([*lines, "</values>"]) + "\n").encode())
    except OSError as error:
        raise InvalidInput(f"{path} can't be written ({error.strerror}): choose another --ocmf") from None


def _rows(data_dir: Path, log: Log, name: ReadingName) -> Iterator[Reading]:
    """The meter's well-formed rows in the archive."""
    reader = EpochReader(data_dir, log)
    for partition, first_epoch in sorted(reader.first_epochs().items()):
        for epoch in takewhile(partial(_is_published, reader, partition), count(first_epoch)):
            with pq.ParquetFile(epoch_paths(data_dir, log, epoch, partition).archive) as file:
                for batch in file.iter_batches():
                    for record in records_naming(batch, name.machine):
                        rows = (
                            decode_readings(record.value, media_type(record)) if record_type(record) == READING else []
                        )
                        for row in rows if isinstance(rows, list) else []:
                            if row is not None and (row.machine, row.meter) == (name.machine, name.meter):
                                yield row


def _is_published(reader: EpochReader, partition: int, epoch: int) -> bool:
    return reader.manifest(partition, epoch) is not None
