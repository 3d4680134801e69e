"""A receipt of one reading: its verdict and why, and the proof that the log held it. It reads the archive alone.

A reading is named by (machine, meter, boot, seq) and may stand in the log many times. Each place gets its verdict from
the real core, by a replay of the partition's archived records up to that place. The archive is first compared with the
log roots in the manifests, so the verdict follows from records that can be proven one by one.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import UNSET, Struct

from deploy.cli.terminal import Terminal
from deploy.data_folder import DataFolder
from deploy.explain.ocmf_receipt import SignedValue, session_values, write_ocmf
from deploy.explain.reading_rows import ReadingName, records_naming, rows_of
from deploy.texts import moment_text
from files.write import write_json
from schemas.canonical import chain_digest
from schemas.errors import InvalidInput, InvariantBroken
from schemas.log import Log
from schemas.manifest import EpochManifest, epoch_folder
from schemas.reading import Reading
from schemas.registration import MeterKey
from schemas.reject import WHOLE_RECORD, Reason
from settlement.storage.published_epochs import EpochReader
from streams.core.kernel.compiled import interpret_if_few
from streams.core.log_root import ChunkProof
from streams.core.records import LogRecord, Record
from streams.core.state import State
from streams.storage.archive import archive_leaves, chunk_proof, read_archive
from streams.storage.epoch_files import epoch_paths, read_windows

if TYPE_CHECKING:
    from streams.core.replay import RowChange, WindowChange

NOT_ITS_MANIFEST_S = "isn't what its manifest says: restore it, or look at `tallyroot audit`"


class Billed(Struct, frozen=True):
    """Usage in the meter's unit at a price: micros for every `per` units, or (per 0) for each session."""

    registration_version: int
    usage: int
    price_micros: int
    per: int


class WindowOfReading(Struct, frozen=True, kw_only=True):
    """The window that an accepted reading lies in, and what it added there.

    Times are epoch ms. `digest` and `manifest_digest` (hex) are those of the sealed window and of its epoch, None while
    that epoch hasn't ended.
    """

    start_ms: int
    end_ms: int
    adjusts_ms: int | None
    billed: tuple[Billed, ...]
    epoch: str
    digest: str | None
    manifest_digest: str | None


class ReadingPlace(Struct, frozen=True, kw_only=True):
    """One place of the log where the reading stands. `proof` is the place of its proof among the receipt's.

    `row` counts from 0 in the record; -1 where the record was refused as a whole.
    """

    partition: int
    offset: int
    row: int
    logged_ms: int
    verdict: Literal["accepted", "duplicate", "rejected"]
    reason: Reason | None
    window: WindowOfReading | None
    proof: int
    session: str | None
    meter_key: MeterKey | None


class LogProof(Struct, frozen=True, kw_only=True):
    """That a chunk's records were in the log; all bytes are hex.

    `chunk` holds the records (see streams.core.log_root), `path` leads from its leaf, number `index` of `leaves`, to
    `log_root`, which stands in the manifest of that epoch and partition.
    """

    partition: int
    epoch: str
    manifest_digest: str
    log_root: str
    index: int
    leaves: int
    path: tuple[str, ...]
    chunk: str

    def records(self) -> list[Record]:
        """The chunk's records. Raises InvalidInput where the proof doesn't lead to `log_root`."""
        try:
            path = tuple(bytes.fromhex(part) for part in self.path)
            proven = ChunkProof(chunk=bytes.fromhex(self.chunk), index=self.index, leaves=self.leaves, path=path)
        except ValueError:
            raise InvalidInput("the receipt holds text that is not hex: take the file as it was written") from None
        if proven.root().hex() != self.log_root:
            raise InvalidInput(f"the chunk isn't under the log root {self.log_root}: ask for the receipt again")
        return proven.records()


class ReadingReceipt(Struct, frozen=True, kw_only=True):
    """The verdict on a reading: accepted if it is accepted at any place, else the verdict at its first place.

    `meter_key` is its meter's, by the version in force at its moment; `signed_values` what that meter signed of its
    session, where it was asked for.
    """

    log_id: str
    reading: ReadingName
    verdict: Literal["accepted", "duplicate", "rejected"]
    reason: Reason | None
    places: tuple[ReadingPlace, ...]
    proofs: tuple[LogProof, ...]
    session: str | None
    meter_key: MeterKey | None
    signed_values: tuple[SignedValue, ...] = ()


def receipt(place: DataFolder, terminal: Terminal, name: ReadingName, out: Path | None, ocmf: Path | None) -> None:
    """Shows the receipt of a reading and, with `out`, writes it with its proofs to a file; with `ocmf`, what its meter
    signed of its session, to another.
    """
    place.whole_archive()
    found = find_reading(place.data_dir, place.log(), name)
    if ocmf is not None:
        found = _with_signed_values(place, found, ocmf)
    because = f", {found.reason}" if found.reason else ""
    terminal.say(f"reading {name}: {found.verdict}{because}")
    terminal.table(
        "where it stands in the log",
        ["partition", "offset", "row", "logged", "verdict", "reason"],
        [(p.partition, p.offset, p.row, moment_text(p.logged_ms), p.verdict, p.reason) for p in found.places],
    )
    for each in found.places:
        if each.window is not None:
            _show_window(terminal, each.window)
    for proof in found.proofs:
        terminal.say(
            f"proof: chunk {proof.index + 1} of {proof.leaves} under the log root 0x{proof.log_root}"
            f" of epoch {proof.epoch}, partition {proof.partition}, manifest 0x{proof.manifest_digest}"
        )
    for value in found.signed_values:
        verdict = "verifies under the meter's key" if value.verified else "does NOT verify under the meter's key"
        terminal.say(f"{value.context}: {verdict}")
    if ocmf is not None:
        terminal.say(f"what the meter signed was written to {ocmf}: open it with the transparency software")
    if out is not None:
        try:
            write_json(out, found, indent=1)
        except OSError as error:
            raise InvalidInput(f"{out} can't be written ({error.strerror}): choose another --out") from None
        terminal.say(f"written to {out}")
    terminal.result(found)


def _with_signed_values(place: DataFolder, found: ReadingReceipt, path: Path) -> ReadingReceipt:
    """The receipt with what the meter signed, which is written to `path` too."""
    if found.meter_key is None:
        raise InvalidInput(
            f"the registration of {found.reading.machine} names no key of its meter {found.reading.meter}: write it as"
            " `signed_by`"
        )
    values = session_values(place.data_dir, place.log(), found.reading, found.meter_key)
    write_ocmf(path, found.session or str(found.reading.seq), values, found.meter_key)
    return msgspec.structs.replace(found, signed_values=tuple(values))


def _show_window(terminal: Terminal, window: WindowOfReading) -> None:
    adjusts = "" if window.adjusts_ms is None else f", an adjustment of that of {moment_text(window.adjusts_ms)}"
    terminal.say(f"window: {moment_text(window.start_ms)}{adjusts}")
    if not window.billed:
        terminal.say("  it bills nothing")
    for line in window.billed:
        each = f"per {line.per}" if line.per else "per session"
        terminal.say(
            f"  it bills {line.usage} at {line.price_micros} micros {each} (registration {line.registration_version})"
        )
    if window.digest is None:
        terminal.say(f"  epoch {window.epoch} has not ended yet: the window has no final digest")
    else:
        terminal.say(f"  window digest 0x{window.digest}, epoch {window.epoch}, manifest 0x{window.manifest_digest}")


def find_reading(data_dir: Path, log: Log, name: ReadingName) -> ReadingReceipt:
    """The receipt of a reading, from the archive of a data folder. All partitions are looked through.

    Those that hold it are replayed up to it: interpreted where that is little, else by the compiled loops.
    Raises InvalidInput where the reading is nowhere, and where an archive can't be read or isn't its manifest's.
    """
    places: list[ReadingPlace] = []
    proofs: list[LogProof] = []
    try:
        first_epochs = sorted(EpochReader(data_dir, log).first_epochs().items())
        archives = [_Archive(data_dir, log, partition, epoch, name) for partition, epoch in first_epochs]
        interpret_if_few(sum(archive.replayed_entries for archive in archives))
        for archive in archives:
            for place, proof in archive.places():
                if proof not in proofs:
                    proofs.append(proof)
                places.append(msgspec.structs.replace(place, proof=proofs.index(proof)))
    except (pa.ArrowException, OSError) as error:
        line = str(error).splitlines()[0]
        raise InvalidInput(f"the archive in {data_dir} can't be read ({line}): restore it from a copy") from None
    if not places:
        raise InvalidInput(
            f"no reading {name} in the archive of {data_dir}: check its four parts, or wait until its epoch has ended"
        )
    main = next((place for place in places if place.verdict == "accepted"), places[0])
    return ReadingReceipt(
        log_id=log.log_id,
        reading=name,
        verdict=main.verdict,
        reason=main.reason,
        places=tuple(places),
        proofs=tuple(proofs),
        session=main.session,
        meter_key=main.meter_key,
    )


class _Archive:
    """The archived epochs of one partition, asked for one reading."""

    def __init__(self, data_dir: Path, log: Log, partition: int, first_epoch: int, name: ReadingName) -> None:
        self._data_dir = data_dir
        self._log = log
        self._partition = partition
        self._name = name
        self._manifests: dict[int, EpochManifest] = {}
        reader = EpochReader(data_dir, log)
        while (manifest := reader.manifest(partition, first_epoch)) is not None:
            self._manifests[first_epoch] = manifest
            first_epoch += 1
        self._rows_at = self._rows_by_offset()

    @property
    def replayed_entries(self) -> int:
        """How many entries are in the epochs up to the one that holds the reading last; 0 where none does."""
        last = max(self._rows_at, default=-1)
        return sum(manifest.counts.entries for manifest in self._manifests.values() if manifest.first_offset <= last)

    def places(self) -> Iterator[tuple[ReadingPlace, LogProof]]:
        """Where the reading stands, by offset and row, each with its proof; `proof` in a place is still 0."""
        rows_at = self._rows_at
        if not rows_at:
            return
        from streams.core.replay import judge_watched, replay

        state = State.new(self._log, self._partition)
        for stop in replay(state, self._records(max(rows_at)), lambda record: record.offset in rows_at):
            if (record := stop.record) is None:
                continue
            changes = judge_watched(state, record, (self._name.machine,))
            proof = self._proof(record.offset)
            for change in changes:
                if change.row in rows_at[record.offset] or change.row == WHOLE_RECORD:
                    yield self._place(state, record, change), proof

    def _rows_by_offset(self) -> dict[int, list[int]]:
        """The rows in which the reading stands, well formed or not."""
        found: dict[int, list[int]] = {}
        for epoch in self._manifests:
            with pq.ParquetFile(self._path(epoch)) as file:
                for batch in file.iter_batches():
                    for record in records_naming(batch, self._name.machine):
                        rows = rows_of(record, self._name)
                        if rows:
                            found[record.offset] = rows
        return found

    def _records(self, last: int) -> Iterator[Record]:
        """The records up to the offset `last`, each epoch's archive compared with its log root before it is read."""
        for epoch, manifest in self._manifests.items():
            if manifest.first_offset > last:
                return
            path = self._path(epoch)
            if archive_leaves(path)[0].hex() != manifest.log_root:
                raise InvalidInput(f"{path} {NOT_ITS_MANIFEST_S}")
            yield from (record for record in read_archive(path) if record.offset <= last)

    def _place(self, state: State, record: LogRecord, change: "RowChange") -> ReadingPlace:
        reading, meter = change.entry, None
        if isinstance(reading, Reading) and reading.machine in state.machines:
            meter = state.machines[reading.machine].version_at(reading.moment_ms).meters.get(reading.meter)
        named = isinstance(reading, Reading) and reading.session is not UNSET
        return ReadingPlace(
            session=str(reading.session) if named and isinstance(reading, Reading) else None,
            meter_key=None if meter is None or meter.meter_key is UNSET else meter.meter_key,
            partition=self._partition,
            offset=record.offset,
            row=change.row,
            logged_ms=record.timestamp,
            verdict=change.verdict,
            reason=change.reason,
            window=None if change.window is None else self._window(change.window),
            proof=0,
        )

    def _window(self, change: "WindowChange") -> WindowOfReading:
        epoch = self._log.epoch_of(change.start_ms)
        manifest = self._manifests.get(epoch)
        return WindowOfReading(
            start_ms=change.start_ms,
            end_ms=change.start_ms + self._log.window_ms,
            adjusts_ms=change.adjusts_ms,
            billed=tuple(
                Billed(line.registration_version, line.usage, line.price_micros, line.per) for line in change.lines
            ),
            epoch=epoch_folder(self._log.epoch_span(epoch)[0]),
            digest=None if manifest is None else self._window_digest(manifest, change),
            manifest_digest=None if manifest is None else manifest.digest().hex(),
        )

    def _window_digest(self, manifest: EpochManifest, change: "WindowChange") -> str:
        """The digest of the sealed window, from a list that is compared with the manifest."""
        paths = epoch_paths(self._data_dir, self._log, manifest.epoch, self._partition)
        windows = read_windows(paths)
        sealed = {(window.machine, window.start_ms, window.adjusts_ms): window.digest for window in windows}
        digest = sealed.get((self._name.machine, change.start_ms, change.adjusts_ms))
        if chain_digest("windows 1", sealed.values()).hex() != manifest.windows_digest or digest is None:
            raise InvalidInput(f"{paths.table('windows')} {NOT_ITS_MANIFEST_S}")
        return digest.hex()

    def _proof(self, offset: int) -> LogProof:
        epoch, manifest = next(
            (epoch, manifest) for epoch, manifest in self._manifests.items() if offset < manifest.next_offset
        )
        found = chunk_proof(self._path(epoch), offset)
        proof = LogProof(
            partition=self._partition,
            epoch=epoch_folder(manifest.start_ms),
            manifest_digest=manifest.digest().hex(),
            log_root=manifest.log_root,
            index=found.index,
            leaves=found.leaves,
            path=tuple(part.hex() for part in found.path),
            chunk=found.chunk.hex(),
        )
        if all(record.offset != offset for record in proof.records()):
            raise InvariantBroken(f"the proof of offset {offset} of partition {self._partition} is of other records")
        return proof

    def _path(self, epoch: int) -> Path:
        path = epoch_paths(self._data_dir, self._log, epoch, self._partition).archive
        if not path.is_file():
            raise InvalidInput(f"the archive {path} is missing: restore it")
        return path
