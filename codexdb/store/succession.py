"""What follows a turn that has ended: messages that came too late for it, else the next queued turn."""

from typing import cast

from sqlalchemy import bindparam, func, select, text, update

from codexdb.domain.event import task_started
from codexdb.domain.ids import new_id
from codexdb.domain.json import decode_object, encode
from codexdb.domain.record import NewItem
from codexdb.domain.transition import TurnState
from codexdb.domain.worker import Claim, Fence, WorkWaiting
from codexdb.store.inputs import insert_inputs, move_inputs, undelivered
from codexdb.store.record import announce_events, insert_events, insert_items, numbers
from codexdb.store.sessions import change_settings
from codexdb.store.statement import Statement
from codexdb.store.tables import sessions, turns, workers
from codexdb.store.transaction import Transaction
from codexdb.store.turns import FALLBACK_SETTING, INSERT_TURN, next_turn_key

_HOLD = Statement(
    update(sessions)
    .where(sessions.c.id == bindparam("session_key"), sessions.c.active_turn_id.is_(None))
    .values(active_turn_id=bindparam("next_turn"))
)
_NEXT_QUEUED = Statement(
    select(turns.c.id, turns.c.public_id, turns.c.submission_id, turns.c.settings, turns.c.accepted_by_id)
    .where(turns.c.session_id == bindparam("session_key"), text("turns.state = 'queued'"))
    .order_by(turns.c.id)
    .limit(1)
)
_ours, _theirs = workers.alias(), workers.alias()
_LIKE = Statement(  # whoever accepted the message, and a worker that could take it
    select(_ours.c.id)
    .select_from(_ours.join(_theirs, (_ours.c.uid == _theirs.c.uid) & (_ours.c.codex_home == _theirs.c.codex_home)))
    .where(_ours.c.id == bindparam("worker"), _theirs.c.id == bindparam("accepted_by"))
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
_COUNT_TURN = Statement(
    update(sessions)
    .where(sessions.c.id == bindparam("session_key"))
    .values(turn_count=sessions.c.turn_count + 1)
    .returning(next_turn_key, sessions.c.turn_count)
)
_HANDED_DOWN = Statement(
    select(turns.c.accepted_by_id, func.json_extract(turns.c.settings, f"$.{FALLBACK_SETTING}")).where(
        turns.c.id == bindparam("turn_key")
    )
)


def start_next(transaction: Transaction, ended: Claim, worker: int | None, now_ms: int) -> None:
    """Hand the free session to what was steered too late, else to the next queued turn."""
    session_key = ended.fence.session_key
    turn = _late_turn(transaction, ended, now_ms) or transaction.one(_NEXT_QUEUED, session_key=session_key)
    if turn is None:
        return
    turn_key, turn_id, submission_id, changes, accepted_by = cast("tuple[int, str, str, str | None, int | None]", turn)
    if accepted_by not in (None, worker) and not transaction.one(_LIKE, worker=worker, accepted_by=accepted_by):
        worker = None
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
    if changes is not None:
        told = [NewItem(item) for item in change_settings(transaction, session_key, decode_object(changes))]
        _, item_seq = numbers(transaction, session_key, 0, len(told), now_ms)
        insert_items(transaction, session_key, None, item_seq, told, now_ms)
    insert_inputs(transaction, claim.fence, undelivered(transaction, session_key, turn_key), now_ms)
    seq, _ = numbers(transaction, session_key, 1, 0, now_ms)
    insert_events(transaction, session_key, turn_key, seq, [task_started()], now_ms)
    announce_events(transaction, claim, seq, [task_started()])
    transaction.announce(claim if held else WorkWaiting())


def _late_turn(transaction: Transaction, ended: Claim, now_ms: int) -> tuple[int, str, str, None, int | None] | None:
    """Messages that were steered into a turn which ended first become a turn of their own. Whom it may ask is as in
    that turn.
    """
    session_key = ended.fence.session_key
    rows = undelivered(transaction, session_key, ended.fence.turn_key)
    if not rows:
        return None
    turn_key, number = cast("tuple[int, int]", transaction.one(_COUNT_TURN, session_key=session_key))
    turn_id = new_id()
    of_ended = transaction.all(_HANDED_DOWN, turn_key=ended.fence.turn_key)[0]
    accepted_by, fallback = cast("tuple[int | None, str | None]", of_ended)
    transaction.run(
        INSERT_TURN,
        id=turn_key,
        public_id=turn_id,
        session_id=session_key,
        number=number,
        state=TurnState.QUEUED.value,
        attempt=0,
        worker_id=None,
        accepted_by_id=accepted_by,
        submission_id=ended.submission_id,
        settings=None if fallback is None else encode({FALLBACK_SETTING: fallback}),
        trace_context=None,
        created_at_ms=now_ms,
        started_at_ms=None,
    )
    move_inputs(transaction, rows, turn_key)
    return turn_key, turn_id, ended.submission_id, None, accepted_by
