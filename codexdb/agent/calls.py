"""One tool call from the model's request to its output: decided, put on record, run, put on record."""

from collections.abc import Mapping
from dataclasses import dataclass

import anyio

from codexdb.agent.journal import Journal
from codexdb.agent.tools import plan, shell
from codexdb.agent.tools.output import Capture
from codexdb.domain import crash, event
from codexdb.domain.clock import Clock
from codexdb.domain.item import Item, function_call_output
from codexdb.domain.json import JsonObject
from codexdb.domain.limits import LEASE_MS, SHELL_TIMEOUT_MS, TOOL_OUTPUT_BYTES_MAX, TOOL_OUTPUT_STORED_BYTES_MAX
from codexdb.domain.record import CallChange, CallDecided, CallEnded, CallSpawned, CallStarted, Entry, NewItem, OpenCall
from codexdb.domain.session import SessionSettings

STOPPED = "The command was stopped while it ran. What it did until then stands. It had printed:"
SHELL_NAMES = frozenset({"shell", "container.exec"})  # the second is what some models were trained to say


@dataclass(frozen=True, slots=True)
class CallContext:
    """What calls of a turn run with."""

    settings: SessionSettings
    environment: Mapping[str, str]  # the whole environment of a command
    clock: Clock
    shell_timeout_ms: int = SHELL_TIMEOUT_MS  # of a command that names no time of its own
    output_bytes_max: int = TOOL_OUTPUT_BYTES_MAX  # of a call's output, as the model sees it


async def run_call(context: CallContext, journal: Journal, open_call: OpenCall) -> Item | None:
    """Work off a call that is on record; returns its output item, which is appended by then. None: a person is asked.

    Nothing happens before its intent is committed. Every failure of the call is an output that tells the model.
    """
    call, item = open_call.id, open_call.item
    name, call_id = str(item["name"]), str(item["call_id"])
    if name == plan.SPEC.name and context.settings.include_plan_tool:
        return _update_plan(journal, call, call_id, str(item["arguments"]))
    if name not in SHELL_NAMES:
        return _refuse(journal, call, call_id, f"unsupported call: {name}")
    command = shell.parse(str(item["arguments"]), cwd=context.settings.cwd, timeout_ms=context.shell_timeout_ms)
    if isinstance(command, shell.Refused):
        return _refuse(journal, call, call_id, command.text)
    decision = shell.decide(context.settings)
    if isinstance(decision, shell.Refused):
        return _refuse(journal, call, call_id, decision.text)
    return await _run_shell(context, journal, call, call_id, command)


def _refuse(journal: Journal, call: str, call_id: str, text: str) -> Item:
    output = function_call_output(call_id, text)
    journal.append(Entry(calls=[CallDecided(call, approved=False)], items=[NewItem(output)]))
    return output


def _update_plan(journal: Journal, call: str, call_id: str, arguments: str) -> Item:
    """No side effect but the record itself: decided, started and ended in one commit."""
    given = plan.parse(arguments)
    if isinstance(given, str):
        return _refuse(journal, call, call_id, given)
    output = function_call_output(call_id, plan.DONE)
    steps = [step.model_dump(mode="json") for step in given.plan]
    changes: list[CallChange] = [
        CallDecided(call, approved=True),
        CallStarted(call),
        CallEnded(call, "succeeded", None, plan.DONE),
    ]
    shown = event.plan_update(given.explanation, steps)
    latest: JsonObject = {"explanation": given.explanation, "plan": steps}
    journal.append(Entry(calls=changes, items=[NewItem(output)], events=[shown], plan=latest))
    return output


def _abort(journal: Journal, call: str, call_id: str, capture: Capture, output_bytes_max: int) -> None:
    """The command was stopped on purpose: its outcome is known, and so is what it printed."""
    capture.finish()
    output = function_call_output(call_id, f"{STOPPED}\n{capture.text(output_bytes_max)}".rstrip())
    ended = CallEnded(call, "aborted", None, capture.text(TOOL_OUTPUT_STORED_BYTES_MAX))
    journal.append(Entry(calls=[ended], items=[NewItem(output)]))


async def _run_shell(
    context: CallContext, journal: Journal, call: str, call_id: str, command: shell.ShellCommand
) -> Item:
    asked_at_ms = context.clock.monotonic_ms()
    intent: list[CallChange] = [CallDecided(call, approved=True), CallStarted(call)]
    journal.append(Entry(calls=intent, events=[event.exec_command_begin(call_id, command.argv, command.cwd)]))
    await journal.settle()
    while context.clock.monotonic_ms() - asked_at_ms > LEASE_MS // 3:  # stopped meanwhile: is it still our turn?
        asked_at_ms = context.clock.monotonic_ms()
        journal.append(Entry())
        await journal.settle()

    crash.point("call.intended")

    async def on_started(pid: int, pid_started_at: str) -> None:
        crash.point("call.spawned")
        journal.append(Entry(calls=[CallSpawned(call, pid, pid_started_at)]))

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
        )
    except anyio.get_cancelled_exc_class():
        _abort(journal, call, call_id, capture, context.output_bytes_max)
        raise
    crash.point("call.ran")
    output = function_call_output(call_id, result.output_for_model)
    ended = CallEnded(call, "succeeded" if result.succeeded else "failed", result.exit_code, result.stored_output)
    shown = event.exec_command_end(call_id, result.stdout, result.stderr, result.exit_code, result.duration_ns)
    journal.append(Entry(calls=[ended], items=[NewItem(output)], events=[shown]))
    crash.point("call.recorded")
    return output
