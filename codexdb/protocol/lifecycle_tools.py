"""The tools for whole conversations: fork one, put it away, have it summarised."""

from codexdb.domain.ids import new_id
from codexdb.domain.outcome import Busy, Conflict, Done, IfRunning, NotFound, Queued, Started, TurnNotFound
from codexdb.protocol.arguments import ArchiveArguments, CompactArguments, ForkArguments
from codexdb.protocol.connection import Call, Reply
from codexdb.protocol.context import ToolContext, whole
from codexdb.protocol.conversation_tools import named, refused, shown_under
from codexdb.protocol.render import message_error, structured
from codexdb.protocol.turn_tools import trace_context
from codexdb.service.content import COMPACT
from codexdb.service.sessions import Message


async def fork(context: ToolContext, call: Call, arguments: ForkArguments) -> Reply:
    """A conversation that shares another's past."""
    forking = context.service.fork(
        new_id(), arguments.conversation_id, arguments.turn_id, arguments.title, arguments.message_id
    )
    outcome = await whole(forking)
    match outcome:
        case TurnNotFound():
            return Reply(message_error("The session has no ended turn of that id", "turn_not_found"))
        case NotFound() | Conflict():
            return refused(outcome)
        case _:
            context.origins.note(outcome.session_id, call.id)
            value = {"conversation_id": outcome.session_id, "forked_from": arguments.conversation_id}
            return Reply(structured({**value}))


async def archive(context: ToolContext, call: Call, arguments: ArchiveArguments) -> Reply:  # noqa: ARG001
    """Close a conversation for new messages, or open it again."""
    outcome = await whole(context.service.archive(arguments.conversation_id, archived=arguments.archived))
    match outcome:
        case Done():
            return Reply(structured({"conversation_id": outcome.session_id, "archived": arguments.archived}))
        case Busy() | NotFound():
            return refused(outcome)


async def compact(context: ToolContext, call: Call, arguments: CompactArguments) -> Reply:
    """Begin a turn that only summarises."""
    session_id = arguments.conversation_id
    if_running = IfRunning.QUEUE if arguments.queue else IfRunning.REJECT
    message = Message(COMPACT, str(call.id), arguments.message_id, trace_context(call), if_running)
    with context.followers.accepting(session_id) as follower:
        outcome = await whole(context.service.send(session_id, message))
        if isinstance(outcome, Started | Queued):
            follower.watch(outcome.turn_id, shown_under(context, call, session_id))
    value = named(outcome)
    if value is None:
        return refused(outcome)
    return Reply(structured({"conversation_id": session_id, **value}))
