"""The names of files that applying a patch leaves for a moment, and how those of a killed run are told from live ones.

In each folder it writes to, a run holds a lock file of its own. The kernel drops the lock with the process, however it
ends, and whoever gets it may remove everything of that run. Pids would not do: a sandbox has its own.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import time
from collections.abc import Iterable

from codexdb.domain.limits import PATCH_REMOVAL_MS

_NAME = re.compile(r"\.codexdb-patch-([0-9a-f]{16})\.(?:\d+\.(?:new|old)|lock)")
_POLL_S = 0.01
_LOCK_TRIES_MAX = 10  # a sweep of another run that takes a lock file before we hold it is over at once


def new_run() -> str:
    """A name that no other run has."""
    return secrets.token_hex(8)


def run_of(call: str) -> str:
    """The name of the run that applies the patch of that call, so that whoever finds it killed knows what it left."""
    return hashlib.sha256(call.encode()).hexdigest()[:16]


def path(folder: str, run: str, what: str) -> str:
    """Where that run keeps `what` ("lock", or a number with ".new" or ".old") in that folder."""
    return os.path.join(folder, f".codexdb-patch-{run}.{what}")


def lock(folder: str, run: str) -> int:
    """Take the run's lock in that folder; what it keeps there is safe until the descriptor is closed.

    Raises:
        OSError: nothing can be created there.
    """
    name = path(folder, run, "lock")
    for _ in range(_LOCK_TRIES_MAX):
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with contextlib.suppress(OSError):  # a file system without locks; nobody can sweep there either
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(name), os.fstat(descriptor)):
                return descriptor
        os.close(descriptor)  # swept between the two calls
    raise OSError(f"{name} is removed again and again")


def sweep(folders: Iterable[str]) -> None:
    """Remove from these folders what runs that are no more have left. Fails on nothing; may find nothing to do."""
    for folder in folders:
        for run, names in _found(folder).items():
            _remove_if_dead(folder, run, names)


def remove(folders: Iterable[str], run: str) -> None:
    """Remove what that run has left in these folders, and nothing else. Fails on nothing. One that was killed a moment
    ago is waited for, `PATCH_REMOVAL_MS` at most; what a live one keeps, stays.
    """
    deadline = time.monotonic() + PATCH_REMOVAL_MS / 1000
    for folder in folders:
        while names := _found(folder).get(run):
            _remove_if_dead(folder, run, names)
            if time.monotonic() > deadline:
                break
            time.sleep(_POLL_S)


def _found(folder: str) -> dict[str, list[str]]:
    """The names of what runs keep in that folder, by run."""
    runs: dict[str, list[str]] = {}
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            found = _NAME.fullmatch(entry.name)
            if found is not None and not entry.is_dir(follow_symlinks=False):
                runs.setdefault(found[1], []).append(entry.name)
    return runs


def _remove_if_dead(folder: str, run: str, names: list[str]) -> None:
    name = path(folder, run, "lock")
    try:
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    except OSError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for other in names:
            if other != os.path.basename(name):
                os.unlink(os.path.join(folder, other))
        os.unlink(name)  # last: until then the rest is known to be ours
    except OSError:
        return
    finally:
        os.close(descriptor)
