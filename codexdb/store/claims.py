"""How turns come to a worker: those of a dead one are rescued, those that wait are claimed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

from sqlalchemy import bindparam, func, select, text, tuple_, update

from codexdb.domain.event import INTERRUPTED_MESSAGE, background_event, error
from codexdb.domain.transition import TurnState
from codexdb.domain.worker import Claim, Fence, RescuePolicy
from codexdb.store.endings import (
    INTERRUPTED,
    Ending,
    HeldTurn,
    answered,
    end_left_behind,
    end_lost,
    held_by,
    last_event_at_ms,
    rescue,
)
from codexdb.store.readers import Readers
from codexdb.store.statement import Statement
from codexdb.store.tables import approvals, sessions, tool_calls, turns, workers
from codexdb.store.transaction import Transaction

RESCUED = "The server that worked on this turn is gone; the turn goes on from what is on record."

STALE = Ending(TurnState.INTERRUPTED, "server_stopped", error(INTERRUPTED_MESSAGE))

_answered_at_ms = (  # a person who answers attends to the turn
    select(func.max(approvals.c.decided_at_ms))
    .where(approvals.c.session_id == turns.c.session_id, approvals.c.turn_id == turns.c.id)
    .scalar_subquery()
)
_waiting = (
    select(
        turns.c.id,
        turns.c.public_id,
        turns.c.attempt,
        turns.c.submission_id,
        sessions.c.id,
        sessions.c.public_id,
        func.max(last_event_at_ms, func.coalesce(_answered_at_ms, 0)),
        turns.c.last_agent_message,
        turns.c.accepted_by_id,
        func.coalesce(_answered_at_ms >= last_event_at_ms, 0),
    )
    .select_from(
        turns.join(sessions, sessions.c.id == turns.c.session_id).outerjoin(
            workers, workers.c.id == turns.c.accepted_by_id
        )
    )
    .where(text("turns.state = 'ready'"))
    .order_by(turns.c.id)
)
_WAITING = Statement(
    _waiting.where(
        workers.c.id.is_(None) | ((workers.c.uid == bindparam("uid")) & (workers.c.codex_home == bindparam("home")))
    ).limit(bindparam("limit"))
)
_WAITING_TURN = Statement(_waiting.where(turns.c.id == bindparam("turn_key")))
_CLAIM = Statement(
    update(turns)
    .where(turns.c.id == bindparam("turn_key"), turns.c.state == TurnState.READY.value)
    .values(
        state=TurnState.RUNNING.value,
        attempt=turns.c.attempt + 1,
        worker_id=bindparam("new_worker"),
        started_at_ms=bindparam("now_ms"),
    )
)
_LEFTOVERS = Statement(
    select(tool_calls.c.pid, tool_calls.c.pid_started_at).where(
        tuple_(tool_calls.c.session_id, tool_calls.c.turn_id).in_(  # as a join, it would look at every call there is
            select(turns.c.session_id, turns.c.id).where(
                text("turns.state IN ('ready', 'running', 'waiting')"), turns.c.worker_id == bindparam("worker_key")
            )
        ),
        tool_calls.c.state == "started",
        tool_calls.c.pid.is_not(None),
    )
)
_FLAGGED = Statement(
    select(turns.c.public_id).where(
        text("turns.state IN ('ready', 'running', 'waiting')"),
        turns.c.worker_id == bindparam("worker_key"),
        turns.c.interrupt_requested_at_ms.is_not(None),
    )
)


@dataclass(frozen=True, slots=True)
class Leftover:
    """A process that a dead worker's command may have left."""

    pid: int
    started_at: str


_WaitingRow = tuple[int, str, int, str, int, str, int, str | None, int | None, int]


@dataclass(frozen=True, slots=True)
class Waiting:
    """A turn that holds its session and has no worker."""

    turn_key: int
    turn_id: str
    attempt: int  # of its last worker; 0: it had none
    submission_id: str
    session_key: int
    session_id: str
    touched_at_ms: int  # when something last happened in its session
    answer: str | None  # the last word, if all of it is on record
    accepted_by: int | None  # the worker of the process that accepted its message
    decided: int  # whether a person's answer is the last that happened in it


def rescue_all(transaction: Transaction, worker_key: int, policy: RescuePolicy, seen_at_ms: int, now_ms: int) -> int:
    """Take every turn from a worker that is proven dead, or silent beyond its lease; returns how many.

    `seen_at_ms`: when it last proved its life.
    """
    held = held_by(transaction, worker_key)
    for turn in held:
        stale = _is_stale(policy, max(turn.touched_at_ms, seen_at_ms), now_ms)
        ending = _no_rescue(turn, policy, stale=stale)
        if stale:
            _end_behind(transaction, turn.claim, policy, now_ms, dead=worker_key)
        if ending is None:
            rescue(transaction, turn.claim, background_event(RESCUED), now_ms)
        else:
            end_lost(transaction, turn.claim, ending, now_ms)
    return len(held)


def _is_stale(policy: RescuePolicy, attended_at_ms: int, now_ms: int) -> bool:
    """Whether nothing of what was begun and left is to go on unattended."""
    return not policy.resume or now_ms - attended_at_ms > policy.age_ms_max


def _no_rescue(turn: HeldTurn, policy: RescuePolicy, *, stale: bool) -> Ending | None:
    """Why a dead worker's turn ends instead of going on."""
    last_death = turn.crashes + 1 >= policy.crashes_max
    if turn.answer is not None:  # whoever takes the turn ends it with that, and runs the user's notify program
        return answered(turn.answer) if turn.interrupted or last_death else None
    if turn.interrupted:
        return INTERRUPTED
    if last_death:
        message = f"The server died {policy.crashes_max} times while it worked on this turn."
        return Ending(TurnState.FAILED, "worker_died", error(message), "worker_died", message)
    return STALE if stale else None


def _end_behind(
    transaction: Transaction, claim: Claim, policy: RescuePolicy, now_ms: int, *, dead: int | None = None
) -> None:
    """Nothing that nobody attends to begins because the turn before it ends."""
    before_ms = now_ms - policy.age_ms_max
    end_left_behind(transaction, claim, STALE, now_ms, before_ms=before_ms, also_of_gone=not policy.resume, dead=dead)


def claim_waiting(
    transaction: Transaction, turn_keys: Sequence[int], worker_key: int, policy: RescuePolicy, now_ms: int
) -> int:
    """Take those of these turns that still wait for a worker; returns how many that were. One that was left alone for
    too long is interrupted instead.
    """
    taken = 0
    for turn_key in turn_keys:
        row = transaction.one(_WAITING_TURN, turn_key=turn_key)
        if row is not None:
            turn = Waiting(*cast("_WaitingRow", row))
            taken += _claim(transaction, turn, worker_key, policy, now_ms)
    return taken


def _claim(transaction: Transaction, turn: Waiting, worker_key: int, policy: RescuePolicy, now_ms: int) -> bool:
    transaction.run(_CLAIM, turn_key=turn.turn_key, new_worker=worker_key, now_ms=now_ms)
    fence = Fence(turn.session_key, turn.turn_key, turn.attempt + 1, worker_key)
    claim = Claim(fence, turn.session_id, turn.turn_id, turn.submission_id)
    begun = turn.attempt > 0  # what was accepted and never begun has waited for a worker, however long that took
    attended = replace(policy, resume=True) if turn.decided else policy  # it was not left: it waited for that answer
    if begun and _is_stale(attended, turn.touched_at_ms, now_ms):
        _end_behind(transaction, claim, policy, now_ms)
        if turn.answer is None:
            end_lost(transaction, claim, STALE, now_ms)
            return False
    transaction.announce(claim)
    return True


async def waiting(readers: Readers, uid: int, home: str, limit: int) -> Sequence[Waiting]:
    """Turns that wait for a worker and were accepted under this user and CODEX_HOME, the oldest first."""
    rows = await readers.all(_WAITING, {"uid": uid, "home": home, "limit": limit})
    return [Waiting(*row) for row in cast("list[_WaitingRow]", rows)]


async def leftovers(readers: Readers, worker_key: int) -> Sequence[Leftover]:
    """Processes of commands that were running when this worker died."""
    rows = await readers.all(_LEFTOVERS, {"worker_key": worker_key})
    return [Leftover(pid, started_at) for pid, started_at in cast("list[tuple[int, str]]", rows)]


async def flagged(readers: Readers, worker_key: int) -> Sequence[str]:
    """Turns of this worker that somebody asked to end."""
    return [cast("str", turn_id) for (turn_id,) in await readers.all(_FLAGGED, {"worker_key": worker_key})]
