"""Tool calls that their turn leaves behind: each gets an outcome, and each call item gets its output item."""

from typing import cast

from sqlalchemy import bindparam, exists, select, text, update

from codexdb.domain.item import function_call_output
from codexdb.domain.record import NewItem
from codexdb.domain.transition import ToolCallState
from codexdb.domain.worker import Fence
from codexdb.store.record import insert_items
from codexdb.store.statement import Statement
from codexdb.store.tables import approvals, sessions, tool_calls
from codexdb.store.transaction import Transaction

# What the model is told of a call that never came to its end.
NOT_STARTED = "This call was not run: the turn ended before it began."
ABORTED = "This call was stopped while it ran, because the turn was interrupted. What it did until then stands."
UNKNOWN = (
    "The server stopped while this call was running. Whether it took effect, wholly or in part, is unknown, and it was "
    "not run again. Look at the current state before you repeat it."
)

_asked = text("approvals.state = 'pending'") & (
    approvals.c.session_id == tool_calls.c.session_id
)  # whether it may run once more, without the sandbox in which it has failed
_OPEN_CALLS = Statement(
    select(
        tool_calls.c.id,
        tool_calls.c.call_id,
        tool_calls.c.state,
        exists(select(approvals.c.id).where(approvals.c.tool_call_id == tool_calls.c.id, _asked)),
    )
    .where(
        tool_calls.c.session_id == bindparam("session_key"),
        tool_calls.c.turn_id == bindparam("turn_key"),
        tool_calls.c.ended_at_ms.is_(None),
    )
    .order_by(tool_calls.c.id)
)
_CLOSE_CALL = Statement(
    update(tool_calls)
    .where(tool_calls.c.id == bindparam("key"))
    .values(state=bindparam("new_state"), ended_at_ms=bindparam("now_ms"))
)
_NEXT_ITEMS = Statement(
    update(sessions)
    .where(sessions.c.id == bindparam("session_key"))
    .values(next_item_seq=sessions.c.next_item_seq + bindparam("items"))
    .returning(sessions.c.next_item_seq)
)


def close_calls(transaction: Transaction, fence: Fence, *, lost: bool, now_ms: int, only_started: bool = False) -> None:
    """Close every open call of a turn that is ending. `lost`: its worker died, so a started call's effect is
    unknown.
    """
    rows = cast(
        "list[tuple[int, str, str, int]]",
        transaction.all(_OPEN_CALLS, session_key=fence.session_key, turn_key=fence.turn_key),
    )
    if only_started:
        rows = [row for row in rows if row[2] == ToolCallState.STARTED and not row[3]]
    if not rows:
        return
    outputs: list[NewItem] = []
    for key, call_id, state, _ in rows:
        started = state == ToolCallState.STARTED
        new_state = ToolCallState.UNKNOWN if started and lost else ToolCallState.ABORTED
        transaction.run(_CLOSE_CALL, key=key, new_state=new_state.value, now_ms=now_ms)
        told = NOT_STARTED if not started else UNKNOWN if lost else ABORTED
        outputs.append(NewItem(function_call_output(call_id, told)))
    row = transaction.one(_NEXT_ITEMS, session_key=fence.session_key, items=len(outputs))
    if row is None:
        raise RuntimeError("a turn without a session")
    insert_items(transaction, fence.session_key, fence.turn_key, cast("int", row[0]) - len(outputs), outputs, now_ms)
