"""Where in a file a chunk belongs, and the file after it. Four passes, each more forgiving than the one before.

The cost is bounded for any input by a `Work` that all updates of a patch share.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from codexdb.agent.tools.patch.filetext import FileText
from codexdb.agent.tools.patch.grammar import Chunk, Sign
from codexdb.agent.tools.patch.wording import quoted_lines, shortened
from codexdb.domain.limits import PATCH_WORK_MAX

_TYPOGRAPHIC = str.maketrans(
    dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-")
    | dict.fromkeys("\u2018\u2019\u201a\u201b", "'")
    | dict.fromkeys("\u201c\u201d\u201e\u201f", '"')
    | dict.fromkeys("\u00a0\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000", " ")
)


def _as_it_is(line: str) -> str:
    return line


def _plain(line: str) -> str:
    return line.strip().translate(_TYPOGRAPHIC)


_PASSES: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("", _as_it_is),
    ("trailing blanks were ignored", str.rstrip),
    ("leading and trailing blanks were ignored", str.strip),
    ("blanks and typographic characters were ignored", _plain),
)


@dataclass(frozen=True, slots=True)
class Loose:
    """A chunk whose lines are not exactly those of the file."""

    line: int  # of the file before the change, from 1
    how: str


@dataclass(frozen=True, slots=True)
class Edited:
    """The file after all chunks."""

    text: FileText
    loose: tuple[Loose, ...]


class Work:
    """How much comparing a patch may still cost."""

    def __init__(self, left: int = PATCH_WORK_MAX) -> None:
        self._left = left

    def spend(self, amount: int) -> None:
        """Note what is about to be done.

        Raises:
            TooMuchWork: it is more than is left.
        """
        self._left -= amount
        if self._left < 0:
            raise TooMuchWork


class TooMuchWork(Exception):  # noqa: N818 - a bound, which `verify` turns into a sentence
    """The patch needs more comparisons than `PATCH_WORK_MAX`."""


class _NotFound(Exception):  # noqa: N818 - ends in a text, in `edit`
    pass


@dataclass(frozen=True, slots=True)
class _Replacement:
    at: int  # line, from 0
    lines: tuple[tuple[Sign, str], ...]


def edit(text: FileText, chunks: Sequence[Chunk], shown: str, work: Work) -> Edited | str:
    """The file with every chunk applied, or the sentence that says which one has no place in it.

    Kept lines stay as the file has them, also where they matched loosely; added lines end as most lines of the file
    do, and so does the last line, always. `shown` is the file's name in the sentence.

    Raises:
        TooMuchWork: the budget is used up.
    """
    places = _Places(text.lines, work)
    try:
        replacements = places.of(chunks)
    except _NotFound as missing:
        return f"{missing} in {shown}"
    return Edited(_replaced(text, replacements), tuple(places.loose))


class _Places:
    """Goes through one file with a cursor."""

    def __init__(self, lines: list[str], work: Work) -> None:
        work.spend(len(lines))
        self._lines: list[list[str] | None] = [lines, None, None, None]
        self._count = len(lines)
        self._work = work
        self.loose: list[Loose] = []

    def of(self, chunks: Sequence[Chunk]) -> list[_Replacement]:
        cursor = 0
        found: list[_Replacement] = []
        for chunk in chunks:
            replacement, cursor = self._place(chunk, cursor)
            found.append(replacement)
        return sorted(found, key=lambda each: each.at)  # only insertions at the end can be out of order

    def _place(self, chunk: Chunk, cursor: int) -> tuple[_Replacement, int]:
        insert_at = self._count
        if chunk.anchor is not None:
            anchor = self._find([chunk.anchor], cursor, at_end=False)
            if anchor is None:
                raise _NotFound(f"Failed to find context '{shortened(chunk.anchor)}'")
            cursor = insert_at = anchor[0] + 1
        old, lines = chunk.old, chunk.lines
        found = self._find(old, cursor, at_end=chunk.at_end) if old else None
        if old and found is None and not old[-1]:
            lines = _without_last_empty(lines)
            old.pop()
            found = self._find(old, cursor, at_end=chunk.at_end) if old else None
        if not old:
            return _Replacement(insert_at, lines), cursor
        if found is None:
            raise _NotFound(f"Failed to find expected lines {quoted_lines(chunk.old)}")
        at, how = found
        if how:
            self.loose.append(Loose(at + 1, how))
        return _Replacement(at, lines), at + len(old)

    def _find(self, old: list[str], cursor: int, *, at_end: bool) -> tuple[int, str] | None:
        """Where these lines stand at or after the cursor, and what was ignored to find them there."""
        last = self._count - len(old)
        if last < cursor:
            return None
        if at_end:
            for how, normal in _PASSES:
                self._work.spend(len(old))
                if [normal(line) for line in self._lines_of(0)[last:]] == [normal(line) for line in old]:
                    return last, how
        for number, (how, normal) in enumerate(_PASSES):
            at = self._seek(self._lines_of(number), [normal(line) for line in old], cursor, last)
            if at is not None:
                return at, how
        return None

    def _seek(self, lines: list[str], wanted: list[str], at: int, last: int) -> int | None:
        while True:
            try:
                candidate = lines.index(wanted[0], at, last + 1)
            except ValueError:
                self._work.spend(max(0, last - at))
                return None
            self._work.spend(candidate - at + len(wanted))
            if lines[candidate : candidate + len(wanted)] == wanted:
                return candidate
            at = candidate + 1

    def _lines_of(self, number: int) -> list[str]:
        """The file's lines as that pass compares them."""
        known = self._lines[number]
        if known is None:
            plain = self._lines_of(0)
            self._work.spend(sum(map(len, plain)) // 16 + len(plain))
            known = self._lines[number] = [_PASSES[number][1](line) for line in plain]
        return known


def _without_last_empty(lines: tuple[tuple[Sign, str], ...]) -> tuple[tuple[Sign, str], ...]:
    """The chunk without its last old line, which is empty, and without the empty line that replaces it."""
    at = max(number for number, (sign, _) in enumerate(lines) if sign != "+")
    sign, after = lines[at][0], list(lines[at + 1 :])
    if after and not after[-1][1]:
        after.pop()
        kept: list[tuple[Sign, str]] = [("+", "")] if sign == " " else []
        return (*lines[:at], *kept, *after)
    if sign == " " and after:
        return (*lines[:at], ("+", ""), *after)
    return (*lines[:at], *after)


def _replaced(text: FileText, replacements: list[_Replacement]) -> FileText:
    newline = text.newline
    lines: list[str] = []
    ends: list[str] = []
    at = 0
    for replacement in replacements:
        lines += text.lines[at : replacement.at]
        ends += text.ends[at : replacement.at]
        at = replacement.at
        for sign, line in replacement.lines:
            if sign == "+":
                lines.append(line)
                ends.append(newline)
                continue
            if sign == " ":
                lines.append(text.lines[at])
                ends.append(text.ends[at])
            at += 1
    lines += text.lines[at:]
    ends += text.ends[at:]
    return FileText(text.bom, lines, [end or newline for end in ends])
