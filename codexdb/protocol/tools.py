"""The table of tools: their names and aliases, what they say of themselves, and how a bad argument is told."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from pydantic import ValidationError

from codexdb.domain.json import JsonObject
from codexdb.domain.validation import explain, location
from codexdb.protocol import approval_tools, conversation_tools, lifecycle_tools, turn_tools
from codexdb.protocol import arguments as args
from codexdb.protocol.connection import Call, Reply
from codexdb.protocol.context import ToolContext
from codexdb.protocol.render import message_error, status_error, turn_error

Handler = Callable[[ToolContext, Call, Any], Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool. `refuse` renders a bad argument in the shape of this tool's errors."""

    name: str
    title: str
    description: str
    arguments: type[args.Arguments]
    handler: Handler
    refuse: Callable[[object, ValidationError | None], JsonObject]
    output: JsonObject
    hints: JsonObject
    aliases: tuple[str, ...] = field(default=())
    tells_missing_arguments: bool = False  # no arguments at all get a sentence of their own, as the original has it


# -- bad arguments, in each tool's own shape -------------------------------------------------------------------------


def _refuse_codex(given: object, error: ValidationError | None) -> JsonObject:
    missing = "Missing arguments for codex tool-call; the `prompt` field is required."
    return _refuse_turn(given, error, missing, "CodexToolCallParam with 9 elements")


def _refuse_reply(given: object, error: ValidationError | None) -> JsonObject:
    missing = "Missing arguments for codex-reply tool-call; the `session_id` and `prompt` fields are required."
    return _refuse_turn(given, error, missing, "CodexToolCallReplyParam with 2 elements")


def _refuse_turn(given: object, error: ValidationError | None, missing: str, struct: str) -> JsonObject:
    """In the original's words, which clients may have learned to read."""
    if given is None:
        return turn_error("", missing, "invalid_arguments")
    if error is not None:
        why = explain(error)
        if struct.startswith("CodexToolCallReply") and not _names_session(given) and why == "missing field `prompt`":
            why = "missing field `sessionId`"
    elif isinstance(given, list):
        why = f"invalid length {len(given)}, expected struct {struct}"  # pyright: ignore[reportUnknownArgumentType]
    else:
        why = f"invalid type: {_described(given)}, expected struct {struct.split(' ', 1)[0]}"
    return turn_error("", f"Failed to parse configuration for Codex tool: {why}", "invalid_arguments")


def _names_session(given: object) -> bool:
    return isinstance(given, dict) and not {"threadId", "conversationId", "sessionId"}.isdisjoint(given)  # pyright: ignore[reportUnknownArgumentType]


def _described(given: object) -> str:
    match given:
        case bool():
            return f"boolean `{str(given).lower()}`"
        case str():
            return f'string "{given}"'
        case int():
            return f"integer `{given}`"
        case _:
            return f"floating point `{given}`"


def _refuse_send(given: object, error: ValidationError | None) -> JsonObject:
    return status_error(_named(given, error), "invalid_arguments")


def _refuse_other(given: object, error: ValidationError | None) -> JsonObject:
    return message_error(_named(given, error), "invalid_arguments")


def _named(given: object, error: ValidationError | None) -> str:
    if error is None:
        return "arguments: expected an object"
    where = location(error, given)
    return f"{where}: {explain(error)}" if where else explain(error)


# -- the tools -------------------------------------------------------------------------------------------------------

_TEXT: JsonObject = {"type": "string"}
_INTEGER: JsonObject = {"type": "integer"}


def _object(required: list[str], **properties: JsonObject) -> JsonObject:
    return {"type": "object", "properties": properties, "required": required}


_TURN_OUTPUT = _object(["threadId", "content"], threadId=_TEXT, content=_TEXT)
_WRITES: JsonObject = {"readOnlyHint": False, "destructiveHint": True, "idempotentHint": False, "openWorldHint": True}
_RECORDS: JsonObject = {
    "readOnlyHint": False,
    "destructiveHint": False,
    "idempotentHint": False,
    "openWorldHint": False,
}
_READS: JsonObject = {"readOnlyHint": True, "openWorldHint": False}

TOOLS = (
    Tool(
        name="codex",
        title="Codex",
        description="Start a coding-agent session with a first message and wait for its answer. The session is kept in "
        "a database: go on with `codex-reply` and the returned `threadId`, also after a restart.",
        arguments=args.CodexArguments,
        handler=turn_tools.codex,
        tells_missing_arguments=True,
        refuse=_refuse_codex,
        output=_TURN_OUTPUT,
        hints=_WRITES,
    ),
    Tool(
        name="codex-reply",
        title="Codex Reply",
        description="Send the next message to a session, named by `threadId`, and wait for the answer. While "
        "another message is being worked on, the answer is an error of kind `busy`, unless `if_running` says "
        "otherwise.",
        arguments=args.ReplyArguments,
        handler=turn_tools.codex_reply,
        tells_missing_arguments=True,
        refuse=_refuse_reply,
        output=_TURN_OUTPUT,
        hints=_WRITES,
    ),
    Tool(
        name="send-user-message",
        title="Send User Message",
        description="Hand a message to a conversation and return at once. `ok` means that the message is in the "
        "database, and that its turn has begun, waits, or takes it in; read the outcome with `conversation_read`. "
        "While another turn runs it is refused, unless `if_running` says otherwise.",
        arguments=args.SendArguments,
        handler=conversation_tools.send,
        refuse=_refuse_send,
        output=_object(["status"], status={"type": "string", "enum": ["ok", "error"]}, message=_TEXT, kind=_TEXT),
        hints=_WRITES,
        aliases=("conversation_send_message", "conversationSendMessage"),
    ),
    Tool(
        name="conversation_create",
        title="Create Conversation",
        description="Make a conversation without sending anything yet. Send to it with `send-user-message`.",
        arguments=args.CreateArguments,
        handler=conversation_tools.create,
        refuse=_refuse_other,
        output=_object(["conversation_id", "model"], conversation_id=_TEXT, model=_TEXT),
        hints=_RECORDS,
        aliases=("conversationCreate",),
    ),
    Tool(
        name="conversation_read",
        title="Read Conversation",
        description="The state of a conversation and its events after a number: what happened, in order, also before a "
        "restart. With `wait_ms`, waits for something new. Go on with `after_seq` = `next_seq`.",
        arguments=args.ReadArguments,
        handler=conversation_tools.read,
        refuse=_refuse_other,
        output=_object(
            ["conversation_id", "status", "events", "next_seq", "more"],
            conversation_id=_TEXT,
            status=_TEXT,
            events={"type": "array", "items": {"type": "object"}},
            items={"type": "array", "items": {"type": "object"}},
            next_seq=_INTEGER,
            more={"type": "boolean"},
        ),
        hints=_READS,
    ),
    Tool(
        name="conversation_stream",
        title="Stream Conversation",
        description="Replay a conversation's events as notifications, then show every further one on this connection.",
        arguments=args.StreamArguments,
        handler=conversation_tools.stream,
        refuse=_refuse_other,
        output=_object(["conversation_id", "next_seq"], conversation_id=_TEXT, next_seq=_INTEGER),
        hints=_READS,
        aliases=("conversationStream", "conversation_connect"),
    ),
    Tool(
        name="conversation_interrupt",
        title="Interrupt Conversation",
        description="End the turn that is running in a conversation; what it said and did so far is kept. Calling it "
        "again, or on an idle conversation, changes nothing.",
        arguments=args.InterruptArguments,
        handler=conversation_tools.interrupt,
        refuse=_refuse_other,
        output=_object(["conversation_id", "interrupting"], conversation_id=_TEXT, interrupting={"type": "boolean"}),
        hints={"readOnlyHint": False, "destructiveHint": True, "idempotentHint": True, "openWorldHint": False},
    ),
    Tool(
        name="conversation_fork",
        title="Fork Conversation",
        description="Make a new conversation that begins with everything another one holds up to the end of a turn. "
        "The other one stays as it is, and may be at work meanwhile.",
        arguments=args.ForkArguments,
        handler=lifecycle_tools.fork,
        refuse=_refuse_other,
        output=_object(["conversation_id", "forked_from"], conversation_id=_TEXT, forked_from=_TEXT),
        hints=_RECORDS,
    ),
    Tool(
        name="conversation_archive",
        title="Archive Conversation",
        description="Put an idle conversation away: it takes no more messages and is not listed, but stays in the "
        "database and can be read. With `archived` false it is taken up again.",
        arguments=args.ArchiveArguments,
        handler=lifecycle_tools.archive,
        refuse=_refuse_other,
        output=_object(["conversation_id", "archived"], conversation_id=_TEXT, archived={"type": "boolean"}),
        hints={"readOnlyHint": False, "destructiveHint": False, "idempotentHint": True, "openWorldHint": False},
    ),
    Tool(
        name="conversation_compact",
        title="Compact Conversation",
        description="Have the model summarise a conversation to make room, and return at once. The next message goes "
        "on from the summary; everything before stays on record. A long conversation is summarised by itself.",
        arguments=args.CompactArguments,
        handler=lifecycle_tools.compact,
        refuse=_refuse_other,
        output=_object(["conversation_id", "outcome"], conversation_id=_TEXT, outcome=_TEXT, turn_id=_TEXT),
        hints=_WRITES,
    ),
    Tool(
        name="approvals_list",
        title="List Approvals",
        description="Questions that agents have to a person before they run a command, change files or call a tool; "
        "those that wait for an answer, in the order they arose.",
        arguments=args.ApprovalsArguments,
        handler=approval_tools.list_all,
        refuse=_refuse_other,
        output=_object(["approvals"], approvals={"type": "array", "items": {"type": "object"}}, next_cursor=_INTEGER),
        hints=_READS,
    ),
    Tool(
        name="approval_decide",
        title="Decide Approval",
        description="Answer a question of `approvals_list`, from any connection. The first answer counts, and the turn "
        "goes on by it.",
        arguments=args.DecideArguments,
        handler=approval_tools.decide,
        refuse=_refuse_other,
        output=_object(["approval_id", "decision"], approval_id=_TEXT, decision=_TEXT, turn_id=_TEXT),
        hints={"readOnlyHint": False, "destructiveHint": True, "idempotentHint": True, "openWorldHint": True},
    ),
    Tool(
        name="conversations_list",
        title="List Conversations",
        description="Conversations in the database, last used first, or those in which words were said; in pages.",
        arguments=args.ListArguments,
        handler=conversation_tools.list_all,
        refuse=_refuse_other,
        output=_object(
            ["conversations"], conversations={"type": "array", "items": {"type": "object"}}, next_cursor=_TEXT
        ),
        hints=_READS,
        aliases=("conversationsList",),
    ),
)

BY_NAME = {name: tool for tool in TOOLS for name in (tool.name, *tool.aliases)}


@cache
def listed() -> list[JsonObject]:
    """The answer of `tools/list`: always the same, in one page (common clients read only the first)."""
    return [
        {
            "name": tool.name,
            "title": tool.title,
            "description": tool.description,
            "inputSchema": args.schema_of(tool.arguments),
            "outputSchema": tool.output,
            "annotations": {"title": tool.title, **tool.hints},
        }
        for tool in TOOLS
    ]
