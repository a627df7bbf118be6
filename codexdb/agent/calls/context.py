"""What calls of a turn run with, and the entries that all kinds of calls have in common."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from codexdb.agent.calls.turn_diff import TurnDiff
from codexdb.agent.journal import Journal
from codexdb.agent.sandbox.confinement import Backend, Confinement
from codexdb.agent.tools.patch.disk import NO_FILES
from codexdb.domain import event
from codexdb.domain.approval import ASKED_IN, Fallback, NewApproval
from codexdb.domain.clock import Clock
from codexdb.domain.ids import new_id
from codexdb.domain.item import Item, function_call_output
from codexdb.domain.json import JsonObject
from codexdb.domain.limits import LEASE_MS, SHELL_TIMEOUT_MS, TOOL_OUTPUT_BYTES_MAX
from codexdb.domain.record import CallDecided, CallEnded, Entry, NewItem, OpenCall
from codexdb.domain.session import SessionSettings
from codexdb.domain.transition import ApprovalState

if TYPE_CHECKING:
    from codexdb.agent.tools.mcp_servers import McpTools

NOBODY_TO_ASK = (
    "The call was not made. It needs a person's approval, and nobody is connected who could be asked. Do not try the "
    "same again; say what you wanted to do and why, and go on with what needs no approval."
)


@dataclass(frozen=True, slots=True)
class Remembered:
    """What a person has approved for more than once."""

    commands: frozenset[tuple[str, tuple[str, ...]]] = frozenset()  # (directory, command)
    roots: frozenset[str] = frozenset()  # below which patches may write
    tools: frozenset[tuple[str, str]] = frozenset()  # (server, tool)


@dataclass(frozen=True, slots=True)
class CallContext:
    """The same for all calls of an attempt at a turn."""

    settings: SessionSettings
    environment: Mapping[str, str]  # the whole environment of a command
    clock: Clock
    shell_timeout_ms: int = SHELL_TIMEOUT_MS  # of a command that names no time of its own
    output_bytes_max: int = TOOL_OUTPUT_BYTES_MAX  # of a call's output, as the model sees it
    fallback: Fallback = Fallback.DENY
    remembered: Remembered = field(default_factory=Remembered)
    confinement: Confinement | None = None  # None: commands may do what we may do
    backend: Backend = Backend.NONE  # what holds them to it
    mcp: "McpTools | None" = None
    keep_off: frozenset[tuple[int, int]] = NO_FILES  # files, by device and inode, that patches never open
    diff: TurnDiff = field(default_factory=TurnDiff)


def refuse(journal: Journal, call: OpenCall, text: str) -> Item:
    """The call is not made, or not made again; the model is told `text`."""
    output = function_call_output(str(call.item["call_id"]), text)
    change = CallEnded(call.id, "failed", None, text) if call.started else CallDecided(call.id, approved=False)
    journal.append(Entry(calls=[change], items=[NewItem(output)]))
    return output


def answered(call: OpenCall) -> ApprovalState | None:
    """What a person said to this call; None where nobody was asked yet."""
    return None if call.approval is None else call.approval.state


def ask(
    context: CallContext, journal: Journal, call: OpenCall, kind: str, question: JsonObject, told: list[event.Event]
) -> Item | None:
    """Put a question to a person on record, with the events that tell of it. Where nobody can be asked, it is denied
    with that, and the model is told so. It holds the sandbox mode: a yes for longer is none for a stricter one.
    """
    question = {**question, ASKED_IN: context.settings.sandbox_mode}
    new = NewApproval(new_id(), call.id, kind, question, context.fallback)
    if context.fallback is Fallback.WAIT:
        journal.append(Entry(asks=[new], events=told))
        return None
    output = function_call_output(str(call.item["call_id"]), NOBODY_TO_ASK)
    change = CallEnded(call.id, "failed", None, NOBODY_TO_ASK) if call.started else CallDecided(call.id, approved=False)
    notice = event.background_event("A call was denied, because nobody is connected who could be asked.")
    journal.append(Entry(calls=[change], items=[NewItem(output)], asks=[new], events=[notice]))
    return output


async def settle_intent(context: CallContext, journal: Journal, entry: Entry) -> None:
    """Commit the intent of a side effect. Holds after: it is on record, and the turn was ours a moment ago.

    Raises:
        FenceLostError: it is not ours any more; nothing may be done.
    """
    asked_at_ms = context.clock.monotonic_ms()
    journal.append(entry)
    await journal.settle()
    while context.clock.monotonic_ms() - asked_at_ms > LEASE_MS // 3:  # stopped meanwhile: is it still our turn?
        asked_at_ms = context.clock.monotonic_ms()
        journal.append(Entry())
        await journal.settle()
