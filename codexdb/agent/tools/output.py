"""What is kept of a command's output, however much it prints: a bounded first and last part, cut where it reads well.

Owns the bounds and the note that stands for what was left out. Bytes are read as UTF-8 with replacements; nothing here
fails on any input.
"""

import codecs
from collections.abc import Callable, Mapping

import anyio

from codexdb.domain import limits

NOTE_BYTES_MAX = 96  # of the line that stands for what was left out, both numbers at their longest
DELTA_INTERVAL_MS = 50  # between two deltas of a slowly printing stream; people do not read faster

STREAMS: tuple[str, ...] = ("stdout", "stderr")


class Capture:
    """Takes the output of one command in the order it arrives. Holds about 2 MiB at the most.

    The texts may be read at any time, also after a cancellation; they hold what was added until then, but for an
    unfinished character.
    """

    def __init__(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")
        self._decoders = {stream: decoder("replace") for stream in STREAMS}
        self._firsts = dict.fromkeys(STREAMS, "")
        self._both = _Ends(limits.TOOL_OUTPUT_STORED_BYTES_MAX // 2)

    def add(self, stream: str, chunk: bytes) -> None:
        """Take the next bytes of "stdout" or "stderr"."""
        self._keep(stream, self._decoders[stream].decode(chunk))

    def finish(self) -> None:
        """No more will come: what looks like half a character is none."""
        for stream, decoder in self._decoders.items():
            self._keep(stream, decoder.decode(b"", final=True))

    def _keep(self, stream: str, text: str) -> None:
        missing = limits.EXEC_EVENT_STREAM_CHARS_MAX - len(self._firsts[stream])
        if missing > 0:
            self._firsts[stream] += text[:missing]
        self._both.add(text.encode())

    @property
    def firsts(self) -> Mapping[str, str]:
        """The first `limits.EXEC_EVENT_STREAM_CHARS_MAX` characters of each stream, by its name."""
        return self._firsts

    def text(self, bytes_max: int) -> str:
        """Both streams as they came, in at most that many bytes of UTF-8 (`NOTE_BYTES_MAX` at the least).

        `bytes_max` is at most `limits.TOOL_OUTPUT_STORED_BYTES_MAX`. What does not fit is left out of the middle.
        """
        return self._both.text(bytes_max)


class _Ends:
    """The first and the last bytes of valid UTF-8 text, at least `half` of each, and the size of it all."""

    def __init__(self, half: int) -> None:
        self._half = half
        self._head = bytearray()
        self._tail = bytearray()
        self._size = 0
        self._lines = 0

    def add(self, data: bytes) -> None:
        self._size += len(data)
        self._lines += data.count(b"\n")
        missing = self._half - len(self._head)
        if missing > 0:
            self._head += data[:missing]
            data = data[missing:]
        self._tail += data
        if len(self._tail) > 2 * self._half:  # trimmed seldom, so that a byte is moved once on average
            del self._tail[: -self._half]

    def text(self, bytes_max: int) -> str:
        if self._size <= bytes_max and self._size == len(self._head) + len(self._tail):
            return (self._head + self._tail).decode()
        part = max(0, min((bytes_max - NOTE_BYTES_MAX) // 2, self._half))
        head = _cut_end(bytes(self._head[:part]))
        # All of a long output is in both ends together; so a short head has the last bytes of the text behind it.
        tail = _cut_start(bytes((self._head + self._tail)[-part:] if part else b""))
        omitted = self._size - len(head) - len(tail)
        lines = self._lines - head.count(b"\n") - tail.count(b"\n")
        return head.decode() + _note(lines, omitted, fresh_line=not head or head.endswith(b"\n")) + tail.decode()


def _cut_end(data: bytes) -> bytes:
    """Without its last, unfinished line, if what stays is more than half; else without an unfinished character."""
    line_end = data.rfind(b"\n") + 1
    if line_end > len(data) // 2:
        return data[:line_end]
    return data.decode(errors="ignore").encode()


def _cut_start(data: bytes) -> bytes:
    """The same at the other end."""
    line_start = data.find(b"\n") + 1
    if 0 < line_start < len(data) // 2:
        return data[line_start:]
    return data.decode(errors="ignore").encode()


def _note(lines: int, omitted: int, *, fresh_line: bool) -> str:
    what = f"{lines} lines, {omitted} bytes" if lines else f"{omitted} bytes of one line"
    start = "" if fresh_line else "\n"
    return f"{start}[... {what} left out here ...]\n"


class Deltas:
    """Passes output on as it comes, in few pieces: 8 KiB full, or `DELTA_INTERVAL_MS` after the one before.

    Passes `limits.OUTPUT_STREAMED_BYTES_MAX` bytes on and drops the rest.
    """

    def __init__(self, send: Callable[[str, bytes], None]) -> None:
        self._send = send
        self._waiting = {stream: bytearray() for stream in STREAMS}
        self._left = limits.OUTPUT_STREAMED_BYTES_MAX
        self._some = anyio.Event()

    def add(self, stream: str, chunk: bytes) -> None:
        """Take the next bytes; full pieces go out before this returns."""
        chunk = chunk[: self._left]
        self._left -= len(chunk)
        if not chunk:
            return
        waiting = self._waiting[stream]
        waiting += chunk
        while len(waiting) >= limits.OUTPUT_DELTA_BYTES_MAX:
            self._send(stream, bytes(waiting[: limits.OUTPUT_DELTA_BYTES_MAX]))
            del waiting[: limits.OUTPUT_DELTA_BYTES_MAX]
        if waiting:
            self._some.set()

    def flush(self) -> None:
        """Send what waits, full or not."""
        for stream, waiting in self._waiting.items():
            if waiting:
                self._send(stream, bytes(waiting))
                waiting.clear()

    async def run(self) -> None:
        """Send what is not full in time, until cancelled."""
        while True:
            await self._some.wait()
            self._some = anyio.Event()
            self.flush()
            await anyio.sleep(DELTA_INTERVAL_MS / 1000)
