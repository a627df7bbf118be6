"""Events: committed facts of a session, in the wire shapes of Codex 0.20.0.

An event's `msg` is the object that clients know; `seq` and everything else is added where it is stored or sent.
Pieces of unfinished items (`Delta`) have the same shapes but are not events: they have no `seq`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from codexdb.domain.json import JsonObject

TERMINAL_TYPES = frozenset({"task_complete", "error"})
"""Exactly one event of these types ends a turn; no other use is made of them."""

INTERRUPTED_MESSAGE = " Turn interrupted"  # the leading blank is the original's, and clients compare it


@dataclass(frozen=True, slots=True)
class Event:
    """A fact to be committed."""

    type: str
    msg: JsonObject


def _event(kind: str, **fields: object) -> Event:
    return Event(kind, {"type": kind, **fields})


def session_configured(session_id: str, model: str) -> Event:
    return _event("session_configured", session_id=session_id, model=model, history_log_id=0, history_entry_count=0)


def task_started() -> Event:
    return _event("task_started")


def task_complete(last_agent_message: str | None) -> Event:
    return _event("task_complete", last_agent_message=last_agent_message)


def error(message: str) -> Event:
    """Ends a turn that failed or was interrupted."""
    return _event("error", message=message)


def agent_message(message: str) -> Event:
    return _event("agent_message", message=message)


def agent_reasoning(text: str) -> Event:
    return _event("agent_reasoning", text=text)


def agent_reasoning_raw_content(text: str) -> Event:
    return _event("agent_reasoning_raw_content", text=text)


def background_event(message: str) -> Event:
    return _event("background_event", message=message)


def token_count(
    input_tokens: int,
    cached_input_tokens: int | None,
    output_tokens: int,
    reasoning_output_tokens: int | None,
    total_tokens: int,
) -> Event:
    """Usage of one model request. Parts that the endpoint did not tell are left out."""
    fields: JsonObject = {"input_tokens": input_tokens}
    if cached_input_tokens is not None:
        fields["cached_input_tokens"] = cached_input_tokens
    fields["output_tokens"] = output_tokens
    if reasoning_output_tokens is not None:
        fields["reasoning_output_tokens"] = reasoning_output_tokens
    return _event("token_count", **fields, total_tokens=total_tokens)


def plan_update(explanation: str | None, plan: Sequence[JsonObject]) -> Event:
    """`plan`: `{"step", "status"}` each."""
    return _event("plan_update", explanation=explanation, plan=list(plan))


def exec_approval_request(call_id: str, command: Sequence[str], cwd: str, reason: str | None) -> Event:
    why: JsonObject = {} if reason is None else {"reason": reason}
    return _event("exec_approval_request", call_id=call_id, command=list(command), cwd=cwd, **why)


def apply_patch_approval_request(
    call_id: str, changes: JsonObject, reason: str | None, grant_root: str | None
) -> Event:
    more = {name: value for name, value in (("reason", reason), ("grant_root", grant_root)) if value is not None}
    return _event("apply_patch_approval_request", call_id=call_id, changes=changes, **more)


def exec_command_begin(call_id: str, command: Sequence[str], cwd: str) -> Event:
    return _event("exec_command_begin", call_id=call_id, command=list(command), cwd=cwd)


def exec_command_end(call_id: str, stdout: str, stderr: str, exit_code: int, duration_ns: int) -> Event:
    return _event(
        "exec_command_end",
        call_id=call_id,
        stdout=stdout,
        stderr=stderr,
        exit_code=exit_code,
        duration=_duration(duration_ns),
    )


def patch_apply_begin(call_id: str, changes: JsonObject, *, auto_approved: bool) -> Event:
    return _event("patch_apply_begin", call_id=call_id, auto_approved=auto_approved, changes=changes)


def patch_apply_end(call_id: str, stdout: str, stderr: str, *, success: bool) -> Event:
    return _event("patch_apply_end", call_id=call_id, stdout=stdout, stderr=stderr, success=success)


def turn_diff(unified_diff: str) -> Event:
    return _event("turn_diff", unified_diff=unified_diff)


def mcp_tool_call_begin(call_id: str, server: str, tool: str, arguments: JsonObject) -> Event:
    """A tool of a configured MCP server is about to be called; `tool` is the server's own name for it."""
    return _event("mcp_tool_call_begin", call_id=call_id, invocation=_invocation(server, tool, arguments))


def mcp_tool_call_end(
    call_id: str, server: str, tool: str, arguments: JsonObject, duration_ns: int, result: JsonObject
) -> Event:
    """`result`: `{"Ok": a tool result as MCP has it}`, or `{"Err": "why there is none"}`."""
    return _event(
        "mcp_tool_call_end",
        call_id=call_id,
        invocation=_invocation(server, tool, arguments),
        duration=_duration(duration_ns),
        result=result,
    )


def _invocation(server: str, tool: str, arguments: JsonObject) -> JsonObject:
    return {"server": server, "tool": tool, "arguments": arguments}


def _duration(duration_ns: int) -> JsonObject:
    return {"secs": duration_ns // 1_000_000_000, "nanos": duration_ns % 1_000_000_000}


# -- deltas ----------------------------------------------------------------------------------------------------------


def agent_message_delta(delta: str) -> JsonObject:
    return {"type": "agent_message_delta", "delta": delta}


def agent_reasoning_delta(delta: str) -> JsonObject:
    return {"type": "agent_reasoning_delta", "delta": delta}


def agent_reasoning_section_break() -> JsonObject:
    """Between two parts of a reasoning summary."""
    return {"type": "agent_reasoning_section_break"}


def agent_reasoning_raw_content_delta(delta: str) -> JsonObject:
    return {"type": "agent_reasoning_raw_content_delta", "delta": delta}


def exec_command_output_delta(call_id: str, stream: str, chunk: bytes) -> JsonObject:
    """A piece of a running command's output; the bytes travel as an array of integers, as the original sends them."""
    return {"type": "exec_command_output_delta", "call_id": call_id, "stream": stream, "chunk": list(chunk)}


# -- as they travel from the store to whoever follows a session --------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CommittedEvent:
    """An event that is in the database. `msg` is its JSON text, ready to be sent."""

    session_id: str
    seq: int
    turn_id: str | None
    submission_id: str
    type: str
    msg: str

    @property
    def ends_turn(self) -> bool:
        return self.type in TERMINAL_TYPES


@dataclass(frozen=True, slots=True)
class TurnSuspended:
    """No worker has this turn any more; it waits for another. Whoever waits in this process is told so."""

    session_id: str
    turn_id: str


@dataclass(frozen=True, slots=True)
class ApprovalsChanged:
    """A question arose in a turn, was answered, or is needed no more."""

    session_id: str
    turn_id: str


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of an unfinished item. May be lost; whatever it belongs to is committed whole later."""

    session_id: str
    turn_id: str
    submission_id: str
    msg: JsonObject
