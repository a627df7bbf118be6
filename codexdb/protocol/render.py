"""Events as notifications, and results as tool results."""

from codexdb.domain.event import CommittedEvent, Delta
from codexdb.domain.json import JsonObject, encode
from codexdb.protocol import jsonrpc

RequestId = jsonrpc.RequestId | None


def event_line(event: CommittedEvent, request_id: RequestId) -> bytes:
    """The `codex/event` notification of a committed event. Its `msg` is passed on as it is stored."""
    meta = encode(_meta(event.session_id, request_id) | {"seq": event.seq})
    return (
        f'{{"jsonrpc":"2.0","method":"codex/event","params":{{"_meta":{meta},"id":{encode(event.submission_id)},'
        f'"msg":{event.msg}}}}}\n'
    ).encode()


def delta_line(delta: Delta, request_id: RequestId) -> bytes:
    """The `codex/event` notification of a piece that is not committed: no `seq`, but marked as transient."""
    meta = _meta(delta.session_id, request_id) | {"transient": True}
    return jsonrpc.notification("codex/event", {"_meta": meta, "id": delta.submission_id, "msg": delta.msg})


def _meta(session_id: str, request_id: RequestId) -> JsonObject:
    named: JsonObject = {} if request_id is None else {"requestId": request_id}
    return {**named, "conversationId": session_id}


def turn_result(thread_id: str, text: str) -> JsonObject:
    """The result of `codex` and `codex-reply`."""
    return {"content": [_text(text)], "structuredContent": {"threadId": thread_id, "content": text}}


def turn_error(thread_id: str, text: str, kind: str, **details: object) -> JsonObject:
    """The error result of `codex` and `codex-reply`: for people in the text, for programs in `kind`."""
    structured = {"threadId": thread_id, "content": text, "kind": kind, **_given(details)}
    return {"content": [_text(text)], "isError": True, "structuredContent": structured}


def structured(value: JsonObject, *, error: bool = False) -> JsonObject:
    """The result of a conversation tool: the same JSON as text and as structure."""
    return {"content": [_text(encode(value))], "isError": error, "structuredContent": value}


def status_error(message: str, kind: str, **details: object) -> JsonObject:
    """The error result of `send-user-message`."""
    return structured({"status": "error", "message": message, "kind": kind, **_given(details)}, error=True)


def message_error(message: str, kind: str, **details: object) -> JsonObject:
    """The error result of the other conversation tools."""
    return structured({"message": message, "kind": kind, **_given(details)}, error=True)


def plain_error(text: str) -> JsonObject:
    """A tool error with nothing but a text."""
    return {"content": [_text(text)], "isError": True}


def _text(text: str) -> JsonObject:
    return {"text": text, "type": "text"}


def _given(details: JsonObject) -> JsonObject:
    return {key: value for key, value in details.items() if value is not None}
