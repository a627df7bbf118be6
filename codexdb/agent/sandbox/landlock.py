"""Landlock and seccomp, put on the calling thread: what it starts afterwards is held to the confinement, for good.

The kernel keeps both per thread, so a thread of a moment confines a command and leaves the server as it was. No code of
ours runs between fork and exec.

Holds: no write, creation, removal, renaming or truncation outside the roots, no ptrace and no reading of the memory or
environment of processes outside; no mounts; from ABI 6 no signals to processes outside; network as in `seccomp`. Does
not hold: protected names inside a root, and, where there are roots, mode, owner, times and attributes of files outside.
"""

import ctypes
import os
import struct
import sys
from pathlib import Path

from codexdb.agent.sandbox import capabilities, seccomp
from codexdb.agent.sandbox.confinement import Confinement

ABI_MIN = 3  # before it, files outside can be emptied

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same numbers on every machine
_ABI_OF_KERNEL = 1  # flag of the first
_BENEATH_PATH = 1  # type of a rule
_NO_NEW_PRIVILEGES, _SET_SECCOMP, _FILTER = 38, 22, 2  # of prctl

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_MAKE_CHAR, _MAKE_BLOCK = 1 << 6, 1 << 11
_BASE = (1 << 13) - 1
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_READING = _EXECUTE | _READ_FILE | _READ_DIR
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_SCOPED = 3  # abstract Unix sockets, and signals
_IOCTL_ABI, _NETWORK_ABI, _SCOPE_ABI = 5, 4, 6


def abi() -> int:
    """The version of the kernel's Landlock; 0 where there is none, or it is switched off."""
    if sys.platform != "linux":
        return 0
    libc = ctypes.CDLL(None, use_errno=True)
    return max(0, libc.syscall(ctypes.c_long(_CREATE_RULESET), None, ctypes.c_size_t(0), ctypes.c_uint(_ABI_OF_KERNEL)))


def restrict_thread(confinement: Confinement) -> None:
    """Hold this thread, and whatever it starts from now on, to the confinement. Cannot be undone: let the thread end.

    Raises:
        OSError: the kernel has no Landlock, or one too old, or refuses. The thread may be restricted in part.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    kernel = abi()
    if kernel < ABI_MIN:
        raise OSError(f"the kernel's Landlock is version {kernel}, and {ABI_MIN} is needed")
    ruleset = _ruleset(libc, confinement, kernel)
    try:
        _check(
            libc.prctl(_NO_NEW_PRIVILEGES, ctypes.c_ulong(1), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0))
        )
        capabilities.drop(libc)
        _check(libc.syscall(ctypes.c_long(_RESTRICT_SELF), ctypes.c_int(ruleset), ctypes.c_uint(0)))
    finally:
        os.close(ruleset)
    # Where nothing may be written, nothing is lost by refusing to change modes and owners everywhere.
    program = seccomp.program(network=confinement.network, metadata=bool(confinement.writable_roots), mounts=True)
    if program is not None:
        _filter(libc, program)


def _ruleset(libc: ctypes.CDLL, confinement: Confinement, kernel: int) -> int:
    handled = _BASE | _REFER | _TRUNCATE | (_IOCTL_DEV if kernel >= _IOCTL_ABI else 0)
    fields = [handled]
    if kernel >= _NETWORK_ABI:
        fields.append(0)  # ports are seccomp's business
    if kernel >= _SCOPE_ABI:
        fields.append(_SCOPED)
    attributes = struct.pack(f"={len(fields)}Q", *fields)
    made = _check(
        libc.syscall(ctypes.c_long(_CREATE_RULESET), attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint(0))
    )
    try:
        _allow(libc, made, "/", _READING)
        _allow(libc, made, os.devnull, handled)
        for root in confinement.writable_roots:
            _allow(libc, made, root, handled & ~(_MAKE_CHAR | _MAKE_BLOCK))
        if confinement.shared_memory and Path("/dev/shm").is_dir():  # noqa: S108 - not a file of ours
            _allow(libc, made, "/dev/shm", handled & ~(_MAKE_CHAR | _MAKE_BLOCK))  # noqa: S108
    except BaseException:
        os.close(made)
        raise
    return made


def _allow(libc: ctypes.CDLL, ruleset: int, path: str, rights: int) -> None:
    held = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if path != "/" and Path(f"/proc/self/fd/{held}").readlink() != Path(path):
            raise OSError(f"{path} has become a symlink")
        if not Path(path).is_dir():
            rights &= _OF_FILES
        rule = struct.pack("=Qi", rights, held)
        _check(
            libc.syscall(
                ctypes.c_long(_ADD_RULE), ctypes.c_int(ruleset), ctypes.c_int(_BENEATH_PATH), rule, ctypes.c_uint(0)
            )
        )
    finally:
        os.close(held)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_char_p))


def _filter(libc: ctypes.CDLL, steps: bytes) -> None:
    program = _Program(len(steps) // 8, steps)
    _check(
        libc.prctl(_SET_SECCOMP, ctypes.c_ulong(_FILTER), ctypes.byref(program), ctypes.c_ulong(0), ctypes.c_ulong(0))
    )


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
