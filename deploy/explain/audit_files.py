"""Every published file of every epoch against its manifest, and every manifest against the log."""

import re
from collections.abc import Collection, Iterator, Mapping

from deploy.explain.archive_source import manifest_at
from files.foreign import ForeignFiles
from files.read import FileMissing, decode_json
from schemas.errors import InvalidInput
from schemas.manifest import EpochFiles, EpochManifest, epoch_folder
from settlement.audit.verdict import Finding
from streams.storage.pruned import ARCHIVED, PRUNED_FILE, PrunedFiles

PRUNED_BYTES_MAX = 64 << 20
MANIFEST = re.compile(r"([0-9]{1,9})\.manifest\.json")
CURE = "restore it from a copy, or remove the epoch's files and the partition's checkpoint to have them made again"

Digests = Mapping[tuple[int, int], str]
"""By partition and epoch the digest of its manifest by the log, as hex."""


def file_findings(files: ForeignFiles, by_the_log: Digests) -> list[Finding]:
    """What is wrong with the published files of a data folder. Epochs that were not recomputed are held against their
    own manifests alone.
    """
    texts: list[str] = []
    pruned = _pruned(files)
    last: dict[int, int] = {}
    for path in sorted(files.folder.glob("epochs/*/*.manifest.json")):
        name = MANIFEST.fullmatch(path.name)
        if name is None:
            continue
        partition = int(name[1])
        try:
            found = manifest_at(files, path, CURE)
        except InvalidInput as error:
            texts.append(str(error))
            continue
        manifest, before = found.manifest, last.get(partition, found.manifest.epoch - 1)
        if not _belongs(manifest, partition, path.parent.name):
            texts.append(f"{path} is the manifest of another epoch or partition: put it back where it belongs")
            continue
        if manifest.epoch != before + 1:
            texts.append(f"the epochs of partition {partition} before {path.parent.name} are missing: {CURE}")
        last[partition] = manifest.epoch
        if by_the_log.get((partition, manifest.epoch), found.manifest_digest) != found.manifest_digest:
            texts.append(f"{path} is not what the log says: {CURE}")
        texts += _differing(files, found, pruned)
    return [Finding(kind="file", sequence=0, text=text, about="files") for text in texts]


def _pruned(files: ForeignFiles) -> Collection[str]:
    """The archives that the folder says were deleted: they are missing here, and nothing else may be."""
    path = files.folder / PRUNED_FILE
    try:
        content = b"".join(files.chunks(path, PRUNED_BYTES_MAX))
        names = decode_json(content, PrunedFiles, path, what="a list of pruned files", remedy=CURE).files
    except InvalidInput:
        return ()
    return {name for name in names if ARCHIVED.fullmatch(name)}


def _belongs(manifest: EpochManifest, partition: int, folder: str) -> bool:
    try:
        return (manifest.partition, epoch_folder(manifest.start_ms)) == (partition, folder)
    except (ValueError, OverflowError, OSError):  # a moment that no calendar has
        return False


def _differing(files: ForeignFiles, found: EpochFiles, pruned: Collection[str]) -> Iterator[str]:
    for name, digest in found.files.items():
        path = files.folder / name
        try:
            if files.sha256(path) != digest:
                yield f"{path} is not the file that its manifest names: {CURE}"
        except FileMissing as error:
            if name not in pruned:
                yield str(error)
        except InvalidInput as error:
            yield str(error)
