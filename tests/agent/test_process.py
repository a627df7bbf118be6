"""Commands as processes: how they are read, and that nothing of them is left, whoever dies first."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest

from codexdb.agent.tools import process
from codexdb.agent.tools.process import Ending, OnChunk, SpawnFailed, start
from codexdb.agent.tools.reaper import Reaper, started_at
from codexdb.domain import limits

WAIT_S = 20  # for anything that must happen; the machine may be busy
ENVIRONMENT = {"PATH": os.environ["PATH"]}


class Output:
    """Collects chunks."""

    def __init__(self) -> None:
        self.by_stream = {"stdout": b"", "stderr": b""}
        self.sizes: list[int] = []

    def add(self, stream: str, chunk: bytes) -> None:
        self.by_stream[stream] += chunk
        self.sizes.append(len(chunk))

    @property
    def pids(self) -> list[int]:
        return [int(line) for line in self.by_stream["stdout"].split()]


def run(*argv: str, on_chunk: OnChunk, cwd: str = "/", timeout_ms: int = 60_000) -> Ending:
    async def main() -> Ending:
        ending = Ending(None, None, timed_out=False)
        with anyio.fail_after(WAIT_S):
            async with start(argv, cwd=cwd, environment=ENVIRONMENT) as running:
                ending = await running.finish(on_chunk, timeout_ms=timeout_ms)
        return ending

    return anyio.run(main)


def is_gone(pid: int) -> bool:
    """A zombie that its parent has not fetched yet does nothing any more."""
    if sys.platform == "linux":
        try:
            return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] in (b"Z", b"X")
        except (FileNotFoundError, ProcessLookupError):
            return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def until(condition: Callable[[], bool]) -> bool:
    never = threading.Event()
    return any(condition() or never.wait(0.01) for _ in range(WAIT_S * 100))


@pytest.fixture
def fifo(tmp_path: Path) -> str:
    """Whoever opens it for reading stays there until somebody writes to it, which nobody does."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return str(path)


@pytest.fixture
def short_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SHELL_DRAIN_MS", 50)
    monkeypatch.setattr(limits, "SHELL_KILL_GRACE_MS", 50)


def test_both_streams_and_the_exit_code_come_back() -> None:
    output = Output()
    assert run("sh", "-c", "echo out; echo err >&2; exit 7", on_chunk=output.add) == Ending(7, None, timed_out=False)
    assert output.by_stream == {"stdout": b"out\n", "stderr": b"err\n"}


def test_a_command_gets_its_environment_its_directory_and_no_input(tmp_path: Path) -> None:
    output = Output()
    run("sh", "-c", "cat; pwd -P; env", on_chunk=output.add, cwd=str(tmp_path))
    lines = output.by_stream["stdout"].decode().splitlines()
    assert lines[0] == str(tmp_path.resolve())
    assert {line.partition("=")[0] for line in lines[1:]} <= {"PATH", "PWD", "SHLVL", "_"}


def test_output_arrives_whole_in_bounded_chunks() -> None:
    output = Output()
    run("sh", "-c", "head -c 3000000 /dev/zero", on_chunk=output.add)
    assert output.by_stream["stdout"] == bytes(3_000_000)
    assert max(output.sizes) <= limits.READ_CHUNK_BYTES


def test_the_signal_that_ended_a_command_is_told() -> None:
    assert run("sh", "-c", "kill -SEGV $$", on_chunk=Output().add) == Ending(None, signal.SIGSEGV, timed_out=False)


@pytest.mark.parametrize(
    ("argv", "cwd", "text"),
    [
        (["no-such-program"], "/", "No such file or directory (os error 2)"),
        (["./no-such-program"], "/", "No such file or directory (os error 2)"),
        (["true"], "/no/such/directory", "No such file or directory (os error 2)"),
        (["true"], "/dev/null", "Not a directory (os error 20)"),
        (["/dev/null"], "/", "Permission denied (os error 13)"),
        (["echo", "a\0b"], "/", "nul byte found in provided data"),
    ],
)
def test_what_cannot_be_started_says_why_in_the_words_of_the_system(argv: list[str], cwd: str, text: str) -> None:
    with pytest.raises(SpawnFailed) as caught:
        run(*argv, cwd=cwd, on_chunk=Output().add)
    assert str(caught.value) == text


def test_nothing_of_a_failed_start_stays_open() -> None:
    run("true", on_chunk=Output().add)  # starts the reaper
    before = len(list(Path("/dev/fd").iterdir()))
    for _ in range(5):
        with pytest.raises(SpawnFailed):
            run("no-such-program", on_chunk=Output().add)
        run("true", on_chunk=Output().add)
    assert len(list(Path("/dev/fd").iterdir())) == before


def test_a_command_has_its_own_session_and_a_known_start_time(fifo: str) -> None:
    async def main() -> None:
        with anyio.fail_after(WAIT_S):
            async with start(["cat", fifo], cwd="/", environment=ENVIRONMENT) as running:
                assert os.getsid(running.pid) == running.pid
                assert running.pid_started_at == started_at(running.pid) != ""

    anyio.run(main)


@pytest.mark.usefixtures("short_spans")
def test_a_grandchild_that_holds_the_pipes_neither_stalls_the_call_nor_survives_it(fifo: str) -> None:
    output = Output()
    ending = run("sh", "-c", f"cat {fifo} & echo $!", on_chunk=output.add)
    assert ending == Ending(0, None, timed_out=False)
    assert until(lambda: is_gone(output.pids[0]))


def test_a_silent_grandchild_does_not_survive_the_call(fifo: str) -> None:
    output = Output()
    assert run("sh", "-c", f"cat {fifo} >/dev/null 2>&1 & echo $!", on_chunk=output.add).exit_code == 0
    assert until(lambda: is_gone(output.pids[0]))


@pytest.mark.usefixtures("short_spans")
def test_a_daemon_that_holds_the_pipes_does_not_stall_the_call(fifo: str) -> None:
    daemon = f"import os\nif os.fork(): os._exit(0)\nos.setsid()\nprint(os.getpid(), flush=True)\nopen({fifo!r})"
    output = Output()
    # The leader waits for the daemon's line, so that the daemon has left the group when the group is killed.
    script = f'line=$({sys.executable} -IS -c "$1" | head -n 1); echo $line; cat {fifo} & exit 0'
    assert run("sh", "-c", script, "sh", daemon, on_chunk=output.add).exit_code == 0
    assert not is_gone(output.pids[0])
    os.kill(output.pids[0], signal.SIGKILL)


@pytest.mark.usefixtures("short_spans")
def test_a_command_that_ignores_sigterm_is_killed_with_its_group(fifo: str) -> None:
    output = Output()
    script = f"trap '' TERM; cat {fifo} & echo $!; wait"
    ending = run("sh", "-c", script, on_chunk=output.add, timeout_ms=300)
    assert ending == Ending(None, signal.SIGKILL, timed_out=True)
    assert until(lambda: is_gone(output.pids[0]))


def test_a_command_may_say_goodbye_at_its_time_out(fifo: str) -> None:
    output = Output()
    script = f"trap 'echo bye; exit 3' TERM; echo up; cat {fifo} >/dev/null 2>&1 & wait"
    ending = run("sh", "-c", script, on_chunk=output.add, timeout_ms=500)
    assert ending == Ending(3, None, timed_out=True)
    assert output.by_stream["stdout"] == b"up\nbye\n"


@pytest.mark.parametrize("trap", ["", "trap '' TERM;"])
def test_cancellation_ends_the_whole_group_before_it_goes_on(fifo: str, trap: str) -> None:
    output = Output()

    async def main() -> bool:
        with anyio.fail_after(WAIT_S), anyio.CancelScope() as scope:

            def on_chunk(stream: str, chunk: bytes) -> None:
                output.add(stream, chunk)
                if output.by_stream["stdout"].count(b"\n") == 2:
                    scope.cancel()

            script = f"{trap} echo $$; cat {fifo} & echo $!; wait"
            async with start(["sh", "-c", script], cwd="/", environment=ENVIRONMENT) as running:
                await running.finish(on_chunk, timeout_ms=60_000)
        with pytest.raises(ProcessLookupError):  # reaped, so not even a zombie
            os.kill(output.pids[0], 0)
        return scope.cancelled_caught

    assert anyio.run(main)
    assert until(lambda: is_gone(output.pids[1]))


def test_an_exception_of_the_reader_ends_the_group_and_is_seen() -> None:
    def on_chunk(stream: str, chunk: bytes) -> None:
        raise ArithmeticError(stream, chunk)

    with pytest.raises(ExceptionGroup) as caught:
        run("sh", "-c", "echo x; exec cat /dev/zero >/dev/null", on_chunk=on_chunk)
    assert caught.group_contains(ArithmeticError)


def test_it_works_where_the_kernel_has_no_pidfd(monkeypatch: pytest.MonkeyPatch, fifo: str) -> None:
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    output = Output()
    assert run("sh", "-c", "echo x; exit 7", on_chunk=output.add) == Ending(7, None, timed_out=False)
    assert run("cat", fifo, on_chunk=output.add, timeout_ms=50) == Ending(None, signal.SIGTERM, timed_out=True)


# -- the server's death --------------------------------------------------------------------------------------------

SERVER = """
import os, sys
import anyio
from codexdb.agent.tools.process import reaper, start

async def main():
    async with start(["sh", "-c", sys.argv[1]], cwd="/", environment=dict(os.environ)) as running:
        os.write(1, b"%d\\n" % reaper.pid)
        await running.finish(lambda stream, chunk: os.write(1, chunk), timeout_ms=600_000)

anyio.run(main)
"""

UNREGISTERED = """
import os, subprocess, sys
from codexdb.agent.tools.reaper import Reaper

reaper, (read_end, write_end) = Reaper(), os.pipe()
reaper.announce((read_end, write_end))
child = subprocess.Popen(["cat", sys.argv[1]], stdin=subprocess.DEVNULL, stderr=write_end, start_new_session=True)
os.write(1, b"%d\\n" % child.pid)
child.wait()
"""


@pytest.fixture
def servers() -> Iterator[list[subprocess.Popen[bytes]]]:
    running: list[subprocess.Popen[bytes]] = []
    yield running
    for server in running:
        server.kill()
        server.communicate(timeout=WAIT_S)


@pytest.fixture
def server(servers: list[subprocess.Popen[bytes]]) -> Callable[..., tuple[subprocess.Popen[bytes], list[int]]]:
    def started(program: str, argument: str, pids: int) -> tuple[subprocess.Popen[bytes], list[int]]:
        argv = [sys.executable, "-c", program, argument]
        child = subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=True)
        servers.append(child)
        assert child.stdout is not None
        return child, [int(child.stdout.readline()) for _ in range(pids)]

    return started


StartServer = Callable[..., tuple[subprocess.Popen[bytes], list[int]]]


def kill(child: subprocess.Popen[bytes]) -> None:
    """As clients do that are done with a server: the whole group it was started in."""
    os.killpg(child.pid, signal.SIGKILL)


@pytest.mark.parametrize("trap", ["", "trap '' TERM HUP INT;"])
@pytest.mark.parametrize("redirect", ["", ">/dev/null 2>&1"])
def test_a_killed_server_takes_its_commands_and_their_background_along(
    server: StartServer, tmp_path: Path, fifo: str, trap: str, redirect: str
) -> None:
    proof = tmp_path / "proof"
    script = f"{trap} (read line <{fifo}; touch {proof}) {redirect} & echo $$; echo $!; wait"
    child, pids = server(SERVER, script, 3)
    kill(child)
    assert until(lambda: all(map(is_gone, pids)))  # the reaper too
    with pytest.raises(OSError, match="No such device"):  # nobody waits for a line
        os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    assert not proof.exists()


def test_the_group_of_a_leader_that_is_already_gone_dies_with_the_server(server: StartServer, fifo: str) -> None:
    child, pids = server(SERVER, f"echo $$; (exec cat {fifo}) & echo $!; exit", 3)
    kill(child)
    assert until(lambda: all(map(is_gone, pids)))


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_command_that_a_dying_server_spawned_but_could_not_register_dies_too(server: StartServer, fifo: str) -> None:
    child, pids = server(UNREGISTERED, fifo, 1)
    kill(child)
    assert until(lambda: is_gone(pids[0]))


def test_a_reaper_that_was_killed_is_replaced_and_knows_the_commands_that_run(fifo: str) -> None:
    reaper = Reaper()
    child = subprocess.Popen(["cat", fifo], stdin=subprocess.DEVNULL, start_new_session=True)
    read_end, write_end = os.pipe()
    try:
        key = reaper.announce((read_end, write_end))
        reaper.register(key, child.pid, started_at(child.pid))
        first = reaper.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        assert until(lambda: is_gone(first))
        other = reaper.announce((read_end,))
        assert reaper.pid != first
        reaper.forget(other)
        os.close(read_end)  # the reaper is to know the group, and not to find us by the pipe
        os.close(write_end)
        reaper.close()
        assert child.wait(WAIT_S) == -signal.SIGKILL
    finally:
        child.kill()
        child.wait(WAIT_S)
        reaper.close()


def test_a_group_whose_leader_was_reaped_is_still_known(fifo: str) -> None:
    reaper = Reaper()
    argv = ["sh", "-c", f"cat {fifo} >/dev/null & echo $!; read line"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True) as leader:
        assert leader.stdout is not None
        member = int(leader.stdout.readline())
        reaper.register(reaper.announce(()), leader.pid, started_at(leader.pid))
    assert leader.returncode is not None
    assert not is_gone(member)
    reaper.close()
    assert until(lambda: is_gone(member))


def test_a_group_whose_leader_is_another_process_by_now_is_spared(fifo: str) -> None:
    reaper = Reaper()
    child = subprocess.Popen(["cat", fifo], stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        reaper.register(reaper.announce(()), child.pid, "another time")
        reaper.close()
        assert child.poll() is None
    finally:
        child.kill()
        child.wait(WAIT_S)


def test_a_finished_command_is_no_longer_the_reapers_business() -> None:
    run("true", on_chunk=Output().add)
    with pytest.raises(SpawnFailed):
        run("no-such-program", on_chunk=Output().add)
    assert process.reaper.registered == 0
