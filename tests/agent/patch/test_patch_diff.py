"""The diff of a turn: what git would print, and what git can apply."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from patching import Files, applied, files_in, lay_out, patch

from codexdb.agent.tools.patch import grammar, unified
from codexdb.agent.tools.patch.apply import Applied, apply
from codexdb.agent.tools.patch.diff import merge, turn_diff
from codexdb.agent.tools.patch.disk import Image
from codexdb.agent.tools.patch.verify import Plan, verify

WAIT_S = 30
GIT_DIFF = ("-c", "core.quotePath=off", "diff", "--cached", "--full-index", "--no-renames")
RECORDED = patch("*** Add File: new.txt", "+hello", "*** Update File: old.txt", "@@", "-aaa", "+bbb")
LINES = "".join(f"line {number}\n" for number in range(40))


class Turn:
    """Patches of one turn in one folder."""

    def __init__(self, folder: Path, files: Files) -> None:
        self.folder = folder
        self.first: dict[str, Image] = {}
        self.moves: list[tuple[str, str]] = []
        lay_out(folder, files)

    def patch(self, *lines: str) -> None:
        sections = grammar.parse(patch(*lines))
        assert not isinstance(sections, str), sections
        plan = verify(sections, str(self.folder))
        assert isinstance(plan, Plan), plan
        assert isinstance(apply(plan), Applied)
        merge(self.first, plan.images)
        self.moves += plan.moves

    def diff(self) -> str:
        return turn_diff(self.first, self.moves, str(self.folder))


def test_diff_is_that_of_the_recordings_with_relative_names(tmp_path: Path) -> None:
    turn = Turn(tmp_path, {"old.txt": "aaa\n"})
    turn.patch(*RECORDED.splitlines()[1:-1])
    assert turn.diff() == (
        "diff --git a/new.txt b/new.txt\nnew file mode 100644\n"
        "index 0000000000000000000000000000000000000000..ce013625030ba8dba906f756967f9e9ca394464a\n"
        "--- /dev/null\n+++ b/new.txt\n@@ -0,0 +1 @@\n+hello\n"
        "diff --git a/old.txt b/old.txt\n"
        "index 72943a16fb2c8f38f9dde202b7a70ccc19c52f34..f761ec192d9f0dca3329044b96ebdb12839dbff6\n"
        "--- a/old.txt\n+++ b/old.txt\n@@ -1 +1 @@\n-aaa\n+bbb\n"
    )


def test_names_are_relative_to_the_git_root_and_absolute_outside_of_it(tmp_path: Path) -> None:
    (tmp_path / "repo/.git").mkdir(parents=True)
    turn = Turn(tmp_path / "repo/src", {"a": "1\n"})
    turn.patch("*** Update File: a", "@@", "-1", "+2", "*** Add File: ../../out")
    assert [line for line in turn.diff().splitlines() if line.startswith("diff")] == [
        f"diff --git a/{tmp_path}/out b/{tmp_path}/out",
        "diff --git a/src/a b/src/a",
    ]


def test_diff_is_cumulative_and_ends_where_everything_is_as_it_was(tmp_path: Path) -> None:
    turn = Turn(tmp_path, {"a": "1\n2\n"})
    turn.patch("*** Update File: a", "@@", "-1", "+x")
    turn.patch("*** Update File: a", "@@", "-2", "+y", "*** Add File: n")
    assert turn.diff().count("diff --git") == 2
    assert "\n-1\n-2\n+x\n+y\n" in turn.diff()
    turn.patch("*** Update File: a", "@@", "-x", "-y", "+1", "+2", "*** Delete File: n")
    assert turn.diff() == ""


def test_what_failed_or_was_changed_by_others_is_seen_as_it_is(tmp_path: Path) -> None:
    turn = Turn(tmp_path, {"a": "1\n", "b": "1\n"})
    sections = grammar.parse(patch("*** Delete File: a", "*** Delete File: x"))
    assert not isinstance(sections, str)
    plan = verify(sections, str(tmp_path))
    assert isinstance(plan, Plan)
    assert not isinstance(apply(plan), Applied)
    merge(turn.first, plan.images)
    assert turn.diff() == ""
    (tmp_path / "a").write_text("others\n")
    assert "\n-1\n+others\n" in turn.diff()


def test_renames_are_one_entry_with_both_names(tmp_path: Path) -> None:
    turn = Turn(tmp_path, {"a": "1\n", "b": LINES})
    turn.patch("*** Update File: a", "*** Move to: c", "*** Update File: b", "*** Move to: t")
    turn.patch("*** Update File: t", "*** Move to: d", "@@", " line 8", "-line 9", "+x")
    assert turn.diff().startswith(
        "diff --git a/a b/c\nrename from a\nrename to c\ndiff --git a/b b/d\nrename from b\nrename to d\nindex "
    )
    assert turn.diff().count("diff --git") == 2


def test_binary_and_unkept_files_are_noted(tmp_path: Path) -> None:
    turn = Turn(tmp_path, {"a": b"\0", "b": b"\xff", "c": b"x" * (8 * 1024 * 1024 + 1)})
    turn.patch("*** Delete File: a", "*** Delete File: b", "*** Delete File: c")
    notes = [line for line in turn.diff().splitlines() if line.startswith("Binary")]
    assert notes == [f"Binary files a/{name} and /dev/null differ" for name in "abc"]


def test_a_diff_that_nobody_could_read_is_left_out(tmp_path: Path) -> None:
    names = ["a", "b", "c"]
    turn = Turn(tmp_path, {})
    for name in names:
        turn.patch(f"*** Add File: {name}", *[f"+{'x' * 99}"] * 18_000)
    assert [line for line in turn.diff().splitlines() if line.startswith("(")] == [
        "(a diff of 1818171 bytes is left out here: c)"
    ]


def _git(folder: Path, *arguments: str, given: str = "") -> str:
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C"}
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env=environment,
        input=given.encode(),
        capture_output=True,
        check=False,
        timeout=WAIT_S,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


TURNS: dict[str, tuple[Files, Sequence[Sequence[str]]]] = {
    "add, change, delete": (
        {"a": LINES, "b": "1\n"},
        [["*** Add File: n", "+x", "*** Update File: a", "@@ line 20", "-line 21", "+x", "*** Delete File: b"]],
    ),
    "empty files": (
        {"a": "", "b": "1\n"},
        [["*** Add File: n", "*** Delete File: a", "*** Update File: b", "@@", "-1"]],
    ),
    "no final line end": ({"a": "1\n2"}, [["*** Update File: a", "@@", "-1", "+x"]]),
    "CRLF": ({"a": "1\r\n2\r\n"}, [["*** Update File: a", "@@", "-2", "+x"]]),
    "rename": ({"p/a": LINES}, [["*** Update File: p/a", "*** Move to: q/b", "@@", "-line 3", "+x"]]),
    "rename alone": ({"a": LINES}, [["*** Update File: a", "*** Move to: b"]]),
    "swap": (
        {"a": "1\n", "b": "2\n"},
        [
            ["*** Update File: a", "*** Move to: t"],
            ["*** Update File: b", "*** Move to: a"],
            ["*** Update File: t", "*** Move to: b"],
        ],
    ),
    "odd names": (
        {"with blank": "1\n", "ü": "1\n", 'q"\\': "1\n"},
        [[line for name in ("with blank", "ü", 'q"\\') for line in (f"*** Update File: {name}", "@@", "-1", "+2")]],
    ),
    "odd names, new ones": ({}, [["*** Add File: a b", "+x", '*** Add File: "', "+x", "*** Add File: t\tb", "+x"]]),
    "many places": (
        {"a": LINES},
        [["*** Update File: a", *[x for n in (2, 9, 17, 30) for x in ("@@", f"-line {n}", f"+{n}")], "@@", "+end"]],
    ),
    "replaced": ({"a": LINES}, [["*** Add File: a", "+x"]]),
    "deleted and added": ({"a": LINES}, [["*** Delete File: a"], ["*** Add File: a", "+line 1"]]),
}


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
@pytest.mark.parametrize("name", TURNS)
def test_git_applies_the_diff_and_gets_the_same_files(tmp_path: Path, name: str) -> None:
    files, patches = TURNS[name]
    folder, other = tmp_path / "one", tmp_path / "other"
    lay_out(other, files)
    other.mkdir(exist_ok=True)
    folder.mkdir()
    turn = Turn(folder, files)
    for lines in patches:
        turn.patch(*lines)
    _git(other, "init", "-q")
    _git(other, "apply", "--whitespace=nowarn", given=turn.diff())
    assert {key: value for key, value in files_in(other).items() if not key.startswith(".git/")} == files_in(folder)


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
@pytest.mark.parametrize(
    "name",
    [
        "add, change, delete",
        "empty files",
        "no final line end",
        "many places",
        "CRLF",
        "odd names",
        "odd names, new ones",
    ],
)
def test_diff_is_what_git_prints(tmp_path: Path, name: str) -> None:
    files, patches = TURNS[name]
    turn = Turn(tmp_path, files)
    _git(tmp_path, "init", "-q")
    _git(tmp_path, "add", ".")
    before = _git(tmp_path, "write-tree").strip()
    for lines in patches:
        turn.patch(*lines)
    _git(tmp_path, "add", "-A")
    printed = _git(tmp_path, *GIT_DIFF, before).splitlines()
    assert turn.diff().splitlines() == [_without_what_git_adds(line) for line in printed]


def _without_what_git_adds(line: str) -> str:
    """The mode of a file that keeps it, and the function that a hunk may be in."""
    if line.startswith("index"):
        return line.removesuffix(" 100644")
    return line[: line.index(" @@") + 3] if line.startswith("@@") else line


def test_bits_that_changed_are_told(tmp_path: Path) -> None:
    turn = Turn(tmp_path, {"a": "1\n"})
    turn.patch("*** Update File: a", "@@", " 1")
    (tmp_path / "a").chmod(0o755)
    assert turn.diff() == "diff --git a/a b/a\nold mode 100644\nnew mode 100755\n"


# -- hunks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("a\nb\nc\n", "a\nx\nc\n"),
        ("", "a\n"),
        ("a\n", ""),
        ("a\n" * 3_000, "b\n" * 3_000),
        ("a\nb\n" * 3_000, "b\na\n" * 3_000),
        ("a\n" * 9_000 + "b\n", "b\n" + "a\n" * 9_000),
        ("x\ny\n" * 4_000, "y\nz\n" * 4_000),
        ("".join(f"{n % 7}\n" for n in range(20_000)), "".join(f"{n % 11}\n" for n in range(20_000))),
        ("".join(f"{n}\n" for n in range(100_000)), "".join(f"{n}\n" for n in range(100_000, 0, -1))),
        ("".join(f"{n}\n" for n in range(100_000)), "".join(f"{n // 2 * 2}\n" for n in range(100_000))),
    ],
)
def test_hunks_of_any_two_texts_are_right_and_take_a_bounded_time(old: str, new: str) -> None:
    for context in (0, 1, 3):
        assert applied(old, unified.hunks(old, new, context)) == new


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("a\nb\n" * 3_000, "b\na\n" * 3_000),  # close to each other, but too many lines to find out
        ("a\nb\nc\nd\n" * 300, "d\nd\na\na\n" * 300),  # few lines, but far from each other
    ],
)
def test_what_would_take_too_long_to_compare_is_shown_as_one_block(old: str, new: str) -> None:
    lines = old.count("\n")
    assert unified.hunks(old, new, 3).splitlines()[0] == f"@@ -1,{lines} +1,{lines} @@"
    assert unified.hunks(old, new, 3).count("\n ") == 0


def test_small_changes_in_a_large_file_stay_small() -> None:
    old = "".join(f"{n}\n" for n in range(100_000))
    new = old.replace("\n500\n", "\nx\n").replace("\n70000\n", "\n")
    assert unified.hunks(old, new, 0) == "@@ -501 +501 @@\n-500\n+x\n@@ -70001 +70000,0 @@\n-70000\n"
