"""Owns the two descriptors of the wire: one thread that reads lines, one that writes bytes, and the bounds of both.

Threads, because an event loop cannot wait for every kind of descriptor that a client may hand over (files, /dev/null),
and because nothing may block the loop: neither a client that stops reading nor one that never stops writing.
"""

import asyncio
import contextvars
import logging
import os
import queue
import select
import stat
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import anyio

from codexdb.domain.limits import LINE_BYTES_MAX, OUTPUT_QUEUE_BYTES_MAX, READ_CHUNK_BYTES

WRITE_BYTES_MAX = 256 * 1024  # of one write: what is queued is joined up to this, and its space is free again after it
LINES_PER_STEP_MAX = 64  # handed to the loop at once; more would starve the tasks that these very lines start
STEPS_WAITING_MAX = 4  # not yet looked at by the loop; a client that sends faster than we work has to wait
UNREAD_OUTPUT_BYTES_MAX = 2 * OUTPUT_QUEUE_BYTES_MAX  # answers are never held back, so beyond this no request is read
HANGUP_POLL_MS = 100  # while nothing is read: how often to look whether the client is still there
OVERLONG_PREFIX_BYTES = 64 * 1024  # of a line that is too long: enough to find its id

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Overlong:
    """Stands for a line beyond the limit, at the place where it began. The rest of it is thrown away."""

    prefix: bytes


Line = bytes | Overlong


class LineSplitter:
    """Cuts a stream of chunks into lines at b"\\n" alone; other separators are data. Holds at most one line."""

    def __init__(self, line_bytes_max: int) -> None:
        self._line_bytes_max = line_bytes_max
        self._parts: list[bytes] = []
        self._size = 0
        self._discarding = False  # the line was reported as too long, and its end has not come yet

    def feed(self, chunk: bytes) -> list[Line]:
        """The lines that `chunk` completes, without their line feeds."""
        lines: list[Line] = []
        *ended, rest = chunk.split(b"\n")
        for piece in ended:
            self._add(piece, lines)
            if not self._discarding:
                lines.append(piece if self._size == len(piece) else b"".join(self._parts))
            self._parts.clear()
            self._size = 0
            self._discarding = False
        if rest:
            self._add(rest, lines)
        return lines

    def finish(self) -> list[Line]:
        """The last line, if the stream ended without a line feed."""
        return self.feed(b"\n") if self._size else []

    def _add(self, piece: bytes, lines: list[Line]) -> None:
        if self._discarding:
            return
        self._parts.append(piece)
        self._size += len(piece)
        if self._size > self._line_bytes_max:
            lines.append(Overlong(b"".join(self._parts)[:OVERLONG_PREFIX_BYTES]))
            self._parts.clear()
            self._size = 0
            self._discarding = True


class StdioTransport:
    """Lines in, bytes out, for one client. All methods belong to the event loop's thread.

    `on_lines` gets lines in the order of their arrival, `on_eof` follows the last of them, once. `on_broken` is called
    when nobody reads our output any more; from then on what is sent is thrown away.
    """

    def __init__(
        self,
        in_fd: int,
        out_fd: int,
        *,
        on_lines: Callable[[Sequence[Line]], None],
        on_eof: Callable[[], None],
        on_broken: Callable[[], None],
        unread: bytes = b"",
        line_bytes_max: int = LINE_BYTES_MAX,
    ) -> None:
        self._in_fd = in_fd
        self._out_fd = out_fd
        self._on_lines = on_lines
        self._on_eof = on_eof
        self._on_broken = on_broken
        self._unread = unread
        self._splitter = LineSplitter(line_bytes_max)
        self._steps = threading.Semaphore(STEPS_WAITING_MAX)
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        # Each of these two is changed by one thread only, so that neither needs a lock.
        self._queued = 0  # bytes ever queued; the loop's
        self._written = 0  # bytes ever written, or thrown away; the writer's
        self._awaited = False  # somebody waits for `_written` to grow
        self._progress = anyio.Event()
        self._closed = False
        self._stopped = False
        self._writable = _poll_of_pipe(out_fd)

    @property
    def closed(self) -> bool:
        """Whether the output broke, or `stop` was called: what is sent goes nowhere."""
        return self._closed or self._stopped

    @property
    def backlog(self) -> int:
        """Bytes queued and not yet written."""
        return self._queued - self._written

    def start(self) -> None:
        """Begin to read and write. Callbacks run in the running loop, in the context of this call."""
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()
        for work in (self._read, self._write):  # daemons: a thread stuck in a read or write must not keep us alive
            threading.Thread(target=work, name=f"stdio{work.__name__}", daemon=True).start()

    async def send(self, data: bytes) -> None:
        """Queue `data`, after waiting while too much is queued. Cancelled while it waits, nothing was queued."""
        while self.backlog > OUTPUT_QUEUE_BYTES_MAX and not self.closed:
            await self._wait_for_progress(OUTPUT_QUEUE_BYTES_MAX)
        self.send_nowait(data)

    def send_nowait(self, data: bytes) -> None:
        """Send or queue `data` whatever is queued already. For answers, whose number the client itself bounds."""
        if not self.closed and not self._write_at_once(data):
            self._queued += len(data)
            self._queue.put(data)

    def _write_at_once(self, data: bytes) -> bool:
        """Whether `data` is on its way already: waking the writer's thread costs more than a short write.

        A pipe that polls as writable takes up to PIPE_BUF bytes whole and without blocking (POSIX); of other kinds of
        file nothing such is promised. With a backlog the writer's thread may be at work, and order matters.
        """
        if self.backlog or len(data) > select.PIPE_BUF or self._writable is None or not self._writable.poll(0):
            return False
        try:
            os.write(self._out_fd, data)
        except OSError as error:
            _logger.debug("writing failed: %s", error)
            self._break()
        return True

    async def drain(self, timeout_ms: int) -> bool:
        """Wait until all that was queued is written or lost, but no longer than `timeout_ms`. Whether it was."""
        with anyio.move_on_after(timeout_ms / 1000):
            while self.backlog and not self.closed:
                await self._wait_for_progress(0)
        return not self.backlog

    def stop(self) -> None:
        """Take and call back nothing more. Never waits: a thread in the middle of a system call ends with the process.

        The descriptors stay open, since a thread may still be using them.
        """
        self._stopped = True
        self._queue.put(None)
        self._wake()

    async def _wait_for_progress(self, bytes_max: int) -> None:
        progress = self._progress
        self._awaited = True
        # The writer adds to `_written` before it looks at `_awaited`: one of us two sees what the other did.
        if self.backlog > bytes_max and not self.closed:
            await progress.wait()

    def _wake(self) -> None:
        self._awaited = False
        self._progress.set()
        self._progress = anyio.Event()

    def _post(self, callback: Callable[..., None], *arguments: object) -> bool:
        """Have the loop call back. False where the loop is gone, and the thread with nothing left to do."""
        try:
            self._loop.call_soon_threadsafe(callback, *arguments, context=self._context)
        except RuntimeError:
            return False
        return not self._stopped

    # -- the reader's thread -----------------------------------------------------------------------------------------

    def _read(self) -> None:
        chunk = self._unread or self._read_chunk()
        self._unread = b""
        while chunk:
            if not self._hand_over(self._splitter.feed(chunk)):
                return
            self._hold_back()
            chunk = self._read_chunk()
        if self._hand_over(self._splitter.finish()):
            self._post(self._end_of_input)

    def _hand_over(self, lines: list[Line]) -> bool:
        for start in range(0, len(lines), LINES_PER_STEP_MAX):
            self._steps.acquire()
            if not self._post(self._deliver, lines[start : start + LINES_PER_STEP_MAX]):
                return False
        return True

    def _read_chunk(self) -> bytes:
        try:
            return os.read(self._in_fd, READ_CHUNK_BYTES)
        except OSError as error:  # a terminal that hung up, for instance: no more input, however it says so
            _logger.debug("reading failed: %s", error)
            return b""

    def _hold_back(self) -> None:
        """Wait while the client takes none of its answers, unless it is gone: then what is left is little, and last."""
        if self.backlog <= UNREAD_OUTPUT_BYTES_MAX:
            return
        hangup = select.poll()
        hangup.register(self._in_fd, 0)
        while self.backlog > UNREAD_OUTPUT_BYTES_MAX and not self.closed and not hangup.poll(HANGUP_POLL_MS):
            pass

    def _deliver(self, lines: Sequence[Line]) -> None:
        self._steps.release()
        if not self._stopped:
            self._on_lines(lines)

    def _end_of_input(self) -> None:
        if not self._stopped:
            self._on_eof()

    # -- the writer's thread -----------------------------------------------------------------------------------------

    def _write(self) -> None:
        while (batch := self._next_batch()) is not None:
            view = memoryview(batch)
            while view:
                count = self._write_some(view)
                if not count:
                    self._post(self._break)
                    return
                view = view[count:]
                self._written += count
                if self._awaited and not self._post(self._wake):
                    return

    def _next_batch(self) -> bytes | None:
        """What is queued now, joined up to a size; waits for the first piece. None at the end."""
        data = self._queue.get()
        if data is None:
            return None
        pieces, size = [data], len(data)
        while size < WRITE_BYTES_MAX:
            try:
                data = self._queue.get_nowait()
            except queue.Empty:
                break
            if data is None:
                self._queue.put(None)  # the end, after this batch
                break
            pieces.append(data)
            size += len(data)
        return b"".join(pieces)

    def _write_some(self, view: memoryview) -> int:
        try:
            return os.write(self._out_fd, view[:WRITE_BYTES_MAX])
        except OSError as error:
            _logger.debug("writing failed: %s", error)
            return 0

    def _break(self) -> None:
        self._closed = True
        self._wake()
        if not self._stopped:
            self._on_broken()


def _poll_of_pipe(fd: int) -> "select.poll | None":
    """Tells whether a pipe takes bytes; None for anything but a pipe."""
    if not stat.S_ISFIFO(os.fstat(fd).st_mode):
        return None
    writable = select.poll()
    writable.register(fd, select.POLLOUT)
    return writable
