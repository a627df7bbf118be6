"""The process of one MCP server, and its pipes as the streams that the MCP SDK speaks through.

The SDK has such a transport too. It is not used, because it waits up to six seconds for a server that does not want to
end, hands on its stderr, reads lines of any length, and leaves the server running when ours is killed.
"""

import os
import signal
import subprocess
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import anyio.to_thread

from codexdb.agent.tools.process import CANCEL_GRACE_MS, REAP_MS, reaper
from codexdb.agent.tools.reaper import kill_group, started_at
from codexdb.domain import limits

if TYPE_CHECKING:
    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
    from mcp.shared.message import SessionMessage

    Incoming = MemoryObjectReceiveStream["SessionMessage | Exception"]
    Outgoing = MemoryObjectSendStream["SessionMessage"]

MCP_LINE_BYTES_MAX = 16 * 1024 * 1024  # of one message; two of the largest images fit, and a longer one ends the server
MCP_MESSAGES_QUEUED_MAX = 256  # for a server that does not read; the SDK would wait for seconds to write "cancelled"
_PARENT_VARIABLES = ("HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "TZ", "USER")


def environment_of(parent: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """All that a server gets to know of its surroundings: a few variables of ours without keys, and what is its own."""
    return {**{name: parent[name] for name in _PARENT_VARIABLES if name in parent}, **own}


@dataclass(slots=True)
class Pipes:
    """A server that runs: what it says, and what is said to it."""

    incoming: "Incoming"
    outgoing: "Outgoing"
    pid: int
    ended: anyio.Event = field(default_factory=anyio.Event)  # it will say nothing more


@asynccontextmanager
async def connect(argv: Sequence[str], *, cwd: str, environment: Mapping[str, str]) -> AsyncGenerator[Pipes]:
    """Start a server and speak with it. Whatever it prints that is no message is dropped, and so is its stderr.

    However the block is left, the server's whole process group is dead afterwards: its stdin is closed, it gets SIGTERM
    after `CANCEL_GRACE_MS` and SIGKILL after as long again. Cancellation waits for that. It dies with this process too.

    Raises:
        OSError: it cannot be started.
        ValueError: a zero byte in an argument.
    """
    child = await anyio.to_thread.run_sync(_spawn, tuple(argv), cwd, dict(environment))
    said, incoming = anyio.create_memory_object_stream["SessionMessage | Exception"](0)
    outgoing, to_say = anyio.create_memory_object_stream["SessionMessage"](MCP_MESSAGES_QUEUED_MAX)
    pipes = Pipes(incoming, outgoing, child.popen.pid)
    until_dead = anyio.CancelScope(shield=True)  # what it prints is read until then, or it might hang in a full pipe
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_listen, child.stdout, said, pipes.ended, until_dead)
            tasks.start_soon(_speak, child, to_say, said)
            try:
                yield pipes
            finally:
                incoming.close()
                outgoing.close()
                with anyio.CancelScope(shield=True):
                    await _end(child, pipes.ended)
                until_dead.cancel()
                tasks.cancel_scope.cancel()
    finally:
        for stream in (said, incoming, outgoing, to_say):
            stream.close()
        child.close_stdin()
        os.close(child.stdout)


@dataclass(slots=True)
class _Child:
    popen: subprocess.Popen[bytes]
    key: int  # of the registration with the reaper
    stdout: int
    stdin: int  # -1 once it is closed

    def close_stdin(self) -> None:
        if self.stdin >= 0:
            anyio.notify_closing(self.stdin)
            os.close(self.stdin)
            self.stdin = -1


def _spawn(argv: tuple[str, ...], cwd: str, environment: dict[str, str]) -> _Child:
    child_stdin, stdin = os.pipe()
    stdout, child_stdout = os.pipe()
    try:
        key = reaper.announce((stdin, stdout))
        try:
            popen = subprocess.Popen(  # noqa: S603 - the user configured it
                argv,
                cwd=cwd,
                env=environment,
                stdin=child_stdin,
                stdout=child_stdout,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            _register(key, popen)
        except BaseException:
            reaper.forget(key)
            raise
    except BaseException:
        os.close(stdin)
        os.close(stdout)
        raise
    finally:
        os.close(child_stdin)
        os.close(child_stdout)
    os.set_blocking(stdin, False)
    os.set_blocking(stdout, False)
    return _Child(popen, key, stdout, stdin)


def _register(key: int, popen: subprocess.Popen[bytes]) -> None:
    try:
        reaper.register(key, popen.pid, started_at(popen.pid))
    except OSError:
        kill_group(popen.pid, signal.SIGKILL)
        popen.wait()
        raise


async def _end(child: _Child, ended: anyio.Event) -> None:
    child.close_stdin()
    if not await _within_grace(ended):
        kill_group(child.popen.pid, signal.SIGTERM)
        await _within_grace(ended)
    # What the server started too; before it is reaped, so that its number cannot be a stranger's.
    kill_group(child.popen.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):  # stuck in the kernel: the reaper's registration stays
        await anyio.to_thread.run_sync(child.popen.wait, REAP_MS / 1000)
        reaper.forget(child.key)


async def _within_grace(ended: anyio.Event) -> bool:
    with anyio.move_on_after(CANCEL_GRACE_MS / 1000):
        await ended.wait()
    return ended.is_set()


# -- the pipes -------------------------------------------------------------------------------------------------------


async def _listen(
    fd: int,
    said: "MemoryObjectSendStream[SessionMessage | Exception]",
    ended: anyio.Event,
    until_dead: anyio.CancelScope,
) -> None:
    """Pass messages on for as long as somebody wants them, and read on until the server closed its end."""
    line = bytearray()
    wanted = True
    with until_dead:
        while True:
            await anyio.wait_readable(fd)
            chunk = os.read(fd, limits.READ_CHUNK_BYTES)
            if not chunk:
                break
            *whole, rest = chunk.split(b"\n")
            for piece in whole:
                line += piece
                if line.strip():
                    wanted = wanted and await _pass_on(bytes(line), said)
                    await anyio.lowlevel.checkpoint()  # a server that floods us is not to hold up everybody else
                line.clear()
            line += rest
            if len(line) > MCP_LINE_BYTES_MAX:
                break
    ended.set()
    said.close()


async def _pass_on(line: bytes, said: "MemoryObjectSendStream[SessionMessage | Exception]") -> bool:
    """False: nobody listens any more."""
    from mcp.shared.message import SessionMessage
    from mcp_types import jsonrpc_message_adapter

    try:
        message = jsonrpc_message_adapter.validate_json(line, by_name=False)
    except ValueError:
        return True
    try:
        await said.send(SessionMessage(message))
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        return False
    return True


async def _speak(
    child: _Child,
    to_say: "MemoryObjectReceiveStream[SessionMessage]",
    said: "MemoryObjectSendStream[SessionMessage | Exception]",
) -> None:
    """Write messages until the server does not take them any more; whoever waits for its answer is then told."""
    with suppress(OSError, anyio.ClosedResourceError):
        async for item in to_say:
            data = item.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n"
            while data:
                await anyio.wait_writable(child.stdin)
                data = data[os.write(child.stdin, data) :]
        return
    said.close()
