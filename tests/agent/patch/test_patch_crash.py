"""A patch that is killed, or that the disk refuses, at any instant."""

import os
import random
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from patching import Files, as_bytes, files_in, lay_out, patch

from codexdb.agent.tools.patch import leftovers
from codexdb.agent.tools.patch.program import argv

FAULTS = Path(__file__).with_name("faults.py")
WAIT_S = 60
KILLS_AT_RANDOM = 30
BEFORE: Files = {
    "changed": "1\n" * 2_000 + "2\n",
    "deleted": "gone\n",
    "replaced": "old\n",
    "moved": "1\n2\n",
    "p/changed": "1\n",
}
AFTER: Files = {
    "changed": "1\n" * 2_000 + "two\n",
    "replaced": "new\n",
    "q/r/target": "1\ntwo\n",
    "p/changed": "x\n",
    "new/file": "x\n",
}
PATCH = patch(
    *("*** Update File: changed", "@@", "-2", "+two"),
    "*** Delete File: deleted",
    *("*** Add File: replaced", "+new"),
    *("*** Update File: moved", "*** Move to: q/r/target", "@@", "-2", "+two"),
    *("*** Update File: p/changed", "@@", "-1", "+x"),
    *("*** Add File: new/file", "+x"),
)


def _with_fault(folder: Path, kind: str, number: int) -> "subprocess.CompletedProcess[bytes]":
    command = [sys.executable, "-P", str(FAULTS), kind, str(number)]
    return subprocess.run(command, cwd=folder, input=PATCH.encode(), capture_output=True, check=False, timeout=WAIT_S)


def _again(folder: Path) -> None:
    subprocess.run(argv(), cwd=folder, input=PATCH.encode(), capture_output=True, check=False, timeout=WAIT_S)


def _bytes(files: Files) -> dict[str, bytes]:
    return {name: as_bytes(content) for name, content in files.items()}


def _without_temporary(files: Mapping[str, bytes]) -> dict[str, bytes]:
    return {name: content for name, content in files.items() if ".codexdb-patch-" not in name}


def _assert_old_or_new(found: Mapping[str, bytes]) -> None:
    before, after = _bytes(BEFORE), _bytes(AFTER)
    for name in {*before, *after, *found}:
        assert found.get(name) in (before.get(name), after.get(name)), name


def _calls(folder: Path) -> int:
    """How many there are, so that a fault can be put at each."""
    lay_out(folder, BEFORE)
    done = _with_fault(folder, "count", 0)
    assert done.returncode == 0, done.stderr
    assert files_in(folder) == _bytes(AFTER)
    return int(done.stderr.split()[-1])


@pytest.mark.slow
def test_killed_at_each_call_every_file_is_old_or_new_and_the_next_run_leaves_nothing_behind(tmp_path: Path) -> None:
    calls = _calls(tmp_path / "count")
    assert calls > 40
    half_done = 0
    for number in range(1, calls + 1):
        folder = tmp_path / str(number)
        lay_out(folder, BEFORE)
        assert _with_fault(folder, "kill", number).returncode == -9
        found = _without_temporary(files_in(folder))
        _assert_old_or_new(found)
        half_done += found not in (_bytes(BEFORE), _bytes(AFTER))
        _again(folder)
        found = files_in(folder)
        assert found == _without_temporary(found)
        _assert_old_or_new(found)
    assert half_done > 3  # else no kill has hit the interesting part


@pytest.mark.slow
def test_a_call_that_fails_undoes_everything_or_does_not_matter(tmp_path: Path) -> None:
    calls = _calls(tmp_path / "count")
    undone = 0
    for number in range(1, calls + 1):
        folder = tmp_path / str(number)
        lay_out(folder, BEFORE)
        done = _with_fault(folder, "fail", number)
        found = files_in(folder)
        if done.returncode == 0:
            assert _without_temporary(found) == _bytes(AFTER)
        else:
            undone += 1
            assert _without_temporary(found) == _bytes(BEFORE), (number, done.stderr)
            assert b"could not be undone" not in done.stderr
            assert {path.name for path in folder.iterdir() if path.is_dir()} == {"p"}
        _again(folder)
        found = files_in(folder)
        assert found == _without_temporary(found)
    assert undone > 20


@pytest.mark.slow
def test_killed_at_random_instants(tmp_path: Path) -> None:
    chance = random.Random(20_251_125)  # noqa: S311 - the same instants each time, as far as a clock allows
    for number in range(KILLS_AT_RANDOM):
        folder = tmp_path / str(number)
        lay_out(folder, BEFORE)
        with subprocess.Popen(
            argv(), cwd=folder, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, stdout=-3
        ) as process:
            assert process.stdin is not None
            process.stdin.write(PATCH.encode())
            process.stdin.close()
            try:
                process.wait(chance.uniform(0.02, 0.09))
            except subprocess.TimeoutExpired:
                process.kill()
        _assert_old_or_new(_without_temporary(files_in(folder)))
        _again(folder)
        found = files_in(folder)
        assert found == _without_temporary(found)


def test_a_sweep_leaves_alone_what_a_live_run_keeps(tmp_path: Path) -> None:
    run = leftovers.new_run()
    descriptor = leftovers.lock(str(tmp_path), run)
    kept = Path(leftovers.path(str(tmp_path), run, "0.new"))
    kept.write_text("x")
    leftovers.sweep([str(tmp_path)])
    assert kept.exists()
    os.close(descriptor)
    leftovers.sweep([str(tmp_path)])
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_removes_only_what_is_named_like_ours(tmp_path: Path) -> None:
    names = [".codexdb-patch-x.0.new", ".codexdb-patch-0123456789abcdef.0.newer", ".codexdb-patch-0123456789abcdef"]
    lay_out(tmp_path, dict.fromkeys(names, ""))
    (tmp_path / ".codexdb-patch-0123456789abcdef.0.old").mkdir()
    ours = tmp_path / ".codexdb-patch-0123456789abcdef.1.old"
    ours.symlink_to("/etc/passwd")
    leftovers.sweep([str(tmp_path), str(tmp_path / "missing")])
    assert sorted(files_in(tmp_path)) == sorted(names)
    assert Path("/etc/passwd").exists()


@pytest.mark.parametrize("number", [15, 2])
def test_a_signal_undoes_what_was_begun(tmp_path: Path, number: int) -> None:
    lay_out(tmp_path, BEFORE)
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[1]); from codexdb.agent.tools.patch import __main__ as program\n"
        "def on_call(name, args):\n"
        "    if name == 'os.rename' and 'target' in args[1]: os.kill(os.getpid(), int(sys.argv[2]))\n"
        "sys.addaudithook(on_call); sys.exit(program.main())"
    )
    command = [sys.executable, "-P", "-c", code, argv()[-1], str(number)]
    done = subprocess.run(command, cwd=tmp_path, input=PATCH.encode(), capture_output=True, check=False, timeout=WAIT_S)
    assert done.returncode == 128 + number
    assert files_in(tmp_path) == _bytes(BEFORE)
