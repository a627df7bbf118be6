"""Advisory locks on files beside the database. The kernel frees them when their holder dies.

The database file itself is never opened here: closing any descriptor of it would drop SQLite's own POSIX locks.
"""

import fcntl
import os
import time
from pathlib import Path

from codexdb.domain.limits import LOCK_POLL_MS_MAX


class FileLock:
    """An exclusive or shared `flock` on a file of its own, created with mode 0600 where missing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def try_lock(self, *, shared: bool = False) -> bool:
        """Whether we hold the lock now. Never waits."""
        try:
            fcntl.flock(self._fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def lock(self, deadline_ms: int, *, shared: bool = False) -> bool:
        """Wait for the lock, `deadline_ms` milliseconds at most; whether we hold it. Blocks: only for threads."""
        end = time.monotonic() + deadline_ms / 1000
        pause = 0.000_2
        while not self.try_lock(shared=shared):
            left = end - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(pause, left))
            pause = min(pause * 1.5, LOCK_POLL_MS_MAX / 1000)
        return True

    def unlock(self) -> None:
        fcntl.flock(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Let go of the lock, if held, and of the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def beside(database: Path, suffix: str) -> Path:
    """The path of a side file of the database."""
    return database.with_name(database.name + suffix)


class FairLock(FileLock):
    """An exclusive lock that is never taken past somebody who waits: all pass a second lock, held only while waiting.

    Without it, a process that commits again and again lets go for microseconds only, and others find it open by luck.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._turnstile = FileLock(path.with_name(path.name + ".next"))

    def lock(self, deadline_ms: int, *, shared: bool = False) -> bool:
        end = time.monotonic() + deadline_ms / 1000
        if not self._turnstile.lock(deadline_ms):
            return False
        try:
            return super().lock(int(1000 * (end - time.monotonic())), shared=shared)
        finally:
            self._turnstile.unlock()

    def close(self) -> None:
        super().close()
        self._turnstile.close()
