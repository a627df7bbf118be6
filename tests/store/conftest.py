"""Another process that holds the database's locks until it is told to let go."""

import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

_FILE_LOCK = """
import fcntl, os, sys
fd = os.open(sys.argv[1] + ".wlock", os.O_RDWR | os.O_CREAT, 0o600)
fcntl.flock(fd, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""
_WRITE_LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.read()
connection.execute("ROLLBACK")
"""

Hold = Callable[[Path, str], AbstractContextManager[None]]


@contextmanager
def _hold(database: Path, kind: str) -> Generator[None]:
    program = {"file lock": _FILE_LOCK, "write lock": _WRITE_LOCK}[kind]
    with subprocess.Popen(
        [sys.executable, "-c", program, str(database)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        try:
            yield
        finally:
            holder.stdin.close()
            assert holder.wait(10) == 0


@pytest.fixture
def hold() -> Hold:
    """`with hold(database, "file lock" | "write lock"):` another process has it within the block."""
    return _hold


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a test's database is; not there yet."""
    return tmp_path / "codexdb" / "codexdb.sqlite3"
