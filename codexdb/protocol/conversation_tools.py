"""The conversation tools: create, send, read, stream, list. All of them answer at once."""

from dataclasses import asdict

import anyio

from codexdb.config.resolve import Request
from codexdb.domain.errors import InvalidArgumentsError, InvalidConfigError
from codexdb.domain.event import CommittedEvent
from codexdb.domain.ids import new_id
from codexdb.domain.json import JsonObject, decode
from codexdb.domain.limits import SEQ_MAX
from codexdb.domain.outcome import Conflict, Created, Duplicate, Queued, SendOutcome, Started, Steered
from codexdb.protocol.arguments import (
    CreateArguments,
    InterruptArguments,
    ListArguments,
    ReadArguments,
    SendArguments,
    StreamArguments,
)
from codexdb.protocol.connection import Call, Reply
from codexdb.protocol.context import ToolContext, whole
from codexdb.protocol.render import event_line, message_error, status_error, structured
from codexdb.protocol.turn_tools import refusal, trace_context
from codexdb.service.sessions import Message, Page
from codexdb.store.pages import SessionRow, TurnRow, UsageRow

READ_POLL_MS = 100  # while waiting for news: how soon another process's commits are noticed


async def create(context: ToolContext, call: Call, arguments: CreateArguments) -> Reply:
    """A session without a turn."""
    request = Request(
        model=arguments.model,
        profile=arguments.profile,
        cwd=arguments.cwd,
        approval_policy=arguments.approval_policy,
        sandbox=arguments.sandbox,
        base_instructions=arguments.base_instructions,
        config=arguments.config or {},
    )
    try:
        resolved = context.config.resolve(request)
    except InvalidConfigError as error:
        return Reply(message_error(f"Failed to load config: {error.message}", error.kind))
    session_id = new_id()
    opening = context.service.open(session_id, resolved, "conversation_create", arguments.message_id, arguments.title)
    outcome = await whole(opening)
    if isinstance(outcome, Conflict):
        return refused(outcome)
    if isinstance(outcome, Created):
        context.origins.note(session_id, call.id)
    return Reply(structured({"conversation_id": outcome.session_id, "model": resolved.settings.model}))


async def send(context: ToolContext, call: Call, arguments: SendArguments) -> Reply:
    """The check-and-set. Success is exactly the original's object unless a `message_id` was given."""
    session_id = arguments.conversation_id
    content: list[JsonObject] = [part.model_dump() for part in arguments.content]
    message = Message(
        content,
        str(call.id),
        arguments.message_id,
        trace_context(call),
        arguments.if_running,
        arguments.parent_message_id,
        context.can_ask,
        arguments.overrides(),
    )
    with context.followers.accepting(session_id) as follower:
        try:
            outcome = await whole(context.service.send(session_id, message))
        except (InvalidArgumentsError, InvalidConfigError) as error:
            return Reply(status_error(error.message, error.kind))
        if isinstance(outcome, Started | Queued):
            follower.watch(outcome.turn_id, shown_under(context, call, session_id))
    value = named(outcome)
    if value is not None:
        asked = not arguments.model_fields_set.isdisjoint({"message_id", "if_running", "parent_message_id"})
        return Reply(structured({"status": "ok", **(value if asked else {})}))
    text, kind, details = refusal(outcome)
    return Reply(status_error(text, kind, **details))


def refused(outcome: SendOutcome) -> Reply:
    """The answer to a call that is not `send-user-message` and was not accepted."""
    text, kind, details = refusal(outcome)
    return Reply(message_error(text, kind, **details))


def named(outcome: SendOutcome) -> JsonObject | None:
    """What became of a message that was accepted, now or before; None for one that was not."""
    match outcome:
        case Started():
            return {"outcome": "started", "turn_id": outcome.turn_id}
        case Queued():
            return {"outcome": "queued", "turn_id": outcome.turn_id, "position": outcome.position}
        case Steered():
            return {"outcome": "steered", "turn_id": outcome.turn_id}
        case Duplicate():
            return {"outcome": "duplicate", "turn_id": outcome.turn_id}
        case _:
            return None


def shown_under(context: ToolContext, call: Call, session_id: str) -> str | int:
    """The id under which the turn's events are shown: of the call that created the conversation, as the original
    does.
    """
    created_by = context.origins.of(session_id)
    return call.id if created_by is None else created_by


async def read(context: ToolContext, call: Call, arguments: ReadArguments) -> Reply:  # noqa: ARG001 - a tool's signature
    """A page of the log; with `wait_ms`, as soon as there is one."""
    with context.service.follow(arguments.conversation_id) as subscription:
        deadline = context.clock.monotonic_ms() + arguments.wait_ms
        while True:
            page = await context.service.read(
                arguments.conversation_id,
                arguments.after_seq,
                arguments.limit,
                arguments.after_item if arguments.include_items else None,
            )
            left_ms = deadline - context.clock.monotonic_ms()
            if page is None:
                return Reply(message_error("Session does not exist", "session_not_found"))
            if page.events or left_ms <= 0:
                return Reply(structured(_page(page, arguments)))
            with anyio.move_on_after(min(READ_POLL_MS, left_ms) / 1000):
                await subscription.take()


async def stream(context: ToolContext, call: Call, arguments: StreamArguments) -> Reply:
    """Replay what is there, then show everything that comes, on this connection, until it closes."""
    session = await context.service.find(arguments.conversation_id)
    if session is None:
        return Reply(message_error("Session does not exist", "session_not_found"))
    seq = arguments.after_seq
    with context.followers.accepting(arguments.conversation_id) as follower:
        while page := await context.service.events_after(session, seq):
            for event in page:
                await call.connection.send_event(event_line(event, None))
            seq = page[-1].seq
        follower.stream(seq)
        await context.followers.asker.look(arguments.conversation_id, None)
    return Reply(structured({"conversation_id": arguments.conversation_id, "next_seq": seq}))


async def interrupt(context: ToolContext, call: Call, arguments: InterruptArguments) -> Reply:  # noqa: ARG001
    """Ask for the running turn to end."""
    session = await context.service.find(arguments.conversation_id)
    if session is None:
        return Reply(message_error("Session does not exist", "session_not_found"))
    turn_id = arguments.turn_id or session.running_turn_id
    asked = turn_id is not None and await context.service.interrupt(turn_id)
    value: JsonObject = {"conversation_id": session.session_id, "interrupting": asked}
    return Reply(structured({**value, "turn_id": turn_id} if asked else value))


async def list_all(context: ToolContext, call: Call, arguments: ListArguments) -> Reply:  # noqa: ARG001
    """Conversations, last touched first, or those that a search finds, newest hit first."""
    try:
        if arguments.search is not None:
            return Reply(structured(await _found(context, arguments, arguments.search)))
        before = _cursor(arguments.cursor)
    except ValueError:
        return Reply(message_error("cursor: not a cursor of this tool", "invalid_arguments"))
    except InvalidArgumentsError as error:
        return Reply(message_error(error.message, error.kind))
    rows = await context.service.list(
        before, arguments.limit + 1, archived=arguments.include_archived, cwd=arguments.cwd
    )
    shown = rows[: arguments.limit]
    value: JsonObject = {"conversations": [_summary(row) for row in shown]}
    if len(rows) > len(shown):
        value["next_cursor"] = f"{shown[-1].updated_at_ms}.{shown[-1].key}"
    return Reply(structured(value))


async def _found(context: ToolContext, arguments: ListArguments, words: str) -> JsonObject:
    before = None if arguments.cursor is None else _place(arguments.cursor)
    rows = await context.service.search(
        words, before, arguments.limit + 1, archived=arguments.include_archived, cwd=arguments.cwd
    )
    shown = rows[: arguments.limit]
    value: JsonObject = {"conversations": [{**_summary(row.session), "snippet": row.snippet} for row in shown]}
    if len(rows) > len(shown):
        value["next_cursor"] = str(shown[-1].key)
    return value


def _cursor(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    updated_at_ms, _, key = text.partition(".")
    return _place(updated_at_ms), _place(key)


def _place(text: str) -> int:
    place = int(text)
    if not 0 <= place <= SEQ_MAX:
        raise ValueError(text)
    return place


def _summary(row: SessionRow) -> JsonObject:
    return {
        "conversation_id": row.session_id,
        "title": row.title,
        "status": _status(row),
        "model": row.model,
        "cwd": row.cwd,
        "turns": row.turn_count,
        "origin": row.origin,
        "created_at_ms": row.created_at_ms,
        "updated_at_ms": row.updated_at_ms,
    }


def _status(row: SessionRow) -> str:
    if row.archived_at_ms is not None:
        return "archived"
    return "idle" if row.running_turn_id is None else "running"


def _page(page: Page, arguments: ReadArguments) -> JsonObject:
    value: JsonObject = {
        **_summary(page.session),
        "last_turn": _turn(page.last_turn, page.last_turn_usage),
        "usage": asdict(page.usage),
        "events": [_event(event) for event in page.events],
        "next_seq": page.next_seq,
        "more": page.more,
    }
    if page.queued:
        value["queued"] = [
            {"turn_id": turn_id, "content": decode(content), "sent_at_ms": sent_at_ms}
            for turn_id, content, sent_at_ms in page.queued
        ]
    if arguments.include_items:
        value["items"] = [
            {"seq": item.seq, "item": decode(item.payload), **({"partial": True} if item.partial else {})}
            for item in page.items
        ]
    return value


def _event(event: CommittedEvent) -> JsonObject:
    return {"seq": event.seq, "turn_id": event.turn_id, "id": event.submission_id, "msg": decode(event.msg)}


def _turn(turn: TurnRow | None, usage: UsageRow | None) -> JsonObject | None:
    if turn is None:
        return None
    fields: JsonObject = {
        "turn_id": turn.turn_id,
        "number": turn.number,
        "state": turn.state,
        "end_reason": turn.end_reason,
        "error_kind": turn.error_kind,
        "error_message": turn.error_message,
        "last_agent_message": turn.last_agent_message,
        "created_at_ms": turn.created_at_ms,
        "ended_at_ms": turn.ended_at_ms,
        "usage": asdict(usage) if usage is not None else None,
    }
    return {name: value for name, value in fields.items() if value is not None}
