"""The `shell` tool, from the model's arguments to the model's answer."""

import os
import re
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

import anyio
import pytest

from codexdb.agent.tools.output import Capture
from codexdb.agent.tools.shell import Refused, ShellCommand, ShellResult, parse, run, spec
from codexdb.domain import limits
from codexdb.domain.json import JsonObject, decode_object
from codexdb.domain.session import ApprovalPolicy, SandboxMode, SessionSettings

WAIT_S = 30


def settings(policy: ApprovalPolicy, mode: SandboxMode) -> SessionSettings:
    return SessionSettings("model", "provider", "/", policy, mode)


async def ignore_start(_pid: int, _started_at: str) -> None:
    pass


def ignore_output(_stream: str, _chunk: bytes) -> None:
    pass


def shell(
    *argv: str, cwd: str = "/", timeout_ms: int = 60_000, on_output: Callable[[str, bytes], None] = ignore_output
) -> ShellResult:
    async def main() -> ShellResult:
        with anyio.fail_after(WAIT_S):
            return await run(
                ShellCommand(argv, cwd, timeout_ms),
                environment={"PATH": os.environ["PATH"]},
                on_started=ignore_start,
                on_output=on_output,
            )

    return anyio.run(main)


def told(result: ShellResult) -> tuple[object, object]:
    """Output and exit code as the model reads them."""
    answer = decode_object(result.output_for_model)
    return answer["output"], cast("JsonObject", answer["metadata"])["exit_code"]


# -- arguments -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ('{"command":["ls"]}', ShellCommand(("ls",), "/project", limits.SHELL_TIMEOUT_MS)),
        ('{"command":[]}', ShellCommand((), "/project", limits.SHELL_TIMEOUT_MS)),
        ('{"command":["ls"],"workdir":"a/b"}', ShellCommand(("ls",), "/project/a/b", limits.SHELL_TIMEOUT_MS)),
        ('{"command":["ls"],"workdir":"/tmp"}', ShellCommand(("ls",), "/tmp", limits.SHELL_TIMEOUT_MS)),  # noqa: S108
        (
            '{"command":["ls"],"workdir":null,"timeout":null}',
            ShellCommand(("ls",), "/project", limits.SHELL_TIMEOUT_MS),
        ),
        ('{"command":["ls"],"timeout":600}', ShellCommand(("ls",), "/project", 600)),
        ('{"command":["ls"],"timeout_ms":600.0,"other":1}', ShellCommand(("ls",), "/project", 600)),
        ('{"command":["ls"],"timeout_ms":1e12}', ShellCommand(("ls",), "/project", limits.SHELL_TIMEOUT_MS_MAX)),
    ],
)
def test_arguments_are_read(arguments: str, expected: ShellCommand) -> None:
    assert parse(arguments, cwd="/project") == expected


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ("{not json", "key must be a string at line 1 column 2"),
        ('{"command":["a"]}{"command":["b"]}', "trailing characters at line 1 column 18"),
        ("", "EOF while parsing a value at line 1 column 0"),
        ("{}", "missing field `command` at line 1 column 2"),
        ('{\n "cmd": "ä"}\n', "missing field `command` at line 2 column 13"),
        ("[]", "invalid type: sequence, expected an object"),
        ("null", "invalid type: null, expected an object"),
        ('{"command":"ls"}', 'invalid type: string "ls", expected a sequence'),
        ('{"command":null}', "invalid type: null, expected a sequence"),
        ('{"command":["a",1]}', "invalid type: integer `1`, expected a string"),
        ('{"command":["a"],"workdir":{}}', "invalid type: map, expected a string"),
        ('{"command":["a"],"timeout":true}', "invalid type: boolean `true`, expected a number of milliseconds"),
        ('{"command":["a"],"timeout":"1"}', 'invalid type: string "1", expected a number of milliseconds'),
        ('{"command":["a"],"timeout":-1.5}', "invalid value: floating point `-1.5`, expected a number of milliseconds"),
    ],
)
def test_arguments_that_cannot_be_used_are_answered_with_the_reason(arguments: str, why: str) -> None:
    assert parse(arguments, cwd="/project") == Refused(f"failed to parse function arguments: {why}")


def test_the_tool_asks_for_an_array_of_strings_and_nothing_it_would_not_read() -> None:
    offered = spec()
    assert offered.name == "shell"
    assert offered.parameters["required"] == ["command"]
    plain = {"command", "workdir", "timeout_ms"}
    assert set(cast("JsonObject", offered.parameters["properties"])) == plain
    more = spec(may_escalate=True).parameters
    assert set(cast("JsonObject", more["properties"])) == plain | {"with_escalated_permissions", "justification"}


def test_a_request_for_more_rights_is_read_with_its_reason() -> None:
    command = parse('{"command":["x"],"with_escalated_permissions":true,"justification":"to fetch"}', cwd="/p")
    assert isinstance(command, ShellCommand)
    assert (command.escalated, command.justification) == (True, "to fetch")


# -- running -------------------------------------------------------------------------------------------------------


def test_the_model_gets_output_and_exit_code_in_the_known_envelope() -> None:
    result = shell("echo", "hi")
    envelope = r'\{"output":"hi\\n","metadata":\{"exit_code":0,"duration_seconds":\d+\.\d\}\}'
    assert re.fullmatch(envelope, result.output_for_model)
    assert (result.stored_output, result.stdout, result.stderr) == ("hi\n", "hi\n", "")
    assert result.succeeded
    assert 0 < result.duration_ns < WAIT_S * 10**9


def test_a_failed_command_keeps_its_standard_output_too() -> None:
    result = shell("sh", "-c", "echo out; echo err >&2; exit 3")
    output, exit_code = told(result)
    assert isinstance(output, str)
    assert sorted(output.splitlines()) == ["err", "out"]
    assert (exit_code, result.exit_code, result.succeeded) == (3, 3, False)
    assert (result.stdout, result.stderr) == ("out\n", "err\n")


@pytest.mark.parametrize(
    ("argv", "cwd", "why"),
    [
        (["no-such-program"], "/", "No such file or directory (os error 2)"),
        (["true"], "/no/such/directory", "No such file or directory (os error 2)"),
        (["echo", "a\0b"], "/", "nul byte found in provided data"),
        ([], "/", "command args are empty"),
    ],
)
def test_what_cannot_be_started_is_told_as_an_execution_error(argv: list[str], cwd: str, why: str) -> None:
    result = shell(*argv, cwd=cwd)
    assert result.output_for_model == result.stored_output == f"execution error: {why}"
    assert (result.exit_code, result.stdout, result.stderr, result.succeeded) == (-1, "", why, False)


def test_a_time_out_is_told_with_the_output_so_far() -> None:
    result = shell("sh", "-c", "echo so far; exec cat /dev/zero >/dev/null", timeout_ms=500)
    assert told(result) == ("command timed out after 500 milliseconds\nso far\n", -1)
    assert result.stored_output == "command timed out after 500 milliseconds\nso far\n"
    assert (result.exit_code, result.stdout, result.stderr) == (-1, "so far\n", "sandbox error: command timed out")


def test_death_by_a_signal_is_told_with_the_output_so_far() -> None:
    result = shell("sh", "-c", "echo so far; echo oops >&2; kill -KILL $$")
    output, exit_code = told(result)
    assert isinstance(output, str)
    assert output.startswith("command was killed by a signal (SIGKILL)\n")
    assert "so far\n" in output
    assert exit_code == -1
    assert result.stderr == "oops\nsandbox error: command was killed by a signal"


def test_output_that_is_no_text_is_told_with_replacements() -> None:
    assert told(shell("printf", r"a\377b\342\202")) == ("a�b�", 0)


def test_a_line_of_200_kilobytes_is_cut_for_the_model_and_kept_in_full() -> None:
    result = shell("sh", "-c", "head -c 200000 /dev/zero | tr '\\0' x")
    output, _ = told(result)
    assert isinstance(output, str)
    assert len(output) <= limits.TOOL_OUTPUT_BYTES_MAX
    assert "left out" in output
    assert result.stored_output == "x" * 200_000


def test_a_gigabyte_of_output_takes_a_few_megabytes() -> None:
    streamed = 0

    def on_output(_stream: str, chunk: bytes) -> None:
        nonlocal streamed
        streamed += len(chunk)
        assert len(chunk) <= limits.OUTPUT_DELTA_BYTES_MAX

    shell("true")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = shell("sh", "-c", "yes | head -c 1000000000", on_output=on_output)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * (1 if sys.platform == "darwin" else 1024) < 24 * 1024 * 1024
    assert streamed == limits.OUTPUT_STREAMED_BYTES_MAX
    assert len(result.stored_output) <= limits.TOOL_OUTPUT_STORED_BYTES_MAX
    omitted = result.stored_output.partition(" lines, ")[2].partition(" bytes left")[0]
    kept = result.stored_output.count("y\n")
    assert int(omitted) + 2 * kept == 1_000_000_000


def test_output_is_shown_while_the_command_runs(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    seen: list[tuple[str, bytes]] = []

    def on_output(stream: str, chunk: bytes) -> None:
        seen.append((stream, chunk))
        if len(seen) == 1:
            writer = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
            os.write(writer, b"go on\n")
            kept.append(writer)

    kept: list[int] = []
    result = shell("sh", "-c", f"echo shown; read line <{fifo}; echo $line >&2", on_output=on_output)
    os.close(kept[0])
    assert seen == [("stdout", b"shown\n"), ("stderr", b"go on\n")]
    assert result.succeeded


def test_the_process_is_named_as_soon_as_it_runs() -> None:
    named: list[tuple[int, str]] = []

    async def on_started(pid: int, pid_started_at: str) -> None:
        os.kill(pid, 0)
        named.append((pid, pid_started_at))

    async def main() -> ShellResult:
        with anyio.fail_after(WAIT_S):
            command = ShellCommand(("sh", "-c", "echo $$"), "/", 60_000)
            return await run(
                command, environment={"PATH": os.environ["PATH"]}, on_started=on_started, on_output=ignore_output
            )

    result = anyio.run(main)
    assert [f"{pid}\n" for pid, _ in named] == [result.stdout]
    assert named[0][1]


def test_a_failure_to_record_the_process_ends_it() -> None:
    pids: list[int] = []

    async def on_started(pid: int, _started_at: str) -> None:
        pids.append(pid)
        raise ArithmeticError

    async def main() -> None:
        with anyio.fail_after(WAIT_S):
            command = ShellCommand(("sleep", "600"), "/", 60_000)
            await run(command, environment={"PATH": os.environ["PATH"]}, on_started=on_started, on_output=ignore_output)

    with pytest.raises(ArithmeticError):
        anyio.run(main)
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


def test_a_cancelled_command_is_gone_and_what_it_printed_is_there() -> None:
    capture = Capture()

    async def main() -> bool:
        with anyio.fail_after(WAIT_S), anyio.CancelScope() as scope:
            await run(
                ShellCommand(("sh", "-c", "echo $$; exec sleep 600"), "/", 60_000),
                environment={"PATH": os.environ["PATH"]},
                on_started=ignore_start,
                on_output=lambda _stream, _chunk: scope.cancel(),
                capture=capture,
            )
        return scope.cancelled_caught

    assert anyio.run(main)
    with pytest.raises(ProcessLookupError):
        os.kill(int(capture.text(100)), signal.SIGTERM)
