"""The engine as a program of its own."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from patching import files_in, lay_out, patch

from codexdb.agent.tools.patch.program import argv

ROOT = Path(__file__).resolve().parents[3]
WAIT_S = 30
P = patch("*** Add File: new.txt", "+hello", "*** Update File: old.txt", "@@", "-aaa", "+bbb")


def _program(folder: Path, given: bytes, command: Sequence[str] | None = None) -> "subprocess.CompletedProcess[bytes]":
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command or argv(), cwd=folder, env=environment, input=given, capture_output=True, check=False, timeout=WAIT_S
    )


@pytest.mark.parametrize("command", [argv(), (sys.executable, "-m", "codexdb.agent.tools.patch")])
def test_a_patch_is_applied_where_the_program_runs(tmp_path: Path, command: Sequence[str]) -> None:
    lay_out(tmp_path, {"old.txt": "aaa\n"})
    done = _program(tmp_path, P.encode(), command)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == b"Success. Updated the following files:\nA new.txt\nM old.txt\n"
    assert files_in(tmp_path) == {"new.txt": b"hello\n", "old.txt": b"bbb\n"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (P.replace("-aaa", "-zzz").encode(), 'error: Failed to find expected lines ["zzz"] in {cwd}/old.txt\n'),
        (b"*** Begin Patch\ngarbage", "error: invalid patch: The last line of the patch must be '*** End Patch'\n"),
        (patch("*** Delete File: gone").encode(), "Failed to delete file gone\n"),
        (patch().encode(), "patch rejected: empty patch\n"),
        (b"", "error: invalid patch: The first line of the patch must be '*** Begin Patch'\n"),
        (b"\xff", "error: invalid patch: The patch must be valid Unicode text\n"),
        (b"x" * 3_000_000, "error: invalid patch: The patch must not be larger than 2097152 bytes\n"),
    ],
)
def test_a_failure_is_told_on_stderr_and_changes_nothing(tmp_path: Path, given: bytes, said: str) -> None:
    lay_out(tmp_path, {"old.txt": "aaa\n"})
    done = _program(tmp_path, given)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.decode() == said.replace("{cwd}", str(tmp_path))
    assert files_in(tmp_path) == {"old.txt": b"aaa\n"}


def test_a_project_cannot_slip_in_modules_of_its_own(tmp_path: Path) -> None:
    evil = "open('evil', 'w').close()\n"
    names = ["codexdb/__init__.py", "dataclasses.py", "re.py", "sitecustomize.py", "signal.py"]
    lay_out(tmp_path, {"old.txt": "aaa\n", **dict.fromkeys(names, evil)})
    done = subprocess.run(
        argv(),
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONSTARTUP": str(tmp_path / "re.py")},
        input=P.encode(),
        capture_output=True,
        check=True,
        timeout=WAIT_S,
    )
    assert done.stdout.startswith(b"Success.")
    assert not (tmp_path / "evil").exists()


def test_the_program_loads_the_standard_library_and_little_of_it(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import codexdb.agent.tools.patch.__main__; "
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    command = [sys.executable, "-I", "-S", "-c", code, str(ROOT)]
    loaded = set(_program(tmp_path, b"", command).stdout.decode().split())
    assert loaded - sys.stdlib_module_names == {"codexdb", "__main__"} - sys.stdlib_module_names
    assert loaded.isdisjoint({"asyncio", "difflib", "subprocess", "pathlib", "json", "logging", "threading", "socket"})
