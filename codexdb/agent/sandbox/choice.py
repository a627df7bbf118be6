"""Which backend works on this machine, found out by trying it."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import anyio.to_thread

from codexdb.agent.sandbox import bwrap, landlock, seccomp
from codexdb.agent.sandbox.confinement import Backend, Confinement
from codexdb.agent.sandbox.launch import launch
from codexdb.agent.tools.reaper import kill_group
from codexdb.config.schema import SandboxBackend

PROBE_MS = 5_000  # of one trial, which takes 50 ms; a backend that hangs is one that does not work
REASON_CHARS_MAX = 300  # of what a failed trial printed: its first lines say it

_TRIAL = """
import os, socket, sys
inside, outside, port, denied = sys.argv[1:]

def refused(act):
    try:
        act()
    except OSError:
        return True
    return False

def connect(family, address):
    with socket.socket(family, socket.SOCK_STREAM) as each:
        each.settimeout(2)
        each.connect(address)

open(inside + "/made", "w").close()
failures = [name for name, act in (
    ("a file outside was written", lambda: open(outside + "/kept", "w").close()),
    ("a file was made outside", lambda: open(outside + "/made", "w").close()),
    ("a file outside was emptied", lambda: os.truncate(outside + "/kept", 0)),
) if not refused(act)]
for name, family, address in (
    ("TCP", socket.AF_INET, ("127.0.0.1", int(port))),
    ("Unix", socket.AF_UNIX, outside + "/socket"),
):
    if name in denied.split(",") and not refused(lambda: connect(family, address)):
        failures.append("a " + name + " socket was connected")
sys.exit("; ".join(failures) or 0)
"""


@dataclass(frozen=True, slots=True)
class Found:
    """What a trial of a backend gave. `why_not` is None where it works."""

    backend: Backend
    what: str  # the program and its version, or the kernel's
    why_not: str | None


async def choose(preferred: SandboxBackend) -> Backend:
    """The backend that is to hold commands here: the preferred one if it works, else `Backend.NONE`.

    AUTO takes bubblewrap, else Landlock. The first call in a process tries them, within `PROBE_MS` for each trial.
    """
    return await anyio.to_thread.run_sync(_choose, preferred, abandon_on_cancel=True)


def survey() -> tuple[Found, ...]:
    """Every backend with what its trial gave, best first. Blocks; the trials are made once in a process."""
    return tuple(_tried(backend) for backend in (Backend.BWRAP, Backend.LANDLOCK))


def _choose(preferred: SandboxBackend) -> Backend:
    match preferred:
        case SandboxBackend.NONE:
            return Backend.NONE
        case SandboxBackend.AUTO:
            candidates = (Backend.BWRAP, Backend.LANDLOCK)
        case _:
            candidates = (Backend(preferred),)
    return next((backend for backend in candidates if _tried(backend).why_not is None), Backend.NONE)


_lock = threading.Lock()
_found: dict[Backend, Found] = {}


def _tried(backend: Backend) -> Found:
    with _lock:
        if backend not in _found:
            what, missing = _bwrap() if backend is Backend.BWRAP else _landlock()
            _found[backend] = Found(backend, what, missing or _try(backend))
        return _found[backend]


def _bwrap() -> tuple[str, str | None]:
    program = bwrap.program()
    if sys.platform != "linux" or program is None:
        return "bubblewrap", _elsewhere() or "it is not installed"
    limit = "" if seccomp.supported() else ", without what it needs to deny Unix sockets on this kind of machine"
    return f"bubblewrap, {program}{limit}", None


def _landlock() -> tuple[str, str | None]:
    kernel = landlock.abi()
    if kernel == 0:
        return "Landlock", _elsewhere() or "this kernel has none, or it is switched off"
    why_not = None
    if kernel < landlock.ABI_MIN:
        why_not = f"version {landlock.ABI_MIN} is needed (Linux 6.2)"
    elif not seccomp.supported():
        why_not = "it cannot deny the network on this kind of machine"
    return f"Landlock, version {kernel}", why_not


def _elsewhere() -> str | None:
    return None if sys.platform == "linux" else f"there is no sandbox for {sys.platform} yet"


def _try(backend: Backend) -> str | None:
    """Why it does not work, if it does not: tried with the flags that commands get, with and without a network."""
    try:
        with tempfile.TemporaryDirectory(prefix="codexdb-trial-") as folder:
            inside, outside = Path(folder, "inside").resolve(), Path(folder, "outside").resolve()
            inside.mkdir()
            outside.mkdir()
            with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
                unix.bind(str(outside / "socket"))
                unix.listen()
                port = str(tcp.getsockname()[1])
                trials: tuple[Callable[[], str | None], ...] = (
                    lambda: _trial(backend, inside, outside, port, network=False),
                    lambda: _trial(backend, inside, outside, port, network=True),
                )
                return next((reason for trial in trials if (reason := trial()) is not None), None)
    except OSError as error:
        return str(error)


def _trial(backend: Backend, inside: Path, outside: Path, port: str, *, network: bool) -> str | None:
    (outside / "kept").write_text("kept")
    (inside / "made").unlink(missing_ok=True)
    # On a machine that `seccomp` does not know, nothing denies Unix sockets, and `bwrap` says so.
    denied = "" if network else "TCP,Unix" if seccomp.supported() else "TCP"
    confinement = Confinement((str(inside),), network=network, shared_memory=True)
    with tempfile.TemporaryFile() as output:
        child = launch(
            [sys.executable, "-IS", "-c", _TRIAL, str(inside), str(outside), port, denied],
            cwd="/",
            environment=os.environ,
            stdout=output.fileno(),
            stderr=output.fileno(),
            confinement=confinement,
            backend=backend,
        )
        try:
            code = child.wait(PROBE_MS / 1000)
        except subprocess.TimeoutExpired:
            kill_group(child.pid, signal.SIGKILL)
            child.wait()
            return f"the trial took longer than {PROBE_MS} ms"
        output.seek(0)
        said = output.read(REASON_CHARS_MAX).decode(errors="replace").strip()
    held = (outside / "kept").read_text() == "kept" and not (outside / "made").exists() and (inside / "made").exists()
    return None if code == 0 and held else said or f"the trial ended with {code}"
