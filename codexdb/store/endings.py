"""How turns end, or are given up without an end: one transaction each, which also hands the session on."""

from dataclasses import dataclass
from typing import cast

from sqlalchemy import bindparam, func, select, text, update

from codexdb.domain.approval import Decision
from codexdb.domain.event import INTERRUPTED_MESSAGE, Event, TurnSuspended, error, task_complete
from codexdb.domain.item import assistant_message
from codexdb.domain.outcome import Decided, DecideOutcome
from codexdb.domain.record import NewItem
from codexdb.domain.transition import TURN, TurnState
from codexdb.domain.worker import Claim, Fence, InterruptRequest, WorkWaiting
from codexdb.store import approvals
from codexdb.store.calls import close_calls
from codexdb.store.fence import HELD, held
from codexdb.store.inputs import withdraw_undelivered
from codexdb.store.record import FORGET_DELTAS, announce_events, insert_events, insert_items, numbers
from codexdb.store.statement import Statement
from codexdb.store.succession import start_next
from codexdb.store.tables import deltas, events, quoted, sessions, turns, workers
from codexdb.store.transaction import Transaction

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
_END_HELD = Statement(update(turns).where(*HELD).values(_ending))
_END_UNHELD = Statement(
    update(turns)
    .where(turns.c.id == bindparam("turn_key"), text("turns.state IN ('queued', 'ready', 'waiting')"))
    .values(_ending)
)
_FLAGGED = Statement(select(turns.c.id).where(*HELD, turns.c.interrupt_requested_at_ms.is_not(None)))
_SUSPEND = Statement(
    update(turns)
    .where(*HELD)
    .values(state=TurnState.READY.value, worker_id=None, crashes=turns.c.crashes + bindparam("crashed"))
)
_HAND_ON = Statement(
    update(sessions)
    .where(sessions.c.id == bindparam("session_key"), sessions.c.active_turn_id == bindparam("turn_key"))
    .values(active_turn_id=bindparam("next_turn"))
)
_LEFT_BEHIND = Statement(
    select(turns.c.id, turns.c.public_id, turns.c.submission_id)
    .where(
        turns.c.session_id == bindparam("session_key"),
        text("turns.state = 'queued'"),
        (
            bindparam("also_of_gone").is_(True)
            & (
                (turns.c.accepted_by_id == bindparam("dead"))
                | turns.c.accepted_by_id.in_(select(workers.c.id).where(workers.c.stopped_at_ms.is_not(None)))
            )
        )
        | (turns.c.created_at_ms < bindparam("before_ms")),
    )
    .order_by(turns.c.id)
)
_OPEN_OF = Statement(
    select(turns.c.id, turns.c.public_id, turns.c.submission_id)
    .where(turns.c.session_id == bindparam("session_key"), _OPEN)
    .order_by(text("turns.state <> 'queued'"), turns.c.id)
)
_TEXT_SO_FAR = Statement(
    select(deltas.c.attempt, deltas.c.item, deltas.c.text)
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
        turns.c.last_agent_message,
        last_event_at_ms,
    )
    .select_from(turns.join(sessions, sessions.c.id == turns.c.session_id))
    # Spelt like the condition of `turns_one_holds_session`, whose index thereby finds the few turns that are open.
    .where(text("turns.state IN ('ready', 'running', 'waiting')"), turns.c.worker_id == bindparam("worker_key"))
)
_ALL_OPEN = Statement(
    select(
        turns.c.id,
        turns.c.public_id,
        turns.c.state,
        turns.c.attempt,
        turns.c.worker_id,
        turns.c.submission_id,
        sessions.c.id,
        sessions.c.public_id,
    )
    .select_from(turns.join(sessions, sessions.c.id == turns.c.session_id))
    .where(_OPEN)
    .order_by(text("turns.state <> 'queued'"), turns.c.id)
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

    @property
    def completes(self) -> bool:
        return self.state is TurnState.COMPLETED


@dataclass(frozen=True, slots=True)
class HeldTurn:
    """A turn that a worker holds, with what decides about its rescue."""

    claim: Claim
    crashes: int
    interrupted: bool
    answer: str | None  # the last word, if all of it is on record
    touched_at_ms: int  # when something last happened in its session


def answered(message: str | None) -> Ending:
    """The model has said its last word."""
    return Ending(TurnState.COMPLETED, "answered", task_complete(message), last_agent_message=message)


INTERRUPTED = Ending(TurnState.INTERRUPTED, "requested", error(INTERRUPTED_MESSAGE))
LEFT_OPEN = Ending(TurnState.INTERRUPTED, "imported", error(INTERRUPTED_MESSAGE))  # where it was exported from


def end(transaction: Transaction, claim: Claim, ending: Ending, now_ms: int) -> bool:
    """End a running turn, write its one terminal event, and free its session or start the next queued turn, which the
    same worker then holds. False: the fence is lost, nothing was written.
    """
    return end_held(transaction, claim, ending, now_ms, next_worker=claim.fence.worker_key)


def end_lost(transaction: Transaction, claim: Claim, ending: Ending, now_ms: int) -> bool:
    """End a turn whose worker is proven dead; what follows it waits for a worker. False: somebody else has it."""
    return end_held(transaction, claim, ending, now_ms, next_worker=None, lost=True)


def end_held(
    transaction: Transaction, claim: Claim, ending: Ending, now_ms: int, *, next_worker: int | None, lost: bool = False
) -> bool:
    """End a turn that a worker holds. False: that worker and attempt do not hold it, nothing was written."""
    fence = claim.fence
    if transaction.run(_END_HELD, **held(fence), **_columns(ending, now_ms)) == 0:
        return False
    _conclude(transaction, claim, ending, now_ms, next_worker=next_worker, lost=lost)
    return True


def end_left_behind(
    transaction: Transaction,
    claim: Claim,
    ending: Ending,
    now_ms: int,
    *,
    before_ms: int,
    also_of_gone: bool,
    dead: int | None,
) -> None:
    """End also what waits behind a turn that is not to go on: what was steered into it, and those queued turns that
    were accepted before `before_ms`, or, `also_of_gone`, by the worker `dead` or one that has stopped.
    """
    fence = claim.fence
    withdraw_undelivered(transaction, fence.session_key, fence.turn_key, now_ms)
    rows = transaction.all(
        _LEFT_BEHIND,
        session_key=fence.session_key,
        before_ms=before_ms,
        also_of_gone=int(also_of_gone),
        dead=dead,
    )
    for row in rows:
        turn_key, turn_id, submission_id = cast("tuple[int, str, str]", row)
        behind = Claim(Fence(fence.session_key, turn_key, 0, 0), claim.session_id, turn_id, submission_id)
        _end_unheld(transaction, behind, ending, now_ms, queued=True)


def end_open(transaction: Transaction, session_key: int, session_id: str, ending: Ending, now_ms: int) -> None:
    """End every turn of a session that is open and that no worker holds, the one that holds the session last. Nothing
    follows: what was steered or queued is withdrawn. A started call's effect is unknown.
    """
    for row in transaction.all(_OPEN_OF, session_key=session_key):
        turn_key, turn_id, submission_id = cast("tuple[int, str, str]", row)
        claim = Claim(Fence(session_key, turn_key, 0, 0), session_id, turn_id, submission_id)
        _end_unheld(transaction, claim, ending, now_ms, queued=True, lost=True)


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
    session_id = cast("str", transaction.all(_SESSION_ID, session_key=session_key)[0][0])
    claim = Claim(Fence(session_key, turn_key, 0, 0), session_id, turn_id, submission_id)
    _end_unheld(transaction, claim, INTERRUPTED, now_ms, queued=state == TurnState.QUEUED)
    return True


def decide(transaction: Transaction, approval_id: str, decision: Decision, by: str, now_ms: int) -> DecideOutcome:
    """Answer a question; the first answer counts. Its turn goes on once nothing else is asked in it, or ends."""
    outcome = approvals.decide(transaction, approval_id, decision, by, now_ms)
    if isinstance(outcome, Decided) and decision is Decision.ABORT:
        request_interrupt(transaction, outcome.turn_id, now_ms)
    return outcome


def wait(transaction: Transaction, claim: Claim, _nothing: None, now_ms: int) -> bool:
    """Let go of a running turn until a person has answered. One that was asked to end, ends.

    False: nothing is asked any more, so that it goes on at once; or the fence is lost.
    """
    fence = claim.fence
    if transaction.one(_FLAGGED, **held(fence)):
        return end(transaction, claim, INTERRUPTED, now_ms)
    return approvals.wait(transaction, claim)


def suspend(transaction: Transaction, claim: Claim, notice: Event, now_ms: int) -> bool:
    """Give a running turn up, unharmed: it waits for a worker. One that was asked to end, ends. False: the fence is
    lost.
    """
    fence = claim.fence
    if transaction.one(_FLAGGED, **held(fence)):
        return end_held(transaction, claim, INTERRUPTED, now_ms, next_worker=None)
    return _give_up(transaction, claim, notice, now_ms, crashed=0)


def rescue(transaction: Transaction, claim: Claim, notice: Event, now_ms: int) -> bool:
    """Take a turn from its dead worker: it waits for another. Started calls become unknown, and the model is told."""
    return _give_up(transaction, claim, notice, now_ms, crashed=1)


def held_by(transaction: Transaction, worker_key: int) -> list[HeldTurn]:
    """The turns that a worker holds."""
    found: list[HeldTurn] = []
    for row in transaction.all(_HELD_BY, worker_key=worker_key):
        turn_key, turn_id, attempt, submission_id, session_key, session_id, crashes, asked, answer, touched = cast(
            "tuple[int, str, int, str, int, str, int, int | None, str | None, int]", row
        )
        claim = Claim(Fence(session_key, turn_key, attempt, worker_key), session_id, turn_id, submission_id)
        found.append(HeldTurn(claim, crashes, asked is not None, answer, touched))
    return found


def end_all(transaction: Transaction, ending: Ending, now_ms: int) -> int:
    """End every open turn of a database that nobody works on, with all that waits behind it; returns how many. What a
    started call did is not known.
    """
    rows = transaction.all(_ALL_OPEN)  # queued ones first, so that none begins because another ends
    for row in rows:
        turn_key, turn_id, state, attempt, worker, submission_id, session_key, session_id = cast(
            "tuple[int, str, str, int, int | None, str, int, str]", row
        )
        claim = Claim(Fence(session_key, turn_key, attempt, worker or 0), session_id, turn_id, submission_id)
        withdraw_undelivered(transaction, session_key, turn_key, now_ms)
        if state == TurnState.RUNNING:
            end_lost(transaction, claim, ending, now_ms)
        else:
            _end_unheld(transaction, claim, ending, now_ms, queued=state == TurnState.QUEUED)
    return len(rows)


# -- parts -------------------------------------------------------------------------------------------------------------


def _end_unheld(
    transaction: Transaction, claim: Claim, ending: Ending, now_ms: int, *, queued: bool, lost: bool = False
) -> None:
    """End a turn that no worker holds; the message of one that has not begun is taken back."""
    transaction.run(_END_UNHELD, turn_key=claim.fence.turn_key, **_columns(ending, now_ms))
    if queued:
        withdraw_undelivered(transaction, claim.fence.session_key, claim.fence.turn_key, now_ms)
    _conclude(transaction, claim, ending, now_ms, next_worker=None, lost=lost)


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
    if transaction.run(_SUSPEND, crashed=crashed, **held(fence)) == 0:
        return False
    close_calls(transaction, claim, lost=bool(crashed), only_started=True, now_ms=now_ms)
    seq, _ = numbers(transaction, fence.session_key, 1, 0, now_ms)
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
    close_calls(transaction, claim, lost=lost, now_ms=now_ms)
    approvals.withdraw(transaction, claim, now_ms)
    partial = _partial_text(transaction, fence) if ending.state is TurnState.INTERRUPTED else []
    transaction.run(FORGET_DELTAS, session_key=fence.session_key, turn_key=fence.turn_key)
    seq, item_seq = numbers(transaction, fence.session_key, 1, len(partial), now_ms)
    insert_items(transaction, fence.session_key, fence.turn_key, item_seq, partial, now_ms)
    insert_events(transaction, fence.session_key, fence.turn_key, seq, [ending.event], now_ms)
    announce_events(transaction, claim, seq, [ending.event])
    if transaction.run(_HAND_ON, session_key=fence.session_key, turn_key=fence.turn_key, next_turn=None):
        start_next(transaction, claim, next_worker, now_ms)


def _partial_text(transaction: Transaction, fence: Fence) -> list[NewItem]:
    found = transaction.all(_TEXT_SO_FAR, session_key=fence.session_key, turn_key=fence.turn_key)
    rows = cast("list[tuple[int, int, str]]", found)
    said = "".join(
        piece for *of, piece in rows if tuple(of) == rows[-1][:2]
    )  # what was tried before said it differently
    return [NewItem(assistant_message(said), partial=True)] if said else []
