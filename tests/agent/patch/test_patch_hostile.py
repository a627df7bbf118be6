"""What may stand in the way of a patch, and what of a file is no business of a patch."""

import os
import resource
import socket
import stat
from pathlib import Path

import pytest
from patching import files_in, lay_out, patch

from codexdb.agent.tools.patch import grammar
from codexdb.agent.tools.patch.__main__ import run
from codexdb.agent.tools.patch.apply import Applied, Failed, apply
from codexdb.agent.tools.patch.verify import Plan, verify

EDIT = ("@@", "-1", "+x")
NOT_REGULAR = "it is not a regular file"
LOOP = "Too many levels of symbolic links (os error 40)"


def _run(folder: Path, *lines: str) -> tuple[bool, str]:
    return run(patch(*lines), str(folder))


@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
def test_what_is_no_file_is_neither_opened_nor_replaced_nor_removed(tmp_path: Path, kind: str) -> None:
    name, path = "it", tmp_path / "it"
    with socket.socket(socket.AF_UNIX) as server:
        if kind == "pipe":
            os.mkfifo(path)  # opening it would wait for a writer for ever
        elif kind == "socket":
            server.bind(str(path))
        else:
            name, path = "/dev/null", Path("/dev/null")
        before = path.lstat()
        reading = f"error: Failed to read file to update {path}: {NOT_REGULAR}"
        assert _run(tmp_path, f"*** Update File: {name}", *EDIT) == (False, reading)
        assert _run(tmp_path, f"*** Add File: {name}") == (False, f"Failed to write file {name}: {NOT_REGULAR}")
        assert _run(tmp_path, f"*** Delete File: {name}") == (False, f"Failed to delete file {name}")
        after = path.lstat()
    assert (before.st_ino, before.st_mode) == (after.st_ino, after.st_mode)


def test_links_that_go_round_are_told(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    reading = f"error: Failed to read file to update {tmp_path}/{{}}: {LOOP}"
    assert _run(tmp_path, "*** Update File: a", *EDIT) == (False, reading.format("a"))
    assert _run(tmp_path, "*** Update File: a/c", *EDIT) == (False, reading.format("a/c"))
    assert _run(tmp_path, "*** Add File: a") == (False, f"Failed to write file a: {LOOP}")
    assert _run(tmp_path, "*** Add File: a/c") == (False, f"Failed to write file a/c: {LOOP}")
    assert _run(tmp_path, "*** Delete File: a") == (True, "Success. Updated the following files:\nD a\n")


def test_links_are_written_through_and_deleted_themselves(tmp_path: Path) -> None:
    lay_out(tmp_path, {"f": "1\n", "d/f": "1\n"})
    for name, target in {"a": "f", "b": "f", "new": "n", "folder": "d"}.items():
        (tmp_path / name).symlink_to(target)
    done, text = _run(tmp_path, "*** Update File: a", *EDIT, "*** Delete File: b", "*** Add File: new", "+n")
    assert done, text
    assert files_in(tmp_path) == {
        "a": b"-> f",
        "d/f": b"1\n",
        "f": b"x\n",
        "folder": b"-> d",
        "n": b"n\n",
        "new": b"-> n",
    }
    assert _run(tmp_path, "*** Delete File: folder") == (False, "Failed to delete file folder")
    moving = f"error: Failed to read file to update {tmp_path}/a: it is a symbolic link, which cannot be moved"
    assert _run(tmp_path, "*** Update File: a", "*** Move to: c") == (False, moving)


def test_a_link_that_an_earlier_section_deleted_leads_nowhere(tmp_path: Path) -> None:
    lay_out(tmp_path, {"f": "1\n"})
    (tmp_path / "a").symlink_to("f")
    done, text = _run(tmp_path, "*** Delete File: a", "*** Add File: a", "+x")
    assert done, text
    assert files_in(tmp_path) == {"a": b"x\n", "f": b"1\n"}


def test_permission_bits_and_owner_stay(tmp_path: Path) -> None:
    lay_out(tmp_path, {"a": "1\n", "b": "1\n", "c": "1\n"}, {"a": 0o755, "b": 0o640, "c": 0o700})
    owner = (1234, 1235) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    os.chown(tmp_path / "a", *owner)
    os.chown(tmp_path / "b", *owner)
    done, text = _run(
        tmp_path, "*** Update File: a", *EDIT, "*** Update File: b", "*** Move to: d", "*** Add File: c", "+x"
    )
    assert done, text
    found = {path.name: path.stat() for path in tmp_path.iterdir()}
    assert {name: stat.S_IMODE(status.st_mode) for name, status in found.items()} == {
        "a": 0o755,
        "d": 0o640,
        "c": 0o700,
    }
    assert [(found[name].st_uid, found[name].st_gid) for name in "ad"] == [owner] * 2


def test_new_files_get_the_bits_that_new_files_get(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        assert _run(tmp_path, "*** Add File: n", "+x")[0]
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "n").stat().st_mode) == 0o640


def test_a_write_protected_file_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay_out(tmp_path, {"a": "1\n", "b": "1\n"}, {"b": 0o444})
    if os.geteuid() == 0:  # the kernel lets root write anything; ask as it answers everybody else

        def access(path: str, _: int) -> bool:
            return bool(Path(path).stat().st_mode & 0o200)

        monkeypatch.setattr(os, "access", access)
    said = "Failed to write file b: Permission denied (os error 13)"
    assert _run(tmp_path, "*** Update File: a", *EDIT, "*** Update File: b", *EDIT) == (False, said)
    assert files_in(tmp_path) == {"a": b"1\n", "b": b"1\n"}


def test_a_hard_link_elsewhere_keeps_the_old_content(tmp_path: Path) -> None:
    lay_out(tmp_path, {"a": "1\n"})
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    assert _run(tmp_path, "*** Update File: a", *EDIT)[0]
    assert files_in(tmp_path) == {"a": b"x\n", "b": b"1\n"}


def test_a_name_that_the_disk_takes_for_the_same_is_refused(tmp_path: Path) -> None:
    lay_out(tmp_path, {"a": "1\n"})
    (tmp_path / "A").hardlink_to(tmp_path / "a")  # how a disk that ignores case would look
    said = "error: Failed to write file A: this disk does not tell it from a"
    assert _run(tmp_path, "*** Update File: a", "*** Move to: A") == (False, said)


def test_files_to_keep_off_are_not_even_opened(tmp_path: Path) -> None:
    lay_out(tmp_path, {"rows": "1\n", "a": "1\n"})
    status = (tmp_path / "rows").stat()
    keep_off = frozenset({(status.st_dev, status.st_ino)})
    (tmp_path / "link").symlink_to("rows")
    why = "it belongs to this server's database"
    atime = 1
    os.utime(tmp_path / "rows", ns=(atime, 1))

    def verified(*lines: str) -> Plan | str:
        sections = grammar.parse(patch(*lines))
        assert not isinstance(sections, str)
        return verify(sections, str(tmp_path), keep_off=keep_off)

    reading = f"error: Failed to read file to update {tmp_path}/link: {why}"
    assert verified("*** Update File: link", *EDIT) == reading
    for lines, said in (
        (["*** Add File: rows"], f"Failed to write file rows: {why}"),
        (["*** Delete File: rows"], "Failed to delete file rows"),
        (["*** Update File: a", "*** Move to: rows"], f"Failed to write file rows: {why}"),
    ):
        plan = verified(*lines)
        assert isinstance(plan, Plan)
        assert apply(plan, keep_off=keep_off) == Failed(said)
    assert (tmp_path / "rows").stat().st_atime_ns == atime


def test_running_out_of_descriptors_changes_nothing(tmp_path: Path) -> None:
    names = [f"d{number}/f" for number in range(300)]
    sections = grammar.parse(patch(*[line for name in names for line in (f"*** Add File: {name}", "+x")]))
    assert not isinstance(sections, str)
    plan = verify(sections, str(tmp_path))
    assert isinstance(plan, Plan)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, limits[1]))
    try:
        outcome = apply(plan)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert isinstance(outcome, Failed)
    assert outcome.text.endswith("/f: Too many open files (os error 24)")
    assert outcome.left == ()
    assert list(tmp_path.iterdir()) == []
    assert isinstance(apply(plan), Applied)


def test_a_full_disk_changes_nothing(tmp_path: Path) -> None:
    lay_out(tmp_path, {"a": "1\n"})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        answer = _run(tmp_path, "*** Update File: a", *EDIT, "*** Add File: p/n", "+" + "x" * 200_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert answer == (False, "Failed to write file p/n: File too large (os error 27)")
    assert files_in(tmp_path) == {"a": b"1\n"}
    assert not (tmp_path / "p").exists()


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="no /proc")
def test_a_file_that_tells_no_size_is_read_with_bounds(tmp_path: Path) -> None:
    reading = "error: Failed to read file to update /proc/self/environ: "
    done, text = _run(tmp_path, "*** Update File: /proc/self/environ", *EDIT)
    assert not done
    assert text.startswith(reading)


@pytest.mark.parametrize("header", ["*** Add File: {}", "*** Delete File: {}", "*** Update File: f\n*** Move to: {}"])
def test_a_name_that_no_kernel_takes_is_refused_before_it_is_resolved(tmp_path: Path, header: str) -> None:
    lay_out(tmp_path, {"f": "1\n"})
    done, text = _run(tmp_path, *header.format("a/" * 900_000 + "x").split("\n"))  # resolving it would take hours
    assert not done
    assert "A path must not be longer than 4096 bytes" in text
    assert files_in(tmp_path) == {"f": b"1\n"}
