"""Runs scripts under confinements, as whoever started it: one JSON request per line, answered by one with the same id.

A program of its own, so that it can run as another user, under a Python that this user may run. It needs the standard
library and `codexdb.agent.sandbox`. Arguments: the folder for the scenes, and how many scripts to run at once.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from codexdb.agent.sandbox.confinement import Backend, Confinement
from codexdb.agent.sandbox.launch import launch

WAIT_S = 30  # for one script, which takes a twentieth of a second
MODES = {"r": "read-only", "w": "workspace-write", "n": "workspace-write", "d": "danger-full-access"}
GIT_CONFIG = "[core]\n\trepositoryformatversion = 0\n"


def scene(base: Path, number: int) -> Path:
    here = base / str(number)
    for name in ("work/dir", "work/.git/objects", "work/.git/refs", "work/.git/hooks", "work/.codex", "work/.agents"):
        (here / name).mkdir(parents=True)
    (here / "outside/dir").mkdir(parents=True)
    for name in ("work/file", "work/.codex/kept", "work/.agents/kept", "outside/kept"):
        (here / name).write_text("kept\n")
    (here / "work/.git/HEAD").write_text("ref: refs/heads/main\n")
    (here / "work/.git/config").write_text(GIT_CONFIG)
    (here / "work/link").symlink_to("../outside/kept")
    (here / "work/dirlink").symlink_to("../outside")
    (here / "work/run").write_text("#!/bin/sh\nexit 0\n")
    (here / "work/run").chmod(0o755)
    return here


def contents(folder: Path) -> list[str]:
    """What is there, with what it holds: names, kinds, sizes, texts."""
    return sorted(
        f"{path.relative_to(folder)} {path.read_bytes() if path.is_file() and not path.is_symlink() else ''}"
        for path in folder.rglob("*")
    )


def listeners(base: Path) -> dict[str, str]:
    tcp = socket.create_server(("127.0.0.1", 0), backlog=1024)
    tcp6 = socket.create_server(("::1", 0), family=socket.AF_INET6, backlog=1024)
    udp = socket.socket(type=socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    by_path, abstract = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    name = f"codexdb-test-{os.getpid()}"
    by_path.bind(str(base / "socket"))
    abstract.bind(f"\0{name}")
    for each in (by_path, abstract):
        each.listen(1024)
    datagrams = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    datagrams.bind(str(base / "datagrams"))
    threading.Thread(target=_swallow, args=(datagrams,), daemon=True).start()
    kept.extend((tcp, tcp6, udp, by_path, abstract, datagrams))
    ports = {name: str(each.getsockname()[1]) for name, each in (("TCP", tcp), ("TCP6", tcp6), ("UDP", udp))}
    return {**ports, "SOCK": str(base / "socket"), "ABSTRACT": name, "DGRAM": str(base / "datagrams")}


kept: list[socket.socket] = []


def _swallow(datagrams: socket.socket) -> None:
    while True:
        datagrams.recv(100)


def confinement(mode: str, work: Path) -> Confinement | None:
    match mode:
        case "r":
            return Confinement()
        case "w" | "n":
            return Confinement((str(work),), network=mode == "n", shared_memory=True)
        case _:
            return None


def run(request: dict[str, Any], base: Path, variables: dict[str, str]) -> dict[str, Any]:
    here = scene(base, request["id"])
    before, protected = contents(here / "outside"), contents(here / "work/.git")
    script: str = request["script"]
    argv = [sys.executable, "-IS", "-c", script] if script.startswith("#python") else ["sh", "-c", script]
    with tempfile.TemporaryFile() as output:
        child = launch(
            argv,
            cwd=str(here / "work"),
            environment={**variables, "OUT": str(here / "outside")},
            stdout=output.fileno(),
            stderr=output.fileno(),
            confinement=confinement(request["mode"], (here / "work").resolve()),
            backend=Backend(request["backend"]),
        )
        try:
            code = child.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            code = child.wait()
        output.seek(0)
        said = output.read().decode(errors="replace")
    git = here / "work/.git"
    return {
        "id": request["id"],
        "code": code,
        "output": said,
        "outside_kept": (here / "outside").exists() and contents(here / "outside") == before,
        "git_kept": git.exists() and contents(git) == protected,
    }


def main() -> None:
    base = Path(tempfile.mkdtemp(dir=sys.argv[1])).resolve()
    os.chdir(base)
    signals: list[int] = []
    signal.signal(signal.SIGWINCH, lambda number, _: signals.append(number))
    variables = {**listeners(base), "PID": str(os.getpid()), "PY": sys.executable, "PATH": os.environ["PATH"]}
    lock = threading.Lock()

    def answer(request: dict[str, Any]) -> None:
        try:
            said = run(request, base, variables)
        except Exception as error:  # noqa: BLE001 - told to whoever asked
            said = {"id": request["id"], "error": repr(error)}
        with lock, contextlib.suppress(BrokenPipeError):
            sys.stdout.write(json.dumps(said) + "\n")
            sys.stdout.flush()

    with ThreadPoolExecutor(int(sys.argv[2])) as pool:
        for line in sys.stdin:
            pool.submit(answer, json.loads(line))


if __name__ == "__main__":
    main()
