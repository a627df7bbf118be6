"""Reading files line by line, whatever they hold."""

from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple, cast

from codexdb.domain.json import JsonObject, decode
from codexdb.domain.limits import IMPORT_LINE_BYTES_MAX


class Fault(NamedTuple):
    """What is wrong with a file. `line`: from 1; 0: with the whole of it."""

    path: Path
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.reason}" if self.line else f"{self.path}: {self.reason}"


class BadLineError(Exception):
    """A line that cannot be taken; the text says why."""


class Line(NamedTuple):
    """A line as it stands in its file."""

    number: int
    offset: int
    data: bytes  # what it begins with, where it is too long

    @property
    def is_too_long(self) -> bool:
        return len(self.data) > IMPORT_LINE_BYTES_MAX

    def read(self) -> JsonObject:
        """The object that it holds.

        Raises:
            BadLineError: it holds none.
        """
        if self.is_too_long:
            raise BadLineError(f"the line is longer than {IMPORT_LINE_BYTES_MAX} bytes")
        try:
            value = decode(self.data)
        except ValueError as error:
            torn = "" if self.data.endswith(b"\n") else "the line is torn: "
            raise BadLineError(f"{torn}{_reason(error)}") from error
        if not isinstance(value, dict):
            raise BadLineError("the line is no JSON object")
        return cast("JsonObject", value)


def _reason(error: ValueError) -> str:
    text = str(error).partition(" at line 1 ")
    return f"no valid JSON ({text[0]}{' at ' + text[2] if text[2] else ''})"


def lines(file: IO[bytes], number: int = 1) -> Iterator[Line]:
    """The lines of a file from where it stands, the first of them being `number`; empty ones are passed over."""
    while True:
        offset = file.tell()
        data = file.readline(IMPORT_LINE_BYTES_MAX + 1)
        if not data:
            return
        while len(data) > IMPORT_LINE_BYTES_MAX and not data.endswith(b"\n"):
            rest = file.readline(1024 * 1024)
            if not rest or rest.endswith(b"\n"):
                break
        if data.strip():
            yield Line(number, offset, data)
        number += 1
