"""Reading a whole session for people: a handful of statements, each once for all its rows, as of one instant."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import BindParameter, ColumnElement, bindparam, case, func, select, text

from codexdb.domain.limits import TRANSCRIPT_ITEMS_MAX, TRANSCRIPT_OUTPUT_CHARS_MAX
from codexdb.store.readers import Readers, Snapshot
from codexdb.store.statement import Statement
from codexdb.store.tables import approvals, events, inputs, items, model_requests, quoted, sessions, tool_calls, turns


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """A session with what a reader wants to know of it first."""

    key: int
    session_id: str
    origin: str
    title: str | None
    model: str
    model_provider: str
    cwd: str
    approval_policy: str
    sandbox_mode: str
    turn_count: int
    next_item_seq: int
    forked_from: str | None
    created_at_ms: int
    updated_at_ms: int
    archived_at_ms: int | None


@dataclass(frozen=True, slots=True)
class TurnFacts:
    """A turn. Its `session_key` is another one where a fork has taken its items over."""

    key: int
    session_key: int
    turn_id: str
    number: int
    state: str
    attempt: int
    crashes: int
    end_reason: str | None
    error_kind: str | None
    error_message: str | None
    created_at_ms: int
    started_at_ms: int | None
    ended_at_ms: int | None


@dataclass(frozen=True, slots=True)
class ItemFacts:
    """An item as it is stored; `payload` is its JSON."""

    key: int
    turn_key: int | None
    type: str
    payload: str
    partial: int
    created_at_ms: int


@dataclass(frozen=True, slots=True)
class CallFacts:
    """A tool call. Of a long output only both ends are read. `output_chars` is -1 where `head` is all of it."""

    key: int
    item_key: int | None
    turn_key: int
    call_id: str
    state: str
    exit_code: int | None
    output_chars: int
    head: str
    tail: str
    proposed_at_ms: int
    started_at_ms: int | None
    ended_at_ms: int | None


@dataclass(frozen=True, slots=True)
class QuestionFacts:
    """The latest question to a person about a call; `question` is JSON."""

    call_key: int
    approval_id: str
    kind: str
    state: str
    question: str
    decision: str | None
    decided_by: str | None


@dataclass(frozen=True, slots=True)
class EventFacts:
    """An event; `msg` is its JSON."""

    turn_key: int | None
    type: str
    msg: str
    created_at_ms: int


@dataclass(frozen=True, slots=True)
class SpentFacts:
    """What the model requests of a turn have used, together."""

    turn_key: int
    model: str
    requests: int
    retries: int
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    reasoning_output_tokens: int
    total_tokens: int


@dataclass(frozen=True, slots=True)
class InputFacts:
    """A message that is no item: it waits, or was taken back. `content` is JSON as its sender gave it."""

    turn_key: int
    mode: str
    content: str
    created_at_ms: int
    withdrawn_at_ms: int | None


@dataclass(frozen=True, slots=True)
class SessionRows:
    """Everything that a transcript is made of. `left_out`: items at its beginning, beyond the bound."""

    session: SessionFacts
    turns: list[TurnFacts]
    items: list[ItemFacts]
    calls: list[CallFacts]
    questions: list[QuestionFacts]
    events: list[EventFacts]
    spent: list[SpentFacts]
    inputs: list[InputFacts]
    left_out: int


EVENTS_SHOWN = ("background_event", "patch_apply_begin", "mcp_tool_call_begin")
"""What items and calls do not tell."""

_HALF = TRANSCRIPT_OUTPUT_CHARS_MAX // 2
_session_key: BindParameter[int] = bindparam("session_key")
_source = sessions.alias()
_SESSION = Statement(
    select(
        sessions.c.id,
        sessions.c.public_id,
        sessions.c.origin,
        sessions.c.title,
        sessions.c.model,
        sessions.c.model_provider,
        sessions.c.cwd,
        sessions.c.approval_policy,
        sessions.c.sandbox_mode,
        sessions.c.turn_count,
        sessions.c.next_item_seq,
        _source.c.public_id,
        sessions.c.created_at_ms,
        sessions.c.updated_at_ms,
        sessions.c.archived_at_ms,
    )
    .select_from(sessions.outerjoin(_source, _source.c.id == sessions.c.forked_from_id))
    .where(sessions.c.public_id == bindparam("session"))
)
_IDS = Statement(
    select(sessions.c.public_id)
    .where(sessions.c.public_id >= bindparam("prefix"), sessions.c.public_id < bindparam("behind"))
    .order_by(sessions.c.public_id)
    .limit(bindparam("limit"))
)
_TURN_ID = Statement(
    select(turns.c.public_id)
    .select_from(turns.join(sessions, sessions.c.id == turns.c.session_id))
    .where(sessions.c.public_id == bindparam("session"), turns.c.number == bindparam("number"))
)
_shown_items = (items.c.session_id == _session_key) & (items.c.seq >= bindparam("first_seq"))
_TURNS = Statement(
    select(
        turns.c.id,
        turns.c.session_id,
        turns.c.public_id,
        turns.c.number,
        turns.c.state,
        turns.c.attempt,
        turns.c.crashes,
        turns.c.end_reason,
        turns.c.error_kind,
        turns.c.error_message,
        turns.c.created_at_ms,
        turns.c.started_at_ms,
        turns.c.ended_at_ms,
    )
    .where(
        (turns.c.session_id == _session_key) | turns.c.id.in_(select(items.c.turn_id).where(_shown_items).distinct())
    )
    .order_by(turns.c.id)
)
_ITEMS = Statement(
    select(items.c.id, items.c.turn_id, items.c.type, items.c.payload, items.c.partial, items.c.created_at_ms)
    .where(_shown_items)
    .order_by(items.c.seq)
)
# SQLite's length() and substr() end at a NUL: an output with one, such as `find -print0` prints, is read as a whole.
_output_chars = case(
    (func.instr(tool_calls.c.output, func.char(0)) > 0, text("-1")),
    else_=func.coalesce(func.length(tool_calls.c.output), 0),
)
_CALLS = Statement(
    select(
        tool_calls.c.id,
        tool_calls.c.item_id,
        tool_calls.c.turn_id,
        tool_calls.c.call_id,
        tool_calls.c.state,
        tool_calls.c.exit_code,
        _output_chars,
        case(
            (_output_chars > TRANSCRIPT_OUTPUT_CHARS_MAX, func.substr(tool_calls.c.output, 1, _HALF)),
            else_=func.coalesce(tool_calls.c.output, text("''")),
        ),
        case(
            (_output_chars > TRANSCRIPT_OUTPUT_CHARS_MAX, func.substr(tool_calls.c.output, -_HALF)),
            else_=text("''"),
        ),
        tool_calls.c.proposed_at_ms,
        tool_calls.c.started_at_ms,
        tool_calls.c.ended_at_ms,
    )
    .where(tool_calls.c.session_id == _session_key)
    .order_by(tool_calls.c.id)
)
_QUESTIONS = Statement(
    select(
        approvals.c.tool_call_id,
        approvals.c.public_id,
        approvals.c.kind,
        approvals.c.state,
        approvals.c.question,
        approvals.c.decision,
        approvals.c.decided_by,
    )
    .where(approvals.c.session_id == _session_key, approvals.c.tool_call_id.is_not(None))
    .order_by(approvals.c.id)
)
_EVENTS = Statement(
    select(events.c.turn_id, events.c.type, events.c.msg, events.c.created_at_ms)
    .where(events.c.session_id == _session_key, text(f"events.type IN ({quoted(EVENTS_SHOWN)})"))
    .order_by(events.c.seq)
)


def _sum(name: str) -> ColumnElement[int]:
    return func.coalesce(func.sum(model_requests.c[name]), 0)


_SPENT = Statement(
    select(
        model_requests.c.turn_id,
        func.max(model_requests.c.model),
        func.count(),
        func.sum(model_requests.c.retries),
        _sum("input_tokens"),
        _sum("cached_input_tokens"),
        _sum("output_tokens"),
        _sum("reasoning_output_tokens"),
        _sum("total_tokens"),
    )
    .where(model_requests.c.session_id == _session_key)
    .group_by(model_requests.c.turn_id)
)
_INPUTS = Statement(
    select(inputs.c.turn_id, inputs.c.mode, inputs.c.content, inputs.c.created_at_ms, inputs.c.withdrawn_at_ms)
    .where(
        inputs.c.session_id == _session_key,
        inputs.c.turn_id.is_not(None),
        inputs.c.delivered_at_ms.is_(None),
    )
    .order_by(inputs.c.id)
)


async def session_rows(readers: Readers, session_id: str) -> SessionRows | None:
    """Everything of one session; None where there is none of that id."""
    async with readers.snapshot() as rows:
        found = await rows.all(_SESSION, {"session": session_id})
        if not found:
            return None
        session = SessionFacts(*found[0])  # pyright: ignore[reportArgumentType] - STRICT columns, in order
        first_seq = max(1, session.next_item_seq - TRANSCRIPT_ITEMS_MAX)
        given = {"session_key": session.key, "first_seq": first_seq}
        return SessionRows(
            session=session,
            turns=[TurnFacts(*row) for row in await _all(rows, _TURNS, given)],
            items=[ItemFacts(*row) for row in await _all(rows, _ITEMS, given)],
            calls=[CallFacts(*row) for row in await _all(rows, _CALLS, given)],
            questions=[QuestionFacts(*row) for row in await _all(rows, _QUESTIONS, given)],
            events=[EventFacts(*row) for row in await _all(rows, _EVENTS, given)],
            spent=[SpentFacts(*row) for row in await _all(rows, _SPENT, given)],
            inputs=[InputFacts(*row) for row in await _all(rows, _INPUTS, given)],
            left_out=first_seq - 1,
        )


async def ids_with_prefix(readers: Readers, prefix: str, limit: int) -> list[str]:
    """Ids of sessions that begin so, in their order; `limit` at most."""
    rows = await readers.all(_IDS, {"prefix": prefix, "behind": f"{prefix}~", "limit": limit})
    return [cast("str", public_id) for (public_id,) in rows]


async def turn_id_of(readers: Readers, session_id: str, number: int) -> str | None:
    """The id of a session's Nth turn."""
    rows = await readers.all(_TURN_ID, {"session": session_id, "number": number})
    return cast("str", rows[0][0]) if rows else None


async def _all(rows: Snapshot, statement: Statement, given: Mapping[str, object]) -> list[tuple[Any, ...]]:
    return cast("list[tuple[Any, ...]]", await rows.all(statement, given))
