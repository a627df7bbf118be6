"""The life of a turn. Each verb states what it requires and answers whether it won; all of it is one transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

from sqlalchemy import bindparam, func, select, text, update

from codexdb.domain.event import Event, task_started
from codexdb.domain.item import Item
from codexdb.domain.json import JsonObject, encode
from codexdb.domain.outcome import (
    Archived,
    Busy,
    Conflict,
    Created,
    CreateOutcome,
    Duplicate,
    NotFound,
    SendOutcome,
    Started,
)
from codexdb.domain.record import NewItem
from codexdb.domain.transition import HOLDS_SESSION, TURN, TurnState
from codexdb.domain.worker import Claim, Fence, InterruptRequest
from codexdb.store.calls import close_calls
from codexdb.store.record import FORGET_DELTAS, announce_events, insert_events, insert_items
from codexdb.store.sessions import NewSession, insert_session
from codexdb.store.statement import Statement, insert_into
from codexdb.store.tables import inputs, quoted, sessions, turns
from codexdb.store.transaction import Transaction

_next_turn_key = select(func.coalesce(func.max(turns.c.id), 0) + 1).scalar_subquery()

# The check-and-set: nobody else holds the session, or nothing happens. Also numbers what the turn begins with.
_HOLD_SESSION = Statement(
    update(sessions)
    .where(
        sessions.c.public_id == bindparam("session"),
        sessions.c.active_turn_id.is_(None),
        sessions.c.archived_at_ms.is_(None),
    )
    .values(
        active_turn_id=_next_turn_key,
        turn_count=sessions.c.turn_count + 1,
        next_seq=sessions.c.next_seq + 1,
        next_item_seq=sessions.c.next_item_seq + 1,
        updated_at_ms=bindparam("now_ms"),
    )
    .returning(
        sessions.c.id,
        sessions.c.active_turn_id,
        sessions.c.turn_count,
        sessions.c.next_seq - 1,
        sessions.c.next_item_seq - 1,
    )
)
_WHY_LOST = Statement(
    select(sessions.c.archived_at_ms, turns.c.public_id, turns.c.created_at_ms)
    .select_from(sessions.outerjoin(turns, turns.c.id == sessions.c.active_turn_id))
    .where(sessions.c.public_id == bindparam("session"))
)
_FREE_SESSION = Statement(
    update(sessions)
    .where(sessions.c.id == bindparam("session_key"), sessions.c.active_turn_id == bindparam("turn_key"))
    .values(active_turn_id=None, next_seq=sessions.c.next_seq + bindparam("events"), updated_at_ms=bindparam("now_ms"))
    .returning(sessions.c.next_seq - bindparam("events"))
)
_INSERT_TURN = Statement(
    insert_into(
        turns,
        "id",
        "public_id",
        "session_id",
        "number",
        "state",
        "attempt",
        "worker_id",
        "submission_id",
        "trace_context",
        "created_at_ms",
        "started_at_ms",
    )
)
_INSERT_INPUT = Statement(
    insert_into(
        inputs,
        "public_id",
        "session_id",
        "turn_id",
        "message_id",
        "opens_session",
        "mode",
        "outcome",
        "content",
        "content_hash",
        "created_at_ms",
        "delivered_at_ms",
    )
)
_accepted = (
    select(sessions.c.public_id, turns.c.public_id, inputs.c.outcome, inputs.c.content_hash)
    .select_from(
        inputs.join(sessions, sessions.c.id == inputs.c.session_id).outerjoin(turns, turns.c.id == inputs.c.turn_id)
    )
    .where(inputs.c.message_id == bindparam("message_id"))
)
_ACCEPTED_HERE = Statement(_accepted.where(sessions.c.public_id == bindparam("session")))
_ACCEPTED_AS_OPENING = Statement(_accepted.where(inputs.c.opens_session == 1))
_END = Statement(
    update(turns)
    .where(
        turns.c.id == bindparam("turn_key"),
        turns.c.state == TurnState.RUNNING.value,
        turns.c.attempt == bindparam("held_attempt"),
        turns.c.worker_id == bindparam("held_worker"),
    )
    .values(
        state=bindparam("new_state"),
        worker_id=None,
        end_reason=bindparam("reason"),
        error_kind=bindparam("new_error_kind"),
        error_message=bindparam("new_error_message"),
        last_agent_message=bindparam("message"),
        ended_at_ms=bindparam("now_ms"),
        retry_at_ms=None,
    )
)
_OPEN = tuple(state for state in TURN.states if state not in TURN.terminal)
_REQUEST_INTERRUPT = Statement(
    update(turns)
    .where(
        turns.c.public_id == bindparam("turn"), turns.c.state.in_([bindparam(f"s{n}", s) for n, s in enumerate(_OPEN)])
    )
    .values(interrupt_requested_at_ms=func.coalesce(turns.c.interrupt_requested_at_ms, bindparam("now_ms")))
)
_HELD_BY = Statement(
    select(turns.c.id, turns.c.public_id, turns.c.attempt, turns.c.submission_id, sessions.c.id, sessions.c.public_id)
    .select_from(turns.join(sessions, sessions.c.id == turns.c.session_id))
    .where(text(f"turns.state IN ({quoted(HOLDS_SESSION)})"), turns.c.worker_id == bindparam("worker_key"))
)  # spelt like the condition of `turns_one_holds_session`, whose index thereby finds the few turns that are open


class _Held(NamedTuple):
    """What the check-and-set allocated."""

    session_key: int
    turn_key: int
    number: int  # of the turn in its session
    seq: int  # of its first event
    item_seq: int  # of its first item


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message as it was accepted for checking: ids and times are already chosen."""

    input_id: str
    turn_id: str
    message_id: str | None
    content: Sequence[JsonObject]  # as the caller gave it
    content_hash: str
    item: Item  # what the model will see
    submission_id: str
    trace_context: str | None
    worker_key: int
    now_ms: int


@dataclass(frozen=True, slots=True)
class Ending:
    """How a turn ended."""

    state: TurnState
    reason: str
    event: Event
    error_kind: str | None = None
    error_message: str | None = None
    last_agent_message: str | None = None


def start(
    transaction: Transaction, session_id: str, message: NewMessage, *, opens_session: bool = False
) -> SendOutcome:
    """The check-and-set of a message: its turn holds the session from here on, or nothing was written."""
    earlier = _earlier(transaction, _ACCEPTED_HERE, message.message_id, message.content_hash, session=session_id)
    if earlier is not None:
        return earlier
    row = transaction.one(_HOLD_SESSION, session=session_id, now_ms=message.now_ms)
    if row is None:
        return _why_lost(transaction, session_id)
    held = _Held(*cast("tuple[int, int, int, int, int]", row))
    fence = Fence(held.session_key, held.turn_key, 1, message.worker_key)
    claim = Claim(fence, session_id, message.turn_id, message.submission_id)
    _insert_turn(transaction, held, message)
    _insert_input(transaction, held, message, opens_session=opens_session)
    insert_items(transaction, held.session_key, held.turn_key, held.item_seq, [NewItem(message.item)], message.now_ms)
    insert_events(transaction, held.session_key, held.turn_key, held.seq, [task_started()], message.now_ms)
    transaction.announce(claim)
    announce_events(transaction, claim, held.seq, [task_started()])
    return Started(session_id, message.turn_id)


def open_and_start(transaction: Transaction, session: NewSession, message: NewMessage) -> SendOutcome:
    """A new session with its first turn, or the outcome of the same `message_id` before."""
    earlier = _earlier(transaction, _ACCEPTED_AS_OPENING, message.message_id, message.content_hash)
    if earlier is not None:
        return earlier
    insert_session(transaction, session)
    return start(transaction, session.session_id, message, opens_session=True)


def open_only(
    transaction: Transaction, session: NewSession, input_id: str, message_id: str | None, content_hash: str
) -> CreateOutcome:
    """A new session without a turn, or the outcome of the same `message_id` before."""
    earlier = _earlier(transaction, _ACCEPTED_AS_OPENING, message_id, content_hash)
    if earlier is not None:
        return earlier
    key = insert_session(transaction, session)
    if message_id is not None:
        transaction.run(
            _INSERT_INPUT,
            public_id=input_id,
            session_id=key,
            turn_id=None,
            message_id=message_id,
            opens_session=1,
            mode="create",
            outcome="created",
            content="[]",
            content_hash=content_hash,
            created_at_ms=session.now_ms,
            delivered_at_ms=None,
        )
    return Created(session.session_id)


def end(transaction: Transaction, claim: Claim, ending: Ending, now_ms: int) -> bool:
    """End a running turn, write its one terminal event and free the session. False: the fence is lost, nothing was
    written.
    """
    fence = claim.fence
    changed = transaction.run(
        _END,
        turn_key=fence.turn_key,
        held_attempt=fence.attempt,
        held_worker=fence.worker_key,
        new_state=ending.state.value,
        reason=ending.reason,
        new_error_kind=ending.error_kind,
        new_error_message=ending.error_message,
        message=ending.last_agent_message,
        now_ms=now_ms,
    )
    if changed == 0:
        return False
    close_calls(transaction, fence, lost=ending.reason == "server_stopped", now_ms=now_ms)
    transaction.run(FORGET_DELTAS, session_key=fence.session_key, turn_key=fence.turn_key)
    freed = transaction.one(
        _FREE_SESSION, session_key=fence.session_key, turn_key=fence.turn_key, events=1, now_ms=now_ms
    )
    if freed is None:
        raise RuntimeError("a running turn did not hold its session")
    seq = cast("int", freed[0])
    insert_events(transaction, fence.session_key, fence.turn_key, seq, [ending.event], now_ms)
    announce_events(transaction, claim, seq, [ending.event])
    return True


def request_interrupt(transaction: Transaction, turn_id: str, now_ms: int) -> bool:
    """Ask whoever works on the turn to end it. False: it is not open (any more). Asking twice changes nothing."""
    if transaction.run(_REQUEST_INTERRUPT, turn=turn_id, now_ms=now_ms) == 0:
        return False
    transaction.announce(InterruptRequest(turn_id))
    return True


def end_all_of(transaction: Transaction, worker_key: int, ending: Ending, now_ms: int) -> list[str]:
    """End every turn that a dead worker still holds; returns their ids. The caller has proof that it is dead."""
    ended: list[str] = []
    for row in transaction.all(_HELD_BY, worker_key=worker_key):
        turn_key, turn_id, attempt, submission_id, session_key, session_id = cast(
            "tuple[int, str, int, str, int, str]", row
        )
        claim = Claim(Fence(session_key, turn_key, attempt, worker_key), session_id, turn_id, submission_id)
        if end(transaction, claim, ending, now_ms):
            ended.append(turn_id)
    return ended


# -- parts -------------------------------------------------------------------------------------------------------------


def _earlier(
    transaction: Transaction, statement: Statement, message_id: str | None, content_hash: str, **where: object
) -> Duplicate | Conflict | None:
    """What became of this `message_id` before, if it was ever accepted."""
    if message_id is None:
        return None
    row = transaction.one(statement, message_id=message_id, **where)
    if row is None:
        return None
    session_id, turn_id, outcome, earlier_hash = cast("tuple[str, str | None, str, str]", row)
    return Duplicate(session_id, turn_id, outcome) if earlier_hash == content_hash else Conflict(session_id)


def _why_lost(transaction: Transaction, session_id: str) -> SendOutcome:
    row = transaction.one(_WHY_LOST, session=session_id)
    if row is None:
        return NotFound(session_id)
    archived_at_ms, turn_id, since_at_ms = row
    if archived_at_ms is not None:
        return Archived(session_id)
    return Busy(session_id, cast("str", turn_id), cast("int", since_at_ms))


def _insert_turn(transaction: Transaction, held: _Held, message: NewMessage) -> None:
    """The turn is born running: whoever accepts a message works on it."""
    transaction.run(
        _INSERT_TURN,
        id=held.turn_key,
        public_id=message.turn_id,
        session_id=held.session_key,
        number=held.number,
        state=TurnState.RUNNING.value,
        attempt=1,
        worker_id=message.worker_key,
        submission_id=message.submission_id,
        trace_context=message.trace_context,
        created_at_ms=message.now_ms,
        started_at_ms=message.now_ms,
    )


def _insert_input(transaction: Transaction, held: _Held, message: NewMessage, *, opens_session: bool) -> None:
    transaction.run(
        _INSERT_INPUT,
        public_id=message.input_id,
        session_id=held.session_key,
        turn_id=held.turn_key,
        message_id=message.message_id,
        opens_session=int(opens_session),
        mode="start",
        outcome="started",
        content=encode(message.content),
        content_hash=message.content_hash,
        created_at_ms=message.now_ms,
        delivered_at_ms=message.now_ms,
    )
