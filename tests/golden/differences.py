"""Where we do not do what the original (Codex 0.20.0) does: one entry each, and nothing else may differ.

docs/compatibility.md has a row for every entry, in the same order.
"""

from tests.golden.call_differences import CALL_DIFFERENCES
from tests.golden.difference import Difference

_ALL = (
    # -- handshake and methods
    Difference(
        "server-info",
        "calls itself codex-mcp-server",
        "calls itself codexdb, with its own title and version",
        "a client should be able to tell which of the two it talks to",
    ),
    Difference(
        "capabilities",
        "announces tools alone",
        "announces tools, and what else it serves",
        "clients ask only for what was announced",
    ),
    Difference(
        "protocol-version",
        "echoes any protocol version, also one that does not exist",
        "echoes the versions it speaks and answers 2025-11-25 to any other",
        "the protocol asks for it: the client decides whether to go on",
    ),
    Difference(
        "unanswered-requests",
        "never answers unknown methods, methods it has only as a stub, or params of the wrong type",
        "answers each: a result, -32601 or -32602",
        "a request without an answer hangs its client until a time-out",
    ),
    Difference(
        "invalid-utf8",
        "stops reading for ever after one line of invalid UTF-8",
        "replaces the broken bytes and goes on",
        "one bad line must not cost a session",
    ),
    Difference(
        "exit-at-end-of-input",
        "keeps running when its input ends",
        "answers what is in flight, puts turns down where they can be taken up again, and exits",
        "clients end a server by closing its input; what stays behind works unattended",
    ),
    # -- tools
    Difference(
        "tools-listed",
        "lists codex and codex-reply; the conversation tools are hidden",
        "lists codex and codex-reply first, then the conversation tools",
        "a model can only call what it is shown",
    ),
    Difference(
        "tool-names",
        "knows the conversation tools by their camelCase names alone",
        "also takes snake_case names, send-user-message and conversation_connect",
        "later versions of Codex and their plugins use these names",
    ),
    Difference(
        "codex-arguments",
        "codex takes nine arguments",
        "also takes compact-prompt and developer-instructions",
        "0.153 has them",
    ),
    Difference(
        "on-request-argument",
        "refuses on-request as approval-policy, although config.toml may say so",
        "accepts it",
        "0.153 knows only on-request and never",
    ),
    Difference(
        "reply-arguments",
        "codex-reply needs sessionId",
        "takes threadId, conversationId or sessionId, in this order of preference",
        "0.153 has the first two; its clients and those of 0.20 are both served",
    ),
    Difference(
        "reply-settings",
        "passes over settings that come with a later message",
        "takes model, cwd, approval-policy, sandbox, base-instructions, profile and config with codex-reply and "
        "conversationSendMessage; they stay",
        "later versions take them with every turn, and keep them",
    ),
    Difference(
        "structured-content",
        "results of codex and codex-reply are text alone and do not tell the session",
        "also carry structuredContent: threadId and content, for errors a kind and its details",
        "0.153 has the first two, and a program should not have to read sentences",
    ),
    Difference(
        "error-results",
        "a failed turn gives a result with the single key error, which is no valid tool result",
        "gives the same text as content, with isError",
        "strict clients throw the original's away",
    ),
    Difference(
        "cancelled-answer",
        "answers a call that was cancelled",
        "does not; the events of the turn's end are sent",
        "the protocol says so",
    ),
    Difference(
        "progress",
        "ignores progress tokens",
        "sends notifications/progress to calls that carry one",
        "clients use them to hold back their time-out",
    ),
    # -- events
    Difference(
        "twin-notification",
        "sends every event twice, as codex/event and under the name of its type",
        "sends codex/event",
        "later versions stopped doing it; a switch brings it back",
    ),
    Difference(
        "event-meta",
        "_meta tells the request",
        "_meta tells the request, the session and the event's place in the session",
        "so that a client can ask for what it missed",
    ),
    Difference(
        "transient-deltas",
        "deltas look like every other event",
        "deltas are marked transient and have no place",
        "they are pieces of an event that follows and are not kept",
    ),
    Difference(
        "chat-deltas",
        "a chat endpoint's text comes in one piece",
        "it is streamed as it is with a responses endpoint",
        "people read along",
    ),
    Difference(
        "chat-token-count",
        "does not tell what a chat endpoint counted",
        "sends token_count whenever the endpoint tells",
        "people pay for it",
    ),
    Difference(
        "reply-event-id",
        "numbers the turns of codex-reply from 1, which is also a common request id",
        "the id is that of the request that started the turn, for every turn",
        "two turns must not share an id",
    ),
    # -- turns
    Difference(
        "wedge-after-error",
        "a session whose turn failed swallows the next reply",
        "the next reply runs",
        "an overloaded endpoint must not cost the session",
    ),
    Difference(
        "fast-turn-race",
        "a first turn that ends at once can leave its session unusable",
        "cannot",
        "a session is free in the transaction that ends its turn",
    ),
    Difference(
        "reply-while-running",
        "puts the second prompt into the running turn; answers go to the wrong caller or to none",
        "refuses it: Session is already running, of kind busy",
        "every call gets its own answer",
    ),
    Difference(
        "failed-attempt-text",
        "keeps the text of attempts that broke off, glued to the answer, in what the model sees next",
        "keeps the answer",
        "the model never said it",
    ),
    Difference(
        "truncated-chat",
        "takes a chat answer that breaks off, or is no stream at all, for complete",
        "takes it for a lost connection: retried, then an error",
        "half an answer is not an answer",
    ),
    Difference(
        "restart",
        "forgets every session when it stops",
        "finds them in its database",
        "this is what codexdb is for",
    ),
    Difference(
        "agents-md",
        "sends one project file, that of the working directory or the nearest one above, read anew for each request",
        "sends every file from the git root down to the working directory, read once when the session begins",
        "later versions read them all; what the model was told must not change under it",
    ),
    Difference(
        "notify",
        "tells the notify program no input messages, and the id of a request",
        "tells it the turn's messages and the turn's own id",
        "the original meant to; a request's id is not unique",
    ),
    *CALL_DIFFERENCES,
    # -- conversation tools
    Difference(
        "running-flag",
        "takes one message per conversation and calls it running for ever",
        "is free again as soon as the turn has ended, however it ended",
        "a conversation has more than one message",
    ),
    Difference(
        "stale-answers",
        "sends nothing of a turn that a message started in a session of codex; the next reply returns its answer",
        "sends the turn's events under the id of the message's call; the reply returns its own answer",
        "every call gets its own answer",
    ),
    Difference(
        "reply-to-conversation",
        "codex-reply on a conversation is never answered, its events go under the id of the creating call",
        "is answered, with its events under its own id",
        "every call gets its own answer",
    ),
    Difference(
        "conversation-defaults",
        "a new conversation needs prompt, model and cwd, and does not use the prompt",
        "needs none of them: model and cwd come from config.toml and the server's directory",
        "codex has the same defaults",
    ),
    Difference(
        "conversation-argument-errors",
        "calls a tool unknown when its arguments are malformed",
        "names the field that is wrong",
        "the caller can mend it",
    ),
    Difference(
        "send-error-details",
        "a refused message has status and message",
        "also kind, and where they apply turn_id, since_at_ms and retryable",
        "a program should not have to read sentences",
    ),
    Difference(
        "stream-and-list",
        "conversationStream and conversationsList are known and not implemented",
        "implemented, also by their snake_case names",
        "sessions that outlive a server have to be found",
    ),
    # -- model endpoint
    Difference(
        "one-retry-budget",
        "counts retries of requests and of streams apart, so that they multiply, and does not tell of the former",
        "counts both together, up to the larger of the two settings, and tells of each",
        "an endpoint in trouble is not helped by thirty requests, and people should see why they wait",
    ),
    Difference(
        "used-up-quota",
        "asks again when the endpoint says `insufficient_quota`",
        "ends the turn at once, and tells after which time the endpoint asks to come back, where it does",
        "no retry brings a quota back, and people want to know when something does",
    ),
    Difference(
        "client-name",
        "sends no user-agent; the originator is codex_cli_rs",
        "sends a user-agent of its own; the originator is codexdb",
        "an endpoint should be able to tell which of the two asks",
    ),
    Difference(
        "no-packing",
        "says nothing of how an answer may be packed",
        "asks for one that is not (accept-encoding: identity)",
        "packing holds events back until there are enough to be worth it",
    ),
    Difference(
        "environment-context",
        "tells the environment in lines of text, made anew for every request",
        "tells it in elements, as later versions do, recorded once with the session",
        "requests that begin alike are served from the endpoint's cache",
    ),
    Difference(
        "own-texts",
        "has its instructions and descriptions of tools, and describes arguments only under on-request",
        "has its own, and describes arguments always",
        "the texts are somebody else's, and a model does better with an argument that is described",
    ),
    Difference(
        "shell-timeout-name",
        "the shell's time-out is called timeout; timeout_ms is passed over",
        "it is called timeout_ms; both are taken",
        "later versions call it so, and the name should tell the unit",
    ),
    Difference(
        "chat-usage-request",
        "does not ask a chat endpoint for what it counted",
        "asks for it, and no more once the endpoint has refused",
        "most endpoints tell only whoever asks",
    ),
    Difference(
        "stored-responses",
        "lets a responses endpoint store each answer, unless disable_response_storage is set",
        "asks it to store none",
        "the session is in the database; nobody else needs a copy",
    ),
    Difference(
        "parallel-calls",
        "forbids a responses endpoint to make several calls in one answer",
        "allows it; they run one after another",
        "later versions do, and it saves requests",
    ),
    Difference(
        "more-tools",
        "offers the model shell, and update_plan where it was asked for",
        "also offers apply_patch, view_image, and the tools of configured servers under their own schemas",
        "later versions do, and a patch that is a call of its own needs no shell",
    ),
    Difference(
        "plan-states",
        "lets a step of update_plan have any text for its state",
        "lists the three states in the tool's schema",
        "any other text is refused, so the model may as well know",
    ),
    Difference(
        "prompt-cache-key",
        "names no key for the cache of a responses endpoint",
        "names the session",
        "requests of one session find the cache that the one before them filled",
    ),
    Difference(
        "null-ids",
        "messages that have no id carry a null",
        "have no such field",
        "a null says nothing",
    ),
)

DIFFERENCES = {difference.id: difference for difference in _ALL}


def differs(*ids: str) -> None:
    """Say on which differences a test relies. A name that is not in the table fails it."""
    for name in ids:
        assert name in DIFFERENCES, f"{name} is not a declared difference"
