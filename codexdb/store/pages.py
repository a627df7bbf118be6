"""Reading pages: what a session holds, and which sessions there are. Keyset cursors, never OFFSET."""

from dataclasses import dataclass
from typing import cast

from sqlalchemy import Select, bindparam, case, exists, func, select, text

from codexdb.domain.approval import Approval
from codexdb.domain.event import CommittedEvent
from codexdb.domain.json import JsonObject, decode_object
from codexdb.domain.record import OpenCall
from codexdb.domain.transition import ApprovalState, ToolCallState
from codexdb.store.readers import Reads
from codexdb.store.statement import Statement
from codexdb.store.tables import approvals, events, inputs, items, model_requests, sessions, tool_calls, turns


@dataclass(frozen=True, slots=True)
class TurnRow:
    """A turn as callers see it."""

    turn_id: str
    number: int
    state: str
    end_reason: str | None
    error_kind: str | None
    error_message: str | None
    last_agent_message: str | None
    created_at_ms: int
    ended_at_ms: int | None
    key: int


@dataclass(frozen=True, slots=True)
class UsageRow:
    """What model requests have used, as the endpoints counted it. Failed ones count as requests, without tokens."""

    requests: int
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    reasoning_output_tokens: int
    total_tokens: int


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A session as callers see it. `running_turn_id`: the turn that holds it."""

    key: int
    session_id: str
    origin: str
    title: str | None
    model: str
    cwd: str
    turn_count: int
    next_seq: int
    running_turn_id: str | None
    created_at_ms: int
    updated_at_ms: int
    archived_at_ms: int | None


@dataclass(frozen=True, slots=True)
class InputPlace:
    """Where a message is. `alone`: its turn has no other message."""

    turn_id: str
    alone: bool


@dataclass(frozen=True, slots=True)
class ItemRow:
    """An item with its place in the session."""

    seq: int
    payload: str  # JSON
    partial: bool


_TURN_COLUMNS = (
    turns.c.public_id,
    turns.c.number,
    turns.c.state,
    turns.c.end_reason,
    turns.c.error_kind,
    turns.c.error_message,
    turns.c.last_agent_message,
    turns.c.created_at_ms,
    turns.c.ended_at_ms,
    turns.c.id,
)
_COUNTS = ("input_tokens", "cached_input_tokens", "output_tokens", "reasoning_output_tokens", "total_tokens")
_usage = select(func.count(), *(func.coalesce(func.sum(model_requests.c[name]), 0) for name in _COUNTS)).where(
    model_requests.c.session_id == bindparam("session_key")
)
_USAGE = Statement(_usage)
_TURN_USAGE = Statement(_usage.where(model_requests.c.turn_id == bindparam("turn_key")))
_TURN = Statement(select(*_TURN_COLUMNS).where(turns.c.public_id == bindparam("turn")))
_LAST_TURN = Statement(
    select(*_TURN_COLUMNS)
    .where(turns.c.session_id == bindparam("session_key"))
    .order_by(turns.c.number.desc())
    .limit(1)
)
FIRST_MESSAGE = (
    select(items.c.text)
    .where(items.c.session_id == sessions.c.id, items.c.turn_id.is_not(None), items.c.role == "user")
    .order_by(items.c.seq)
    .limit(1)
    .scalar_subquery()
)
TITLE_CHARS = 200


def session_columns() -> Select[tuple[object, ...]]:
    """What a `SessionRow` is read from."""
    return cast(
        "Select[tuple[object, ...]]",
        select(
            sessions.c.id,
            sessions.c.public_id,
            sessions.c.origin,
            func.substr(func.coalesce(sessions.c.title, FIRST_MESSAGE), 1, TITLE_CHARS),
            sessions.c.model,
            sessions.c.cwd,
            sessions.c.turn_count,
            sessions.c.next_seq,
            turns.c.public_id,
            sessions.c.created_at_ms,
            sessions.c.updated_at_ms,
            sessions.c.archived_at_ms,
        ).select_from(sessions.outerjoin(turns, turns.c.id == sessions.c.active_turn_id)),
    )


_SESSION = Statement(session_columns().where(sessions.c.public_id == bindparam("session")))
_EVENTS = Statement(
    select(events.c.seq, turns.c.public_id, turns.c.submission_id, events.c.type, events.c.msg)
    .select_from(events.outerjoin(turns, turns.c.id == events.c.turn_id))
    .where(events.c.session_id == bindparam("session_key"), events.c.seq > bindparam("after_seq"))
    .order_by(events.c.seq)
    .limit(bindparam("limit"))
)
_BEFORE_LAST_TURN = Statement(
    select(events.c.seq - 1)
    .where(events.c.session_id == bindparam("session_key"), events.c.type == "task_started")
    .order_by(events.c.seq.desc())
    .limit(1)
)
_ITEMS = Statement(
    select(items.c.seq, items.c.payload, items.c.partial)
    .where(items.c.session_id == bindparam("session_key"), items.c.seq > bindparam("after_seq"))
    .order_by(items.c.seq)
    .limit(bindparam("limit"))
)
_SAID_IN = Statement(
    select(items.c.payload)
    .where(
        items.c.session_id == bindparam("session_key"),
        items.c.turn_id == bindparam("turn_key"),
        items.c.role == "user",
    )
    .order_by(items.c.seq)
)
_latest_summary = (
    select(items.c.seq)
    .where(items.c.session_id == bindparam("session_key"), items.c.type == "compaction")
    .order_by(items.c.seq.desc())
    .limit(1)
    .scalar_subquery()
)
_epoch = select(sessions.c.epoch).where(sessions.c.id == bindparam("session_key")).scalar_subquery()
_HISTORY = Statement(
    select(items.c.payload, items.c.turn_id)
    .where(
        items.c.session_id == bindparam("session_key"),
        items.c.seq
        >= case((_epoch == 0, 0), else_=func.coalesce(_latest_summary, 0)),  # no summary is not searched for
    )
    .order_by(items.c.seq)
)
_LAST_COUNT = Statement(
    select(model_requests.c.turn_id, case((text("turns.state = 'completed'"), model_requests.c.total_tokens)))
    .select_from(model_requests.outerjoin(turns, turns.c.id == model_requests.c.turn_id))
    .where(model_requests.c.session_id == bindparam("session_key"))
    .order_by(model_requests.c.turn_id.desc(), model_requests.c.id.desc())
    .limit(1)
)
_SPENT = Statement(
    select(func.count(), func.coalesce(func.sum(model_requests.c.total_tokens), 0)).where(
        model_requests.c.session_id == bindparam("session_key"), model_requests.c.turn_id == bindparam("turn_key")
    )
)
_of_call = approvals.alias()
_latest_approval = (
    select(func.max(_of_call.c.id))
    .where(
        _of_call.c.session_id == tool_calls.c.session_id,
        _of_call.c.turn_id == tool_calls.c.turn_id,
        _of_call.c.tool_call_id == tool_calls.c.id,
    )
    .scalar_subquery()
)
_OPEN_CALLS = Statement(
    select(
        tool_calls.c.public_id,
        items.c.payload,
        tool_calls.c.state,
        approvals.c.public_id,
        approvals.c.state,
        approvals.c.decided_by,
        approvals.c.question,
    )
    .select_from(
        tool_calls.join(items, items.c.id == tool_calls.c.item_id).outerjoin(
            approvals, approvals.c.id == _latest_approval
        )
    )
    .where(
        tool_calls.c.session_id == bindparam("session_key"),
        tool_calls.c.turn_id == bindparam("turn_key"),
        tool_calls.c.ended_at_ms.is_(None),
    )
    .order_by(tool_calls.c.id)
)
_TURN_SETTINGS = Statement(select(turns.c.settings).where(turns.c.id == bindparam("turn_key")))
_LEFT_OFF = Statement(
    select(turns.c.last_agent_message, turns.c.retry_at_ms).where(turns.c.id == bindparam("turn_key"))
)
_others = inputs.alias()
_TURN_OF_INPUT = Statement(
    select(
        turns.c.public_id,
        ~exists(
            select(_others.c.id).where(
                _others.c.session_id == inputs.c.session_id,
                _others.c.turn_id == inputs.c.turn_id,
                _others.c.id != inputs.c.id,
            )
        ),
    )
    .select_from(
        inputs.join(turns, turns.c.id == inputs.c.turn_id).join(sessions, sessions.c.id == inputs.c.session_id)
    )
    .where(sessions.c.public_id == bindparam("session"), inputs.c.public_id == bindparam("input"))
)
_QUEUED = Statement(
    select(turns.c.public_id, inputs.c.content, turns.c.created_at_ms)
    .select_from(turns.join(inputs, (inputs.c.turn_id == turns.c.id) & (inputs.c.session_id == turns.c.session_id)))
    .where(turns.c.session_id == bindparam("session_key"), text("turns.state = 'queued'"))
    .order_by(turns.c.id)
)


async def session(readers: Reads, session_id: str) -> SessionRow | None:
    rows = await readers.all(_SESSION, {"session": session_id})
    return SessionRow(*rows[0]) if rows else None  # pyright: ignore[reportArgumentType] - STRICT columns, in order


async def turn(readers: Reads, turn_id: str) -> TurnRow | None:
    rows = await readers.all(_TURN, {"turn": turn_id})
    return TurnRow(*rows[0]) if rows else None  # pyright: ignore[reportArgumentType]


async def last_turn(readers: Reads, session_key: int) -> TurnRow | None:
    rows = await readers.all(_LAST_TURN, {"session_key": session_key})
    return TurnRow(*rows[0]) if rows else None  # pyright: ignore[reportArgumentType]


async def events_after(
    readers: Reads, session_key: int, session_id: str, after_seq: int, limit: int
) -> list[CommittedEvent]:
    """Events with a higher seq, in order; `limit` at most."""
    rows = await readers.all(_EVENTS, {"session_key": session_key, "after_seq": after_seq, "limit": limit})
    return [
        CommittedEvent(session_id, seq, turn_id, submission_id or "0", kind, msg)
        for seq, turn_id, submission_id, kind, msg in cast("list[tuple[int, str | None, str | None, str, str]]", rows)
    ]


async def seq_before_last_turn(readers: Reads, session_key: int) -> int:
    """The number of the last event before the latest turn that has begun; 0 where none has."""
    rows = await readers.all(_BEFORE_LAST_TURN, {"session_key": session_key})
    return cast("int", rows[0][0]) if rows else 0


async def usage(readers: Reads, session_key: int, turn_key: int | None = None) -> UsageRow:
    """What a session's model requests have used, or those of one turn."""
    statement = _USAGE if turn_key is None else _TURN_USAGE
    row = (await readers.all(statement, {"session_key": session_key, "turn_key": turn_key}))[0]
    return UsageRow(*cast("tuple[int, int, int, int, int, int]", row))


async def items_after(readers: Reads, session_key: int, after_seq: int, limit: int) -> list[ItemRow]:
    """Items with a higher seq, in order; `limit` at most."""
    rows = await readers.all(_ITEMS, {"session_key": session_key, "after_seq": after_seq, "limit": limit})
    return [ItemRow(seq, payload, bool(partial)) for seq, payload, partial in cast("list[tuple[int, str, int]]", rows)]


async def history(readers: Reads, session_key: int) -> list[tuple[str, int | None]]:
    """The items of a session from its latest summary on, as JSON text with the key of their turn, oldest first."""
    return cast("list[tuple[str, int | None]]", await readers.all(_HISTORY, {"session_key": session_key}))


async def said_in(readers: Reads, session_key: int, turn_key: int) -> list[str]:
    """The user's messages of a turn, as JSON, oldest first, whether or not they are summarised by now."""
    rows = await readers.all(_SAID_IN, {"session_key": session_key, "turn_key": turn_key})
    return [payload for (payload,) in cast("list[tuple[str]]", rows)]


async def open_calls(readers: Reads, session_key: int, turn_key: int) -> list[OpenCall]:
    """Calls of a turn that have no outcome, in their order."""
    rows = await readers.all(_OPEN_CALLS, {"session_key": session_key, "turn_key": turn_key})
    found: list[OpenCall] = []
    for row in rows:
        call, payload, state, *about = cast("tuple[str, str, str, str | None, str, str | None, str | None]", row)
        approval, asked, by, shown = about
        question = Approval(approval, ApprovalState(asked), by, decode_object(shown)) if approval and shown else None
        found.append(OpenCall(call, decode_object(payload), question, state == ToolCallState.STARTED))
    return found


async def last_count(readers: Reads, session_key: int) -> tuple[int, int | None] | None:
    """The turn of the session's last model request, and the tokens that the endpoint counted, unless that turn has been
    cut short; None: there was none.
    """
    rows = await readers.all(_LAST_COUNT, {"session_key": session_key})
    return cast("tuple[int, int | None]", rows[0]) if rows else None


async def spent(readers: Reads, session_key: int, turn_key: int) -> tuple[int, int]:
    """Requests and tokens that a turn has used up."""
    rows = await readers.all(_SPENT, {"session_key": session_key, "turn_key": turn_key})
    return cast("tuple[int, int]", rows[0])


async def left_off(readers: Reads, turn_key: int) -> tuple[str | None, int | None]:
    """Where an earlier attempt at an open turn stood: the answer, if all of it is on record, and until when it was
    waiting to ask the model again.
    """
    return cast("tuple[str | None, int | None]", (await readers.all(_LEFT_OFF, {"turn_key": turn_key}))[0])


async def turn_settings(readers: Reads, turn_key: int) -> JsonObject:
    """What is kept with a turn of its own settings."""
    text = cast("str | None", (await readers.all(_TURN_SETTINGS, {"turn_key": turn_key}))[0][0])
    return decode_object(text) if text is not None else {}


async def turn_of_input(readers: Reads, session_id: str, input_id: str) -> InputPlace | None:
    """The turn that a message belongs to by now."""
    rows = await readers.all(_TURN_OF_INPUT, {"session": session_id, "input": input_id})
    return InputPlace(cast("str", rows[0][0]), alone=bool(rows[0][1])) if rows else None


async def queued(readers: Reads, session_key: int) -> list[tuple[str, str, int]]:
    """Turns that wait behind the one that holds the session: (id, content as JSON, time), the next one first."""
    return cast("list[tuple[str, str, int]]", await readers.all(_QUEUED, {"session_key": session_key}))
