"""Files that somebody names to us, opened without harm to our own.

Closing any descriptor of a file drops all locks that this process has on it, SQLite's among them: another process would
then take the database for unused and remove its log, with every commit that is still to come. So whoever holds such
files says so here, and nobody opens them by a name from outside.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterable

_own: list[Callable[[], Iterable[tuple[int, int]]]] = []

OURS = "it belongs to this server's database"


def keep_off(files: Callable[[], Iterable[tuple[int, int]]]) -> Callable[[], None]:
    """From now on the files that `files()` gives, as (device, inode), are not opened; the result ends that."""
    _own.append(files)
    return lambda: _own.remove(files)


def open_regular(path: str | os.PathLike[str]) -> int:
    """A descriptor to read that file; its caller closes it.

    Raises:
        OSError, ValueError: it cannot be opened, is one of ours, or is no regular file.
    """
    _check(os.stat(path))  # noqa: PTH116 - before it is opened: that alone does something to devices
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)  # a FIFO would wait
    try:
        _check(os.fstat(descriptor))
    except PermissionError:  # the name was turned to ours in between: open it stays, for closing is what does the harm
        raise
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is not a regular file")
    if (status.st_dev, status.st_ino) in {each for files in _own for each in files()}:
        raise PermissionError(errno.EPERM, OURS)
