"""The tools that list questions and answer them, from whatever connection."""

from codexdb.domain.json import JsonObject, decode
from codexdb.domain.outcome import Decided, TooLate, UnknownApproval
from codexdb.protocol.arguments import ApprovalsArguments, DecideArguments
from codexdb.protocol.connection import Call, Reply
from codexdb.protocol.context import ToolContext, whole
from codexdb.protocol.render import message_error, structured
from codexdb.store.approvals import ApprovalRow

BY_TOOL = "approval_decide"


async def list_all(context: ToolContext, call: Call, arguments: ApprovalsArguments) -> Reply:  # noqa: ARG001
    """Questions that wait for an answer."""
    rows = await context.service.approvals(
        arguments.conversation_id,
        pending_only=not arguments.include_closed,
        after_key=arguments.cursor or 0,
        limit=arguments.limit + 1,
    )
    shown = rows[: arguments.limit]
    value: JsonObject = {"approvals": [_shown(row) for row in shown]}
    if len(rows) > len(shown):
        value["next_cursor"] = shown[-1].key
    return Reply(structured(value))


async def decide(context: ToolContext, call: Call, arguments: DecideArguments) -> Reply:  # noqa: ARG001
    """Answer a question."""
    outcome = await whole(context.service.decide(arguments.approval_id, arguments.decision, BY_TOOL))
    match outcome:
        case Decided():
            return Reply(
                structured(
                    {
                        "approval_id": outcome.approval_id,
                        "conversation_id": outcome.session_id,
                        "turn_id": outcome.turn_id,
                        "decision": outcome.decision.value,
                    }
                )
            )
        case TooLate():
            text = f"The question is {outcome.state} already"
            return Reply(message_error(text, "already_decided", state=outcome.state, decision=outcome.decision))
        case UnknownApproval():
            return Reply(message_error("There is no question of that id", "approval_not_found"))


def _shown(row: ApprovalRow) -> JsonObject:
    fields: JsonObject = {
        "approval_id": row.approval_id,
        "conversation_id": row.session_id,
        "turn_id": row.turn_id,
        "call_id": row.call_id,
        "kind": row.kind,
        "state": row.state,
        "question": decode(row.question),
        "decision": row.decision,
        "decided_by": row.decided_by,
        "created_at_ms": row.created_at_ms,
        "decided_at_ms": row.decided_at_ms,
    }
    return {name: value for name, value in fields.items() if value is not None}
