"""How sessions are put into words, wherever they are shown: times, commands, and what came of calls and turns."""

import shlex
from collections.abc import Sequence
from datetime import UTC, datetime

from codexdb.domain.transcript import Command, Output, Patch, Question, ToolCall, Transcript, Turn

Call = Command | Patch | ToolCall

GOOD, BAD, OPEN = "good", "bad", "open"  # what a reader should think of an outcome

_STATES = {
    "proposed": ("not run yet", OPEN),
    "approved": ("about to run", OPEN),
    "started": ("running", OPEN),
    "denied": ("not allowed", BAD),
    "succeeded": ("done", GOOD),
    "failed": ("failed", BAD),
    "unknown": ("outcome unknown: its server died", BAD),
    "aborted": ("stopped", BAD),
}
_TURN_STATES = {
    "queued": "waits behind another turn",
    "ready": "waits for a worker",
    "running": "running",
    "waiting": "waits for an answer",
    "": "its record is deleted",
}


def command_line(command: Sequence[str]) -> str:
    """The command as somebody would type it; a script for a shell as the script."""
    if len(command) == 3 and command[1] in ("-c", "-lc"):
        return command[2]
    return shlex.join(command)


def path(absolute: str, cwd: str) -> str:
    """A path as seen from the session's directory, if it lies below."""
    return absolute.removeprefix(f"{cwd.rstrip('/')}/")


def span(ms: int) -> str:
    """A span of time, as precise as it matters."""
    if ms < 1_000:
        return f"{ms} ms"
    if ms < 60_000:
        return f"{ms / 1000:.1f} s"
    minutes, seconds = divmod(ms // 1000, 60)
    if minutes < 60:
        return f"{minutes} min {seconds:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def moment(at_ms: int) -> str:
    """A time, in UTC."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def clock(at_ms: int) -> str:
    """Its time of day, in UTC."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%H:%M:%S")


def count(number: int, what: str) -> str:
    """A number with its noun."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def outcome(call: Call) -> tuple[str, str]:
    """What came of a call, and what to think of it; "" where that is not on record."""
    text, tone = _STATES.get(call.state, ("", OPEN))
    code = call.exit_code if isinstance(call, Command) else None
    if code is not None:
        text, tone = f"exit {code}", GOOD if code == 0 else BAD
    elif call.state == "succeeded" and isinstance(call, Patch):
        text = "applied"
    parts = [text, span(call.duration_ms) if call.duration_ms is not None else ""]
    return " · ".join(part for part in parts if part), tone


def asked(question: Question) -> str:
    """What became of a question to a person."""
    why = f" ({question.reason})" if question.reason else ""
    if question.decision is not None:
        return f"asked{why}: {question.decision} by {question.decided_by}"
    if question.state == "pending":
        return f"asks{why}: codexdb approvals decide {question.approval_id} approved"
    return f"asked{why}: {question.state}"


def left_out(output: Output) -> str:
    """Stands for the middle of an output."""
    return f"[… {output.left_out_chars:,} characters left out here; tool_calls.output has them …]"


def turn_name(turn: Turn) -> str:
    """The heading of a turn."""
    number = "Turn" if turn.number is None else f"Turn {turn.number}"
    return f"{number} of the session that this one is forked from" if turn.inherited else number


def turn_summary(turn: Turn) -> str:
    """How a turn came out, in how long, and for how much."""
    state = _TURN_STATES.get(turn.state, turn.state)
    if turn.duration_ms is not None:
        state = f"{state} in {span(turn.duration_ms)}"
    usage = turn.usage
    parts = [state]
    if usage.requests:
        parts.append(count(usage.requests, "model request"))
    if usage.total_tokens:
        parts.append(f"{usage.total_tokens:,} tokens ({usage.input_tokens:,} in, {usage.output_tokens:,} out)")
    if turn.crashes:
        parts.append(f"its server died {count(turn.crashes, 'time')}")
    return " · ".join(parts)


def session_summary(transcript: Transcript) -> str:
    """A session in one line."""
    parts = [count(len(transcript.turns), "turn")]
    calls = sum(isinstance(passage, Command) for turn in transcript.turns for passage in turn.passages)
    if calls:
        parts.append(count(calls, "command"))
    if transcript.worked_ms:
        parts.append(span(transcript.worked_ms))
    if transcript.total_tokens:
        parts.append(f"{transcript.total_tokens:,} tokens")
    return " · ".join(parts)


def session_facts(transcript: Transcript) -> list[tuple[str, str]]:
    """What there is to know of a session: (name, value) each."""
    found = [
        ("session", transcript.session_id),
        ("model", f"{transcript.model} ({transcript.model_provider})"),
        ("directory", transcript.cwd),
        ("commands", f"{transcript.sandbox_mode}, approvals {transcript.approval_policy}"),
        ("begun", f"{moment(transcript.created_at_ms)} UTC by {transcript.origin}"),
        ("last used", f"{moment(transcript.updated_at_ms)} UTC"),
    ]
    if transcript.forked_from is not None:
        found.append(("forked from", transcript.forked_from))
    if transcript.archived_at_ms is not None:
        found.append(("archived", f"{moment(transcript.archived_at_ms)} UTC"))
    return [*found, ("so far", session_summary(transcript))]
