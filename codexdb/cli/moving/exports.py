"""The file that an export is: a line that says what it is, then each session as its rows and a line that ends it.

{"format": "codexdb-sessions", "version": 1, "program": "…", "schema": "0001"}
{"session": {…}}  {"turn": {…}} …  {"event": {…}} …  {"end": {"session": "…", "rows": 12}}
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import codexdb
from codexdb.cli.moving.check import SessionCheck
from codexdb.cli.moving.lines import BadLineError, Fault, Line, lines
from codexdb.domain.json import JsonObject, encode
from codexdb.store.exchange import KINDS, SessionRow, closed, readable
from codexdb.store.imports import Whole
from codexdb.store.revision import HEAD

FORMAT = "codexdb-sessions"
VERSION = 1
END = "end"


class ChangedError(Exception):
    """A file is not any more what was checked."""


@dataclass(frozen=True, slots=True)
class Section:
    """A session of an export that was checked. Its rows are read anew each time."""

    path: Path
    line: int  # its first
    offset: int
    count: int  # of rows
    digest: str
    size: int  # bytes
    whole: Whole


# -- writing -----------------------------------------------------------------------------------------------------------


def header() -> str:
    about = {"format": FORMAT, "version": VERSION, "program": codexdb.__version__, "schema": HEAD}
    return f"{encode(about)}\n"


def line_of(row: SessionRow) -> str:
    return f"{encode({row.kind: readable(KINDS[row.kind], row.fields)})}\n"


def last_line(session_id: str, rows: int) -> str:
    return f"{encode({END: {'session': session_id, 'rows': rows}})}\n"


# -- reading -----------------------------------------------------------------------------------------------------------


def is_header(value: JsonObject) -> bool:
    return "format" in value


def refusal(value: JsonObject) -> str | None:
    """Why a file with this first line cannot be imported; None: it can."""
    version, schema = value.get("version"), value.get("schema")
    if value.get("format") != FORMAT or not isinstance(version, int) or not isinstance(schema, str):
        return "this is no export of codexdb, and no rollout of Codex"
    if version > VERSION or not schema.isdecimal() or schema > HEAD:
        program = str(value.get("program"))[:40]
        return (
            f"a newer codexdb ({program}, format {version}, schema {schema[:40]}) wrote this file, and this one "
            f"({codexdb.__version__}, format {VERSION}, schema {HEAD}) does not know it. "
            "Upgrade codexdb, and import it then."
        )
    return None


def sections(path: Path) -> Iterator[Section | Fault]:
    """The sessions of an export, each checked to its end, and what is wrong with others. Blocks."""
    with path.open("rb") as file:
        found = lines(file)
        try:
            reason = refusal(next(found).read())
        except BadLineError as error:
            reason = str(error)
        if reason is not None:
            yield Fault(path, 1, reason)
            return
        line = next(found, None)
        while line is not None:
            section = _Reading(path, line)
            result, line = section.read(found)
            yield result


class _Reading:
    """Reads one session, from its first line to its last; where that fails, to the first line of the next."""

    def __init__(self, path: Path, first: Line) -> None:
        self._path = path
        self._first = first
        self._check = SessionCheck()
        self._digest = hashlib.sha256()
        self._size = 0

    def read(self, rest: Iterator[Line]) -> tuple[Section | Fault, Line | None]:
        """The session, and the line behind it."""
        line: Line | None = self._first
        number = line.number if line else 0
        try:
            while line is not None:
                number = line.number
                if self._is_last(line):
                    return self._section(), next(rest, None)
                line = next(rest, None)
        except BadLineError as error:
            return Fault(self._path, number, self._named(str(error))), self._skip(line, rest)
        return Fault(self._path, number, self._named("the file ends in the midst of it")), None

    def _is_last(self, line: Line) -> bool:
        """Take a line in; whether it is the last of the session."""
        self._digest.update(line.data)
        self._size += len(line.data)
        value = line.read()
        if END in value:
            about = value[END]
            if about != {"session": self._check.session_id, "rows": self._check.rows}:
                raise BadLineError(
                    f"this line does not end the session before it, of which there are {self._check.rows} rows"
                )
            self._check.end()
            return True
        row = row_of(value, line.number)
        if not self._check.session and row.kind != "session":
            raise BadLineError(f"a row of kind `{row.kind}` stands before its session")
        self._check.take(row)
        return False

    def _section(self) -> Section:
        first, check = self._first, self._check
        place = (first.number, first.offset, check.rows, self._digest.hexdigest())
        whole = Whole(
            session_id=check.session_id,
            rows=lambda: rows_of(self._path, *place),
            openings=tuple(check.openings),
            is_open=check.is_open,
            ends_at_ms=check.ends_at_ms,
        )
        return Section(self._path, *place, self._size, whole)

    def _named(self, reason: str) -> str:
        named = f"session {self._check.session_id} is not imported" if self._check.session else "not imported"
        return f"{reason}; {named}"

    def _skip(self, line: Line | None, rest: Iterator[Line]) -> Line | None:
        """To where the next session begins. The line at fault may be that already, where this one has no end."""
        while line is not None:
            if line.data.startswith(b'{"session":') and line is not self._first:
                return line
            line = next(rest, None)
        return None


def row_of(value: JsonObject, number: int) -> SessionRow:
    """The row that a line tells, as it is written.

    Raises:
        BadLineError: it tells none.
    """
    name = next(iter(value), "")
    kind, told = KINDS.get(name), value.get(name)
    if kind is None or len(value) != 1 or not isinstance(told, dict):
        raise BadLineError("a row of no kind that codexdb knows")
    fields = cast("JsonObject", told)
    names = {field.name for field in kind.fields}
    if fields.keys() != names:
        missing, extra = sorted(names - fields.keys()), sorted(fields.keys() - names)
        wrong = f"missing field `{missing[0]}`" if missing else f"unknown field `{extra[0][:40]}`"
        raise BadLineError(f"a row of kind `{name}`: {wrong}")
    return SessionRow(name, closed(kind, fields), number)


def rows_of(path: Path, number: int, offset: int, count: int, digest: str) -> Iterator[SessionRow]:
    """The rows of a session that was checked.

    Raises:
        ChangedError: the file is another by now.
    """
    found = hashlib.sha256()
    with path.open("rb") as file:
        for line in _from(file, number, offset):
            found.update(line.data)
            if count == 0:
                break
            count -= 1
            try:
                yield row_of(line.read(), line.number)
            except BadLineError as error:
                raise ChangedError from error
    if found.hexdigest() != digest:
        raise ChangedError


def _from(file: IO[bytes], number: int, offset: int) -> Iterator[Line]:
    file.seek(offset)
    return lines(file, number)
