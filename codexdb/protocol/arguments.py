"""The arguments of every tool: checked by these models, and advertised as the JSON Schemas made from them."""

from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, field_validator

from codexdb.config.resolve import Request
from codexdb.domain.approval import Decision
from codexdb.domain.ids import parse_id
from codexdb.domain.json import JsonObject
from codexdb.domain.limits import PAGE_ROWS_DEFAULT, PAGE_ROWS_MAX, SEARCH_CHARS_MAX, SEQ_MAX
from codexdb.domain.outcome import IfRunning
from codexdb.domain.session import ApprovalPolicy, SandboxMode

MESSAGE_ID_CHARS_MAX = 200  # room for any scheme of names; it is a key, not a text
TITLE_CHARS_MAX = 200  # what lists show
WAIT_MS_MAX = 50_000  # below the sixty seconds after which common clients give up

MessageId = Annotated[
    str | None,
    Field(
        min_length=1,
        max_length=MESSAGE_ID_CHARS_MAX,
        description="Your own name for this message. Repeating a call with the same name and content is safe: it is "
        "accepted once, and the repeat is told the first outcome.",
    ),
]


class Arguments(BaseModel):
    """Unknown arguments are passed over, as clients of the original rely on."""

    model_config = ConfigDict(extra="ignore", strict=True, hide_input_in_errors=True)


IfRunningChoice = Annotated[
    IfRunning,
    Field(
        strict=False,
        description="If another message is being worked on: `reject` this one, `queue` it as the next turn, or `steer` "
        "the running turn with it.",
    ),
]
ParentMessageId = Annotated[
    str | None,
    Field(description="The message that you take for the newest; another one there refuses this call."),
]


Title = Annotated[
    str | None,
    Field(min_length=1, max_length=TITLE_CHARS_MAX, description="A name for people; without one, the first message."),
]


class OverrideArguments(Arguments):
    """What a message may change of its conversation's settings, from its own turn on."""

    model: str | None = Field(None, description="Model to use from this message on.")
    cwd: str | None = Field(None, description="Directory to work in from this message on.")
    approval_policy: Annotated[ApprovalPolicy | None, Field(strict=False)] = Field(
        None, description="When a person is asked before a command runs, from this message on."
    )
    sandbox: Annotated[SandboxMode | None, Field(strict=False)] = Field(
        None, description="What commands may touch from this message on."
    )
    base_instructions: str | None = Field(None, description="Replaces the instructions to the model from now on.")
    profile: str | None = Field(None, description="A profile of config.toml, from this message on.")
    config: JsonObject | None = Field(
        None, description="Settings that override those of config.toml from this message on."
    )

    def overrides(self) -> Request | None:
        """What is to change; None where nothing is."""
        given = {
            name: getattr(self, name) for name in OverrideArguments.model_fields if getattr(self, name) is not None
        }
        return Request(**given) if given else None


class CodexArguments(Arguments):
    prompt: str = Field(description="The first message of the new session.")
    model: str | None = Field(None, description="Model to use instead of the configured one.")
    cwd: str | None = Field(
        None, description="Directory to work in. A relative path starts at the server's own working directory."
    )
    approval_policy: Annotated[ApprovalPolicy | None, Field(strict=False)] = Field(
        None, alias="approval-policy", description="When a person is asked before a command runs."
    )
    sandbox: Annotated[SandboxMode | None, Field(strict=False)] = Field(None, description="What commands may touch.")
    base_instructions: str | None = Field(
        None, alias="base-instructions", description="Replaces the built-in instructions to the model."
    )
    developer_instructions: str | None = Field(
        None,
        alias="developer-instructions",
        description="Told to the model, as the developer, before the first message.",
    )
    compact_prompt: str | None = Field(
        None, alias="compact-prompt", description="What the model is asked when the session has to be summarised."
    )
    include_plan_tool: bool | None = Field(
        None, alias="include-plan-tool", description="Offer the model a tool to keep a plan with."
    )
    profile: str | None = Field(None, description="A profile of config.toml.")
    config: JsonObject | None = Field(
        None, description="Settings that override those of config.toml; keys may be dotted paths."
    )
    title: Title = None
    message_id: MessageId = None


class ReplyArguments(OverrideArguments):
    prompt: str = Field(description="The next message.")
    thread_id: str | None = Field(None, alias="threadId", description="The session to go on with.")
    conversation_id: str | None = Field(None, alias="conversationId", description="An older name of `threadId`.")
    session_id: str | None = Field(None, alias="sessionId", description="The oldest name of `threadId`.")
    approval_policy: Annotated[ApprovalPolicy | None, Field(strict=False)] = Field(
        None, alias="approval-policy", description="When a person is asked before a command runs, from this message on."
    )
    base_instructions: str | None = Field(
        None, alias="base-instructions", description="Replaces the instructions to the model from now on."
    )
    message_id: MessageId = None
    parent_message_id: ParentMessageId = None
    if_running: IfRunningChoice = IfRunning.REJECT


class TextPart(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)
    type: Literal["text"]
    text: str


class ImagePart(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)
    type: Literal["image"]
    image_url: str = Field(description="An https or data URL.")


class LocalImagePart(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)
    type: Literal["local_image"]
    path: str = Field(description="An image file that the server can read.")


Part = Annotated[TextPart | ImagePart | LocalImagePart, Field(discriminator="type")]


class ConversationArguments(Arguments):
    """Whatever names a conversation."""

    conversation_id: str = Field(description="The conversation, as `conversation_create` or `codex` named it.")

    @field_validator("conversation_id")
    @classmethod
    def _canonical(cls, value: str) -> str:
        return parse_id(value)


class SendArguments(ConversationArguments, OverrideArguments):
    content: list[Part] = Field(description="The message, in parts.")
    parent_message_id: ParentMessageId = None
    message_id: MessageId = None
    if_running: IfRunningChoice = IfRunning.REJECT

    @field_validator("parent_message_id")
    @classmethod
    def _well_formed(cls, value: str | None) -> str | None:
        return None if value is None else parse_id(value)


class CreateArguments(Arguments):
    prompt: str | None = Field(None, description="Accepted for older clients, and not used: send a message instead.")
    model: str | None = Field(None, description="Model to use instead of the configured one.")
    cwd: str | None = Field(
        None, description="Directory to work in. A relative path starts at the server's own working directory."
    )
    approval_policy: Annotated[ApprovalPolicy | None, Field(strict=False)] = Field(
        None, description="When a person is asked before a command runs."
    )
    sandbox: Annotated[SandboxMode | None, Field(strict=False)] = Field(None, description="What commands may touch.")
    base_instructions: str | None = Field(None, description="Replaces the built-in instructions to the model.")
    profile: str | None = Field(None, description="A profile of config.toml.")
    config: JsonObject | None = Field(
        None, description="Settings that override those of config.toml; keys may be dotted paths."
    )
    title: Title = None
    message_id: MessageId = None

    @field_validator("config", mode="before")
    @classmethod
    def _only_objects(cls, value: object) -> object:
        """The original passes over anything else without a word."""
        return cast("JsonObject", value) if isinstance(value, dict) else None


class ReadArguments(ConversationArguments):
    after_seq: int = Field(
        0, ge=0, le=SEQ_MAX, description="Return events with a higher number; 0 begins at the first."
    )
    limit: int = Field(PAGE_ROWS_DEFAULT * 4, ge=1, le=PAGE_ROWS_MAX, description="Events to return at most.")
    include_items: bool = Field(default=False, description="Also return what the model sees: messages, calls, outputs.")
    after_item: int = Field(0, ge=0, le=SEQ_MAX, description="With `include_items`: return items with a higher number.")
    wait_ms: int = Field(
        0, ge=0, le=WAIT_MS_MAX, description="If there is nothing new, wait up to so many milliseconds for it."
    )


class StreamArguments(ConversationArguments):
    after_seq: int = Field(
        0, ge=0, le=SEQ_MAX, description="Replay events with a higher number first; 0 begins at the first."
    )


class InterruptArguments(ConversationArguments):
    turn_id: str | None = Field(None, description="End this turn, also one that waits; without it, the running one.")


class ForkArguments(ConversationArguments):
    turn_id: str | None = Field(
        None, description="The last turn that the fork shares; without it, the last one that has ended."
    )
    title: Title = None
    message_id: MessageId = None


class ArchiveArguments(ConversationArguments):
    archived: bool = Field(default=True, description="False opens the conversation again.")


class CompactArguments(ConversationArguments):
    queue: bool = Field(default=False, description="While a message is being worked on: wait behind it. Else refused.")
    message_id: MessageId = None


class ApprovalsArguments(Arguments):
    conversation_id: str | None = Field(None, description="Only questions of this conversation.")
    include_closed: bool = Field(default=False, description="Also those that were answered or withdrawn.")
    limit: int = Field(PAGE_ROWS_DEFAULT, ge=1, le=PAGE_ROWS_MAX, description="Questions to return at most.")
    cursor: int | None = Field(None, ge=0, le=SEQ_MAX, description="`next_cursor` of the page before.")

    @field_validator("conversation_id")
    @classmethod
    def _canonical(cls, value: str | None) -> str | None:
        return None if value is None else parse_id(value)


class DecideArguments(Arguments):
    approval_id: str = Field(description="The question, as `approvals_list` names it.")
    decision: Annotated[Decision, Field(strict=False)] = Field(
        description="`approved`, for this time, for the session or always in this directory; `denied`; or `abort`, "
        "which ends the turn."
    )


class ListArguments(Arguments):
    search: str | None = Field(
        None,
        max_length=SEARCH_CHARS_MAX,
        description="Only conversations in which all these words were said, or called as commands; the newest hit "
        'first. `"several words"` are found in that order, `begin*` finds whatever begins so, two letters at '
        "least.",
    )
    cwd: str | None = Field(None, description="Only conversations of this working directory, absolute.")
    include_archived: bool = Field(default=False, description="Also those that are archived.")
    limit: int = Field(PAGE_ROWS_DEFAULT, ge=1, le=PAGE_ROWS_MAX, description="Conversations to return at most.")
    cursor: str | None = Field(None, description="`next_cursor` of the page before.")


def schema_of(model: type[Arguments]) -> JsonObject:
    """The JSON Schema of a tool's arguments, as clients see it: plain types, no references, nulls or generated
    titles.
    """
    schema = cast("JsonObject", model.model_json_schema(by_alias=True))
    definitions = cast("dict[str, JsonObject]", schema.pop("$defs", {}))
    return cast("JsonObject", _plain(schema, definitions))


def _plain(node: object, definitions: dict[str, JsonObject]) -> object:
    if isinstance(node, list):
        return [_plain(each, definitions) for each in cast("list[object]", node)]
    if not isinstance(node, dict):
        return node
    found = dict(cast("dict[str, Any]", node))
    options = [each for each in found.pop("anyOf", []) if each != {"type": "null"}]
    if len(options) == 1:
        found = {**options[0], **found}
    if "$ref" in found:
        found = {**definitions[found.pop("$ref").rpartition("/")[2]], **found}
    found.pop("discriminator", None)  # OpenAPI's; JSON Schema has the constants
    if found.get("default", 0) is None:
        del found["default"]
    if isinstance(found.get("title"), str):
        del found["title"]
    return {key: _plain(value, definitions) for key, value in found.items()}
