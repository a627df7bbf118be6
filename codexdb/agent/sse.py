"""Server-sent events, as the HTML standard defines them, out of pieces of bytes."""

import codecs

from codexdb.agent import failure
from codexdb.domain import limits

_BOM = "\ufeff"


class SseReader:
    """Takes the body as it arrives and gives the complete events in it.

    Lines may end in CR, LF or CRLF, also split between two pieces; comments, `id` and `retry` are skipped; invalid
    UTF-8 becomes replacement characters. The bound is held in characters, which are never more than the bytes.
    """

    def __init__(self, event_bytes_max: int = limits.SSE_EVENT_BYTES_MAX) -> None:
        self._event_bytes_max = event_bytes_max
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._started = False
        self._after_cr = False
        self._pieces: list[str] = []  # of the unfinished line
        self._data: list[str] = []
        self._event = ""
        self._size = 0  # characters of the unfinished event, its unfinished line included

    def feed(self, chunk: bytes) -> list[tuple[str, str]]:
        """The (event, data) pairs that this piece completes; the event is "message" where none was named.

        Raises:
            RequestFailed: one event is longer than the bound.
        """
        return self._take(self._decoder.decode(chunk))

    def end(self) -> list[tuple[str, str]]:
        """The event that the end of the body completes: endpoints leave out the last blank line."""
        found = self._take(self._decoder.decode(b"", final=True))
        if self._pieces:
            self._line("".join(self._pieces))
        return found + self._dispatch()

    def _take(self, text: str) -> list[tuple[str, str]]:
        if not text:
            return []
        if not self._started:
            self._started = True
            text = text.removeprefix(_BOM)
        if self._after_cr:
            text = text.removeprefix("\n")
        self._after_cr = text.endswith("\r")
        if "\r" in text:
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        *lines, rest = text.split("\n")
        found: list[tuple[str, str]] = []
        for line in lines:
            whole = "".join([*self._pieces, line]) if self._pieces else line
            self._pieces.clear()
            self._grow(len(line))
            if whole:
                self._line(whole)
            else:
                found += self._dispatch()
        if rest:
            self._grow(len(rest))
            self._pieces.append(rest)
        return found

    def _grow(self, characters: int) -> None:
        self._size += characters
        if self._size > self._event_bytes_max:
            raise failure.lost(f"an event is longer than {self._event_bytes_max} bytes", again=False)

    def _line(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value

    def _dispatch(self) -> list[tuple[str, str]]:
        data, event = self._data, self._event
        self._data, self._event, self._size = [], "", 0
        return [(event or "message", "\n".join(data))] if data else []
