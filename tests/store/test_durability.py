"""On the disk before it is told: seen in the system calls of a real server. And nobody but SQLite opens the file."""

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import Message, StartServer

# Installed as `sitecustomize`: notes what Python code opens, and when SQLite first opens a file.
_AUDIT = """
import os, sys
log = os.open(os.environ["AUDIT_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
def note(event, args):
    if event == "open":
        os.write(log, f"{'create' if args[2] & os.O_EXCL else 'open'} {args[0]}\\n".encode())
    elif event == "sqlite3.connect":
        os.write(log, f"connect {args[0]}\\n".encode())
sys.addaudithook(note)
"""


def send(session: str) -> Message:
    return {"conversation_id": session, "content": [{"type": "text", "text": "hello"}]}


def traceable() -> bool:
    return (
        shutil.which("strace") is not None
        and subprocess.run(["strace", "-qq", "true"], capture_output=True, check=False).returncode == 0
    )


def completed_calls(trace: str) -> list[str]:
    """The calls of an `strace -f` log in the order in which they came to their end."""
    begun: dict[str, str] = {}
    calls: list[str] = []
    for line in trace.splitlines():
        pid, _, call = line.partition(" ")
        call = call.strip()
        if call.endswith("<unfinished ...>"):
            begun[pid] = call.removesuffix("<unfinished ...>").strip()
        elif resumed := re.match(r"<\.\.\. \w+ resumed>(.*)", call):
            calls.append(begun.pop(pid) + resumed[1])
        else:
            calls.append(call)
    return calls


@pytest.mark.skipif(not traceable(), reason="strace is not there, or may not trace")
def test_a_message_is_on_the_disk_before_it_is_acknowledged(
    server: StartServer, model: ScriptedModel, tmp_path: Path
) -> None:
    log = tmp_path / "trace"
    traced = ["strace", "-f", "-qq", "-y", "-s", "300", "-e", "trace=write,pwrite64,fsync,fdatasync", "-o", str(log)]
    process = server(argv=[*traced, sys.executable, "-m", "codexdb", "serve"])
    session = process.call_tool("conversation_create", {})["structuredContent"]["conversation_id"]
    process.call_tool("send-user-message", send(session))
    model.wait_for_requests(1)
    process.close_stdin()
    assert process.wait_exit() == 0
    calls = completed_calls(log.read_text())
    acknowledged = next(n for n, call in enumerate(calls) if call.startswith("write(") and r"\"status\":\"ok\"" in call)
    before = calls[:acknowledged]
    written = max(n for n, call in enumerate(before) if call.startswith("pwrite64(") and "sqlite3-wal>" in call)
    synced = [call for call in before[written:] if re.match(r"f(data)?sync\(\d+<[^>]*sqlite3-wal>\)\s+= 0", call)]
    assert synced, "\n".join(before[written:])


def test_no_code_of_ours_opens_the_database_file(server: StartServer, database: Path, tmp_path: Path) -> None:
    """Closing any descriptor of it would drop SQLite's locks. It may be created, before SQLite has it."""
    (tmp_path / "sitecustomize.py").write_text(_AUDIT)
    log = tmp_path / "audit"
    python_path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    for _ in range(2):
        log.unlink(missing_ok=True)
        process = server(env={"PYTHONPATH": python_path, "AUDIT_LOG": str(log)})
        process.call_tool("codex", {"prompt": "hello"})
        process.close_stdin()
        assert process.wait_exit() == 0
        noted = log.read_text().splitlines()
        files = {str(database), f"{database}-wal", f"{database}-shm", f"{database}-journal"}
        touched = [line for line in noted if line.partition(" ")[2] in files]
        assert touched[:2] == [f"create {database}", f"connect {database}"]
        assert {line.partition(" ")[0] for line in touched[1:]} == {"connect"}


def test_only_the_owner_can_read_what_is_kept(server: StartServer, database: Path) -> None:
    old = os.umask(0)
    try:
        process = server()
    finally:
        os.umask(old)
    process.call_tool("codex", {"prompt": "hello"})
    found = {path.name: stat.S_IMODE(path.stat().st_mode) for path in database.parent.rglob("*")}
    assert stat.S_IMODE(database.parent.stat().st_mode) == 0o700
    assert {database.name, f"{database.name}-wal", f"{database.name}-shm"} <= set(found)
    folders = {path.name for path in database.parent.rglob("*") if path.is_dir()}
    assert found == {name: 0o700 if name in folders else 0o600 for name in found}
