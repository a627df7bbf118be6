"""AGENTS.md: which files are read, in what order, how much of them, and what is passed over."""

import os
from pathlib import Path

import pytest

from codexdb.config.project_docs import PROJECT_DEPTH_MAX, user_instructions

SEPARATOR = "\n\n--- project-doc ---\n\n"
PLENTY = 32_768


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A git root with a directory two levels below; nobody wrote anything yet."""
    root = tmp_path / "project"
    (root / "a" / "b").mkdir(parents=True)
    (root / ".git").mkdir()
    return root


def told(home: Path, cwd: Path, *names: str, bytes_max: int = PLENTY) -> str | None:
    return user_instructions(home, str(cwd), names, bytes_max=bytes_max)


def test_nobody_wrote_anything(home: Path, project: Path) -> None:
    assert told(home, project / "a") is None
    assert told(home, project / "not" / "there") is None
    assert user_instructions(home, "/a\0b", bytes_max=PLENTY) is None


def test_home_and_project_are_joined_by_the_separator(home: Path, project: Path) -> None:
    (home / "AGENTS.md").write_text("\n from home \n")
    assert told(home, project) == "from home"
    (project / "AGENTS.md").write_text("\nfrom project\n\n")
    assert told(home, project) == f"from home{SEPARATOR}from project"
    (home / "AGENTS.md").unlink()
    assert told(home, project) == "from project"


def test_every_file_from_the_git_root_down_to_the_working_directory_counts(home: Path, project: Path) -> None:
    (project.parent / "AGENTS.md").write_text("above the root")
    (project / "AGENTS.md").write_text("root")
    (project / "a" / "AGENTS.md").write_text("middle")
    (project / "a" / "b" / "AGENTS.md").write_text("leaf")
    assert told(home, project / "a" / "b") == "root\n\nmiddle\n\nleaf"
    assert told(home, project / "a") == "root\n\nmiddle"
    assert told(home, project / "a" / "b" / "..") == "root\n\nmiddle"
    (home.parent / "link").symlink_to(project / "a" / "b")
    assert told(home, home.parent / "link") == "root\n\nmiddle\n\nleaf"


def test_a_git_root_may_have_a_file_in_place_of_the_directory(home: Path, project: Path) -> None:
    (project / "AGENTS.md").write_text("outer")
    (project / "a" / ".git").write_text("gitdir: elsewhere\n")
    (project / "a" / "AGENTS.md").write_text("inner")
    assert told(home, project / "a" / "b") == "inner"


def test_without_a_git_root_only_the_working_directory_counts(home: Path, project: Path) -> None:
    (project / ".git").rmdir()
    (project / "AGENTS.md").write_text("above")
    assert told(home, project / "a") is None
    (project / "a" / "AGENTS.md").write_text("here")
    assert told(home, project / "a") == "here"


def test_a_root_too_far_up_is_none(home: Path, project: Path) -> None:
    (project / "AGENTS.md").write_text("far up")
    near = project.joinpath(*["d"] * (PROJECT_DEPTH_MAX - 1))
    (near / "d").mkdir(parents=True)
    assert told(home, near) == "far up"
    assert told(home, near / "d") is None


def test_in_a_directory_the_override_wins_then_agents_md_then_the_other_names_in_order(
    home: Path, project: Path
) -> None:
    names = ("SECOND.md", "THIRD.md")
    (project / "THIRD.md").write_text("third")
    assert told(home, project) is None
    assert told(home, project, *names) == "third"
    (project / "SECOND.md").write_text("second")
    assert told(home, project, *names) == "second"
    (project / "AGENTS.md").write_text("usual")
    assert told(home, project, *names) == "usual"
    (project / "AGENTS.override.md").write_text("override")
    (project / "a" / "THIRD.md").write_text("below")
    assert told(home, project / "a", *names) == "override\n\nbelow"


def test_what_cannot_be_used_gives_way_to_the_next_name(home: Path, project: Path) -> None:
    """A directory, a FIFO that nobody writes to, a link to nothing or to a device, a blank file."""
    os.mkfifo(project / "AGENTS.override.md")
    (project / "AGENTS.md").mkdir()
    (project / "LOOP").symlink_to("LOOP")
    (project / "ZERO").symlink_to("/dev/zero")
    (project / "BLANK").write_bytes(b"\xef\xbb\xbf \n\t\n")
    (project / "LAST").write_text("last")
    os.mkfifo(home / "AGENTS.md")
    before = len(list(Path("/dev/fd").iterdir()))
    assert told(home, project, "LOOP", "ZERO", "BLANK", "LAST") == "last"
    assert len(list(Path("/dev/fd").iterdir())) == before


@pytest.mark.skipif(os.getuid() == 0, reason="root reads everything")
def test_an_unreadable_file_is_passed_over(home: Path, project: Path) -> None:
    (project / "AGENTS.override.md").write_text("secret")
    (project / "AGENTS.override.md").chmod(0)
    (project / "AGENTS.md").write_text("open")
    assert told(home, project) == "open"


def test_bytes_that_are_no_utf8_are_replaced(home: Path, project: Path) -> None:
    (project / "AGENTS.md").write_bytes(b"\xef\xbb\xbfcaf\xe9 au lait")
    assert told(home, project) == "caf\N{REPLACEMENT CHARACTER} au lait"


@pytest.mark.parametrize("bytes_max", range(1, 8))
def test_a_long_file_is_cut_between_characters_and_says_so(home: Path, project: Path, bytes_max: int) -> None:
    (project / "AGENTS.md").write_text("aé€𝄞!")
    wanted = {1: "a", 2: "a", 3: "aé", 4: "aé", 5: "aé", 6: "aé€", 7: "aé€"}[bytes_max]
    note = f"[Instructions end here: only {bytes_max} bytes of them are read.]"
    assert told(home, project, bytes_max=bytes_max) == f"{wanted}\n\n{note}"


def test_a_file_that_just_fits_is_whole(home: Path, project: Path) -> None:
    (project / "AGENTS.md").write_text("12345\n\n\n")
    assert told(home, project, bytes_max=5) == "12345"


def test_the_files_of_a_project_share_the_bound_from_the_root_down(home: Path, project: Path) -> None:
    (home / "AGENTS.md").write_text("from home, which has a bound of its own")
    (project / "AGENTS.md").write_text("1234")
    (project / "a" / "AGENTS.md").write_text("56789")
    (project / "a" / "b" / "AGENTS.md").write_text("never seen")
    own = f"from home, which has a bound of its own{SEPARATOR}"
    end = "[Instructions end here: only {} bytes of them are read.]"
    assert told(home, project / "a" / "b", bytes_max=6) == f"{own}1234\n\n56\n\n{end.format(6)}"
    assert told(home, project / "a" / "b", bytes_max=4) == f"{own}1234\n\n{end.format(4)}"
    assert told(home, project / "a", bytes_max=9) == f"{own}1234\n\n56789"


def test_a_bound_of_zero_leaves_the_project_out(home: Path, project: Path) -> None:
    (home / "AGENTS.md").write_text("from home")
    (project / "AGENTS.md").write_text("from project")
    assert told(home, project, bytes_max=0) == "from home"


def test_a_session_in_the_home_is_not_told_its_file_twice(home: Path) -> None:
    (home / "AGENTS.md").write_text("once")
    assert told(home, home) == "once"
