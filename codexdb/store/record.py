"""Appending to a session: items, events, tool calls and accounts, under the fence of the attempt that writes them."""

from collections.abc import Sequence
from typing import assert_never, cast

from sqlalchemy import bindparam, delete, exists, select, update

from codexdb.domain.event import ApprovalsChanged, CommittedEvent, Event
from codexdb.domain.json import encode
from codexdb.domain.record import (
    CallChange,
    CallDecided,
    CallEnded,
    CallProposed,
    CallSpawned,
    CallStarted,
    Entry,
    NewItem,
    RequestEnded,
)
from codexdb.domain.transition import ToolCallState
from codexdb.domain.worker import Claim
from codexdb.store import patches
from codexdb.store.approvals import ask
from codexdb.store.statement import Statement, insert_into
from codexdb.store.tables import deltas, events, items, model_requests, sessions, tool_calls, turns
from codexdb.store.transaction import Transaction

_ALLOCATE = Statement(
    update(sessions)
    .where(
        sessions.c.id == bindparam("session_key"),
        exists(
            select(turns.c.id).where(
                turns.c.id == bindparam("turn_key"),
                turns.c.state == "running",
                turns.c.attempt == bindparam("attempt"),
                turns.c.worker_id == bindparam("worker_key"),
            )
        ),
    )
    .values(
        next_seq=sessions.c.next_seq + bindparam("events"),
        next_item_seq=sessions.c.next_item_seq + bindparam("items"),
    )
    .returning(sessions.c.next_seq, sessions.c.next_item_seq)
)
_NUMBERS = Statement(
    update(sessions)
    .where(sessions.c.id == bindparam("session_key"))
    .values(
        next_seq=sessions.c.next_seq + bindparam("events"),
        next_item_seq=sessions.c.next_item_seq + bindparam("items"),
        updated_at_ms=bindparam("now_ms"),
    )
    .returning(sessions.c.next_seq - bindparam("events"), sessions.c.next_item_seq - bindparam("items"))
)
_INSERT_EVENT = Statement(insert_into(events, "session_id", "seq", "turn_id", "type", "msg", "created_at_ms"))
_INSERT_ITEM = Statement(
    insert_into(items, "session_id", "seq", "turn_id", "type", "role", "payload", "partial", "created_at_ms").values(
        epoch=select(sessions.c.epoch).where(sessions.c.id == bindparam("session_id")).scalar_subquery()
    )
)
_of_turn = (deltas.c.session_id == bindparam("session_key"), deltas.c.turn_id == bindparam("turn_key"))
FORGET_DELTAS = Statement(delete(deltas).where(*_of_turn))
_FORGET_DELTAS_OF = Statement(
    delete(deltas).where(
        *_of_turn,
        deltas.c.type != patches.TYPE,
        (deltas.c.attempt < bindparam("this_attempt")) | (deltas.c.item <= bindparam("last_item")),
    )
)
_INSERT_DELTA = Statement(
    insert_into(
        deltas, "session_id", "turn_id", "attempt", "item", "offset", "type", "text", "created_at_ms"
    ).prefix_with("OR REPLACE")
)
_item_key = (
    select(items.c.id)
    .where(items.c.session_id == bindparam("session_key"), items.c.seq == bindparam("item_seq"))
    .scalar_subquery()
)
_INSERT_CALL = Statement(
    insert_into(
        tool_calls,
        "public_id",
        "session_id",
        "turn_id",
        "call_id",
        "name",
        "arguments",
        "state",
        "attempt",
        "proposed_at_ms",
    ).values(item_id=_item_key)
)
_this_call = tool_calls.c.public_id == bindparam("call")
_DECIDE_CALL = Statement(
    update(tool_calls)
    .where(_this_call, tool_calls.c.state == ToolCallState.PROPOSED)
    .values(state=bindparam("new_state"), ended_at_ms=bindparam("ended_at"))
)
_START_CALL = Statement(
    update(tool_calls)
    .where(_this_call, tool_calls.c.state == ToolCallState.APPROVED)
    .values(state=ToolCallState.STARTED.value, started_at_ms=bindparam("now_ms"))
)
_SPAWN_CALL = Statement(
    update(tool_calls)
    .where(_this_call, tool_calls.c.state == ToolCallState.STARTED)
    .values(pid=bindparam("new_pid"), pid_started_at=bindparam("new_pid_started_at"))
)
_END_CALL = Statement(
    update(tool_calls)
    .where(_this_call, tool_calls.c.ended_at_ms.is_(None))
    .values(
        state=bindparam("new_state"),
        exit_code=bindparam("new_exit_code"),
        output=bindparam("new_output"),
        output_item_id=_item_key,
        ended_at_ms=bindparam("now_ms"),
    )
)
_INSERT_REQUEST = Statement(
    insert_into(
        model_requests,
        "session_id",
        "turn_id",
        "attempt",
        "model",
        "model_provider",
        "started_at_ms",
        "first_event_at_ms",
        "ended_at_ms",
        "retries",
        "input_tokens",
        "cached_input_tokens",
        "output_tokens",
        "reasoning_output_tokens",
        "total_tokens",
        "error",
    )
)
_NEW_EPOCH = Statement(
    update(sessions).where(sessions.c.id == bindparam("session_key")).values(epoch=sessions.c.epoch + 1)
)
_SET_STANDING = Statement(
    update(turns)
    .where(turns.c.id == bindparam("turn_key"))
    .values(last_agent_message=bindparam("answer"), retry_at_ms=bindparam("new_retry_at_ms"))
)
_SET_PLAN = Statement(
    update(sessions).where(sessions.c.id == bindparam("session_key")).values(latest_plan=bindparam("plan"))
)


def append(transaction: Transaction, claim: Claim, entry: Entry, now_ms: int) -> bool:
    """Commit an entry of a running turn. False: the attempt no longer holds the turn, and nothing was written.

    The event numbers, and the proof that the fence holds, come out of one statement.
    """
    first = allocate(transaction, claim, len(entry.events), len(entry.items))
    if first is None:
        return False
    seq, item_seq = first
    session, turn = claim.fence.session_key, claim.fence.turn_key
    if any(each.item.get("type") == "compaction" for each in entry.items):
        transaction.run(_NEW_EPOCH, session_key=session)
    if entry.items:
        insert_items(transaction, session, turn, item_seq, entry.items, now_ms)
    if entry.delta_item is not None:
        transaction.run(
            _FORGET_DELTAS_OF,
            session_key=session,
            turn_key=turn,
            this_attempt=claim.fence.attempt,
            last_item=entry.delta_item,
        )
    for change in entry.calls:
        _change_call(transaction, claim, change, item_seq, now_ms)
    ask(transaction, claim, entry.asks, now_ms)
    if entry.patch is not None:
        patches.keep(transaction, claim.fence, entry.patch, seq, now_ms)
    if entry.request is not None:
        _insert_request(transaction, claim, entry.request)
    if entry.request is not None or entry.answer is not None or entry.retry_at_ms is not None:
        transaction.run(_SET_STANDING, turn_key=turn, answer=entry.answer, new_retry_at_ms=entry.retry_at_ms)
    if entry.plan is not None:
        transaction.run(_SET_PLAN, session_key=session, plan=encode(entry.plan))
    insert_events(transaction, session, turn, seq, entry.events, now_ms)
    announce_events(transaction, claim, seq, entry.events)
    transaction.announce(*(ApprovalsChanged(claim.session_id, claim.turn_id) for _ in entry.asks[:1]))
    return True


def allocate(transaction: Transaction, claim: Claim, event_count: int, item_count: int) -> tuple[int, int] | None:
    """The first event number and item number of so many new ones; None where the fence is lost."""
    fence = claim.fence
    row = transaction.one(
        _ALLOCATE,
        session_key=fence.session_key,
        turn_key=fence.turn_key,
        attempt=fence.attempt,
        worker_key=fence.worker_key,
        events=event_count,
        items=item_count,
    )
    if row is None:
        return None
    next_seq, next_item_seq = row
    assert isinstance(next_seq, int)  # noqa: S101 - STRICT columns
    assert isinstance(next_item_seq, int)  # noqa: S101
    return next_seq - event_count, next_item_seq - item_count


def numbers(transaction: Transaction, session_key: int, events: int, items: int, now_ms: int) -> tuple[int, int]:
    """The first event number and item number of so many new ones."""
    row = transaction.one(_NUMBERS, session_key=session_key, events=events, items=items, now_ms=now_ms)
    return cast("tuple[int, int]", row)


def insert_events(
    transaction: Transaction, session: int, turn: int | None, first: int, new: Sequence[Event], now_ms: int
) -> None:
    """Write events whose numbers, from `first` on, were allocated."""
    transaction.many(
        _INSERT_EVENT,
        [
            {
                "session_id": session,
                "seq": seq,
                "turn_id": turn,
                "type": event.type,
                "msg": encode(event.msg),
                "created_at_ms": now_ms,
            }
            for seq, event in enumerate(new, first)
        ],
    )


def announce_events(transaction: Transaction, claim: Claim, first: int, new: Sequence[Event]) -> None:
    transaction.announce(
        *(
            CommittedEvent(claim.session_id, seq, claim.turn_id, claim.submission_id, event.type, encode(event.msg))
            for seq, event in enumerate(new, first)
        )
    )


def insert_items(
    transaction: Transaction,
    session: int,
    turn: int | None,
    first: int,
    new: Sequence[NewItem],
    now_ms: int,
) -> None:
    """Write items whose numbers, from `first` on, were allocated."""
    transaction.many(
        _INSERT_ITEM,
        [
            {
                "session_id": session,
                "seq": seq,
                "turn_id": turn,
                "type": each.item.get("type"),
                "role": each.item.get("role"),
                "payload": encode(each.item),
                "partial": int(each.partial),
                "created_at_ms": now_ms,
            }
            for seq, each in enumerate(new, first)
        ],
    )


def store_delta(
    transaction: Transaction, claim: Claim, item: int, offset: int, kind: str, text: str, now_ms: int
) -> None:
    """Keep a piece of an unfinished item, so that it outlives a kill; it goes when its item or its turn ends. Where the
    fence is lost, nothing is written: nobody would remove it.
    """
    if allocate(transaction, claim, 0, 0) is None:
        return
    transaction.run(
        _INSERT_DELTA,
        session_id=claim.fence.session_key,
        turn_id=claim.fence.turn_key,
        attempt=claim.fence.attempt,
        item=item,
        offset=offset,
        type=kind,
        text=text,
        created_at_ms=now_ms,
    )


def _change_call(transaction: Transaction, claim: Claim, change: CallChange, item_seq: int, now_ms: int) -> None:
    """A call is proposed, and ends, in the entry that holds its item, and its output, as first item."""
    match change:
        case CallProposed():
            _propose(transaction, claim, change, item_seq, now_ms)
        case CallDecided():
            state = ToolCallState.APPROVED if change.approved else ToolCallState.DENIED
            ended_at = None if change.approved else now_ms
            transaction.run(_DECIDE_CALL, call=change.id, new_state=state.value, ended_at=ended_at)
        case CallStarted():
            transaction.run(_START_CALL, call=change.id, now_ms=now_ms)
        case CallSpawned():
            transaction.run(_SPAWN_CALL, call=change.id, new_pid=change.pid, new_pid_started_at=change.pid_started_at)
        case CallEnded():
            transaction.run(
                _END_CALL,
                call=change.id,
                new_state=change.state,
                new_exit_code=change.exit_code,
                new_output=change.output,
                session_key=claim.fence.session_key,
                item_seq=item_seq,
                now_ms=now_ms,
            )
        case _:
            assert_never(change)


def _propose(transaction: Transaction, claim: Claim, change: CallProposed, item_seq: int, now_ms: int) -> None:
    transaction.run(
        _INSERT_CALL,
        public_id=change.id,
        session_id=claim.fence.session_key,
        turn_id=claim.fence.turn_key,
        session_key=claim.fence.session_key,
        item_seq=item_seq,
        call_id=change.call_id,
        name=change.name,
        arguments=change.arguments,
        state=ToolCallState.PROPOSED.value,
        attempt=claim.fence.attempt,
        proposed_at_ms=now_ms,
    )


def _insert_request(transaction: Transaction, claim: Claim, request: RequestEnded) -> None:
    usage = request.usage
    transaction.run(
        _INSERT_REQUEST,
        session_id=claim.fence.session_key,
        turn_id=claim.fence.turn_key,
        attempt=claim.fence.attempt,
        model=request.model,
        model_provider=request.model_provider,
        started_at_ms=request.started_at_ms,
        first_event_at_ms=request.first_event_at_ms,
        ended_at_ms=request.ended_at_ms,
        retries=request.retries,
        input_tokens=usage.input_tokens if usage else None,
        cached_input_tokens=usage.cached_input_tokens if usage else None,
        output_tokens=usage.output_tokens if usage else None,
        reasoning_output_tokens=usage.reasoning_output_tokens if usage else None,
        total_tokens=usage.total_tokens if usage else None,
        error=request.error,
    )
