"""`initialize` is answered before anything heavy is loaded, and what serving does not need is never loaded."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from codexdb.testing.server_process import ServerProcess, StartServer

HEAVY = {
    "asyncio",
    "anyio",
    "pydantic",
    "pydantic_core",
    "aiosqlite",
    "sqlalchemy",
    "alembic",
    "httpx2",
    "rich",
    "click",
    "typing",  # a tenth of the whole time by itself
    "codexdb.app",
}
NEVER = {"alembic", "click", "rich", "mcp"}

# Installed as `sitecustomize`: lists what is loaded when `initialize` is answered, and again at the end.
_LIST_MODULES = """
import atexit, os, sys
real_write = os.write
def list_modules(name):
    fd = os.open(os.environ["MODULES"] + name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    real_write(fd, "\\n".join(sorted(sys.modules)).encode())
    os.close(fd)
def write(fd, data):
    if b'"serverInfo"' in bytes(data):
        os.write = real_write
        list_modules("answered")
    return real_write(fd, data)
os.write = write
atexit.register(list_modules, "ended")
"""

MODULE = (sys.executable, "-m", "codexdb")
SCRIPT = (str(Path(sys.executable).with_name("codexdb")),)


@pytest.mark.parametrize("command", [("serve",), ("-m", "model", "mcp-server"), ("serve", "-c", "model=x")])
@pytest.mark.parametrize("argv", [MODULE, SCRIPT], ids=["module", "script"])
def test_nothing_heavy_is_loaded_before_initialize_is_answered(
    server: StartServer, tmp_path: Path, argv: Sequence[str], command: tuple[str, ...]
) -> None:
    if not Path(argv[0]).exists():
        pytest.skip("the console script is not installed beside this Python")
    answered, ended = modules(server, tmp_path, [*argv, *command])
    assert "codexdb.protocol.handshake" in answered
    assert "codexdb.app" in ended
    assert not HEAVY & answered


def test_what_serving_does_not_need_is_never_loaded(server: StartServer, tmp_path: Path) -> None:
    _, ended = modules(server, tmp_path, [*MODULE, "serve"])
    assert {"anyio", "aiosqlite", "httpx2"} <= ended  # a whole turn was worked
    assert not NEVER & ended


def modules(server: StartServer, folder: Path, argv: list[str]) -> tuple[set[str], set[str]]:
    """What was loaded when `initialize` was answered, and at the end of a run with one turn."""
    (folder / "sitecustomize.py").write_text(_LIST_MODULES)
    python_path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    prefix = str(folder / "modules.")
    process: ServerProcess = server(argv=argv, env={"PYTHONPATH": python_path, "MODULES": prefix})
    assert process.call_tool("codex", {"prompt": "hello"})["content"][0]["text"] == "ok"
    process.close_stdin()
    assert process.wait_exit() == 0
    answered, ended = (set(Path(prefix + name).read_text().splitlines()) for name in ("answered", "ended"))
    return answered, ended
