"""What events show of a patch, and what its caller has to allow."""

from pathlib import Path

import pytest
from patching import Files, lay_out, patch

from codexdb.agent.tools.patch import events, grammar
from codexdb.agent.tools.patch.apply import Applied, Failed, apply
from codexdb.agent.tools.patch.verify import Plan, verify

RECORDED = patch("*** Add File: new.txt", "+hello", "*** Update File: old.txt", "@@", "-aaa", "+bbb")
A = {"a": "1\n2\n3\n4\n5\n"}


def planned(folder: Path, text: str, files: Files | None = None) -> Plan:
    lay_out(folder, files or {})
    sections = grammar.parse(text)
    assert not isinstance(sections, str), sections
    plan = verify(sections, str(folder))
    assert isinstance(plan, Plan), plan
    return plan


def _update(diff: str, move_path: str | None = None) -> object:
    return {"update": {"unified_diff": diff, "move_path": move_path}}


def test_changes_and_texts_are_those_of_the_recordings(tmp_path: Path) -> None:
    plan = planned(tmp_path, RECORDED, {"old.txt": "aaa\n"})
    assert list(events.changes(plan).items()) == [
        (f"{tmp_path}/new.txt", {"add": {"content": "hello\n"}}),
        (f"{tmp_path}/old.txt", _update("@@ -1 +1 @@\n-aaa\n+bbb\n")),
    ]
    assert apply(plan) == Applied("Success. Updated the following files:\nA new.txt\nM old.txt\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("*** Begin Patch\ngarbage", "invalid patch: The last line of the patch must be '*** End Patch'"),
        (RECORDED.replace("-aaa", "-zzz"), 'error: Failed to find expected lines ["zzz"] in {cwd}/old.txt'),
    ],
)
def test_refusals_are_those_of_the_recordings(tmp_path: Path, text: str, said: str) -> None:
    lay_out(tmp_path, {"old.txt": "aaa\n"})
    sections = grammar.parse(text)
    answer = sections if isinstance(sections, str) else verify(sections, str(tmp_path))
    assert answer == said.replace("{cwd}", str(tmp_path))


CHANGES: dict[str, tuple[str, dict[str, object]]] = {
    "delete": (patch("*** Delete File: a"), {"a": "delete"}),
    "a deletion that will fail": (patch("*** Delete File: x"), {"x": "delete"}),
    "a line of context around a change": (
        patch("*** Update File: a", "@@", "-3", "+c"),
        {"a": _update("@@ -2,3 +2,3 @@\n 2\n-3\n+c\n 4\n")},
    ),
    "move": (patch("*** Update File: a", "*** Move to: b"), {"a": _update("", "{cwd}/b")}),
    "move and change": (
        patch("*** Update File: a", "*** Move to: b", "@@", "-1", "+x"),
        {"a": _update("@@ -1,2 +1,2 @@\n-1\n+x\n 2\n", "{cwd}/b")},
    ),
    "move on": (
        patch("*** Update File: a", "*** Move to: b", "*** Update File: b", "*** Move to: c"),
        {"a": _update("", "{cwd}/c")},
    ),
    "move away and add anew": (
        patch("*** Update File: a", "*** Move to: b", "*** Add File: a", "+x"),
        {"a": {"add": {"content": "x\n"}}, "b": {"add": {"content": A["a"]}}},
    ),
    "two sections": (
        patch("*** Update File: a", "@@", "-1", "+x", "*** Update File: a", "@@", "-2", "+y"),
        {"a": _update("@@ -1,3 +1,3 @@\n-1\n-2\n+x\n+y\n 3\n")},
    ),
    "replace": (patch("*** Add File: a", "+x"), {"a": {"add": {"content": "x\n"}}}),
    "add and change": (
        patch("*** Add File: n", "+1", "*** Update File: n", "@@", "-1", "+2"),
        {"n": {"add": {"content": "2\n"}}},
    ),
    "add and move": (
        patch("*** Add File: n", "+1", "*** Update File: n", "*** Move to: m"),
        {"m": {"add": {"content": "1\n"}}},
    ),
    "in the order of the patch": (
        patch("*** Add File: z", "*** Delete File: a", "*** Add File: b"),
        {"z": {"add": {"content": ""}}, "a": "delete", "b": {"add": {"content": ""}}},
    ),
    "a lost line end": (
        patch("*** Update File: e", "@@", "-1", "+x"),
        {"e": _update("@@ -1 +1 @@\n-1\n\\ No newline at end of file\n+x\n")},
    ),
    "without .": (patch("*** Add File: ./p//n"), {"p/n": {"add": {"content": ""}}}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_changes(tmp_path: Path, name: str) -> None:
    text, expected = CHANGES[name]
    plan = planned(tmp_path, text, {**A, "e": "1"})
    found = {path.removeprefix(f"{tmp_path}/"): change for path, change in events.changes(plan).items()}
    assert str(list(found.items())).replace(str(tmp_path), "{cwd}") == str(list(expected.items()))


def test_paths_are_real_ones_whatever_the_patch_calls_them(tmp_path: Path) -> None:
    lay_out(tmp_path, {"inside/a": "1\n", "outside/x/b": "1\n", "outside/c": "1\n"})
    (tmp_path / "inside/link").symlink_to("../outside/x")
    (tmp_path / "inside/file").symlink_to("../outside/c")
    text = patch(
        "*** Add File: n",
        "*** Add File: ../outside/n",
        "*** Update File: link/b",
        "*** Move to: link/../d",
        "*** Update File: file",
        "@@",
        "-1",
        f"*** Add File: {tmp_path}/abs",
    )
    sections = grammar.parse(text)
    assert not isinstance(sections, str)
    plan = verify(sections, str(tmp_path / "inside"))
    assert isinstance(plan, Plan)
    real = ["inside/n", "outside/n", "outside/x/b", "outside/d", "outside/c", "abs"]
    assert plan.paths == tuple(f"{tmp_path}/{name}" for name in real)
    assert list(plan.images) == list(plan.paths)
    shown = ["inside/n", "outside/n", "inside/link/b", "inside/file", "abs"]
    assert list(events.changes(plan)) == [f"{tmp_path}/{name}" for name in shown]
    assert isinstance(apply(plan), Applied)
    assert (tmp_path / "outside/d").read_text() == "1\n"
    assert (tmp_path / "inside/file").is_symlink()
    assert (tmp_path / "outside/c").read_text() == ""


def test_what_changed_since_it_was_verified_is_not_overwritten(tmp_path: Path) -> None:
    plan = planned(tmp_path, RECORDED, {"old.txt": "aaa\n"})
    (tmp_path / "old.txt").write_text("mine\n")
    why = "somebody else has changed it since the patch was verified"
    assert apply(plan) == Failed(f"Failed to write file old.txt: {why}")
    (tmp_path / "old.txt").write_text("aaa\n")
    (tmp_path / "new.txt").write_text("mine\n")
    assert apply(plan) == Failed(f"Failed to write file new.txt: {why}")
    (tmp_path / "new.txt").unlink()
    assert isinstance(apply(plan), Applied)


def test_a_folder_that_became_a_link_since_it_was_verified_is_not_followed(tmp_path: Path) -> None:
    plan = planned(tmp_path, patch("*** Add File: p/n", "+x"), {"p/a": "", "elsewhere/a": ""})
    (tmp_path / "p").rename(tmp_path / "q")
    (tmp_path / "p").symlink_to("elsewhere")
    assert isinstance(apply(plan), Failed)
    assert not (tmp_path / "elsewhere/n").exists()


def test_a_link_that_leads_elsewhere_since_it_was_verified_is_not_followed(tmp_path: Path) -> None:
    lay_out(tmp_path, {"x": "1\n", "y": "1\n"})
    (tmp_path / "link").symlink_to("x")
    plan = planned(tmp_path, patch("*** Update File: link", "@@", "-1", "+2"))
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to("y")
    assert isinstance(apply(plan), Failed)
    assert ((tmp_path / "x").read_text(), (tmp_path / "y").read_text()) == ("1\n", "1\n")


def test_images_hold_what_a_rollback_needs(tmp_path: Path) -> None:
    text = patch("*** Add File: n", "*** Update File: a", "@@", "-1", "*** Delete File: b", "*** Add File: c")
    plan = planned(tmp_path, text, {**A, "b": b"\xff\0", "c": "old"})
    (tmp_path / "b").chmod(0o750)
    images = [(image.kind, image.content) for image in plan.images.values()]
    assert images == [("absent", None), ("file", b"1\n2\n3\n4\n5\n"), ("file", b"\xff\0"), ("file", b"old")]
    assert all(image.kept for image in plan.images.values())


def test_what_is_too_large_to_be_kept_says_so(tmp_path: Path) -> None:
    size = 8 * 1024 * 1024 + 1
    plan = planned(tmp_path, patch("*** Delete File: a"), {"a": b"x" * size})
    (image,) = plan.images.values()
    assert (image.kind, image.content, image.size, image.kept) == ("file", None, size, False)


def test_what_is_kept_is_bounded_in_all(tmp_path: Path) -> None:
    size = 7 * 1024 * 1024
    names = [f"f{number}" for number in range(6)]
    text = patch(*[f"*** Delete File: {name}" for name in names])
    plan = planned(tmp_path, text, dict.fromkeys(names, b"x" * size))
    assert [image.kept for image in plan.images.values()] == [True] * 4 + [False] * 2
    assert isinstance(apply(plan), Applied)
    assert list(tmp_path.iterdir()) == []


def test_what_is_read_is_bounded_in_all(tmp_path: Path) -> None:
    names = [f"f{number}" for number in range(9)]
    lay_out(tmp_path, dict.fromkeys(names, b"2\n" + b"x" * 8 * 1024 * 1000))
    sections = grammar.parse(patch(*[line for name in names for line in (f"*** Update File: {name}", "@@", "-2")]))
    assert not isinstance(sections, str)
    why = "the files of this patch are larger than 67108864 bytes"
    assert verify(sections, str(tmp_path)) == f"error: Failed to read file to update {tmp_path}/f8: {why}"


def test_a_patch_that_would_take_minutes_to_place_is_refused(tmp_path: Path) -> None:
    lines = 200_000
    lay_out(tmp_path, {"a": "x\n" * lines})
    sections = grammar.parse(patch("*** Update File: a", "@@", *["-x"] * 100_000, "-y"))
    assert not isinstance(sections, str)
    answer = verify(sections, str(tmp_path))
    assert isinstance(answer, str)
    assert answer.startswith(f"error: Failed to find the places to change in {tmp_path}/a: it takes too many comp")
