"""One command of the model as a process: spawned into its own session, read without a hold-up, and surely ended.

Owns the life of the process group; what the output means, and how much of it is kept, is the caller's. Descendants that
leave the group (a daemon that calls `setsid`) are beyond its reach, and never hold up a call.
"""

import atexit
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread

from codexdb.agent.sandbox.bwrap import ask_to_end
from codexdb.agent.sandbox.confinement import Backend, Confinement
from codexdb.agent.sandbox.launch import launch
from codexdb.agent.tools.reaper import Reaper, kill_group, started_at
from codexdb.domain import limits

CANCEL_GRACE_MS = 300  # between SIGTERM and SIGKILL when the turn or the server ends; clients wait two seconds in all
REAP_MS = 1_000  # after SIGKILL; a process stuck in the kernel longer than that is left to the reaper

reaper = Reaper()
"""One for the whole server; it starts its process at the first command."""
atexit.register(reaper.close)

OnChunk = Callable[[str, bytes], None]
"""Called with "stdout" or "stderr" and 1 to `limits.READ_CHUNK_BYTES` bytes. Nothing is read while it runs."""


class SpawnFailed(Exception):  # noqa: N818 - an outcome the model is told about, not a fault of ours
    """The command could not be started, and nothing of it runs. Its text is what the operating system says."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a command ended. `exit_code` is None where a signal ended it, then `signal` tells which.

    Both are None where the process did not even end on SIGKILL (an unreachable network disk does that). Of a command
    under bubblewrap, only a SIGKILL of ours is told as `signal`; other signals are exit code 128 and their number.
    """

    exit_code: int | None
    signal: int | None
    timed_out: bool


class RunningProcess:
    """A command that was spawned by `start` and not yet reaped; so its pid and its group are its own until then."""

    def __init__(self, child: "_Child") -> None:
        self.pid = child.popen.pid
        self.pid_started_at = child.started_at  # "" when unknown
        self._child = child
        self._exit = _Exit(self.pid)

    async def finish(self, on_chunk: OnChunk, *, timeout_ms: int) -> Ending:
        """Read the output until the command ended, with its whole group.

        After `timeout_ms` the group gets SIGTERM, and what is left of it SIGKILL after `limits.SHELL_KILL_GRACE_MS`.
        Once the leader ended, what others still print is read for at most `limits.SHELL_DRAIN_MS`; then they are
        killed. Cancellation and an exception of `on_chunk` (as an `ExceptionGroup`) leave it running: leaving `start`
        ends it.
        """
        timed_out = False
        async with anyio.create_task_group() as readers:
            open_streams = {"stdout": self._child.stdout, "stderr": self._child.stderr}
            drained = anyio.Event()

            async def read(stream: str, fd: int) -> None:
                await _read(fd, lambda chunk: on_chunk(stream, chunk))
                del open_streams[stream]
                if not open_streams:
                    drained.set()

            for stream, fd in tuple(open_streams.items()):
                readers.start_soon(read, stream, fd)
            timed_out = not await self._exit.within(timeout_ms)
            if timed_out:
                await self._terminate(limits.SHELL_KILL_GRACE_MS)
            with anyio.move_on_after(limits.SHELL_DRAIN_MS / 1000):
                await drained.wait()
            readers.cancel_scope.cancel()
        code = self._reap() if self._exit.seen else None
        if code is None:
            return Ending(None, None, timed_out)
        return Ending(code if code >= 0 else None, -code if code < 0 else None, timed_out)

    async def end(self) -> None:
        """Make sure that nothing of the group is left, and let go of everything. Not to be cancelled."""
        if self._child.popen.returncode is None:
            if not self._exit.seen:
                await self._terminate(CANCEL_GRACE_MS)
            if self._exit.seen:
                self._reap()
        self._exit.close()
        os.close(self._child.stdout)
        os.close(self._child.stderr)

    async def _terminate(self, grace_ms: int) -> None:
        if self._child.backend is Backend.BWRAP:
            await anyio.to_thread.run_sync(ask_to_end, self.pid)
        else:
            kill_group(self.pid, signal.SIGTERM)
        if not await self._exit.within(grace_ms):
            kill_group(self.pid, signal.SIGKILL)
            await self._exit.within(REAP_MS)

    def _reap(self) -> int:
        # Members of the group can only be told from strangers as long as the dead leader keeps its number.
        kill_group(self.pid, signal.SIGKILL)
        reaper.forget(self._child.key)
        return self._child.popen.wait()


@asynccontextmanager
async def start(
    argv: Sequence[str],
    *,
    cwd: str,
    environment: Mapping[str, str],
    confinement: Confinement | None = None,
    backend: Backend = Backend.NONE,
) -> AsyncGenerator[RunningProcess]:
    """Spawn `argv` (not empty; searched in the environment's PATH) with nothing on its stdin.

    A `confinement` is held by the `backend`, or the command does not start. Without one it may do what we may.

    However the block is left, the whole process group is dead and the leader reaped afterwards: by itself, or by
    SIGTERM and, `CANCEL_GRACE_MS` later, SIGKILL. Cancellation waits for that. It dies with this server too (see
    `reaper`).

    Raises:
        SpawnFailed: the program or the directory is not there or may not be used, an argument cannot be passed on, or
            nothing holds the confinement.
    """
    try:
        child = await anyio.to_thread.run_sync(_spawn, tuple(argv), cwd, dict(environment), confinement, backend)
    except OSError as error:
        why = str(error) if error.errno is None else f"{error.strerror} (os error {error.errno})"
        raise SpawnFailed(why) from error
    except ValueError as error:  # a zero byte, or characters that the file system's encoding does not have
        raise SpawnFailed("nul byte found in provided data" if "null byte" in str(error) else str(error)) from error
    process = RunningProcess(child)
    try:
        yield process
    finally:
        with anyio.CancelScope(shield=True):
            await process.end()


@dataclass(frozen=True, slots=True)
class _Child:
    popen: subprocess.Popen[bytes]
    started_at: str
    backend: Backend  # that holds it, if any
    key: int  # of the registration with the reaper
    stdout: int
    stderr: int


def _spawn(
    argv: tuple[str, ...], cwd: str, environment: dict[str, str], confinement: Confinement | None, backend: Backend
) -> _Child:
    """In a worker thread: fork and exec take a quarter of a millisecond here, and many on a slow disk."""
    stdout, stdout_write = os.pipe()
    stderr, stderr_write = os.pipe()
    try:
        key = reaper.announce((stdout, stderr))
        try:
            popen = launch(
                argv,
                cwd=cwd,
                environment=environment,
                stdout=stdout_write,
                stderr=stderr_write,
                confinement=confinement,
                backend=backend,
            )
            born = _register(key, popen)
        except BaseException:
            reaper.forget(key)
            raise
    except BaseException:
        os.close(stdout)
        os.close(stderr)
        raise
    finally:
        os.close(stdout_write)
        os.close(stderr_write)
    os.set_blocking(stdout, False)
    os.set_blocking(stderr, False)
    holder = Backend.NONE if confinement is None else backend
    return _Child(popen, born, holder, key, stdout, stderr)


def _register(key: int, popen: subprocess.Popen[bytes]) -> str:
    born = started_at(popen.pid)
    try:
        reaper.register(key, popen.pid, born)
    except OSError:
        kill_group(popen.pid, signal.SIGKILL)
        popen.wait()
        raise
    return born


async def _read(fd: int, on_chunk: Callable[[bytes], None]) -> None:
    while True:
        await anyio.wait_readable(fd)
        chunk = os.read(fd, limits.READ_CHUNK_BYTES)
        if not chunk:
            return
        on_chunk(chunk)


class _Exit:
    """Notices that a child ended, without reaping it."""

    def __init__(self, pid: int) -> None:
        self.seen = False
        self._event = anyio.Event()
        self._pidfd = _pidfd(pid)
        if self._pidfd < 0:
            token = anyio.lowlevel.current_token()
            # A daemon: a child stuck in the kernel must not keep the server from going.
            threading.Thread(target=self._watch, args=(pid, token), name=f"exit of {pid}", daemon=True).start()

    async def within(self, span_ms: int) -> bool:
        """Whether the child ended within that span."""
        with anyio.move_on_after(span_ms / 1000):
            await (anyio.wait_readable(self._pidfd) if self._pidfd >= 0 else self._event.wait())
            self.seen = True
        return self.seen

    def close(self) -> None:
        if self._pidfd >= 0:
            os.close(self._pidfd)

    def _watch(self, pid: int, token: anyio.lowlevel.EventLoopToken) -> None:
        _block_until_exit(pid)
        with suppress(RuntimeError):  # the loop is gone, and nobody waits
            anyio.from_thread.run_sync(self._event.set, token=token)


def _pidfd(pid: int) -> int:
    """-1 where there is none: macOS, Linux before 5.3, a Python built against older headers."""
    if sys.platform == "linux":
        with suppress(AttributeError, OSError):
            return os.pidfd_open(pid)
    return -1


def _block_until_exit(pid: int) -> None:
    if sys.platform == "darwin":
        queue = select.kqueue()
        note = select.kevent(pid, select.KQ_FILTER_PROC, select.KQ_EV_ADD | select.KQ_EV_ONESHOT, select.KQ_NOTE_EXIT)
        with suppress(ProcessLookupError):  # it is already a zombie
            queue.control([note], 1)
        queue.close()
    else:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
