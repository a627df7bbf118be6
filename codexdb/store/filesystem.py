"""Which file system a database would lie on: WAL needs memory that processes share, and that ends at the machine."""

import os
from pathlib import Path

from codexdb.domain.errors import StoreRefusedError

MOUNTS = Path("/proc/self/mountinfo")  # Linux; elsewhere nothing is known, and nothing refused
NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "ncpfs", "fuse.sshfs"}
)


def refuse_network(path: Path) -> None:
    """Pass where the file would lie on a local file system.

    Raises:
        StoreRefusedError: it would lie on a network file system, where SQLite's WAL loses data.
    """
    try:
        mounts = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return
    kind = kind_of(os.path.realpath(path.parent), mounts)
    if kind in NETWORK:
        raise StoreRefusedError(
            f"The database {path} would lie on a network file system ({kind}), where SQLite cannot keep its promises. "
            "Name a file on a local disk with --db or CODEXDB_DB."
        )


def kind_of(folder: str, mounts: str) -> str:
    """The type of the file system that holds `folder`, out of the text of mountinfo (see proc(5)); "" if unknown."""
    best, kind = "", ""
    for line in mounts.splitlines():
        fields, _, rest = line.partition(" - ")
        words = fields.split(" ")
        if len(words) < 5:
            continue
        point = words[4].encode("utf-8", "surrogateescape").decode("unicode_escape")
        inside = folder == point or folder.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):  # of two on one point the later one hides the earlier
            best, kind = point, rest.split(" ", 1)[0]
    return kind
