"""What stands at a path, read with bounds and without being led astray by links, pipes and devices. Writes nothing."""

import errno
import os
import stat
from dataclasses import dataclass, field
from typing import Literal

from codexdb.agent.tools.patch.wording import os_text

NO_FILES: frozenset[tuple[int, int]] = frozenset()


@dataclass(frozen=True, slots=True)
class Image:
    """A path at one instant. Enough to show what changed since, and to bring it back where `content` was kept."""

    kind: Literal["absent", "file", "link"]
    content: bytes | None = None  # of a file, or where a link points; None also where it was too large to keep
    mode: int = 0  # permission bits
    size: int = 0  # bytes, also of what was not kept
    owner: tuple[int, int] | None = field(default=None, compare=False, repr=False)  # user and group
    identity: tuple[int, ...] = field(default=(), compare=False, repr=False)  # changes when somebody else writes

    @property
    def exists(self) -> bool:
        return self.kind != "absent"

    @property
    def kept(self) -> bool:
        return self.kind == "absent" or self.content is not None


ABSENT = Image("absent")


class Unusable(Exception):  # noqa: N818 - `str()` of it ends a sentence for the model
    """Something stands at the path that a patch cannot work on, or nothing can be said about it."""


@dataclass(frozen=True, slots=True)
class Place:
    """A path as a patch gives it, and what it means on this disk now."""

    given: str
    shown: str  # absolute; as events and sentences name it
    entry: str  # absolute, without links in any folder: what deleting removes
    real: str  # absolute, without any links: what writing changes


def place(cwd: str, given: str) -> Place:
    """Where that path leads. Nothing has to exist; `..` is taken as the kernel takes it, after links."""
    full = os.path.join(cwd, given)
    folder, name = os.path.split(full)
    real = os.path.realpath(full)
    entry = real if name in ("", ".", "..") else os.path.join(os.path.realpath(folder), name)
    shown = real if ".." in given.split("/") else os.path.normpath(full)
    return Place(given, shown, entry, real)


def look(path: str, bytes_max: int, keep_off: frozenset[tuple[int, int]] = NO_FILES) -> Image:
    """What stands at that path itself, not where it links to. Content of more than `bytes_max` is not kept.

    Files of `keep_off`, (device, inode) pairs, are not even opened.

    Raises:
        Unusable: a directory, a pipe, a device, a file that cannot be read.
    """
    try:
        status = os.lstat(path)
        if stat.S_ISLNK(status.st_mode):
            target = os.fsencode(os.readlink(path))
            return Image("link", target, 0o777, len(target), _owner(status), _identity(status))
        _check_kind(status, keep_off)
        return _read(path, bytes_max)
    except FileNotFoundError:
        return ABSENT
    except OSError as error:
        raise Unusable(os_text(error)) from error


def _check_kind(status: os.stat_result, keep_off: frozenset[tuple[int, int]]) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "")
    if not stat.S_ISREG(status.st_mode):
        raise Unusable("it is not a regular file")
    if (status.st_dev, status.st_ino) in keep_off:
        raise Unusable("it belongs to this server's database")


def _read(path: str, bytes_max: int) -> Image:
    # Without O_NONBLOCK, a pipe that took the file's place since would hold us up for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise Unusable("it is not a regular file")
        if status.st_size > bytes_max:
            content = None
        else:
            content = file.read(bytes_max + 1)
            content = content if len(content) <= bytes_max else None  # it grows, or is one of /proc
    size = status.st_size if content is None else len(content)
    return Image("file", content, stat.S_IMODE(status.st_mode), size, _owner(status), _identity(status))


def _owner(status: os.stat_result) -> tuple[int, int]:
    return (status.st_uid, status.st_gid)


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
