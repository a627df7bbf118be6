"""The difference of two texts as hunks of a unified diff, in bounded time for any input.

Lines that occur once on each side hold the texts together (patience); between them the shortest edit is searched
(Myers), and where that costs more than `DIFF_EDITS_MAX` allows, the place is shown as one block.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from codexdb.domain.limits import DIFF_EDITS_MAX, DIFF_LINES_MAX


@dataclass(frozen=True, slots=True)
class _Change:
    """Lines old_at:old_end of one text are lines new_at:new_end of the other."""

    old_at: int
    old_end: int
    new_at: int
    new_end: int


def hunks(old: str, new: str, context: int) -> str:
    """The hunks that turn `old` into `new`, with that many lines around each change; "" where they are the same."""
    if old == new:
        return ""
    a, b = _lines(old), _lines(new)
    return "".join(_hunk(a, b, group, context) for group in _groups(_changes(a, b), context))


def _lines(text: str) -> list[str]:
    """With their ends. Only a line feed ends a line, as for git."""
    lines = text.split("\n")
    last = lines.pop()
    return [f"{line}\n" for line in lines] + ([last] if last else [])


def _hunk(a: Sequence[str], b: Sequence[str], group: Sequence[_Change], context: int) -> str:
    first, last = group[0], group[-1]
    before = min(context, first.old_at)
    after = min(context, len(a) - last.old_end)
    a_from, a_to = first.old_at - before, last.old_end + after
    b_from, b_to = first.new_at - before, last.new_end + after
    parts = [f"@@ -{_range(a_from, a_to)} +{_range(b_from, b_to)} @@\n"]
    at = a_from
    for change in group:
        parts += [_line(" ", line) for line in a[at : change.old_at]]
        parts += [_line("-", line) for line in a[change.old_at : change.old_end]]
        parts += [_line("+", line) for line in b[change.new_at : change.new_end]]
        at = change.old_end
    parts += [_line(" ", line) for line in a[at:a_to]]
    return "".join(parts)


def _range(begin: int, end: int) -> str:
    count = end - begin
    first = begin + 1 if count else begin
    return f"{first}" if count == 1 else f"{first},{count}"


def _line(sign: str, line: str) -> str:
    return sign + line if line.endswith("\n") else f"{sign}{line}\n\\ No newline at end of file\n"


def _groups(changes: Iterable[_Change], context: int) -> Iterator[list[_Change]]:
    group: list[_Change] = []
    for change in changes:
        if group and change.old_at - group[-1].old_end > 2 * context:
            yield group
            group = []
        group.append(change)
    if group:
        yield group


def _changes(a: Sequence[str], b: Sequence[str]) -> Iterator[_Change]:
    """What differs, in order, with at least one common line between two of them."""
    at, at_new = 0, 0
    for i, j in [*_unique_pairs(a, b), (len(a), len(b))]:
        yield from _between(a, b, _trimmed(a, b, _Change(at, i, at_new, j)))
        at, at_new = i + 1, j + 1


def _unique_pairs(a: Sequence[str], b: Sequence[str]) -> list[tuple[int, int]]:
    """Positions of lines that occur once in both, as many as keep their order."""
    counts, counts_new = Counter(a), Counter(b)
    place = {line: j for j, line in enumerate(b) if counts_new[line] == 1}
    pairs = [(i, place[line]) for i, line in enumerate(a) if counts[line] == 1 and line in place]
    tails: list[int] = []  # the smallest end of an increasing run of each length, and which pair it is
    ends: list[int] = []
    previous: list[int] = []
    for number, (_, j) in enumerate(pairs):
        at = bisect_left(tails, j)
        previous.append(ends[at - 1] if at else -1)
        tails[at : at + 1], ends[at : at + 1] = [j], [number]
    run: list[tuple[int, int]] = []
    number = ends[-1] if ends else -1
    while number >= 0:
        run.append(pairs[number])
        number = previous[number]
    return run[::-1]


def _trimmed(a: Sequence[str], b: Sequence[str], span: _Change) -> _Change:
    """Without what is the same at both ends."""
    old_at, old_end, new_at, new_end = span.old_at, span.old_end, span.new_at, span.new_end
    while old_at < old_end and new_at < new_end and a[old_at] == b[new_at]:
        old_at, new_at = old_at + 1, new_at + 1
    while old_at < old_end and new_at < new_end and a[old_end - 1] == b[new_end - 1]:
        old_end, new_end = old_end - 1, new_end - 1
    return _Change(old_at, old_end, new_at, new_end)


def _between(a: Sequence[str], b: Sequence[str], span: _Change) -> Iterator[_Change]:
    old, new = a[span.old_at : span.old_end], b[span.new_at : span.new_end]
    if not old and not new:
        return
    path = _shortest(old, new) if old and new and len(old) + len(new) <= DIFF_LINES_MAX else None
    if path is None:
        yield span
        return
    i, j = 0, 0
    for x, y in [*path, (len(old), len(new))]:
        if x > i or y > j:
            yield _Change(span.old_at + i, span.old_at + x, span.new_at + j, span.new_at + y)
        i, j = x + 1, y + 1


def _shortest(old: Sequence[str], new: Sequence[str]) -> list[tuple[int, int]] | None:
    """The common lines of a shortest edit, or None where it has more than `DIFF_EDITS_MAX` steps."""
    reach = {1: 0}
    history: list[dict[int, int]] = []
    for steps in range(min(DIFF_EDITS_MAX, len(old) + len(new)) + 1):
        history.append(dict(reach))
        for k in range(-steps, steps + 1, 2):
            down = k == -steps or (k != steps and reach[k - 1] < reach[k + 1])
            x = reach[k + 1] if down else reach[k - 1] + 1
            while x < len(old) and x - k < len(new) and old[x] == new[x - k]:
                x += 1
            reach[k] = x
            if x >= len(old) and x - k >= len(new):
                return _common(history, x, k)
    return None


def _common(history: Sequence[dict[int, int]], x: int, k: int) -> list[tuple[int, int]]:
    """Back along the way that reached the end."""
    found: list[tuple[int, int]] = []
    for steps in range(len(history) - 1, -1, -1):
        reach = history[steps]
        down = k == -steps or (k != steps and reach[k - 1] < reach[k + 1])
        k_before = k + 1 if down else k - 1
        begin = reach[k_before] if down else reach[k_before] + 1
        while x > begin:
            x -= 1
            found.append((x, x - k))
        if steps:
            x, k = reach[k_before], k_before
    return found[::-1]
