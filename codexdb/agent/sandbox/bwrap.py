"""bubblewrap: a command in mount, process, IPC and (with no network) network namespaces of its own.

Holds: no write outside the roots, nor to protected names that exist inside them; no sight of other processes; devices
and `/dev/shm` of its own; no mounts; everything ends with the command. With no network, `seccomp` denies Unix sockets
too, since their paths lead out of any namespace. On a machine that `seccomp` does not know, these stay reachable, and a
command that is root, or owns its control group, can mount that and end the server.

Does not hold: a protected name that is not there can be made. And the kernel ends a command that a signal ended with
bubblewrap's exit code, 128 and the signal's number, as a shell would.
"""

import os
import shutil
import signal
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from codexdb.agent.sandbox import capabilities, seccomp
from codexdb.agent.sandbox.confinement import Confinement, within

_POINTER_BYTES_MAX = 4096  # of a `.git` file: one path
_OWN = ("/dev", "/proc")  # never the machine's own


def program() -> str | None:
    """Where bubblewrap is, by this process's PATH."""
    return shutil.which("bwrap")


def filter_fd(confinement: Confinement) -> int | None:
    """A file in memory with the seccomp program, to be read once and closed by the caller. None: there is none."""
    # In a user namespace of its own a command could mount: control groups, for one, and so freeze or kill the server.
    steps = seccomp.program(network=confinement.network, metadata=True, mounts=False)
    if steps is None:
        return None
    fd = os.memfd_create("seccomp")
    os.write(fd, steps)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def arguments(bwrap: str, argv: Sequence[str], cwd: str, confinement: Confinement, filter_: int | None) -> list[str]:
    """The command line that runs `argv` in `cwd` under the confinement."""
    line = [bwrap, *_mounts(cwd, confinement), "--unshare-pid", "--unshare-ipc", "--die-with-parent"]
    if not confinement.network:
        line.append("--unshare-net")
    if os.geteuid() == 0:
        line += ["--cap-drop", "ALL", *(word for name in capabilities.KEPT for word in ("--cap-add", name))]
    if filter_ is not None:
        line += ["--seccomp", str(filter_)]
    return [*line, "--chdir", cwd, "--", *argv]


def _mounts(cwd: str, confinement: Confinement) -> Iterator[str]:
    roots = confinement.writable_roots
    yield from ("--bind" if "/" in roots else "--ro-bind", "/", "/")
    yield from _binds("--bind", (root for root in roots if root != "/" and not _inside(root, _OWN)))
    # Without the remount, root could write the kernel's settings, which are owned and not a matter of capabilities.
    yield from ("--dev", "/dev", "--proc", "/proc", "--remount-ro", "/proc")
    if within(cwd, "/dev") and cwd != "/dev":
        yield from ("--ro-bind", cwd, cwd)
    yield from _binds("--bind", (root for root in roots if root != "/dev" and within(root, "/dev")))
    yield from _binds("--ro-bind", sorted({path for root in roots for path in _protected(root, confinement)}))
    if not confinement.shared_memory:
        yield from ("--remount-ro", "/dev")


def _binds(option: str, paths: Iterable[str]) -> Iterator[str]:
    for path in paths:
        yield from (option, path, path)


def _inside(path: str, roots: Iterable[str]) -> bool:
    return any(within(path, root) for root in roots)


def _protected(root: str, confinement: Confinement) -> Iterator[str]:
    for name in confinement.protected:
        path = Path(root, name)
        for real in (_real(path), _git_directory(path) if path.is_file() else None):
            if real is not None and _inside(real, confinement.writable_roots):
                yield real


def _real(path: Path) -> str | None:
    with suppress(OSError):
        return str(path.resolve(strict=True))
    return None


def _git_directory(pointer: Path) -> str | None:
    """What a `.git` file of a worktree or a submodule names: the repository whose hooks its owner runs."""
    with suppress(OSError, ValueError):
        with pointer.open("rb") as file:
            text = file.read(_POINTER_BYTES_MAX).decode()
        if text.startswith("gitdir:"):
            directory = pointer.parent / text.removeprefix("gitdir:").strip()
            common = directory / "commondir"
            return _real(directory / common.read_text().strip() if common.is_file() else directory)
    return None


# -- ending ----------------------------------------------------------------------------------------------------------


def ask_to_end(leader: int) -> None:
    """Send SIGTERM to the group of `leader`, a bubblewrap, but not to itself: its end is SIGKILL for everything inside.

    A process that is forked meanwhile may be passed over. Reads /proc; blocks for some milliseconds.
    """
    for name in os.listdir("/proc"):  # noqa: PTH208 - a thousand Path objects for nothing
        if name.isdigit() and int(name) != leader and _group(int(name)) == leader:
            with suppress(OSError):
                held = os.pidfd_open(int(name))
                try:
                    if _group(int(name)) == leader:  # so it was this one that was opened
                        signal.pidfd_send_signal(held, signal.SIGTERM)
                finally:
                    os.close(held)


def _group(pid: int) -> int:
    with suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[2])
    return -1
