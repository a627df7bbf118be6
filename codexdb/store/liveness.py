"""Proof of life: each worker holds a lock on a file of its own. The kernel frees it when the process dies, however it
dies.
"""

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from codexdb.store.locks import FileLock, beside


def _directory(database: Path) -> Path:
    return beside(database, ".workers")


def hold(database: Path, worker_id: str) -> FileLock:
    """Create and lock this worker's file. To be done before the worker's row is written, and kept for its life."""
    directory = _directory(database)
    directory.mkdir(mode=0o700, exist_ok=True)
    lock = FileLock(directory / f"{worker_id}.lock")
    if not lock.try_lock():
        raise RuntimeError(f"somebody else holds {lock.path}")
    return lock


def prove_dead(database: Path, worker_id: str) -> bool | None:
    """Whether that worker's process is gone. None where its file is missing, which proves nothing: a copy of a database
    has none, and somebody may have tidied up.
    """
    try:
        fd = os.open(_directory(database) / f"{worker_id}.lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


def show_life(database: Path, worker_id: str) -> None:
    """Note the time on this worker's file. By the wall clock: the monotonic one stands still on a machine asleep."""
    with suppress(OSError):  # somebody may have tidied up
        os.utime(_directory(database) / f"{worker_id}.lock")


def seen_at_ms(database: Path, worker_id: str) -> int:
    """When that worker showed its life last; 0 where that is not known."""
    try:
        return (_directory(database) / f"{worker_id}.lock").stat().st_mtime_ns // 1_000_000
    except OSError:
        return 0


def forget(database: Path, worker_id: str) -> None:
    """Remove the file of a worker that has stopped, or was proven dead."""
    (_directory(database) / f"{worker_id}.lock").unlink(missing_ok=True)
