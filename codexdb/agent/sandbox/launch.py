"""Starts a command, confined or not. The calling thread is not restricted, whatever happens."""

import errno
import os
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress

from codexdb.agent.sandbox import bwrap, landlock
from codexdb.agent.sandbox.confinement import Backend, Confinement

NETWORK_DISABLED = "CODEX_SANDBOX_NETWORK_DISABLED"
"""Set to 1 for commands that have no network, so that test suites can leave out what needs it."""

Child = subprocess.Popen[bytes]


def launch(
    argv: Sequence[str],
    *,
    cwd: str,
    environment: Mapping[str, str],
    stdout: int,
    stderr: int,
    confinement: Confinement | None = None,
    backend: Backend = Backend.NONE,
) -> Child:
    """Start `argv` as the leader of a new session, with nothing on its stdin, held to the confinement by the backend.

    Blocks until it runs. Under bubblewrap the leader is bubblewrap: the command is its descendant and ends with it. A
    thread stays with it until it ended, since the kernel ends it with the thread that started it.

    Raises:
        OSError: it was not started: as `subprocess` has it, or the backend cannot hold it to the confinement.
        ValueError: an argument cannot be passed on.
    """

    def start(line: Sequence[str], pass_fds: Sequence[int] = (), extra: Mapping[str, str] = {}) -> Child:
        return subprocess.Popen(  # noqa: S603 - running what the model asks for is the purpose
            line,
            cwd=cwd,
            env={**environment, **extra},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
            pass_fds=pass_fds,
        )

    if confinement is None:
        return start(argv)
    told = {} if confinement.network else {NETWORK_DISABLED: "1"}
    match backend:
        case Backend.BWRAP:
            return _on_a_thread(lambda: _through_bwrap(argv, cwd, environment, confinement, told, start), stay=True)
        case Backend.LANDLOCK:
            return _on_a_thread(lambda: _under_landlock(argv, confinement, told, start), stay=False)
        case Backend.NONE:
            raise OSError(errno.EPERM, "there is no sandbox to hold the command to its limits")


_Start = Callable[[Sequence[str], Sequence[int], Mapping[str, str]], Child]


def _under_landlock(argv: Sequence[str], confinement: Confinement, told: Mapping[str, str], start: _Start) -> Child:
    landlock.restrict_thread(confinement)
    return start(argv, (), told)


def _through_bwrap(
    argv: Sequence[str],
    cwd: str,
    environment: Mapping[str, str],
    confinement: Confinement,
    told: Mapping[str, str],
    start: _Start,
) -> Child:
    program = bwrap.program()
    if program is None:
        raise OSError(errno.ENOENT, "bubblewrap is not installed")
    _check_program(argv[0], cwd, environment)
    filter_ = bwrap.filter_fd(confinement)
    try:
        line = bwrap.arguments(program, argv, cwd, confinement, filter_)
        return start(line, () if filter_ is None else (filter_,), told)
    finally:
        if filter_ is not None:
            os.close(filter_)


def _check_program(name: str, cwd: str, environment: Mapping[str, str]) -> None:
    """Fail as exec would: bubblewrap itself always starts, and would only print what was wrong."""
    if not os.path.isdir(cwd):  # noqa: PTH112 - `subprocess` says what is wrong with it
        return
    folders = ("",) if "/" in name else os.get_exec_path(environment)
    found = errno.ENOENT
    for folder in folders:
        path = os.path.join(cwd, folder, name)  # noqa: PTH118 - `name` may be anything
        if os.path.isfile(path) and os.access(path, os.X_OK):  # noqa: PTH113
            return
        if os.path.lexists(path) and os.path.exists(path):  # noqa: PTH110
            found = errno.EACCES
    raise OSError(found, os.strerror(found))


def _on_a_thread(start: Callable[[], Child], *, stay: bool) -> Child:
    handed: Future[Child] = Future()

    def run() -> None:
        try:
            child = start()
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            handed.set_exception(error)
            return
        handed.set_result(child)
        if stay:
            with suppress(ChildProcessError):  # it was waited for elsewhere
                os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

    # A daemon: a command must not keep the server from going, and dies with it.
    threading.Thread(target=run, name="sandbox", daemon=True).start()
    return handed.result()
