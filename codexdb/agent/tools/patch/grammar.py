"""A patch text and what it says: sections, one per file, and the chunks of an update. Reads nothing but the text."""

import re
from dataclasses import dataclass
from typing import Literal

from codexdb.agent.tools.patch.wording import shortened
from codexdb.domain.limits import PATCH_BYTES_MAX, PATCH_FILES_MAX, PATCH_PATH_BYTES_MAX

BEGIN, END = "*** Begin Patch", "*** End Patch"
ADD, DELETE, UPDATE = "*** Add File: ", "*** Delete File: ", "*** Update File: "
MOVE, END_OF_FILE = "*** Move to: ", "*** End of File"

Sign = Literal[" ", "-", "+"]
_SIGNS: dict[str, Sign] = {" ": " ", "-": "-", "+": "+"}
_HERE_DOC = re.compile(r"<<(['\"]?)(\w+)\1")


@dataclass(frozen=True, slots=True)
class Chunk:
    """One change within a file: kept, removed and added lines in their order, without line ends."""

    anchor: str | None  # a line that stands somewhere before the change
    lines: tuple[tuple[Sign, str], ...]  # at least one
    at_end: bool  # the change is marked as the file's last lines

    @property
    def old(self) -> list[str]:
        return [text for sign, text in self.lines if sign != "+"]


@dataclass(frozen=True, slots=True)
class AddFile:
    """Write a file, whatever stood there."""

    path: str  # as given
    content: str  # "" or lines that each end with "\\n"


@dataclass(frozen=True, slots=True)
class DeleteFile:
    """Remove a file."""

    path: str


@dataclass(frozen=True, slots=True)
class UpdateFile:
    """Change a file, move it, or both."""

    path: str
    move_to: str | None
    chunks: tuple[Chunk, ...]  # none only where it is moved


Section = AddFile | DeleteFile | UpdateFile


class _Invalid(Exception):  # noqa: N818 - ends in a text, in `parse`
    pass


def parse(text: str) -> tuple[Section, ...] | str:
    """The sections of a patch, maybe none, or the sentence that says what is wrong with it.

    The text may stand in a here-document of its own. No input makes this fail or take more than linear time.
    """
    try:
        return _parse(text)
    except _Invalid as problem:
        return str(problem)


def _parse(text: str) -> tuple[Section, ...]:
    _check_characters(text)
    lines = _body(_lines(text))
    sections: list[Section] = []
    at = 0
    while at < len(lines):
        if len(sections) == PATCH_FILES_MAX:
            raise _Invalid(f"invalid patch: The patch must not have more than {PATCH_FILES_MAX} files")
        began = at
        section, at = _section(lines, at)
        _check_names(section, began)
        sections.append(section)
    return tuple(sections)


def _check_characters(text: str) -> None:
    if len(text) > PATCH_BYTES_MAX or len(text.encode(errors="replace")) > PATCH_BYTES_MAX:
        raise _Invalid(f"invalid patch: The patch must not be larger than {PATCH_BYTES_MAX} bytes")
    if "\0" in text:
        raise _Invalid("invalid patch: The patch must not contain NUL characters")
    if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
        raise _Invalid("invalid patch: The patch must be valid Unicode text")


def _check_names(section: Section, at: int) -> None:
    moved = section.move_to if isinstance(section, UpdateFile) else None
    if any(len(name.encode()) > PATCH_PATH_BYTES_MAX for name in (section.path, moved or "")):
        raise _invalid_hunk(at, f"A path must not be longer than {PATCH_PATH_BYTES_MAX} bytes")


def _lines(text: str) -> list[str]:
    return [line.removesuffix("\r") for line in text.strip().split("\n")]


def _body(lines: list[str]) -> list[str]:
    """What stands between the markers.

    Raises:
        _Invalid: a marker is missing.
    """
    problem = _marker_problem(lines)
    if problem is None:
        return lines[1:-1]
    opening = _HERE_DOC.fullmatch(lines[0])
    if opening is not None and len(lines) >= 4 and lines[-1] == opening[2]:
        lines = lines[1:-1]
        problem = _marker_problem(lines)
        if problem is None:
            return lines[1:-1]
    raise _Invalid(f"invalid patch: {problem}")


def _marker_problem(lines: list[str]) -> str | None:
    if lines[0] != BEGIN:
        return f"The first line of the patch must be '{BEGIN}'"
    if lines[-1] != END:
        return f"The last line of the patch must be '{END}'"
    return None


def _invalid_hunk(at: int, why: str) -> _Invalid:
    """`at` counts from 0 behind the first marker, people count from 1 and with it."""
    return _Invalid(f"invalid hunk at line {at + 2}, {why}")


def _section(lines: list[str], at: int) -> tuple[Section, int]:
    """The section that begins at that line, and where the next one does."""
    header = lines[at].strip()
    if header.startswith(ADD):
        end = at + 1
        while end < len(lines) and lines[end].startswith("+"):
            end += 1
        content = "".join(f"{line[1:]}\n" for line in lines[at + 1 : end])
        return AddFile(header.removeprefix(ADD), content), end
    if header.startswith(DELETE):
        return DeleteFile(header.removeprefix(DELETE)), at + 1
    if header.startswith(UPDATE):
        return _update(lines, at, header.removeprefix(UPDATE))
    raise _invalid_hunk(
        at,
        f"'{shortened(header)}' is not a valid hunk header. Valid hunk headers: "
        "'*** Add File: {path}', '*** Delete File: {path}', '*** Update File: {path}'",
    )


def _update(lines: list[str], header_at: int, path: str) -> tuple[Section, int]:
    at = header_at + 1
    move_to: str | None = None
    if at < len(lines) and lines[at].strip().startswith(MOVE):
        move_to = lines[at].strip().removeprefix(MOVE)
        at += 1
    chunks: list[Chunk] = []
    while at < len(lines) and not lines[at].startswith("***"):
        if lines[at].strip():
            chunk, at = _chunk(lines, at, first=not chunks)
            chunks.append(chunk)
        else:
            at += 1
    if not chunks and move_to is None:
        raise _invalid_hunk(header_at, f"Update file hunk for path '{shortened(path)}' is empty")
    return UpdateFile(path, move_to, tuple(chunks)), at


def _chunk(lines: list[str], at: int, *, first: bool) -> tuple[Chunk, int]:
    anchor, begin = _opening(lines, at, first=first)
    if begin == len(lines):
        raise _invalid_hunk(at + 1, "Update hunk does not contain any lines")
    found: list[tuple[Sign, str]] = []
    for end in range(begin, len(lines)):
        line = lines[end]
        if line.rstrip() == END_OF_FILE:
            if not found:
                raise _invalid_hunk(at + 1, "Update hunk does not contain any lines")
            return Chunk(anchor, tuple(found), at_end=True), end + 1
        sign = " " if not line else _SIGNS.get(line[0])
        if sign is None:
            if found:
                return Chunk(anchor, tuple(found), at_end=False), end
            raise _invalid_hunk(
                at + 1,
                f"Unexpected line found in update hunk: '{shortened(line)}'. Every line should start with ' ' "
                "(context line), '+' (added line), or '-' (removed line)",
            )
        found.append((sign, line[1:]))
    return Chunk(anchor, tuple(found), at_end=False), len(lines)


def _opening(lines: list[str], at: int, *, first: bool) -> tuple[str | None, int]:
    """The anchor, and where the chunk's own lines begin."""
    line = lines[at]
    if line.rstrip() == "@@":
        return None, at + 1
    if line.startswith("@@ "):
        return line.removeprefix("@@ "), at + 1
    if first:
        return None, at
    raise _invalid_hunk(at, f"Expected update hunk to start with a @@ context marker, got: '{shortened(line)}'")
