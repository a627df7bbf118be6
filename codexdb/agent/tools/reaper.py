"""No command outlives the server that started it, even a server killed with SIGKILL.

Owns one small process per server, started at the first command. It reads registrations from a pipe whose other end
only the server holds; when the kernel closes that end, it kills every command still registered and goes away. A command
is announced *before* it is spawned, by the inodes of its output pipes: on Linux whoever holds one of those is found in
/proc and killed too, so a server that dies between spawning and registering leaves nothing behind. Elsewhere that gap,
a few milliseconds, stays open.

This file is both sides: imported by the server, and run by the reaper process as a script that sees the standard
library only. What would double that script's start (`subprocess`, `dataclasses`, `typing`) is not imported by it.
"""

import contextlib
import itertools
import os
import select
import signal
import sys
import threading
from collections.abc import Iterable, Iterator

TYPE_CHECKING = False  # what `typing` defines; type checkers know the name
if TYPE_CHECKING:
    import subprocess

WRITE_WAIT_MS = 1_000  # for a reaper that does not read its pipe; it is replaced then
EXIT_WAIT_MS = 1_000  # for the reaper's own end, when the server ends
PS_WAIT_S = 5  # on macOS, for `ps`
SCANS_MAX = 50  # of /proc after the server's death; each one kills what forked during the one before


def started_at(pid: int) -> str:
    """When the kernel started that process, as opaque text; "" where there is no such process or it cannot be known.

    Together with the pid it names one process of this boot. Blocks: on macOS it runs `ps`.
    """
    if sys.platform == "linux":
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - pathlib is not worth its import here
                # The command name before the last ")" may hold blanks and brackets; the start time is field 22.
                return file.read().rpartition(b")")[2].split()[19].decode()
        except (OSError, IndexError):
            return ""
    return _started_at_by_ps(pid)


def _started_at_by_ps(pid: int) -> str:
    import subprocess

    environment = {"PATH": "/bin:/usr/bin", "LC_ALL": "C", "TZ": "UTC"}  # the same text whoever asks
    argv = ["ps", "-o", "lstart=", "-p", str(pid)]
    try:
        answer = subprocess.run(argv, env=environment, capture_output=True, check=False, timeout=PS_WAIT_S)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stdout.decode(errors="replace").strip()


def kill_group(pgid: int, number: int) -> None:
    """Send the signal to every process of the group; one that is gone, or only a zombie, is no error."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pgid, number)


# -- the server's side ---------------------------------------------------------------------------------------------


class Reaper:
    """Keeps the reaper process running and told. Safe to call from any thread; blocks for microseconds as a rule."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._keys = itertools.count(1)
        self._lines: dict[int, bytes] = {}  # of every open registration, to be repeated to a new process
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe = -1

    @property
    def pid(self) -> int | None:
        """Of the reaper process, once one was started."""
        return None if self._process is None else self._process.pid

    @property
    def registered(self) -> int:
        """How many commands the server's death would take along."""
        return len(self._lines)

    def announce(self, pipes: Iterable[int]) -> int:
        """Say that a command is about to be spawned that holds these pipes. Returns the key of the registration.

        Raises:
            OSError: there is no reaper and none can be started. Spawn nothing then.
        """
        inodes = " ".join(str(os.fstat(fd).st_ino) for fd in pipes)
        with self._lock:
            key = next(self._keys)
            self._tell(key, f"pipes {key} {inodes}\n".encode())
        return key

    def register(self, key: int, pgid: int, leader_started_at: str) -> None:
        """Say which process group the announced command leads.

        Raises:
            OSError: as in `announce`. Kill the group then.
        """
        with self._lock:
            self._tell(key, f"group {key} {pgid} {leader_started_at}\n".encode())

    def forget(self, key: int) -> None:
        """The command and its group are gone, or were never spawned."""
        with self._lock:
            self._lines.pop(key, None)
            # A reaper that cannot be told is replaced at the next command, and does not hear of this one.
            with contextlib.suppress(OSError):
                self._write(f"end {key}\n".encode())

    def close(self) -> None:
        """Let the process go; it kills what is still registered. Blocks until it is gone, a second at most."""
        import subprocess

        with self._lock:
            self._close_pipe()
            if self._process is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(EXIT_WAIT_MS / 1000)
                self._process = None

    def _tell(self, key: int, line: bytes) -> None:
        self._lines[key] = self._lines.get(key, b"") + line
        try:
            self._write(line)
        except OSError:
            try:
                self._restart()
            except OSError:
                del self._lines[key]
                raise

    def _restart(self) -> None:
        import subprocess

        if self._process is not None:
            self._process.kill()  # before its pipe closes, or it would take our death for granted
            self._process.wait()
            self._process = None
        self._close_pipe()
        read_end, self._pipe = os.pipe()
        try:
            os.set_blocking(self._pipe, False)
            argv = [sys.executable, "-I", "-S", __file__]
            # In a session of its own, since clients kill the whole group of a server they are done with.
            self._process = subprocess.Popen(  # noqa: S603
                argv,
                stdin=read_end,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
            )
        finally:
            os.close(read_end)
        self._write(b"".join(self._lines.values()))

    def _write(self, data: bytes) -> None:
        if self._pipe < 0:
            raise BrokenPipeError
        while data:
            try:
                data = data[os.write(self._pipe, data) :]
            except BlockingIOError:
                poll = select.poll()
                poll.register(self._pipe, select.POLLOUT)
                if not poll.poll(WRITE_WAIT_MS):
                    raise

    def _close_pipe(self) -> None:
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1


# -- the reaper process --------------------------------------------------------------------------------------------


_Pipes = dict[str, set[str]]  # by registration, as /proc shows them
_Groups = dict[str, tuple[int, str]]  # by registration: the group, and when its leader was started


def _read(lines: Iterable[bytes]) -> tuple[_Pipes, _Groups]:
    """What is still registered when the lines end."""
    pipes: _Pipes = {}
    groups: _Groups = {}
    for line in lines:
        if not line.endswith(b"\n"):
            break  # cut off by the server's death; half a number would be another number
        verb, key, *rest = line.decode().strip().split(maxsplit=3)
        if verb == "pipes":
            pipes[key] = {f"pipe:[{inode}]" for inode in rest}
        elif verb == "group":
            groups[key] = (int(rest[0]), rest[1] if len(rest) > 1 else "")
        else:
            pipes.pop(key, None)
            groups.pop(key, None)
    return pipes, groups


def _kill(pipes: _Pipes, groups: _Groups) -> None:
    for pgid, leader_started_at in groups.values():
        # While members of a group live, its number is not given to a new process; so a leader that is gone, or that is
        # the one we knew, vouches for the group.
        if not leader_started_at or started_at(pgid) in ("", leader_started_at):
            kill_group(pgid, signal.SIGKILL)
    held = set[str]().union(*pipes.values())
    for _ in range(SCANS_MAX if held else 0):
        holders = list(_holders(held))
        for pid in holders:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not holders:
            return


def _holders(pipes: set[str]) -> Iterator[int]:
    """The processes of this user that hold one of these pipes. None where there is no /proc."""
    for name in _names("/proc"):
        if name.isdigit():
            fds = f"/proc/{name}/fd"
            if any(_link(f"{fds}/{fd}") in pipes for fd in _names(fds)):
                yield int(name)


def _names(path: str) -> list[str]:
    try:
        return os.listdir(path)  # noqa: PTH208 - pathlib is not worth its import here
    except OSError:
        return []


def _link(path: str) -> str:
    try:
        return os.readlink(path)  # noqa: PTH115 - pathlib is not worth its import here
    except OSError:
        return ""


def main() -> None:
    """Run until the server closes its end of the pipe on our stdin, however that comes about."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # it goes when the server goes, and not before
    _kill(*_read(sys.stdin.buffer))


if __name__ == "__main__":
    main()
