"""Calls of `shell`: decided by policy or by a person, run in the sandbox or without it."""

from collections.abc import Sequence

import anyio
import anyio.to_thread

from codexdb.agent.calls.context import CallContext, answered, ask, refuse, settle_intent
from codexdb.agent.calls.patch import run_patch
from codexdb.agent.journal import Journal
from codexdb.agent.sandbox.confinement import Backend, Confinement
from codexdb.agent.sandbox.denial import looks_denied
from codexdb.agent.tools import shell
from codexdb.agent.tools.dangerous import danger
from codexdb.agent.tools.decision import Ask, Reject, Run, after_failure, decide
from codexdb.agent.tools.output import Capture
from codexdb.agent.tools.patch.arrival import recognise
from codexdb.agent.tools.safe import is_safe
from codexdb.domain import crash, event
from codexdb.domain.approval import Fallback
from codexdb.domain.item import Item, function_call_output
from codexdb.domain.limits import TOOL_OUTPUT_STORED_BYTES_MAX
from codexdb.domain.record import CallChange, CallDecided, CallEnded, CallSpawned, CallStarted, Entry, NewItem, OpenCall
from codexdb.domain.transition import ApprovalState

JUDGED_AT_ONCE_CHARS_MAX = 16 * 1024  # a millisecond or two; longer commands are rare
STOPPED = "The command was stopped while it ran. What it did until then stands. It had printed:"
REJECTED = "exec command rejected by user"
RETRY_REASON = "command failed; retry without sandbox?"


async def run_command(context: CallContext, journal: Journal, call: OpenCall) -> Item | None:
    """See `run_call`."""
    command = shell.parse(str(call.item["arguments"]), cwd=context.settings.cwd, timeout_ms=context.shell_timeout_ms)
    if isinstance(command, shell.Refused):
        return refuse(journal, call, command.text)
    arrival = recognise(command.argv)
    if arrival is not None:
        return await run_patch(context, journal, call, arrival.patch, arrival.directory(command.cwd))
    match answered(call):
        case ApprovalState.PENDING:
            return None
        case ApprovalState.APPROVED:
            return await _run_freely(context, journal, call, command)
        case None:
            return await _decide(context, journal, call, command)
        case _:
            return refuse(journal, call, REJECTED)


async def _decide(context: CallContext, journal: Journal, call: OpenCall, command: shell.ShellCommand) -> Item | None:
    settings = context.settings
    trusted, risk = await _judged(command.argv)
    decision = decide(
        settings.approval_policy,
        settings.sandbox_mode,
        trusted=trusted,
        approved=(command.cwd, command.argv) in context.remembered.commands,
        escalated=command.escalated,
        sandbox=context.backend is not Backend.NONE,
        danger=risk,
    )
    match decision:
        case Run():
            confinement = context.confinement if decision.sandboxed else None
            return await _run(context, journal, call, command, confinement)
        case Ask():
            reason = command.justification or decision.reason
            return _ask(context, journal, call, command, reason, [])
        case Reject():
            return refuse(journal, call, decision.text)


async def _judged(argv: Sequence[str]) -> tuple[bool, str | None]:
    """Whether the command only reads, and what it destroys. A long one is read aside, for it takes seconds."""
    if len(argv) + sum(map(len, argv)) <= JUDGED_AT_ONCE_CHARS_MAX:
        return is_safe(argv), danger(argv)
    return await anyio.to_thread.run_sync(lambda: (is_safe(argv), danger(argv)))


def _ask(
    context: CallContext,
    journal: Journal,
    call: OpenCall,
    command: shell.ShellCommand,
    reason: str | None,
    before: list[event.Event],
) -> Item | None:
    told = event.exec_approval_request(str(call.item["call_id"]), command.argv, command.cwd, reason)
    question = {"command": list(command.argv), "cwd": command.cwd, "reason": reason}
    return ask(context, journal, call, "exec", {**question}, [*before, told])


async def _run_freely(
    context: CallContext, journal: Journal, call: OpenCall, command: shell.ShellCommand
) -> Item | None:
    """A person has said yes: once, without the sandbox."""
    if call.started:
        journal.append(Entry(events=[event.background_event("retrying command without sandbox")]))
    return await _run(context, journal, call, command, None)


async def _run(
    context: CallContext,
    journal: Journal,
    call: OpenCall,
    command: shell.ShellCommand,
    confinement: Confinement | None,
) -> Item | None:
    call_id = str(call.item["call_id"])
    intent: list[CallChange] = [] if call.started else [CallDecided(call.id, approved=True), CallStarted(call.id)]
    begin = event.exec_command_begin(call_id, command.argv, command.cwd)
    await settle_intent(context, journal, Entry(calls=intent, events=[begin]))
    crash.point("call.intended")

    async def on_started(pid: int, pid_started_at: str) -> None:
        crash.point("call.spawned")
        journal.append(Entry(calls=[CallSpawned(call.id, pid, pid_started_at)]))

    def on_output(stream: str, chunk: bytes) -> None:
        journal.delta(0, event.exec_command_output_delta(call_id, stream, chunk))

    capture = Capture()
    try:
        result = await shell.run(
            command,
            environment=context.environment,
            on_started=on_started,
            on_output=on_output,
            capture=capture,
            output_bytes_max=context.output_bytes_max,
            confinement=confinement,
            backend=context.backend,
        )
    except anyio.get_cancelled_exc_class():
        _abort(context, journal, call, capture)
        raise
    crash.point("call.ran")
    return _conclude(context, journal, call, command, result, sandboxed=confinement is not None)


def _conclude(
    context: CallContext,
    journal: Journal,
    call: OpenCall,
    command: shell.ShellCommand,
    result: shell.ShellResult,
    *,
    sandboxed: bool,
) -> Item | None:
    call_id = str(call.item["call_id"])
    denied = sandboxed and looks_denied(result.own_exit_code, result.signal, result.stdout + result.stderr)
    exit_code = -1 if denied else result.exit_code
    end = event.exec_command_end(call_id, result.stdout, result.stderr, exit_code, result.duration_ns)
    if denied and context.fallback is Fallback.WAIT and after_failure(context.settings.approval_policy, denied=True):
        failed = event.background_event(f"Execution failed: {shell.denial(result)}")
        return _ask_again(context, journal, call, command, [end, failed])
    told = shell.denied_for_model(result, context.output_bytes_max) if denied else result.output_for_model
    output = function_call_output(call_id, told)
    ended = CallEnded(call.id, "succeeded" if result.succeeded else "failed", result.exit_code, result.stored_output)
    journal.append(Entry(calls=[ended], items=[NewItem(output)], events=[end]))
    crash.point("call.recorded")
    return output


def _ask_again(
    context: CallContext, journal: Journal, call: OpenCall, command: shell.ShellCommand, before: list[event.Event]
) -> Item | None:
    """The call stays `started`: it has failed in the sandbox, and may run once more without it."""
    return _ask(context, journal, OpenCall(call.id, call.item, started=True), command, RETRY_REASON, before)


def _abort(context: CallContext, journal: Journal, call: OpenCall, capture: Capture) -> None:
    """The command was stopped on purpose: its outcome is known, and so is what it printed."""
    capture.finish()
    told = f"{STOPPED}\n{capture.text(context.output_bytes_max)}".rstrip()
    output = function_call_output(str(call.item["call_id"]), told)
    ended = CallEnded(call.id, "aborted", None, capture.text(TOOL_OUTPUT_STORED_BYTES_MAX))
    journal.append(Entry(calls=[ended], items=[NewItem(output)]))
