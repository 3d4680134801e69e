"""Whether a data folder lies on a disk of this machine that has room, asked before anything is started on it."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from schemas.errors import InvalidInput

NEEDED_MB = 300
"""The demo writes 30 MB; where a file system leaves no holes, the indexes that Kafka makes in advance are 260 more."""

_NETWORK = re.compile(r"(fuse\.)?(nfs4?|cifs|smb3?|smbfs|afpfs|webdav|davfs2?|sshfs|afs|ceph|glusterfs|lustre|beegfs)")
_ANOTHER = "name a folder on a disk of this machine with --data-dir or TALLYROOT_DATA_DIR"


def check_disk(folder: Path) -> None:
    """Makes the folder where it isn't there.

    Raises InvalidInput, in one line, if it can't be written, lies on a network drive, or its disk is nearly full.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput(f"can't make {folder} ({error.strerror}): {_ANOTHER}") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InvalidInput(f"{folder} can't be written: {_ANOTHER}")
    kind = file_system(folder, _mounts())
    if _NETWORK.fullmatch(kind):
        raise InvalidInput(f"{folder} is on a network drive ({kind}), where locks do not hold: {_ANOTHER}")
    free_mb = shutil.disk_usage(folder).free >> 20
    if free_mb < NEEDED_MB:
        raise InvalidInput(f"{folder} has room for {free_mb} MB, {NEEDED_MB} MB are needed: make room, or {_ANOTHER}")


def file_system(folder: Path, mounts: str) -> str:
    """The type of file system that a folder is on, by the text of Linux's /proc/mounts or of macOS's `mount`.

    Of mounts on one place the last one counts. Empty where the text names none.
    """
    places: dict[Path, str] = {}
    for line in mounts.splitlines():
        if linux := re.fullmatch(r"\S+ (/\S*) (\S+) \S+ \d+ \d+", line):
            place = re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), linux[1])
            places[Path(place)] = linux[2]
        elif macos := re.fullmatch(r".+? on (/.*) \(([^,)]+).*\)", line):
            places[Path(macos[1])] = macos[2]
    folder = folder.resolve()
    return next((places[place] for place in (folder, *folder.parents) if place in places), "")


def _mounts() -> str:
    linux = Path("/proc/mounts")
    if linux.exists():
        return linux.read_text(encoding="utf-8", errors="replace")
    try:
        done = subprocess.run(["/sbin/mount"], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    except OSError:
        return ""
    return done.stdout.decode("utf-8", "replace")
