"""The system calls that a confined command is refused, as a program for the kernel's filter.

Only numbers of x86_64 and aarch64 are known; elsewhere there is no program, and the callers say what then holds.
"""

import errno
import os
import struct
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

_ALLOW = 0x7FFF0000
_REFUSE = 0x00050000 | errno.EPERM
_KILL = 0x80000000  # the whole process
_AF_UNIX = 1
_X32 = 0x40000000  # the bit that marks calls of the x32 ABI, which have numbers of their own on x86_64

_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16  # offsets in the data that the kernel shows the program
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06


@dataclass(frozen=True, slots=True)
class Machine:
    """The numbers of one kind of machine."""

    arch: int  # as the audit system numbers it
    x32: bool
    refused: tuple[int, ...]  # always, where the network is denied
    unix_only: tuple[int, ...]  # socket and socketpair
    sendto: int
    metadata: tuple[int, ...]  # what changes owner, mode, times and attributes of a file
    mounts: tuple[int, ...]


_IO_URING = (425, 426, 427)  # setup, enter, register: would do the refused calls for us
# open_tree move_mount fsopen fsconfig fsmount fspick mount_setattr open_tree_attr
_NEW_MOUNTS = (428, 429, 430, 431, 432, 433, 442, 467)
MACHINES = {
    "x86_64": Machine(
        arch=0xC000003E,
        x32=True,
        # connect accept accept4 bind listen sendmmsg recvmmsg ptrace
        refused=(42, 43, 288, 49, 50, 307, 299, 101, *_IO_URING),
        unix_only=(41, 53),
        sendto=44,
        # chmod fchmod fchmodat fchmodat2, chown fchown lchown fchownat, utime utimes futimesat utimensat,
        # (l|f)setxattr, (l|f)removexattr, setxattrat removexattrat, file_setattr
        metadata=(90, 91, 268, 452, 92, 93, 94, 260, 132, 235, 261, 280, 188, 189, 190, 197, 198, 199, 463, 466, 469),
        mounts=(165, 166, 155, *_NEW_MOUNTS),  # mount umount2 pivot_root
    ),
    "aarch64": Machine(
        arch=0xC00000B7,
        x32=False,
        refused=(203, 202, 242, 200, 201, 269, 243, 117, *_IO_URING),
        unix_only=(198, 199),
        sendto=206,
        # fchmod fchmodat fchmodat2, fchown fchownat, utimensat, and the attributes as above
        metadata=(52, 53, 452, 55, 54, 88, 5, 6, 7, 14, 15, 16, 463, 466, 469),
        mounts=(40, 39, 41, *_NEW_MOUNTS),
    ),
}


def supported() -> bool:
    """Whether there is a program for this machine."""
    return _machine() is not None


@lru_cache(maxsize=8)
def program(*, network: bool, metadata: bool, mounts: bool) -> bytes | None:
    """The program that refuses what is not allowed, EPERM each time. None: nothing to refuse, or none for this machine.

    `network` False refuses TCP, UDP, and to connect, bind or accept on any socket, `ptrace`, and io_uring. What stays:
    Unix socket pairs, and messages on a socket that is connected already. `metadata` False refuses to change a file's
    mode, owner, times or attributes; `mounts` False to mount and unmount, in any namespace. A process of another
    architecture is killed at its first call.
    """
    machine = _machine()
    if machine is None or (network and metadata and mounts):
        return None
    return b"".join(_program(machine, network=network, metadata=metadata, mounts=mounts))


def _machine() -> Machine | None:
    if sys.platform != "linux" or struct.calcsize("P") != 8:
        return None
    return MACHINES.get(os.uname().machine)


def _program(machine: Machine, *, network: bool, metadata: bool, mounts: bool) -> Iterator[bytes]:
    allowances = ((network, machine.refused), (metadata, machine.metadata), (mounts, machine.mounts))
    refused = [number for allowed, numbers in allowances if not allowed for number in numbers]
    yield _step(_LOAD, _ARCH)
    yield _step(_EQUAL, machine.arch, skip_if=1)
    yield _step(_RETURN, _KILL)
    yield _step(_LOAD, _NUMBER)
    if machine.x32:
        yield from _when(_AT_LEAST, _X32, (_step(_RETURN, _REFUSE),))
    for number in refused:
        yield from _when(_EQUAL, number, (_step(_RETURN, _REFUSE),))
    if not network:
        for number in machine.unix_only:
            yield from _when(_EQUAL, number, _unless_argument(0, _AF_UNIX))
        yield from _when(_EQUAL, machine.sendto, _unless_address(4))
    yield _step(_RETURN, _ALLOW)


def _step(code: int, value: int, *, skip_if: int = 0, skip_else: int = 0) -> bytes:
    return struct.pack("=HBBI", code, skip_if, skip_else, value)


def _when(test: int, value: int, steps: Sequence[bytes]) -> Iterator[bytes]:
    yield _step(test, value, skip_else=len(steps))
    yield from steps


def _unless_argument(index: int, value: int) -> tuple[bytes, ...]:
    """Refuses unless that argument, a C int, has the value."""
    return (
        _step(_LOAD, _ARGUMENTS + 8 * index),
        _step(_EQUAL, value, skip_else=1),
        _step(_RETURN, _ALLOW),
        _step(_RETURN, _REFUSE),
    )


def _unless_address(index: int) -> tuple[bytes, ...]:
    """Refuses where that argument, a pointer, is not null."""
    return (
        _step(_LOAD, _ARGUMENTS + 8 * index),
        _step(_EQUAL, 0, skip_else=3),
        _step(_LOAD, _ARGUMENTS + 8 * index + 4),
        _step(_EQUAL, 0, skip_else=1),
        _step(_RETURN, _ALLOW),
        _step(_RETURN, _REFUSE),
    )
