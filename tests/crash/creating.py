"""Create databases in `creating.py FOLDER`, killed before the first call into SQLite, the second, and so on.

The nth is `FOLDER/n/codexdb.sqlite3`. Prints how many were killed.
"""

import itertools
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from codexdb.store import revision


def create(path: Path, last: int) -> None:
    """In a process of its own: make the database, but be killed before call number `last`."""
    calls = itertools.count(1)

    def count(_frame: FrameType, event: str, called: Any) -> None:
        """A profile function: sees each call of a built-in function before it happens."""
        if event != "c_call":
            return
        owner = type(getattr(called, "__self__", None)).__module__
        if "sqlite3" in (owner, (called.__module__ or "").lstrip("_")) and next(calls) == last:
            os.kill(os.getpid(), signal.SIGKILL)

    revision.create_directory(path)
    sys.setprofile(count)
    revision.prepare(path)
    os._exit(0)


def main(folder: Path) -> None:
    for number in itertools.count(1):
        child = os.fork()
        if child == 0:
            create(folder / str(number) / "codexdb.sqlite3", number)
        if os.waitpid(child, 0)[1] != signal.SIGKILL:
            sys.stdout.write(str(number - 1))
            return


main(Path(sys.argv[1]))
