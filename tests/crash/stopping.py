"""Stops a server where it stands, with no lock of the database in its hand: nobody else could write then."""

import signal
from pathlib import Path

from codexdb.store.locks import FileLock, beside
from codexdb.testing.server_process import ServerProcess

LOCK_MS = 10_000


def stop(server: ServerProcess, database: Path) -> None:
    """SIGSTOP, while we hold what whoever writes has to hold."""
    locks = [FileLock(beside(database, suffix)) for suffix in (".wlock.next", ".wlock")]
    try:
        assert all(lock.lock(LOCK_MS) for lock in locks)
        server.signal(signal.SIGSTOP)
    finally:
        for lock in locks:
            lock.close()
