"""The rights of root that a confined command keeps, where the server runs as root.

With all of them a sandbox would be a request: root remounts what is read-only, opens files by their handle through any
mount, and writes to disks. Kept is what installing and testing software as root needs.
"""

import ctypes
import os

KEPT = {
    "CAP_CHOWN": 0,
    "CAP_DAC_OVERRIDE": 1,
    "CAP_FOWNER": 3,
    "CAP_FSETID": 4,
    "CAP_KILL": 5,
    "CAP_SETGID": 6,
    "CAP_SETUID": 7,
    "CAP_NET_BIND_SERVICE": 10,
}

_VERSION = 0x20080522  # of the kernel's interface: two words for each set


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def drop(libc: ctypes.CDLL) -> None:
    """Take everything that is not `KEPT` from this thread. `libc` keeps errno.

    For good, and for all that it starts, if the thread may get no new privileges: starting a program as root then gives
    nothing back.

    Raises:
        OSError: the kernel refuses.
    """
    header, sets = _Header(_VERSION, 0), (_Sets * 2)()
    _check(libc.capget(ctypes.byref(header), sets))
    for word, each in enumerate(sets):
        mask = sum(1 << (number % 32) for number in KEPT.values() if number // 32 == word)
        each.effective &= mask
        each.permitted &= mask
        each.inheritable &= mask
    _check(libc.capset(ctypes.byref(header), sets))


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
