"""On what disk a data folder is: network drives, by the tables of Linux and macOS, and disks that are nearly full."""

from pathlib import Path

import pytest

from deploy.stack import disk
from deploy.stack.disk import check_disk, file_system
from deploy.stack.servers import STACK_FILE, Stack
from schemas.errors import InvalidInput

LINUX = r"""
sysfs /sys sysfs rw,nosuid 0 0
/dev/vda1 / ext4 rw,relatime 0 0
filer:/export/all /shared nfs4 rw,vers=4.2,addr=10.0.0.1 0 0
/dev/vdb1 /shared/local xfs rw 0 0
//nas/share /mnt/with\040space\134 cifs rw,vers=3.0 0 0
ann@host:/data /mnt/ssh fuse.sshfs rw,user_id=0 0 0
tmpfs /over nfs rw 0 0
tmpfs /over tmpfs rw 0 0
"""
MACOS = """
/dev/disk3s1s1 on / (apfs, sealed, local, read-only, journaled)
/dev/disk3s5 on /System/Volumes/Data (apfs, local, journaled, nobrowse)
//ann@nas._smb._tcp.local/share on /Volumes/share (1) (smbfs, nodev, nosuid, mounted by ann)
filer:/all on /Network/ann (nfs, nodev)
map auto_home on /System/Volumes/Data/net (autofs, automounted)
"""


@pytest.mark.parametrize(
    ("mounts", "folder", "kind"),
    [
        (LINUX, "/var/data", "ext4"),
        (LINUX, "/shared/ann/data", "nfs4"),
        (LINUX, "/shared/local/data", "xfs"),
        (LINUX, "/shareds/ann", "ext4"),
        (LINUX, "/mnt/with space\\/a", "cifs"),
        (LINUX, "/mnt/ssh", "fuse.sshfs"),
        (LINUX, "/over/it", "tmpfs"),
        (MACOS, "/opt/data", "apfs"),
        (MACOS, "/Volumes/share (1)/data", "smbfs"),
        (MACOS, "/Network/ann/data", "nfs"),
        ("", "/anywhere", ""),
        ("what is this", "/anywhere", ""),
    ],
)
def test_a_folder_s_file_system_is_that_of_the_nearest_mount(mounts: str, folder: str, kind: str) -> None:
    assert file_system(Path(folder), mounts) == kind


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "afpfs", "webdav"])
def test_no_server_is_started_on_a_network_drive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(disk, "_mounts", lambda: f"server:/x {tmp_path.resolve()} {kind} rw 0 0\n")
    with pytest.raises(InvalidInput, match=rf"is on a network drive \({kind}\), .* TALLYROOT_DATA_DIR") as caught:
        Stack.start(tmp_path / "data", kafka_bootstrap_servers="broker:9092", chain_rpc_url="http://chain:8545")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "data" / STACK_FILE).exists()


def test_a_folder_that_can_t_be_made_or_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInput, match=r"can't make .*/file/data \(Not a directory\): name a folder"):
        check_disk(tmp_path / "file" / "data")
    with pytest.raises(InvalidInput, match=r"can.t make /proc/1/data"):
        check_disk(Path("/proc/1/data"))


def test_this_machine_s_own_disk_is_fit(tmp_path: Path) -> None:
    check_disk(tmp_path)


def test_a_disk_without_room_is_told_with_both_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "NEEDED_MB", 1 << 40)
    with pytest.raises(InvalidInput, match=r"has room for \d+ MB, 1099511627776 MB are needed: make room, or name"):
        check_disk(tmp_path)
