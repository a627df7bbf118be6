"""The life of a confined command: told, timed, ended and outlived by nobody, as one without a sandbox."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import anyio
import pytest

from codexdb.agent.sandbox import bwrap, choice
from codexdb.agent.sandbox.confinement import Backend, Confinement
from codexdb.agent.sandbox.launch import NETWORK_DISABLED, launch
from codexdb.agent.tools.process import Ending, OnChunk, SpawnFailed, start
from codexdb.agent.tools.reaper import started_at
from codexdb.config.schema import SandboxBackend
from codexdb.domain import limits

WAIT_S = 30  # for anything that must happen; the machine may be busy
ENVIRONMENT = {"PATH": os.environ["PATH"]}


@pytest.fixture(params=[Backend.BWRAP, Backend.LANDLOCK], ids=str)
def backend(request: pytest.FixtureRequest) -> Backend:
    chosen: Backend = request.param
    reason = next(each.why_not for each in choice.survey() if each.backend is chosen)
    if reason is not None:
        pytest.skip(f"{chosen}: {reason}")
    return chosen


@pytest.fixture
def fifo(tmp_path: Path) -> str:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return str(path)


Run = Callable[..., tuple[Ending, dict[str, str]]]


@pytest.fixture
def run(backend: Backend, tmp_path: Path) -> Run:
    """Runs a command with `tmp_path` as its only root; returns how it ended and what it printed."""

    root = str(tmp_path.resolve())

    def started(
        *argv: str, timeout_ms: int = 60_000, cwd: str | None = None, on_chunk: OnChunk | None = None
    ) -> object:
        output = {"stdout": b"", "stderr": b""}

        def collect(stream: str, chunk: bytes) -> None:
            output[stream] += chunk
            if on_chunk is not None:
                on_chunk(stream, chunk)

        async def main() -> Ending:
            ending = Ending(None, None, timed_out=False)
            with anyio.fail_after(WAIT_S):
                async with start(
                    argv,
                    cwd=cwd or root,
                    environment=ENVIRONMENT,
                    confinement=Confinement((root,), shared_memory=True),
                    backend=backend,
                ) as running:
                    ending = await running.finish(collect, timeout_ms=timeout_ms)
            return ending

        return anyio.run(main), {stream: text.decode() for stream, text in output.items()}

    return started  # pyright: ignore[reportReturnType] - its keywords are checked here alone


def until(condition: Callable[[], bool]) -> bool:
    never = threading.Event()
    return any(condition() or never.wait(0.02) for _ in range(WAIT_S * 50))


def is_gone(fifo: str) -> bool:
    """Whether no process is left that was told of the fifo; looking must not wake who waits there."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if fifo.encode() in (process / "cmdline").read_bytes():
                return False
    return True


def test_both_streams_and_the_exit_code_come_back(run: Run) -> None:
    ending, output = run("sh", "-c", "echo out; echo err >&2; exit 7")
    assert ending == Ending(7, None, timed_out=False)
    assert output == {"stdout": "out\n", "stderr": "err\n"}


def test_a_command_gets_its_directory_its_environment_no_input_and_no_file_of_ours(run: Run, tmp_path: Path) -> None:
    _, output = run("sh", "-c", "cat; pwd -P; ls /proc/self/fd | wc -l; env")
    where, files, *variables = output["stdout"].splitlines()
    assert where == str(tmp_path.resolve())
    assert int(files) == 4  # the streams, and the folder that `ls` reads
    assert {line.partition("=")[0] for line in variables} <= {"PATH", "PWD", "SHLVL", "_", NETWORK_DISABLED}
    assert f"{NETWORK_DISABLED}=1" in variables


def test_much_output_arrives_whole(run: Run) -> None:
    _, output = run("sh", "-c", "head -c 3000000 /dev/zero")
    assert len(output["stdout"]) == 3_000_000


@pytest.mark.parametrize(
    ("argv", "cwd", "text"),
    [
        (["no-such-program"], None, "No such file or directory (os error 2)"),
        (["./no-such-program"], None, "No such file or directory (os error 2)"),
        (["true"], "/no/such/directory", "No such file or directory (os error 2)"),
        (["true"], "/dev/null", "Not a directory (os error 20)"),
        (["/dev/null"], None, "Permission denied (os error 13)"),
        (["/etc"], None, "Permission denied (os error 13)"),
        (["echo", "a\0b"], None, "nul byte found in provided data"),
    ],
)
def test_what_cannot_be_started_says_why_as_without_a_sandbox(
    run: Run, argv: list[str], cwd: str | None, text: str
) -> None:
    with pytest.raises(SpawnFailed) as caught:
        run(*argv, cwd=cwd)
    assert str(caught.value) == text


def test_nothing_stays_open(run: Run) -> None:
    run("true")
    before = len(list(Path("/dev/fd").iterdir()))
    for _ in range(5):
        with pytest.raises(SpawnFailed):
            run("no-such-program")
        run("true")
    assert until(lambda: len(list(Path("/dev/fd").iterdir())) == before)


def test_no_thread_outlives_its_command(run: Run) -> None:
    run("true")
    assert until(lambda: all(thread.name != "sandbox" for thread in threading.enumerate()))


def test_no_thread_of_the_server_stays_confined(run: Run) -> None:
    run("true")
    free = ("NoNewPrivs:\t0\n", "Seccomp:\t0\n")

    def all_free() -> bool:
        threads = [path.read_text() for path in Path("/proc/self/task").glob("*/status")]
        return all(line in status for status in threads for line in free)

    assert until(all_free)


def test_a_signal_that_ended_a_command_is_told(run: Run, backend: Backend) -> None:
    ending, _ = run("sh", "-c", "kill -SEGV $$")
    told = (128 + signal.SIGSEGV, None) if backend is Backend.BWRAP else (None, signal.SIGSEGV)
    assert (ending.exit_code, ending.signal) == told


def test_a_command_may_say_goodbye_at_its_time_out(run: Run, fifo: str) -> None:
    script = f"trap 'echo bye; exit 3' TERM; echo up; cat {fifo} >/dev/null 2>&1 & wait"
    ending, output = run("sh", "-c", script, timeout_ms=1_000)
    assert output["stdout"] == "up\nbye\n"
    assert ending == Ending(3, None, timed_out=True)


def test_a_command_that_ignores_sigterm_is_killed_with_its_group(
    run: Run, fifo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SHELL_KILL_GRACE_MS", 50)
    ending, _ = run("sh", "-c", f"trap '' TERM; cat {fifo} & wait", timeout_ms=500)
    assert ending == Ending(None, signal.SIGKILL, timed_out=True)
    assert until(lambda: is_gone(fifo))


def test_a_grandchild_that_holds_the_pipes_neither_stalls_the_call_nor_survives_it(run: Run, fifo: str) -> None:
    ending, _ = run("sh", "-c", f"cat {fifo} & exit 0")
    assert ending == Ending(0, None, timed_out=False)
    assert until(lambda: is_gone(fifo))


def test_a_daemon_ends_with_its_command_where_there_is_a_process_namespace(
    run: Run, backend: Backend, fifo: str
) -> None:
    daemon = f"(setsid sh -c 'echo $$; exec cat {fifo} >/dev/null 2>&1' &) | head -n 1"
    _, output = run("sh", "-c", daemon)
    if backend is Backend.LANDLOCK:  # which has none: as without a sandbox
        os.kill(int(output["stdout"]), signal.SIGKILL)
    assert until(lambda: is_gone(fifo))


@pytest.mark.parametrize("trap", ["", "trap '' TERM;"])
def test_an_exception_of_the_reader_ends_everything_and_is_seen(run: Run, fifo: str, trap: str) -> None:
    def stop(stream: str, chunk: bytes) -> None:
        raise ArithmeticError(stream, chunk)

    with pytest.raises(ExceptionGroup) as caught:
        run("sh", "-c", f"{trap} cat {fifo} >/dev/null 2>&1 & echo up; wait", on_chunk=stop)
    assert caught.group_contains(ArithmeticError)
    assert until(lambda: is_gone(fifo))


def test_a_command_leads_its_own_session_and_has_a_known_start_time(backend: Backend, fifo: str) -> None:
    async def main() -> None:
        confinement = Confinement()
        with anyio.fail_after(WAIT_S):
            async with start(
                ["cat", fifo], cwd="/", environment=ENVIRONMENT, confinement=confinement, backend=backend
            ) as running:
                assert os.getsid(running.pid) == running.pid
                assert running.pid_started_at == started_at(running.pid) != ""

    anyio.run(main)
    assert until(lambda: is_gone(fifo))


def test_a_command_outlives_the_thread_that_started_it(backend: Backend, fifo: str, tmp_path: Path) -> None:
    """The kernel ends a bubblewrap with its thread; so that must be one that stays."""
    children: list[subprocess.Popen[bytes]] = []

    def begin() -> None:
        children.append(
            launch(
                ["sh", "-c", f"read line < {fifo} && echo $line > heard"],
                cwd=str(tmp_path),
                environment=ENVIRONMENT,
                stdout=2,
                stderr=2,
                confinement=Confinement((str(tmp_path.resolve()),)),
                backend=backend,
            )
        )

    thread = threading.Thread(target=begin)
    thread.start()
    thread.join()
    Path(fifo).write_text("hello\n")
    assert children[0].wait(WAIT_S) == 0
    assert (tmp_path / "heard").read_text() == "hello\n"


def test_without_a_backend_a_confined_command_does_not_start(tmp_path: Path) -> None:
    async def main() -> None:
        async with start(["touch", "made"], cwd=str(tmp_path), environment=ENVIRONMENT, confinement=Confinement()):
            pass

    with pytest.raises(SpawnFailed, match="no sandbox"):
        anyio.run(main)
    assert not (tmp_path / "made").exists()


SERVER = """
import os, sys
import anyio
from codexdb.agent.sandbox.confinement import Backend, Confinement
from codexdb.agent.tools.process import start

async def main():
    command = start(["sh", "-c", sys.argv[2]], cwd="/", environment=dict(os.environ),
                    confinement=Confinement((sys.argv[3],), shared_memory=True), backend=Backend(sys.argv[1]))
    async with command as running:
        await running.finish(lambda stream, chunk: os.write(1, chunk), timeout_ms=600_000)

anyio.run(main)
"""


@pytest.mark.parametrize(
    "how", ["trap '' TERM HUP INT; cat {fifo} & echo up; wait", "(cat {fifo} &) ; echo up; exec sleep 600"]
)
def test_a_killed_server_takes_its_commands_along(backend: Backend, fifo: str, tmp_path: Path, how: str) -> None:
    proof = tmp_path / "proof"
    argv = [sys.executable, "-c", SERVER, backend, how.format(fifo=fifo) + f"; touch {proof}", str(tmp_path.resolve())]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=True) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"up\n"
        os.killpg(server.pid, signal.SIGKILL)
    assert until(lambda: is_gone(fifo))
    assert not proof.exists()


# -- the choice ------------------------------------------------------------------------------------------------------


def chosen(preferred: SandboxBackend) -> Backend:
    return anyio.run(choice.choose, preferred)


def test_what_is_preferred_and_works_is_taken(backend: Backend) -> None:
    assert chosen(SandboxBackend(backend)) is backend
    assert chosen(SandboxBackend.NONE) is Backend.NONE


def test_the_best_that_works_is_taken_and_why_another_does_not_is_known(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    if backend is Backend.BWRAP:
        assert chosen(SandboxBackend.AUTO) is Backend.BWRAP
        return
    monkeypatch.setattr(choice, "_found", {})
    monkeypatch.setenv("PATH", "/nowhere")
    assert chosen(SandboxBackend.AUTO) is Backend.LANDLOCK
    assert chosen(SandboxBackend.BWRAP) is Backend.NONE
    assert choice.survey()[0].why_not == "it is not installed"


WITHOUT_NETWORK_RULES = """
left=$#
while [ $left -gt 0 ]; do
  word=$1; shift; left=$((left - 1))
  case $word in
    --unshare-net) ;;
    --seccomp) shift; left=$((left - 1)) ;;
    *) set -- "$@" "$word" ;;
  esac
done
exec "$REAL" "$@"
"""


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ('echo "Failed RTM_NEWADDR: Operation not permitted"; exit 1', "Failed RTM_NEWADDR: Operation not permitted"),
        ('while [ "$1" != -- ]; do shift; done; shift; exec "$@"', "a file outside was written; "),
        ("exit 0", "the trial ended with 0"),
        ("trap '' TERM; sleep 60", "the trial took longer than 300 ms"),
        (WITHOUT_NETWORK_RULES, "a TCP socket was connected; a Unix socket was connected"),
    ],
)
def test_a_bubblewrap_that_does_not_hold_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, reason: str
) -> None:
    if "$REAL" in body and (why_not := choice.survey()[0].why_not):
        pytest.skip(f"bwrap: {why_not}")
    monkeypatch.setattr(choice, "_found", {})
    monkeypatch.setenv("REAL", bwrap.program() or "")
    program = tmp_path / "bwrap"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    if "longer" in reason:
        monkeypatch.setattr(choice, "PROBE_MS", 300)
    found = choice.survey()[0]
    assert found.why_not is not None
    assert reason in found.why_not
