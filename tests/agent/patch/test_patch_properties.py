"""Files and edits at random: a patch made of them gives the edited files, and a garbled one changes nothing or is one.

`CODEXDB_TEST_PATCH_EXAMPLES` says how many examples of each; 200 unless set, 2000 before a release.
"""

import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from patching import BEGIN, END, applied, files_in, lay_out

from codexdb.agent.tools.patch import unified
from codexdb.agent.tools.patch.__main__ import run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
EXAMPLES = int(os.environ.get("CODEXDB_TEST_PATCH_EXAMPLES", "200"))
MANY = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
FAST = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - files that are synced, thousands of times

NAMES = ["a", "b c", "ü", "d/e", "d/f/g"]
NEW_NAMES = ["n", "d/new", "x/y/ß", "-z"]
# Few different lines, so that most of them stand in several places; odd ones, so that a pass could go wrong.
ODD = [
    "",
    " ",
    "x",
    " x",
    "x ",
    "\tx",
    "-",
    "+",
    "@@",
    "*** End Patch",
    "*** Update File: a",
    "\u2014",
    "\u00a0",
    "a\rb",
    "ä€😀",
    "\x0c",
    "\u2028",
]
LINE = st.sampled_from(ODD) | st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"), max_size=6)
HEADERS = ["*** Delete File: a", "*** Move to: d", "*** Add File: d", "@@ x", BEGIN]

Op = tuple[str, str]  # sign and text, for the whole file


@dataclass(frozen=True)
class Edit:
    """One file: what stands there, what happens to it, and what is there afterwards."""

    name: str
    before: bytes
    ops: list[Op] | None  # None: deleted
    move_to: str | None
    expected: bytes


@st.composite
def edits(draw: st.DrawFn, name: str, move_to: str | None) -> Edit:
    bom = draw(st.sampled_from([b"", b"", b"\xef\xbb\xbf"]))
    ends = draw(st.sampled_from([["\n"], ["\n"], ["\r\n"], ["\n", "\r\n"]]))
    lines = [(draw(LINE), draw(st.sampled_from(ends))) for _ in range(draw(st.integers(0, 12)))]
    if lines and lines[-1][0] and draw(st.booleans()):
        lines[-1] = (lines[-1][0], "")
    before = bom + "".join(text + end for text, end in lines).encode()
    if move_to is None and draw(st.integers(0, 9)) == 0:
        return Edit(name, before, None, None, b"")
    crlf = [end for _, end in lines].count("\r\n")
    newline = "\r\n" if crlf > [end for _, end in lines].count("\n") else "\n"
    ops: list[Op] = []
    after: list[str] = []
    for text, end in lines:
        added = draw(st.lists(LINE, max_size=2)) if draw(st.integers(0, 3)) == 0 else []
        ops += [("+", new) for new in added]
        after += [new + newline for new in added]
        kept = draw(st.integers(0, 3)) > 0
        ops.append((" " if kept else "-", text))
        after += [text + (end or newline)] if kept else []
    added = draw(st.lists(LINE, max_size=2))
    ops += [("+", new) for new in added]
    after += [new + newline for new in added]
    if all(sign == " " for sign, _ in ops):
        return Edit(name, before, ops, move_to, before)
    return Edit(name, before, ops, move_to, bom + "".join(after).encode())


# -- patches from edits ------------------------------------------------------------------------------------------------


def _changed(ops: Sequence[Op]) -> list[tuple[int, int]]:
    """Runs of ops that change something."""
    runs: list[tuple[int, int]] = []
    for number, (sign, _) in enumerate(ops):
        if sign != " ":
            runs.append((runs.pop()[0] if runs and runs[-1][1] == number else number, number + 1))
    return runs


def _spans(ops: Sequence[Op], context: int) -> list[tuple[int, int]]:
    """The runs with that many lines around them; those that meet are one."""
    spans: list[tuple[int, int]] = []
    for begin, end in _changed(ops):
        first, last = max(0, begin - context), min(len(ops), end + context)
        if spans and spans[-1][1] >= first:
            spans[-1] = (spans[-1][0], last)
        else:
            spans.append((first, last))
    return spans


def _first(lines: Sequence[str], wanted: Sequence[str], cursor: int) -> int:
    return next(at for at in range(cursor, len(lines) + 1) if lines[at : at + len(wanted)] == wanted)


def _chunks(draw: st.DrawFn, ops: Sequence[Op], context: int) -> list[str] | None:
    """The update's lines, or None where that little context leaves a place in doubt."""
    old = [text for sign, text in ops if sign != "+"]
    result: list[str] = []
    cursor = 0
    for begin, end in _spans(ops, context):
        at = sum(sign != "+" for sign, _ in ops[:begin])
        wanted = [text for sign, text in ops[begin:end] if sign != "+"]
        anchor = draw(st.integers(cursor, at - 1)) if at > cursor and draw(st.booleans()) else None
        if anchor is not None and old[anchor].strip() and old.index(old[anchor], cursor) == anchor:
            result.append(f"@@ {old[anchor]}")
            cursor = anchor + 1
            sure = bool(wanted) or cursor == at
        else:
            result.append("@@")
            sure = bool(wanted) or at == len(old)
        if not sure or (wanted and _first(old, wanted, cursor) != at):
            return None
        cursor = at + len(wanted)
        result += [_line(draw, *op) for op in ops[begin:end]]
        if cursor == len(old) and draw(st.booleans()):
            result.append("*** End of File")
    return result


def _line(draw: st.DrawFn, sign: str, text: str) -> str:
    return "" if (sign, text) == (" ", "") and draw(st.booleans()) else sign + text


def _section(draw: st.DrawFn, edit: Edit) -> Iterator[str]:
    if edit.ops is None:
        yield f"*** Delete File: {edit.name}"
        return
    body: list[str] | None = None
    context = draw(st.integers(0, 3))
    while body is None:  # ends: the whole file is in no doubt
        body = _chunks(draw, edit.ops, context)
        context += 1
    if body or edit.move_to:
        yield f"*** Update File: {edit.name}"
    if edit.move_to:
        yield f"*** Move to: {edit.move_to}"
    yield from body


def _patch(draw: st.DrawFn, found: Sequence[Edit], added: dict[str, str]) -> list[str]:
    sections = [list(_section(draw, edit)) for edit in found]
    for name, content in added.items():
        sections.append([f"*** Add File: {name}", *[f"+{line}" for line in content.split("\n")[:-1]]])
    return [line for section in draw(st.permutations(sections)) for line in section]


def _expected(found: Sequence[Edit], added: dict[str, str]) -> dict[str, bytes]:
    kept = {edit.move_to or edit.name: edit.expected for edit in found if edit.ops is not None}
    return kept | {name: content.encode() for name, content in added.items()}


@dataclass(frozen=True)
class Scene:
    """Files that are there, a patch for them without its markers, and what is there afterwards."""

    before: dict[str, bytes]
    lines: list[str]
    expected: dict[str, bytes]


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    names = draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=3))
    free = draw(st.permutations(NEW_NAMES))
    moves = [draw(st.none() | st.just(free[number])) for number in range(len(names))]
    found = [draw(edits(name, move_to)) for name, move_to in zip(names, moves, strict=True)]
    added = {free[3]: "".join(f"{line}\n" for line in draw(st.lists(LINE, max_size=4)))} if draw(st.booleans()) else {}
    before = {edit.name: edit.before for edit in found}
    return Scene(before, _patch(draw, found, added), _expected(found, added))


@MANY
@given(scenes())
def test_a_patch_made_of_edits_gives_the_edited_files(scene: Scene) -> None:
    if not scene.lines:
        return
    with tempfile.TemporaryDirectory(dir=FAST) as name:
        lay_out(Path(name), scene.before)
        done, text = run("\n".join([BEGIN, *scene.lines, END]), name)
        assert done, text
        assert "did not match exactly" not in text
        assert files_in(Path(name)) == scene.expected


@MANY
@given(st.data(), scenes())
def test_a_garbled_patch_is_refused_and_changes_nothing_or_is_one(data: st.DataObject, scene: Scene) -> None:
    lines = [BEGIN, *scene.lines, END]
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(lines)))
        new = data.draw(st.lists(LINE | st.sampled_from(HEADERS), max_size=1))
        lines[at : at + data.draw(st.integers(0, 2))] = new
    with tempfile.TemporaryDirectory(dir=FAST) as name:
        lay_out(Path(name), scene.before)
        before = files_in(Path(name))
        done, text = run("\n".join(lines), name)
        after = files_in(Path(name))
        assert not [path for path in after if "codexdb" in path]
        if done:
            assert text.startswith("Success. Updated the following files:\n")
        else:
            assert after == before
            assert text.startswith(("error: ", "patch rejected: ", "Failed to "))


@MANY
@given(st.lists(LINE, max_size=15), st.data(), st.integers(0, 3))
def test_hunks_say_how_one_text_becomes_the_other(lines: list[str], data: st.DataObject, context: int) -> None:
    new = list(lines)
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(new)))
        new[at : at + data.draw(st.integers(0, 3))] = data.draw(st.lists(LINE, max_size=3))
    texts = ["\n".join(each) + data.draw(st.sampled_from(["", "\n"])) for each in (lines, new)]
    assert applied(texts[0], unified.hunks(texts[0], texts[1], context)) == texts[1]
