"""Databases on network file systems are refused, by the name of the file system."""

from pathlib import Path

import pytest

from codexdb.domain.errors import StoreRefusedError
from codexdb.store import filesystem
from codexdb.store.revision import prepare

MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / /home rw,relatime shared:2 - nfs4 server:/home rw
31 30 8:2 / /home/local rw - xfs /dev/sdb1 rw
32 22 0:41 / /mnt/two\\040words rw - cifs //server/share rw
33 22 0:42 / /srv rw - ext4 /dev/sdc1 rw
34 22 0:43 / /srv rw - 9p host rw
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/var/lib", "ext4"),
        ("/home/me/.codex", "nfs4"),
        ("/homestead", "ext4"),
        ("/home/local/db", "xfs"),
        ("/mnt/two words/x", "cifs"),
        ("/srv/db", "9p"),
    ],
)
def test_the_innermost_mount_decides(folder: str, kind: str) -> None:
    assert filesystem.kind_of(folder, MOUNTS) == kind


def test_a_database_on_a_network_file_system_is_refused_and_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n23 22 0:1 / {tmp_path} rw - nfs4 server:/x rw\n")
    monkeypatch.setattr(filesystem, "MOUNTS", mounts)
    with pytest.raises(StoreRefusedError, match="network file system \\(nfs4\\)"):
        prepare(tmp_path / "codexdb.sqlite3")
    assert not (tmp_path / "codexdb.sqlite3").exists()
