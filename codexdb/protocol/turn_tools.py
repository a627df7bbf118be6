"""`codex` and `codex-reply`: start a turn, show its events, and answer when it has ended."""

import re
from collections.abc import Awaitable, Callable

import anyio

from codexdb.config.resolve import Request
from codexdb.domain.errors import InvalidArgumentsError, InvalidConfigError
from codexdb.domain.event import CommittedEvent
from codexdb.domain.ids import new_id, parse_id
from codexdb.domain.json import JsonObject, decode_object
from codexdb.domain.outcome import (
    Archived,
    Busy,
    Conflict,
    Duplicate,
    Empty,
    NotFound,
    Outdated,
    Queued,
    QueueFull,
    SendOutcome,
    Started,
    Steered,
    Withdrawn,
)
from codexdb.protocol.arguments import CodexArguments, ReplyArguments
from codexdb.protocol.connection import Call, Reply
from codexdb.protocol.context import OnCancel, ToolContext, whole
from codexdb.protocol.follower import TurnWatch
from codexdb.protocol.progress import Progress, progress_token
from codexdb.protocol.render import turn_error, turn_result
from codexdb.service.sessions import Message
from codexdb.store.pages import TurnRow

SUSPENDED = "The server is going down; the turn goes on when one works on this database again. Read its outcome then."
JOIN_POLL_MS = 1_000  # how often a joined turn is looked up, in case another process ends it

_TIMED_OUT = re.compile(r"time[sd]?[\s-]?out|deadline", re.IGNORECASE)


async def codex(context: ToolContext, call: Call, arguments: CodexArguments) -> Reply:
    """A new session with its first turn."""
    request = Request(
        model=arguments.model,
        profile=arguments.profile,
        cwd=arguments.cwd,
        approval_policy=arguments.approval_policy,
        sandbox=arguments.sandbox,
        base_instructions=arguments.base_instructions,
        developer_instructions=arguments.developer_instructions,
        compact_prompt=arguments.compact_prompt,
        include_plan_tool=arguments.include_plan_tool,
        config=arguments.config or {},
    )
    try:
        resolved = context.config.resolve(request)
    except InvalidConfigError as error:
        text = f"Failed to load Codex configuration from overrides: {error.message}"
        return Reply(turn_error("", text, error.kind))
    session_id = new_id()
    message = Message(
        _text(arguments.prompt), str(call.id), arguments.message_id, trace_context(call), can_ask=context.can_ask
    )
    return await _work(
        context,
        call,
        session_id,
        lambda: context.service.open_and_send(session_id, resolved, "codex", message, arguments.title),
        opens=True,
    )


async def codex_reply(context: ToolContext, call: Call, arguments: ReplyArguments) -> Reply:
    """The next turn of a session."""
    names = (arguments.thread_id, arguments.conversation_id, arguments.session_id)
    name = next((name for name in names if name is not None), None)
    if name is None:
        text = "Failed to parse configuration for Codex tool: missing field `sessionId`"
        return Reply(turn_error("", text, "invalid_arguments"))
    try:
        session_id = parse_id(name)
    except ValueError as error:
        return Reply(turn_error("", f"Failed to parse session_id: {error}", "invalid_arguments"))
    message = Message(
        _text(arguments.prompt),
        str(call.id),
        arguments.message_id,
        trace_context(call),
        arguments.if_running,
        arguments.parent_message_id,
        context.can_ask,
        arguments.overrides(),
    )
    try:
        return await _work(context, call, session_id, lambda: context.service.send(session_id, message))
    except (InvalidArgumentsError, InvalidConfigError) as error:
        return Reply(turn_error(session_id, error.message, error.kind))


def _text(prompt: str) -> list[JsonObject]:
    return [{"type": "text", "text": prompt}]


def trace_context(call: Call) -> str | None:
    """The caller's W3C `traceparent`, kept with the turn."""
    meta = call.params.get("_meta")
    found = meta.get("traceparent") if isinstance(meta, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return found if isinstance(found, str) else None


async def _work(
    context: ToolContext,
    call: Call,
    session_id: str,
    accept: Callable[[], Awaitable[SendOutcome]],
    *,
    opens: bool = False,
) -> Reply:
    """Have the message accepted, then wait for its turn."""
    token = progress_token(call)
    progress = Progress(call, token, context.clock) if token is not None else None
    watch: TurnWatch | None = None
    with context.followers.accepting(session_id) as follower:
        outcome = await whole(accept())
        if isinstance(outcome, Started | Queued):
            on_event = progress.on_event if progress else None
            watch = follower.watch(outcome.turn_id, call.id, opened_session=opens, on_event=on_event)
    if watch is None:
        return await _not_started(context, call, outcome)
    try:
        event = await (progress.run(watch.ended) if progress else watch.ended)
    except anyio.get_cancelled_exc_class():
        if _means_the_turn(context, call):
            await whole(context.service.interrupt(watch.turn_id))
        raise
    if event is None:
        return Reply(turn_error(session_id, SUSPENDED, "suspended", turn_id=watch.turn_id, retryable=True))
    return await _result(context, session_id, event)


def _means_the_turn(context: ToolContext, call: Call) -> bool:
    """A client that gave up waiting loses its answer, not its turn; one that cancels means the turn."""
    if call.cancel_reason is None or context.on_cancel is OnCancel.DETACH:
        return False
    return context.on_cancel is OnCancel.INTERRUPT or not _TIMED_OUT.search(call.cancel_reason)


async def _result(context: ToolContext, session_id: str, event: CommittedEvent) -> Reply:
    msg = decode_object(event.msg)
    if event.type == "task_complete":
        return Reply(turn_result(session_id, str(msg.get("last_agent_message") or "")))
    turn = await context.service.turn(event.turn_id) if event.turn_id is not None else None
    kind = _kind(turn) if turn is not None else "interrupted"
    return Reply(turn_error(session_id, str(msg.get("message")), kind, turn_id=event.turn_id))


def _kind(turn: TurnRow) -> str:
    """Why a turn has no answer, for programs."""
    if turn.error_kind is not None:
        return turn.error_kind
    return "interrupted" if turn.end_reason in (None, "requested", "imported") else turn.end_reason


async def _not_started(context: ToolContext, call: Call, outcome: SendOutcome) -> Reply:
    """The answer to a message that started no turn of its own."""
    match outcome:
        case Duplicate(turn_id=turn_id) if turn_id is not None:
            return await _join_moving(context, outcome.session_id, turn_id, outcome.input_id)
        case Steered():
            return await _steered(context, call, outcome)
        case NotFound(session_id=session_id):
            text = f"Session not found for session_id: {session_id}"
            return Reply(turn_error(session_id, text, "session_not_found"))
        case _:
            text, kind, details = refusal(outcome)
            return Reply(turn_error(getattr(outcome, "session_id", ""), text, kind, **details))


def refusal(outcome: SendOutcome) -> tuple[str, str, JsonObject]:  # noqa: PLR0911 - a table
    """Text, kind and details of a message that was not accepted."""
    match outcome:
        case Busy():
            details: JsonObject = {
                "turn_id": outcome.turn_id,
                "since_at_ms": outcome.since_at_ms,
                "retryable": True,
            }
            return "Session is already running", "busy", details
        case NotFound():
            return "Session does not exist", "session_not_found", {}
        case Archived():
            return "Session is archived", "archived", {}
        case Conflict():
            return "This message_id was accepted before with other content", "conflict", {}
        case Empty():
            return "No content items provided", "empty", {}
        case QueueFull():
            return f"{outcome.waiting} messages wait already", "queue_full", {"retryable": True}
        case Outdated():
            return "parent_message_id is not the newest message", "outdated", {"retryable": True}
        case Withdrawn():
            return "This message was taken back before the model was told", "withdrawn", {}
        case Duplicate() | Started() | Queued() | Steered():
            return "This message_id was accepted before", "duplicate", {}


async def _steered(context: ToolContext, call: Call, outcome: Steered) -> Reply:
    """Cancelled, the message is taken back. Once the model was told, that is too late: the turn is not its sender's to
    end, unless it came too late for it and has a turn of its own.
    """
    try:
        return await _join_moving(context, outcome.session_id, outcome.turn_id, outcome.input_id)
    except anyio.get_cancelled_exc_class():
        if _means_the_turn(context, call):
            await whole(_take_back(context, outcome))
        raise


async def _take_back(context: ToolContext, outcome: Steered) -> None:
    if await context.service.withdraw(outcome.session_id, outcome.input_id):
        return
    now_in = await context.service.turn_of_input(outcome.session_id, outcome.input_id)
    if now_in is not None and now_in.turn_id != outcome.turn_id and now_in.alone:
        await context.service.interrupt(now_in.turn_id)


async def _join(context: ToolContext, session_id: str, turn_id: str) -> Reply:
    """A repeat of an accepted call: wait for the first one's turn, and give the same answer."""
    with context.followers.joining(session_id) as subscription:
        while True:
            turn = await context.service.turn(turn_id)
            await context.followers.asker.look(session_id, None)  # behind it: an ended turn's questions are taken back
            if turn is None or turn.ended_at_ms is not None:
                return Reply(_repeated(session_id, turn_id, turn))
            if context.followers.lets_go(subscription):
                return Reply(turn_error(session_id, SUSPENDED, "suspended", turn_id=turn_id, retryable=True))
            subscription.overflowed = False
            with anyio.move_on_after(JOIN_POLL_MS / 1000):
                await subscription.take()


async def _join_moving(context: ToolContext, session_id: str, turn_id: str, input_id: str) -> Reply:
    """The answer of the turn that a message is in, also where it was steered too late and has a turn of its own."""
    reply = await _join(context, session_id, turn_id)
    now_in = await context.service.turn_of_input(session_id, input_id)
    if now_in is None or now_in.turn_id == turn_id:
        return reply
    return await _join(context, session_id, now_in.turn_id)


def _repeated(session_id: str, turn_id: str, turn: TurnRow | None) -> JsonObject:
    if turn is None:
        return turn_error(session_id, "The turn of this message was deleted", "turn_not_found", turn_id=turn_id)
    if turn.state == "completed":
        return turn_result(session_id, turn.last_agent_message or "")
    text = turn.error_message or " Turn interrupted"
    return turn_error(session_id, text, _kind(turn), turn_id=turn_id)
