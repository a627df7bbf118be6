"""The `shell` tool: run one program with its arguments, and tell the model what it printed.

Owns the arguments and the texts that come back. `process` runs it, `output` bounds it; whether it may run, and whether
in the sandbox, is decided elsewhere.
"""

import math
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import cast

import anyio

from codexdb.agent.model import ToolSpec
from codexdb.agent.sandbox.confinement import Backend, Confinement
from codexdb.agent.tools.output import Capture, Deltas
from codexdb.agent.tools.process import Ending, SpawnFailed, start
from codexdb.domain import limits
from codexdb.domain.json import JsonObject, decode, encode

_DESCRIPTION = (
    "Run a program and wait for it to end. `command` is the program followed by its arguments, passed on as they "
    'are: for pipes, redirections, globs or variables use ["bash", "-lc", "<script>"]. It has no input and no '
    "terminal. "
    "Standard output and standard error come back together, in the order they were printed; of a long output the "
    "middle is left out. Everything the command started is ended with it, so nothing goes on in the background."
)
_ESCALATION = (
    " It runs in a sandbox. If that stops a command that is needed, make the call again with "
    "`with_escalated_permissions` and a `justification`: a person then decides whether it runs without."
)
_PROPERTIES: JsonObject = {
    "command": {
        "type": "array",
        "items": {"type": "string"},
        "description": "The program and its arguments.",
    },
    "workdir": {
        "type": "string",
        "description": "Where to run it; relative to the session's directory, which is the default.",
    },
    "timeout_ms": {
        "type": "number",
        "description": f"Ended after that many milliseconds; {limits.SHELL_TIMEOUT_MS} unless given.",
    },
}
_MORE: JsonObject = {
    "with_escalated_permissions": {
        "type": "boolean",
        "description": "Ask a person to let it run without the sandbox.",
    },
    "justification": {
        "type": "string",
        "description": "With that: why it is needed, in one sentence for the person who decides.",
    },
}


@cache
def spec(*, may_escalate: bool = False) -> ToolSpec:
    """The tool as it is offered; `may_escalate`: with a way to ask for more than the sandbox gives."""
    return ToolSpec(
        name="shell",
        description=_DESCRIPTION + (_ESCALATION if may_escalate else ""),
        parameters={
            "type": "object",
            "properties": {**_PROPERTIES, **_MORE} if may_escalate else _PROPERTIES,
            "required": ["command"],
            "additionalProperties": False,
        },
    )


@dataclass(frozen=True, slots=True)
class ShellCommand:
    """What the model asked for."""

    argv: tuple[str, ...]  # may be empty, which fails when it is run
    cwd: str  # absolute if the session's is
    timeout_ms: int
    escalated: bool = False  # the model asks to run it without the sandbox
    justification: str | None = None  # why, in its words


@dataclass(frozen=True, slots=True)
class Refused:
    """The command does not run; `text` tells the model why."""

    text: str


@dataclass(frozen=True, slots=True)
class ShellResult:
    """How a command came out. `exit_code` is -1 where it was not started, timed out or was ended by a signal."""

    output_for_model: str
    stored_output: str
    exit_code: int
    stdout: str  # its beginning, as events show it
    stderr: str
    duration_ns: int
    own_exit_code: int | None = None  # the command's, also where `exit_code` is -1
    signal: int | None = None

    @property
    def succeeded(self) -> bool:
        return self.exit_code == 0


# -- arguments -----------------------------------------------------------------------------------------------------


def parse(arguments: str, *, cwd: str, timeout_ms: int = limits.SHELL_TIMEOUT_MS) -> ShellCommand | Refused:
    """The command that the model's JSON asks for, or what to tell it where it asks for none.

    `cwd` is the session's directory; `timeout_ms` counts where the model names none. The model's `timeout` is read as
    `timeout_ms`; unknown keys are passed over.
    """
    try:
        return _command(arguments, cwd, timeout_ms)
    except ValueError as error:
        return Refused(f"failed to parse function arguments: {error}")


def _command(arguments: str, cwd: str, default_timeout_ms: int) -> ShellCommand:
    value = decode(arguments)
    if not isinstance(value, dict):
        raise ValueError(f"invalid type: {_described(value)}, expected an object")  # noqa: TRY004 - caught just above
    fields = cast("JsonObject", value)
    if "command" not in fields:
        raise ValueError(f"missing field `command` at {_end_of(arguments)}")
    workdir = fields.get("workdir")
    timeout = _timeout_ms(fields.get("timeout_ms", fields.get("timeout")))
    return ShellCommand(
        argv=_strings(fields["command"]),
        cwd=cwd if workdir is None else os.path.join(cwd, _string(workdir)),  # noqa: PTH118 - shown as it was given
        timeout_ms=min(default_timeout_ms if timeout is None else timeout, limits.SHELL_TIMEOUT_MS_MAX),
        escalated=fields.get("with_escalated_permissions") is True,
        justification=_optional_string(fields.get("justification")),
    )


def _strings(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError(f"invalid type: {_described(value)}, expected a sequence")  # noqa: TRY004
    return tuple(_string(part) for part in cast("list[object]", value))


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"invalid type: {_described(value)}, expected a string")  # noqa: TRY004
    return value


def _optional_string(value: object) -> str | None:
    return None if value is None else _string(value)


def _timeout_ms(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"invalid type: {_described(value)}, expected a number of milliseconds")
    if value < 0:
        raise ValueError(f"invalid value: {_described(value)}, expected a number of milliseconds")
    return int(value)


def _described(value: object) -> str:
    if isinstance(value, dict | list):
        return "map" if isinstance(value, dict) else "sequence"
    if isinstance(value, str):
        return f"string {encode(value)}"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"boolean `{str(value).lower()}`"
    return f"integer `{value}`" if isinstance(value, int) else f"floating point `{value}`"


def _end_of(arguments: str) -> str:
    """Where the object ends, counted as JSON parsers do: lines from 1, columns in bytes."""
    lines = arguments.rstrip().split("\n")
    return f"line {len(lines)} column {len(lines[-1].encode())}"


# -- running -------------------------------------------------------------------------------------------------------


async def run(
    command: ShellCommand,
    *,
    environment: Mapping[str, str],
    on_started: Callable[[int, str], Awaitable[None]],
    on_output: Callable[[str, bytes], None],
    capture: Capture | None = None,
    output_bytes_max: int = limits.TOOL_OUTPUT_BYTES_MAX,
    confinement: Confinement | None = None,
    backend: Backend = Backend.NONE,
) -> ShellResult:
    """Run the command to its end, which leaves nothing of its process group behind. Its failures are results.

    `environment` is all it gets. `on_started` is awaited with its pid and that process's start time ("" if unknown)
    once it runs; the time this takes counts. `on_output` is given its output as it comes, in pieces of up to
    `limits.OUTPUT_DELTA_BYTES_MAX` bytes and no more than `limits.OUTPUT_STREAMED_BYTES_MAX` in all.

    Cancellation, or an exception of a callback, ends the whole group (SIGTERM, then SIGKILL) before it goes on; what
    was printed until then is in `capture`. Exceptions of `on_output` arrive in an `ExceptionGroup`.
    """
    capture = Capture() if capture is None else capture
    began_ns = time.monotonic_ns()
    if not command.argv:
        return _not_started("command args are empty", 0)
    deltas = Deltas(on_output)

    def on_chunk(stream: str, chunk: bytes) -> None:
        capture.add(stream, chunk)
        deltas.add(stream, chunk)

    ending = Ending(None, None, timed_out=False)
    try:
        async with start(
            command.argv, cwd=command.cwd, environment=environment, confinement=confinement, backend=backend
        ) as process:
            await on_started(process.pid, process.pid_started_at)
            async with anyio.create_task_group() as group:
                group.start_soon(deltas.run)
                spent_ms = (time.monotonic_ns() - began_ns) // 1_000_000
                ending = await process.finish(on_chunk, timeout_ms=max(0, command.timeout_ms - spent_ms))
                group.cancel_scope.cancel()
    except SpawnFailed as failure:
        return _not_started(str(failure), time.monotonic_ns() - began_ns)
    deltas.flush()
    capture.finish()
    return _ended(_trouble(ending, command), ending, capture, time.monotonic_ns() - began_ns, output_bytes_max)


def _not_started(why: str, duration_ns: int) -> ShellResult:
    text = f"execution error: {why}"
    return ShellResult(text, text, exit_code=-1, stdout="", stderr=why, duration_ns=duration_ns)


@dataclass(frozen=True, slots=True)
class _Trouble:
    """Why a command has no exit code of its own: in a line for the model, and as events put it."""

    line: str
    event: str


def _trouble(ending: Ending, command: ShellCommand) -> _Trouble | None:
    if ending.timed_out:
        line = f"command timed out after {command.timeout_ms} milliseconds"
        return _Trouble(line, "sandbox error: command timed out")
    if ending.exit_code is None:
        name = "" if ending.signal is None else f" ({_signal_name(ending.signal)})"
        return _Trouble(f"command was killed by a signal{name}", "sandbox error: command was killed by a signal")
    return None


def _ended(
    trouble: _Trouble | None, ending: Ending, capture: Capture, duration_ns: int, output_bytes_max: int
) -> ShellResult:
    head = "" if trouble is None else f"{trouble.line}\n"
    exit_code = -1 if trouble is not None or ending.exit_code is None else ending.exit_code
    metadata = {"exit_code": exit_code, "duration_seconds": round(duration_ns / 1e9, 1)}
    output = head + capture.text(output_bytes_max - len(head))
    stderr = capture.firsts["stderr"]
    if trouble is not None:
        stderr = f"{stderr}\n{trouble.event}" if stderr and not stderr.endswith("\n") else stderr + trouble.event
    return ShellResult(
        output_for_model=encode({"output": output, "metadata": metadata}),
        stored_output=head + capture.text(limits.TOOL_OUTPUT_STORED_BYTES_MAX - len(head)),
        exit_code=exit_code,
        stdout=capture.firsts["stdout"],
        stderr=stderr,
        duration_ns=duration_ns,
        own_exit_code=ending.exit_code,
        signal=ending.signal,
    )


def denial(result: ShellResult) -> str:
    """What the sandbox did to a command, in the words that clients of the original know."""
    code = result.own_exit_code if result.own_exit_code is not None else result.exit_code
    return f"sandbox denied exec error, exit code: {code}, stdout: {result.stdout}, stderr: {result.stderr}"


def denied_for_model(result: ShellResult, output_bytes_max: int) -> str:
    """The same for the model, with as much of the output as it may see."""
    text = f"failed in sandbox LinuxSeccomp with execution error: {denial(result)}"
    kept = text.encode()[:output_bytes_max].decode(errors="ignore")
    return kept if kept == text else f"{kept}\n[... cut off here ...]"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
