"""How turns end, or are given up without an end: one transaction each, which also hands the session on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from sqlalchemy import bindparam, func, select, text, update

from codexdb.domain.event import INTERRUPTED_MESSAGE, Event, TurnSuspended, error, task_started
from codexdb.domain.ids import new_id
from codexdb.domain.item import assistant_message
from codexdb.domain.json import decode_object
from codexdb.domain.record import NewItem
from codexdb.domain.transition import TURN, TurnState
from codexdb.domain.worker import Claim, Fence, InterruptRequest, WorkWaiting
from codexdb.store.calls import close_calls
from codexdb.store.record import FORGET_DELTAS, allocate, announce_events, insert_events, insert_items
from codexdb.store.statement import Statement
from codexdb.store.tables import deltas, events, inputs, quoted, sessions, turns
from codexdb.store.transaction import Transaction
from codexdb.store.turns import INSERT_TURN, next_turn_key

_OPEN = text(f"turns.state IN ({quoted(tuple(s for s in TURN.states if s not in TURN.terminal))})")
_ending: dict[str, object] = {
    "state": bindparam("new_state"),
    "worker_id": None,
    "end_reason": bindparam("reason"),
    "error_kind": bindparam("new_error_kind"),
    "error_message": bindparam("new_error_message"),
    "last_agent_message": bindparam("message"),
    "ended_at_ms": bindparam("now_ms"),
    "retry_at_ms": None,
}
_held = (
    turns.c.id == bindparam("turn_key"),
    turns.c.state == TurnState.RUNNING.value,
    turns.c.attempt == bindparam("held_attempt"),
    turns.c.worker_id == bindparam("held_worker"),
)
_END_HELD = Statement(update(turns).where(*_held).values(_ending))
_END_UNHELD = Statement(
    update(turns)
    .where(turns.c.id == bindparam("turn_key"), text("turns.state IN ('queued', 'ready', 'waiting')"))
    .values(_ending)
)
_SUSPEND = Statement(
    update(turns)
    .where(*_held)
    .values(state=TurnState.READY.value, worker_id=None, crashes=turns.c.crashes + bindparam("crashed"))
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
_HAND_ON = Statement(
    update(sessions)
    .where(sessions.c.id == bindparam("session_key"), sessions.c.active_turn_id == bindparam("turn_key"))
    .values(active_turn_id=bindparam("next_turn"))
)
_HOLD = Statement(
    update(sessions)
    .where(sessions.c.id == bindparam("session_key"), sessions.c.active_turn_id.is_(None))
    .values(active_turn_id=bindparam("next_turn"))
)
_NEXT_QUEUED = Statement(
    select(turns.c.id, turns.c.public_id, turns.c.submission_id)
    .where(turns.c.session_id == bindparam("session_key"), text("turns.state = 'queued'"))
    .order_by(turns.c.id)
    .limit(1)
)
_PROMOTE = Statement(
    update(turns)
    .where(turns.c.id == bindparam("turn_key"), turns.c.state == TurnState.QUEUED.value)
    .values(
        state=bindparam("new_state"),
        attempt=bindparam("new_attempt"),
        worker_id=bindparam("new_worker"),
        started_at_ms=bindparam("started_at"),
    )
)
_UNDELIVERED = Statement(
    select(inputs.c.id, inputs.c.item)
    .where(
        inputs.c.session_id == bindparam("session_key"),
        inputs.c.turn_id == bindparam("turn_key"),
        inputs.c.delivered_at_ms.is_(None),
        inputs.c.withdrawn_at_ms.is_(None),
        inputs.c.item.is_not(None),
    )
    .order_by(inputs.c.id)
)
_DELIVER = Statement(
    update(inputs).where(inputs.c.id == bindparam("key")).values(delivered_at_ms=bindparam("now_ms"), item=None)
)
_MOVE_INPUT = Statement(update(inputs).where(inputs.c.id == bindparam("key")).values(turn_id=bindparam("new_turn")))
_WITHDRAW = Statement(
    update(inputs)
    .where(
        inputs.c.session_id == bindparam("session_key"),
        inputs.c.turn_id == bindparam("turn_key"),
        inputs.c.delivered_at_ms.is_(None),
    )
    .values(withdrawn_at_ms=bindparam("now_ms"))
)
_WITHDRAW_STEERED = Statement(
    update(inputs)
    .where(
        inputs.c.session_id
        == select(sessions.c.id).where(sessions.c.public_id == bindparam("session")).scalar_subquery(),
        inputs.c.public_id == bindparam("input"),
        inputs.c.mode == "steer",
        inputs.c.delivered_at_ms.is_(None),
        inputs.c.withdrawn_at_ms.is_(None),
    )
    .values(withdrawn_at_ms=bindparam("now_ms"), item=None)
)
_COUNT_TURN = Statement(
    update(sessions)
    .where(sessions.c.id == bindparam("session_key"))
    .values(turn_count=sessions.c.turn_count + 1)
    .returning(next_turn_key, sessions.c.turn_count)
)
_ACCEPTED_BY = Statement(select(turns.c.accepted_by_id).where(turns.c.id == bindparam("turn_key")))
_TEXT_SO_FAR = Statement(
    select(deltas.c.attempt, deltas.c.text)
    .where(
        deltas.c.session_id == bindparam("session_key"),
        deltas.c.turn_id == bindparam("turn_key"),
        deltas.c.type == "agent_message_delta",
    )
    .order_by(deltas.c.attempt, deltas.c.item, deltas.c.offset)
)
_ASK_TO_END = Statement(
    update(turns)
    .where(turns.c.public_id == bindparam("turn"), _OPEN)
    .values(interrupt_requested_at_ms=func.coalesce(turns.c.interrupt_requested_at_ms, bindparam("now_ms")))
    .returning(turns.c.id, turns.c.state, turns.c.session_id, turns.c.submission_id)
)
_SESSION_ID = Statement(select(sessions.c.public_id).where(sessions.c.id == bindparam("session_key")))
last_event_at_ms = (
    select(events.c.created_at_ms)
    .where(events.c.session_id == sessions.c.id, events.c.seq == sessions.c.next_seq - 1)
    .scalar_subquery()
)
_HELD_BY = Statement(
    select(
        turns.c.id,
        turns.c.public_id,
        turns.c.attempt,
        turns.c.submission_id,
        sessions.c.id,
        sessions.c.public_id,
        turns.c.crashes,
        turns.c.interrupt_requested_at_ms,
        last_event_at_ms,
    )
    .select_from(turns.join(sessions, sessions.c.id == turns.c.session_id))
    # Spelt like the condition of `turns_one_holds_session`, whose index thereby finds the few turns that are open.
    .where(text("turns.state IN ('ready', 'running', 'waiting')"), turns.c.worker_id == bindparam("worker_key"))
)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a turn ended."""

    state: TurnState
    reason: str
    event: Event
    error_kind: str | None = None
    error_message: str | None = None
    last_agent_message: str | None = None


@dataclass(frozen=True, slots=True)
class HeldTurn:
    """A turn that a worker holds, with what decides about its rescue."""

    claim: Claim
    crashes: int
    interrupted: bool
    touched_at_ms: int  # when something last happened in its session


INTERRUPTED = Ending(TurnState.INTERRUPTED, "requested", error(INTERRUPTED_MESSAGE))


def end(transaction: Transaction, claim: Claim, ending: Ending, now_ms: int) -> bool:
    """End a running turn, write its one terminal event, and free its session or start the next queued turn, which the
    same worker then holds. False: the fence is lost, nothing was written.
    """
    fence = claim.fence
    guard = {"held_attempt": fence.attempt, "held_worker": fence.worker_key}
    if transaction.run(_END_HELD, turn_key=fence.turn_key, **guard, **_columns(ending, now_ms)) == 0:
        return False
    _conclude(transaction, claim, ending, now_ms, next_worker=fence.worker_key)
    return True


def end_lost(transaction: Transaction, claim: Claim, ending: Ending, now_ms: int) -> bool:
    """End a turn whose worker is proven dead; what follows it waits for a worker. False: somebody else has it."""
    fence = claim.fence
    guard = {"held_attempt": fence.attempt, "held_worker": fence.worker_key}
    if transaction.run(_END_HELD, turn_key=fence.turn_key, **guard, **_columns(ending, now_ms)) == 0:
        return False
    _conclude(transaction, claim, ending, now_ms, next_worker=None, lost=True)
    return True


def request_interrupt(transaction: Transaction, turn_id: str, now_ms: int) -> bool:
    """End an open turn: at once where no worker holds it, else by asking its worker. False: it is not open (any more).
    Asking twice changes nothing.
    """
    row = transaction.one(_ASK_TO_END, turn=turn_id, now_ms=now_ms)
    if row is None:
        return False
    turn_key, state, session_key, submission_id = cast("tuple[int, str, int, str]", row)
    if state == TurnState.RUNNING:
        transaction.announce(InterruptRequest(turn_id))
        return True
    transaction.run(_END_UNHELD, turn_key=turn_key, **_columns(INTERRUPTED, now_ms))
    session_id = cast("str", transaction.all(_SESSION_ID, session_key=session_key)[0][0])
    claim = Claim(Fence(session_key, turn_key, 0, 0), session_id, turn_id, submission_id)
    if state == TurnState.QUEUED:
        transaction.run(_WITHDRAW, session_key=session_key, turn_key=turn_key, now_ms=now_ms)
    _conclude(transaction, claim, INTERRUPTED, now_ms, next_worker=None)
    return True


def withdraw_steered(transaction: Transaction, session_id: str, input_id: str, now_ms: int) -> bool:
    """Take back a message that was steered and that the model has not been told. False: it is told, or taken back."""
    return transaction.run(_WITHDRAW_STEERED, session=session_id, input=input_id, now_ms=now_ms) == 1


def suspend(transaction: Transaction, claim: Claim, notice: Event, now_ms: int) -> bool:
    """Give a running turn up, unharmed: it waits for a worker. False: the fence is lost."""
    return _give_up(transaction, claim, notice, now_ms, crashed=0)


def rescue(transaction: Transaction, claim: Claim, notice: Event, now_ms: int) -> bool:
    """Take a turn from its dead worker: it waits for another. Started calls become unknown, and the model is told."""
    return _give_up(transaction, claim, notice, now_ms, crashed=1)


def held_by(transaction: Transaction, worker_key: int) -> list[HeldTurn]:
    """The turns that a worker holds."""
    found: list[HeldTurn] = []
    for row in transaction.all(_HELD_BY, worker_key=worker_key):
        turn_key, turn_id, attempt, submission_id, session_key, session_id, crashes, asked, touched = cast(
            "tuple[int, str, int, str, int, str, int, int | None, int]", row
        )
        claim = Claim(Fence(session_key, turn_key, attempt, worker_key), session_id, turn_id, submission_id)
        found.append(HeldTurn(claim, crashes, asked is not None, touched))
    return found


def deliver(transaction: Transaction, claim: Claim, now_ms: int) -> list[str] | None:
    """Put what was steered into this turn on record as items; their JSON, in the order of the messages. None: the fence
    is lost. Writes nothing where there is nothing.
    """
    fence = claim.fence
    rows = _undelivered(transaction, fence.session_key, fence.turn_key)
    if rows and allocate(transaction, claim, 0, 0) is None:
        return None
    _insert_inputs(transaction, fence, rows, now_ms)
    return [item for _, item in rows]


# -- parts -------------------------------------------------------------------------------------------------------------


def _columns(ending: Ending, now_ms: int) -> dict[str, object]:
    return {
        "new_state": ending.state.value,
        "reason": ending.reason,
        "new_error_kind": ending.error_kind,
        "new_error_message": ending.error_message,
        "message": ending.last_agent_message,
        "now_ms": now_ms,
    }


def _give_up(transaction: Transaction, claim: Claim, notice: Event, now_ms: int, *, crashed: int) -> bool:
    fence = claim.fence
    guard = {"held_attempt": fence.attempt, "held_worker": fence.worker_key}
    if transaction.run(_SUSPEND, turn_key=fence.turn_key, crashed=crashed, **guard) == 0:
        return False
    close_calls(transaction, fence, lost=bool(crashed), only_started=True, now_ms=now_ms)
    seq, _ = _numbers(transaction, fence.session_key, 1, 0, now_ms)
    insert_events(transaction, fence.session_key, fence.turn_key, seq, [notice], now_ms)
    announce_events(transaction, claim, seq, [notice])
    if not crashed:  # whoever waits here for a rescued turn goes on waiting: this process, or another, takes it now
        transaction.announce(TurnSuspended(claim.session_id, claim.turn_id))
    transaction.announce(WorkWaiting())
    return True


def _conclude(
    transaction: Transaction, claim: Claim, ending: Ending, now_ms: int, *, next_worker: int | None, lost: bool = False
) -> None:
    """What every ending has in common: calls closed, partial text kept, the terminal event, the session handed on."""
    fence = claim.fence
    close_calls(transaction, fence, lost=lost, now_ms=now_ms)
    partial = _partial_text(transaction, fence) if ending.state is TurnState.INTERRUPTED else []
    transaction.run(FORGET_DELTAS, session_key=fence.session_key, turn_key=fence.turn_key)
    seq, item_seq = _numbers(transaction, fence.session_key, 1, len(partial), now_ms)
    insert_items(transaction, fence.session_key, fence.turn_key, item_seq, partial, now_ms)
    insert_events(transaction, fence.session_key, fence.turn_key, seq, [ending.event], now_ms)
    announce_events(transaction, claim, seq, [ending.event])
    if transaction.run(_HAND_ON, session_key=fence.session_key, turn_key=fence.turn_key, next_turn=None):
        _start_next(transaction, claim, next_worker, now_ms)


def _partial_text(transaction: Transaction, fence: Fence) -> list[NewItem]:
    found = transaction.all(_TEXT_SO_FAR, session_key=fence.session_key, turn_key=fence.turn_key)
    rows = cast("list[tuple[int, str]]", found)
    said = "".join(piece for attempt, piece in rows if attempt == rows[-1][0])  # earlier attempts said it differently
    return [NewItem(assistant_message(said), partial=True)] if said else []


def _start_next(transaction: Transaction, ended: Claim, worker: int | None, now_ms: int) -> None:
    """Hand the free session to what was steered too late, else to the next queued turn."""
    session_key = ended.fence.session_key
    turn = _late_turn(transaction, ended, now_ms) or transaction.one(_NEXT_QUEUED, session_key=session_key)
    if turn is None:
        return
    turn_key, turn_id, submission_id = cast("tuple[int, str, str]", turn)
    held = worker is not None
    transaction.run(
        _PROMOTE,
        turn_key=turn_key,
        new_state=(TurnState.RUNNING if held else TurnState.READY).value,
        new_attempt=int(held),
        new_worker=worker,
        started_at=now_ms if held else None,
    )
    transaction.run(_HOLD, session_key=session_key, next_turn=turn_key)
    claim = Claim(Fence(session_key, turn_key, 1, worker or 0), ended.session_id, turn_id, submission_id)
    _insert_inputs(transaction, claim.fence, _undelivered(transaction, session_key, turn_key), now_ms)
    seq, _ = _numbers(transaction, session_key, 1, 0, now_ms)
    insert_events(transaction, session_key, turn_key, seq, [task_started()], now_ms)
    announce_events(transaction, claim, seq, [task_started()])
    transaction.announce(claim if held else WorkWaiting())


def _late_turn(transaction: Transaction, ended: Claim, now_ms: int) -> tuple[int, str, str] | None:
    """Messages that were steered into a turn which ended first become a turn of their own."""
    session_key = ended.fence.session_key
    rows = _undelivered(transaction, session_key, ended.fence.turn_key)
    if not rows:
        return None
    turn_key, number = cast("tuple[int, int]", transaction.one(_COUNT_TURN, session_key=session_key))
    turn_id = new_id()
    transaction.run(
        INSERT_TURN,
        id=turn_key,
        public_id=turn_id,
        session_id=session_key,
        number=number,
        state=TurnState.QUEUED.value,
        attempt=0,
        worker_id=None,
        accepted_by_id=cast("int | None", transaction.all(_ACCEPTED_BY, turn_key=ended.fence.turn_key)[0][0]),
        submission_id=ended.submission_id,
        trace_context=None,
        created_at_ms=now_ms,
        started_at_ms=None,
    )
    for key, _ in rows:
        transaction.run(_MOVE_INPUT, key=key, new_turn=turn_key)
    return turn_key, turn_id, ended.submission_id


def _undelivered(transaction: Transaction, session_key: int, turn_key: int) -> list[tuple[int, str]]:
    rows = transaction.all(_UNDELIVERED, session_key=session_key, turn_key=turn_key)
    return cast("list[tuple[int, str]]", rows)


def _insert_inputs(transaction: Transaction, fence: Fence, rows: Sequence[tuple[int, str]], now_ms: int) -> None:
    if not rows:
        return
    _, item_seq = _numbers(transaction, fence.session_key, 0, len(rows), now_ms)
    items = [NewItem(decode_object(item)) for _, item in rows]
    insert_items(transaction, fence.session_key, fence.turn_key, item_seq, items, now_ms)
    for key, _ in rows:
        transaction.run(_DELIVER, key=key, now_ms=now_ms)


def _numbers(transaction: Transaction, session_key: int, events: int, items: int, now_ms: int) -> tuple[int, int]:
    """The first event number and item number of so many new ones."""
    row = transaction.one(_NUMBERS, session_key=session_key, events=events, items=items, now_ms=now_ms)
    return cast("tuple[int, int]", row)
