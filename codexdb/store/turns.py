"""How turns begin: the check-and-set, and what becomes of a message that finds its session taken."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, cast

from sqlalchemy import bindparam, func, select, text, update

from codexdb.domain.approval import Fallback
from codexdb.domain.event import task_started
from codexdb.domain.item import Item
from codexdb.domain.json import JsonObject, encode
from codexdb.domain.limits import TURNS_QUEUED_MAX
from codexdb.domain.outcome import (
    Archived,
    Busy,
    Conflict,
    Created,
    CreateOutcome,
    Duplicate,
    IfRunning,
    NotFound,
    Outdated,
    Queued,
    QueueFull,
    SendOutcome,
    Started,
    Steered,
    Withdrawn,
)
from codexdb.domain.record import NewItem
from codexdb.domain.transition import TurnState
from codexdb.domain.worker import Claim, Fence, WorkWaiting
from codexdb.store.record import announce_events, insert_events, insert_items
from codexdb.store.sessions import NewSession, change_settings, insert_session
from codexdb.store.statement import Statement, insert_into
from codexdb.store.tables import inputs, sessions, turns
from codexdb.store.transaction import Transaction

FALLBACK_SETTING = "approval_fallback"  # in `turns.settings`, where everything else is a change of the session's

next_turn_key = select(func.coalesce(func.max(turns.c.id), 0) + 1).scalar_subquery()

# The check-and-set: nobody else holds the session, or nothing happens. Also numbers what the turn begins with.
_HOLD_SESSION = Statement(
    update(sessions)
    .where(
        sessions.c.public_id == bindparam("session"),
        sessions.c.active_turn_id.is_(None),
        sessions.c.archived_at_ms.is_(None),
    )
    .values(
        active_turn_id=next_turn_key,
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
INSERT_TURN = Statement(
    insert_into(
        turns,
        "id",
        "public_id",
        "session_id",
        "number",
        "state",
        "attempt",
        "worker_id",
        "accepted_by_id",
        "submission_id",
        "settings",
        "trace_context",
        "created_at_ms",
        "started_at_ms",
    )
)
_MORE_ITEMS = Statement(
    update(sessions)
    .where(sessions.c.id == bindparam("session_key"))
    .values(next_item_seq=sessions.c.next_item_seq + bindparam("more"))
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
        "item",
        "created_at_ms",
        "delivered_at_ms",
    )
)
_accepted = (
    select(
        sessions.c.public_id,
        turns.c.public_id,
        inputs.c.outcome,
        inputs.c.public_id,
        inputs.c.content_hash,
        (inputs.c.mode == "steer") & inputs.c.withdrawn_at_ms.is_not(None),
    )
    .select_from(
        inputs.join(sessions, sessions.c.id == inputs.c.session_id).outerjoin(turns, turns.c.id == inputs.c.turn_id)
    )
    .where(inputs.c.message_id == bindparam("message_id"))
)
_ACCEPTED_HERE = Statement(_accepted.where(sessions.c.public_id == bindparam("session")))
_ACCEPTED_AS_OPENING = Statement(_accepted.where(inputs.c.opens_session == 1))
_PLACE_BEHIND = Statement(
    update(sessions)
    .where(sessions.c.public_id == bindparam("session"), sessions.c.active_turn_id.is_not(None))
    .values(turn_count=sessions.c.turn_count + 1)
    .returning(sessions.c.id, next_turn_key, sessions.c.turn_count)
)
_WAITING_BEHIND = Statement(
    select(func.count())
    .select_from(turns.join(sessions, sessions.c.id == turns.c.session_id))
    .where(sessions.c.public_id == bindparam("session"), text("turns.state = 'queued'"))
)
_ACTIVE = Statement(
    select(sessions.c.id, turns.c.id)
    .select_from(sessions.join(turns, turns.c.id == sessions.c.active_turn_id))
    .where(sessions.c.public_id == bindparam("session"))
)
_NEWEST_INPUT = Statement(
    select(inputs.c.message_id, inputs.c.public_id)
    .select_from(inputs.join(sessions, sessions.c.id == inputs.c.session_id))
    .where(sessions.c.public_id == bindparam("session"), inputs.c.mode != "create", inputs.c.withdrawn_at_ms.is_(None))
    .order_by(inputs.c.id.desc())
    .limit(1)
)


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
    works: bool = True  # False: the process that accepts it leaves its turn to others
    if_running: IfRunning = IfRunning.REJECT
    parent_message_id: str | None = None
    changes: JsonObject = field(default_factory=dict[str, object])  # of the session's settings, from this turn on
    fallback: Fallback | None = None  # what becomes of questions that nobody can be asked; None: as configured

    @property
    def turn_settings(self) -> JsonObject:
        """What is kept with the turn."""
        own: JsonObject = {} if self.fallback is None else {FALLBACK_SETTING: self.fallback.value}
        return {**self.changes, **own}


def start(
    transaction: Transaction, session_id: str, message: NewMessage, *, opens_session: bool = False
) -> SendOutcome:
    """The check-and-set of a message: its turn holds the session from here on, or what else was asked for such a case
    was done, or nothing was written.
    """
    earlier = _earlier(transaction, _ACCEPTED_HERE, message.message_id, message.content_hash, session=session_id)
    if earlier is not None:
        return earlier
    if message.parent_message_id is not None and not _is_newest(transaction, session_id, message.parent_message_id):
        return Outdated(session_id)
    row = transaction.one(_HOLD_SESSION, session=session_id, now_ms=message.now_ms)
    if row is None:
        return _instead(transaction, session_id, message)
    held = _Held(*cast("tuple[int, int, int, int, int]", row))
    fence = Fence(held.session_key, held.turn_key, 1, message.worker_key)
    claim = Claim(fence, session_id, message.turn_id, message.submission_id)
    _insert_turn(transaction, held, message)
    _insert_input(transaction, held.session_key, held.turn_key, message, "start", opens_session=opens_session)
    first = held.item_seq + _tell_changes(transaction, held, message)
    insert_items(transaction, held.session_key, held.turn_key, first, [NewItem(message.item)], message.now_ms)
    insert_events(transaction, held.session_key, held.turn_key, held.seq, [task_started()], message.now_ms)
    transaction.announce(claim if message.works else WorkWaiting())
    announce_events(transaction, claim, held.seq, [task_started()])
    return Started(session_id, message.turn_id)


def _tell_changes(transaction: Transaction, held: _Held, message: NewMessage) -> int:
    """Change the session's settings, and put on record what the model is told of it; returns how many items."""
    if not message.changes:
        return 0
    told = change_settings(transaction, held.session_key, message.changes)
    if told:
        transaction.run(_MORE_ITEMS, session_key=held.session_key, more=len(told))
        context = [NewItem(item) for item in told]
        insert_items(transaction, held.session_key, None, held.item_seq, context, message.now_ms)
    return len(told)


def open_and_start(transaction: Transaction, session: NewSession, message: NewMessage) -> SendOutcome:
    """A new session with its first turn, or the outcome of the same `message_id` before."""
    earlier = accepted_as_opening(transaction, message.message_id, message.content_hash)
    if earlier is not None:
        return earlier
    insert_session(transaction, session)
    return start(transaction, session.session_id, message, opens_session=True)


def open_only(
    transaction: Transaction, session: NewSession, input_id: str, message_id: str | None, content_hash: str
) -> CreateOutcome:
    """A new session without a turn, or the outcome of the same `message_id` before."""
    earlier = accepted_as_opening(transaction, message_id, content_hash)
    if earlier is not None:
        return earlier
    key = insert_session(transaction, session)
    note_opening(transaction, key, input_id, message_id, content_hash, session.now_ms)
    return Created(session.session_id)


def accepted_as_opening(
    transaction: Transaction, message_id: str | None, content_hash: str
) -> Duplicate | Conflict | None:
    """What became before of a call that makes a session and has this `message_id`."""
    earlier = _earlier(transaction, _ACCEPTED_AS_OPENING, message_id, content_hash)
    return None if isinstance(earlier, Withdrawn) else earlier  # which an opening message cannot be


def note_opening(
    transaction: Transaction, session_key: int, input_id: str, message_id: str | None, content_hash: str, now_ms: int
) -> None:
    """Remember a call that made a session without a turn, so that a repeat of it is recognised."""
    if message_id is None:
        return
    transaction.run(
        _INSERT_INPUT,
        public_id=input_id,
        session_id=session_key,
        turn_id=None,
        message_id=message_id,
        opens_session=1,
        mode="create",
        outcome="created",
        content="[]",
        content_hash=content_hash,
        item=None,
        created_at_ms=now_ms,
        delivered_at_ms=None,
    )


# -- parts -------------------------------------------------------------------------------------------------------------


def _earlier(
    transaction: Transaction, statement: Statement, message_id: str | None, content_hash: str, **where: object
) -> Duplicate | Conflict | Withdrawn | None:
    """What became of this `message_id` before, if it was ever accepted."""
    if message_id is None:
        return None
    row = transaction.one(statement, message_id=message_id, **where)
    if row is None:
        return None
    session_id, turn_id, outcome, input_id, earlier_hash, withdrawn = cast(
        "tuple[str, str | None, str, str, str, int]", row
    )
    if earlier_hash != content_hash:
        return Conflict(session_id)
    if withdrawn:
        return Withdrawn(session_id)
    return Duplicate(session_id, turn_id, outcome, input_id)


def _why_lost(transaction: Transaction, session_id: str) -> SendOutcome:
    row = transaction.one(_WHY_LOST, session=session_id)
    if row is None:
        return NotFound(session_id)
    archived_at_ms, turn_id, since_at_ms = row
    if archived_at_ms is not None:
        return Archived(session_id)
    return Busy(session_id, cast("str", turn_id), cast("int", since_at_ms))


def _instead(transaction: Transaction, session_id: str, message: NewMessage) -> SendOutcome:
    """What becomes of a message that lost the check-and-set."""
    lost = _why_lost(transaction, session_id)
    if not isinstance(lost, Busy) or message.if_running is IfRunning.REJECT:
        return lost
    if message.if_running is IfRunning.STEER:
        return _steer(transaction, session_id, lost.turn_id, message)
    return _queue(transaction, session_id, message)


def _queue(transaction: Transaction, session_id: str, message: NewMessage) -> SendOutcome:
    """A turn of its own, behind those that are there."""
    waiting = cast("int", transaction.all(_WAITING_BEHIND, session=session_id)[0][0])
    if waiting >= TURNS_QUEUED_MAX:
        return QueueFull(session_id, waiting)
    session_key, turn_key, number = cast("tuple[int, int, int]", transaction.one(_PLACE_BEHIND, session=session_id))
    _insert_turn(transaction, _Held(session_key, turn_key, number, 0, 0), message, queued=True)
    _insert_input(transaction, session_key, turn_key, message, "queue")
    return Queued(session_id, message.turn_id, waiting + 1)


def _steer(transaction: Transaction, session_id: str, turn_id: str, message: NewMessage) -> SendOutcome:
    """Into the running turn, before its next model request; a turn of its own if there is none any more."""
    session_key, turn_key = cast("tuple[int, int]", transaction.one(_ACTIVE, session=session_id))
    _insert_input(transaction, session_key, turn_key, message, "steer")
    return Steered(session_id, turn_id, message.input_id)


def _is_newest(transaction: Transaction, session_id: str, message_id: str) -> bool:
    row = transaction.one(_NEWEST_INPUT, session=session_id)
    return row is not None and message_id in row


def _insert_turn(transaction: Transaction, held: _Held, message: NewMessage, *, queued: bool = False) -> None:
    """The turn is born running, unless it has to wait: whoever accepts a message works on it, as a rule."""
    running = message.works and not queued
    state = TurnState.QUEUED if queued else TurnState.RUNNING if running else TurnState.READY
    transaction.run(
        INSERT_TURN,
        id=held.turn_key,
        public_id=message.turn_id,
        session_id=held.session_key,
        number=held.number,
        state=state.value,
        attempt=int(running),
        worker_id=message.worker_key if running else None,
        accepted_by_id=message.worker_key,
        submission_id=message.submission_id,
        settings=encode(message.turn_settings) if message.turn_settings else None,
        trace_context=message.trace_context,
        created_at_ms=message.now_ms,
        started_at_ms=message.now_ms if running else None,
    )


def _insert_input(
    transaction: Transaction,
    session_key: int,
    turn_key: int,
    message: NewMessage,
    mode: str,
    *,
    opens_session: bool = False,
) -> None:
    delivered = mode == "start"
    transaction.run(
        _INSERT_INPUT,
        public_id=message.input_id,
        session_id=session_key,
        turn_id=turn_key,
        message_id=message.message_id,
        opens_session=int(opens_session),
        mode=mode,
        outcome={"start": "started", "queue": "queued", "steer": "steered"}[mode],
        content=encode(message.content),
        content_hash=message.content_hash,
        item=None if delivered else encode(message.item),
        created_at_ms=message.now_ms,
        delivered_at_ms=message.now_ms if delivered else None,
    )
