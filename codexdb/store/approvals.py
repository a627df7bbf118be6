"""Questions to a person, as rows: asked with their call, answered once from wherever, withdrawn with their turn."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from sqlalchemy import bindparam, exists, select, text, update

from codexdb.domain.approval import NOBODY, Decision, Fallback, NewApproval
from codexdb.domain.event import ApprovalsChanged
from codexdb.domain.json import JsonObject, decode_object, encode
from codexdb.domain.outcome import Decided, DecideOutcome, TooLate, UnknownApproval
from codexdb.domain.transition import ApprovalState, TurnState
from codexdb.domain.worker import Claim, WorkWaiting
from codexdb.store.fence import HELD, held
from codexdb.store.readers import Reads
from codexdb.store.statement import Statement, insert_into
from codexdb.store.tables import REMEMBERED, approvals, sessions, tool_calls, turns
from codexdb.store.transaction import Transaction

_INSERT = Statement(
    insert_into(
        approvals,
        "public_id",
        "session_id",
        "turn_id",
        "kind",
        "state",
        "question",
        "fallback",
        "created_at_ms",
    ).values(tool_call_id=select(tool_calls.c.id).where(tool_calls.c.public_id == bindparam("call")).scalar_subquery())
)
_pending = text("approvals.state = 'pending'")
_DECIDE = Statement(
    update(approvals)
    .where(approvals.c.public_id == bindparam("approval"), approvals.c.state == ApprovalState.PENDING.value)
    .values(
        state=bindparam("new_state"),
        decision=bindparam("new_decision"),
        decided_by=bindparam("by"),
        decided_at_ms=bindparam("now_ms"),
    )
    .returning(approvals.c.session_id, approvals.c.turn_id)
)
_WHY_NOT = Statement(
    select(approvals.c.state, approvals.c.decision).where(approvals.c.public_id == bindparam("approval"))
)
_NAMES = Statement(
    select(sessions.c.public_id, turns.c.public_id)
    .select_from(sessions.join(turns, turns.c.session_id == sessions.c.id))
    .where(turns.c.id == bindparam("turn_key"))
)
_of_turn = (approvals.c.session_id == bindparam("session_key"), approvals.c.turn_id == bindparam("turn_key"))
_WITHDRAW = Statement(
    update(approvals)
    .where(*_of_turn, approvals.c.state == ApprovalState.PENDING.value)
    .values(state=ApprovalState.WITHDRAWN.value, decided_at_ms=bindparam("now_ms"))
)
_GO_ON = Statement(
    update(turns)
    .where(
        turns.c.id == bindparam("turn_key"),
        turns.c.state == TurnState.WAITING.value,
        ~exists(select(approvals.c.id).where(*_of_turn, _pending)),
    )
    .values(state=TurnState.READY.value)
)
_WAIT = Statement(
    update(turns)
    .where(
        *HELD,
        turns.c.interrupt_requested_at_ms.is_(None),
        exists(select(approvals.c.id).where(*_of_turn, _pending)),
    )
    .values(state=TurnState.WAITING.value, worker_id=None)
)
_LIST = (
    select(
        approvals.c.id,
        approvals.c.public_id,
        sessions.c.public_id,
        turns.c.public_id,
        turns.c.submission_id,
        tool_calls.c.call_id,
        approvals.c.kind,
        approvals.c.state,
        approvals.c.question,
        approvals.c.decision,
        approvals.c.decided_by,
        approvals.c.created_at_ms,
        approvals.c.decided_at_ms,
    )
    .select_from(
        approvals.join(sessions, sessions.c.id == approvals.c.session_id)
        .join(turns, turns.c.id == approvals.c.turn_id)
        .outerjoin(tool_calls, tool_calls.c.id == approvals.c.tool_call_id)
    )
    .where(approvals.c.id > bindparam("after_key"))
    .order_by(approvals.c.id)
    .limit(bindparam("limit"))
)
_PENDING = Statement(_LIST.where(_pending))
_PENDING_OF = Statement(_LIST.where(_pending, sessions.c.public_id == bindparam("session")))
_ALL = Statement(_LIST)
_ALL_OF = Statement(_LIST.where(sessions.c.public_id == bindparam("session")))
_remembered = select(approvals.c.kind, approvals.c.question).where(text(REMEMBERED))
_REMEMBERED = Statement(
    _remembered.where(
        approvals.c.decision == Decision.APPROVED_FOR_SESSION.value,
        approvals.c.session_id == bindparam("session_key"),
    ).union_all(
        _remembered.join(sessions, sessions.c.id == approvals.c.session_id).where(
            approvals.c.decision == Decision.APPROVED_ALWAYS.value, sessions.c.cwd == bindparam("cwd")
        )
    )
)


@dataclass(frozen=True, slots=True)
class ApprovalRow:
    """A question as callers see it. `question` is JSON."""

    key: int
    approval_id: str
    session_id: str
    turn_id: str
    submission_id: str
    call_id: str | None
    kind: str
    state: str
    question: str
    decision: str | None
    decided_by: str | None
    created_at_ms: int
    decided_at_ms: int | None


def ask(transaction: Transaction, claim: Claim, questions: Sequence[NewApproval], now_ms: int) -> None:
    """Put questions on record. One that nobody can be asked is denied with it."""
    for new in questions:
        transaction.run(
            _INSERT,
            public_id=new.id,
            session_id=claim.fence.session_key,
            turn_id=claim.fence.turn_key,
            call=new.call,
            kind=new.kind,
            state=ApprovalState.PENDING.value,
            question=encode(new.question),
            fallback=new.fallback.value,
            created_at_ms=now_ms,
        )
        if new.fallback is Fallback.DENY:
            _close(transaction, new.id, Decision.DENIED, NOBODY, now_ms)


def decide(transaction: Transaction, approval_id: str, decision: Decision, by: str, now_ms: int) -> DecideOutcome:
    """Answer a question; the first answer counts. Its turn goes on once nothing else is asked in it.

    An abort is for the caller to carry out: it ends the turn that the outcome names.
    """
    row = _close(transaction, approval_id, decision, by, now_ms)
    if row is None:
        why = transaction.one(_WHY_NOT, approval=approval_id)
        if why is None:
            return UnknownApproval(approval_id)
        state, earlier = cast("tuple[str, str | None]", why)
        return TooLate(approval_id, state, earlier)
    session_key, turn_key = row
    session_id, turn_id = cast("tuple[str, str]", transaction.all(_NAMES, turn_key=turn_key)[0])
    if transaction.run(_GO_ON, session_key=session_key, turn_key=turn_key):
        transaction.announce(WorkWaiting())
    transaction.announce(ApprovalsChanged(session_id, turn_id))
    return Decided(approval_id, session_id, turn_id, decision)


def wait(transaction: Transaction, claim: Claim) -> bool:
    """Let go of a turn until somebody answers. False: nothing is asked any more, or the turn was asked to end, or it is
    not ours; nothing was written.
    """
    fence = claim.fence
    return transaction.run(_WAIT, session_key=fence.session_key, **held(fence)) == 1


def withdraw(transaction: Transaction, claim: Claim, now_ms: int) -> None:
    """Nobody needs an answer any more: the turn ends."""
    fence = claim.fence
    if transaction.run(_WITHDRAW, session_key=fence.session_key, turn_key=fence.turn_key, now_ms=now_ms):
        transaction.announce(ApprovalsChanged(claim.session_id, claim.turn_id))


def _close(
    transaction: Transaction, approval_id: str, decision: Decision, by: str, now_ms: int
) -> tuple[int, int] | None:
    state = ApprovalState.APPROVED if decision.approves else ApprovalState.DENIED
    row = transaction.one(
        _DECIDE, approval=approval_id, new_state=state.value, new_decision=decision.value, by=by, now_ms=now_ms
    )
    return cast("tuple[int, int] | None", row)


# -- reading -----------------------------------------------------------------------------------------------------------


async def listed(
    readers: Reads, session_id: str | None, *, pending_only: bool, after_key: int, limit: int
) -> Sequence[ApprovalRow]:
    """Questions in the order they arose: of one session or of all, open ones or every one."""
    parameters = {"after_key": after_key, "limit": limit, "session": session_id}
    of_all, of_one = (_PENDING, _PENDING_OF) if pending_only else (_ALL, _ALL_OF)
    statement = of_all if session_id is None else of_one
    return [ApprovalRow(*row) for row in await readers.all(statement, parameters)]  # pyright: ignore[reportArgumentType]


async def remembered(readers: Reads, session_key: int, cwd: str) -> Sequence[tuple[str, JsonObject]]:
    """What was approved for more than once: (kind, question) each."""
    rows = await readers.all(_REMEMBERED, {"session_key": session_key, "cwd": cwd})
    return [(kind, decode_object(question)) for kind, question in cast("list[tuple[str, str]]", rows)]
