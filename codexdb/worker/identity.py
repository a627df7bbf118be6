"""Who this process is, in terms that outlive it."""

import os
import sys
from pathlib import Path

import codexdb
from codexdb.agent.tools.reaper import started_at
from codexdb.domain.ids import new_id
from codexdb.domain.worker import WorkerIdentity


def own_identity(codex_home: Path) -> WorkerIdentity:
    """This process as a worker. Unknown parts are empty text; they then match nothing but themselves."""
    return WorkerIdentity(
        public_id=new_id(),
        pid=os.getpid(),
        pid_started_at=started_at(os.getpid()),
        boot_id=_read("/proc/sys/kernel/random/boot_id"),
        pid_namespace=_namespace(),
        uid=os.getuid(),
        codex_home=str(codex_home),
        version=codexdb.__version__,
    )


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return sys.platform
