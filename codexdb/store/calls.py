"""Tool calls that their turn leaves behind: each gets an outcome, each call item its output item, and each patch that
was told to begin its end.
"""

from collections.abc import Sequence
from typing import cast

from sqlalchemy import bindparam, exists, select, text, update

from codexdb.domain.event import Event, patch_apply_end
from codexdb.domain.item import function_call_output
from codexdb.domain.limits import PATCH_PATHS_NAMED_MAX
from codexdb.domain.record import NewItem
from codexdb.domain.transition import ToolCallState
from codexdb.domain.worker import Claim
from codexdb.store import patches
from codexdb.store.record import announce_events, insert_events, insert_items, numbers
from codexdb.store.statement import Statement
from codexdb.store.tables import approvals, tool_calls
from codexdb.store.transaction import Transaction

# What the model is told of a call that never came to its end.
NOT_STARTED = "This call was not run: the turn ended before it began."
ABORTED = "This call was stopped while it ran, because the turn was interrupted. What it did until then stands."
UNKNOWN = (
    "The server stopped while this call was running. Whether it took effect, wholly or in part, is unknown, and it was "
    "not run again. Look at the current state before you repeat it."
)
PATCHING = "The patch was changing these files, each of which is the old one or the new one, whole: "

_asked = text("approvals.state = 'pending'") & (
    approvals.c.session_id == tool_calls.c.session_id
)  # whether it may run once more, without the sandbox in which it has failed
_OPEN_CALLS = Statement(
    select(
        tool_calls.c.id,
        tool_calls.c.public_id,
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


def close_calls(transaction: Transaction, claim: Claim, *, lost: bool, now_ms: int, only_started: bool = False) -> None:
    """Close every open call of a turn that is ending. `lost`: its worker died, so a started call's effect is
    unknown.
    """
    fence = claim.fence
    rows = cast(
        "list[tuple[int, str, str, str, int]]",
        transaction.all(_OPEN_CALLS, session_key=fence.session_key, turn_key=fence.turn_key),
    )
    if only_started:
        rows = [row for row in rows if row[3] == ToolCallState.STARTED and not row[4]]
    if not rows:
        return
    outputs: list[NewItem] = []
    ends: list[Event] = []
    for key, call, call_id, state, _ in rows:
        started = state == ToolCallState.STARTED
        new_state = ToolCallState.UNKNOWN if started and lost else ToolCallState.ABORTED
        transaction.run(_CLOSE_CALL, key=key, new_state=new_state.value, now_ms=now_ms)
        told = NOT_STARTED if not started else UNKNOWN if lost else ABORTED
        paths = patches.without_end(transaction, fence, call, call_id) if started else None
        if paths is not None:
            told = f"{told}\n{PATCHING}{_named(paths)}"
            ends.append(patch_apply_end(call_id, "", told, success=False))
        outputs.append(NewItem(function_call_output(call_id, told)))
    seq, item_seq = numbers(transaction, fence.session_key, len(ends), len(outputs), now_ms)
    insert_items(transaction, fence.session_key, fence.turn_key, item_seq, outputs, now_ms)
    insert_events(transaction, fence.session_key, fence.turn_key, seq, ends, now_ms)
    announce_events(transaction, claim, seq, ends)


def _named(paths: Sequence[str]) -> str:
    named = ", ".join(paths[:PATCH_PATHS_NAMED_MAX])
    more = len(paths) - PATCH_PATHS_NAMED_MAX
    return f"{named}, and {more} more" if more > 0 else named
