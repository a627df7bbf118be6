"""Brings what our server said into the form in which it is compared with the original: one line of JSON per message.

What our wire adds to the original's (see `differences`) is checked here, at every message, and then taken away; what is
left has to be equal to the letter, the order of keys included.
"""

import json
import re
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from codexdb.testing.server_process import Message, RequestId
from tests.golden.differences import differs

UUID = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
SEND_DETAILS = ("kind", "turn_id", "since_at_ms", "retryable")
QUESTION_DETAILS = ("threadId", "codex_reason", "codex_grant_root")
DURATION = "<duration>"


def dumps(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


# -- what is expected --------------------------------------------------------------------------------------------------


def event(request_id: RequestId, event_id: str, kind: str, **fields: object) -> str:
    """An event as the original sends it: `params` of the notification."""
    return dumps({"_meta": {"requestId": request_id}, "id": event_id, "msg": {"type": kind, **fields}})


def configured(request_id: RequestId, session: str = "<id-1>", model: str = "scripted-model") -> str:
    fields = {"session_id": session, "model": model, "history_log_id": 0, "history_entry_count": 0}
    return event(request_id, "0", "session_configured", **fields)


def turn(request_id: RequestId, event_id: str, text: str, *between: tuple[str, Message]) -> list[str]:
    """The events of a turn that answers `text`; `between` its message and its end stand (type, fields) more."""
    return [
        event(request_id, event_id, "task_started"),
        event(request_id, event_id, "agent_message", message=text),
        *(event(request_id, event_id, kind, **fields) for kind, fields in between),
        event(request_id, event_id, "task_complete", last_agent_message=text),
    ]


def usage() -> tuple[str, Message]:
    """What the scripted model counts."""
    differs("chat-token-count")
    counts = {"input_tokens": 11, "cached_input_tokens": 3, "output_tokens": 5, "reasoning_output_tokens": 2}
    return "token_count", {**counts, "total_tokens": 16}


def answer(request_id: RequestId, text: str) -> str:
    """The result of a `codex` or `codex-reply` call that went well."""
    return dumps({"id": request_id, "result": {"content": [{"text": text, "type": "text"}]}})


def refusal(request_id: RequestId, text: str) -> str:
    """A tool's error."""
    return dumps({"id": request_id, "result": {"content": [{"text": text, "type": "text"}], "isError": True}})


def structured(request_id: RequestId, value: Message, *, error: bool = False) -> str:
    """The result of a conversation tool."""
    content = [{"text": dumps(value), "type": "text"}]
    return dumps({"id": request_id, "result": {"content": content, "isError": error, "structuredContent": value}})


def accepted(request_id: RequestId) -> str:
    return structured(request_id, {"status": "ok"})


def refused(request_id: RequestId, message: str) -> str:
    return structured(request_id, {"status": "error", "message": message}, error=True)


# -- what was said -----------------------------------------------------------------------------------------------------


def transcript(messages: Iterable[Message]) -> list[str]:
    """Events and answers in the order in which they came, as the original would have sent them.

    The handshake, progress and deltas are left out; identifiers are numbered in the order of their appearance.
    """
    kept = [message for message in messages if not _is_handshake(message) and not _is_delta(message)]
    check_events([message["params"] for message in messages if message.get("method") == "codex/event"])
    return _numbered([dumps(_message(message)) for message in kept])


def check_events(events: list[Message]) -> None:
    """Every event carries its session, and its place in it or the mark of a delta; places leave no gap."""
    differs("twin-notification", "event-meta", "transient-deltas")
    places: dict[str, list[int]] = {}
    for params in events:
        assert list(params) == ["_meta", "id", "msg"]
        last = "transient" if params["msg"]["type"].endswith("_delta") else "seq"
        assert list(params["_meta"]) == ["requestId", "conversationId", last]
        if last == "transient":
            assert params["_meta"]["transient"] is True
        else:
            places.setdefault(params["_meta"]["conversationId"], []).append(params["_meta"]["seq"])
        if params["msg"]["type"] == "session_configured":
            assert params["msg"]["session_id"] == params["_meta"]["conversationId"]
    for seqs in places.values():
        assert all(later == earlier + 1 for earlier, later in pairwise(seqs)), seqs


def _is_handshake(message: Message) -> bool:
    return "method" not in message and message["id"] == 0


def _is_delta(message: Message) -> bool:
    if message.get("method") == "notifications/progress":
        return True
    return message.get("method") == "codex/event" and "transient" in message["params"]["_meta"]


def _message(message: Message) -> Message:
    match message.get("method"):
        case None:
            return _response(message)
        case "codex/event":
            return _event(message["params"])
        case "elicitation/create":
            return {"id": message["id"], "method": message["method"], "params": _question(message["params"])}
        case method:
            return {"method": method, "params": message["params"]}


def _event(params: Message) -> Message:
    told: Message = dict(params["msg"])
    if told["type"] == "exec_command_end":
        differs("true-durations")
        assert list(told["duration"]) == ["secs", "nanos"]
        told["duration"] = DURATION
    if told["type"] == "apply_patch_approval_request":
        differs("question-details")
        assert told.pop("grant_root").startswith("/")
    return {"_meta": {"requestId": params["_meta"]["requestId"]}, "id": params["id"], "msg": told}


def _question(params: Message) -> Message:
    """What the original asks, in its order; what a client sees beyond it is checked."""
    differs("question-form", "question-details")
    asked = {key: value for key, value in params.items() if key not in QUESTION_DETAILS}
    assert UUID.fullmatch(params["threadId"])
    decision = params["requestedSchema"]["properties"]["decision"]
    assert {"approved", "approved_for_session", "denied", "abort"} <= set(decision["enum"])
    assert params["requestedSchema"]["required"] == ["decision"]
    return {**asked, "requestedSchema": {"properties": {}, "type": "object"}}


def _response(message: Message) -> Message:
    if "error" in message:
        return {"error": message["error"], "id": message["id"]}
    result: Message = dict(message["result"])
    value: Any = result.get("structuredContent")
    if isinstance(value, dict):
        if "content" in value:
            result = _without_thread(result)
        elif result["isError"]:
            result = _without_details(result)
    return {"id": message["id"], "result": result}


def _without_thread(result: Message) -> Message:
    """The original's result of a session tool has no structured half."""
    differs("structured-content", "error-results")
    value: Message = result["structuredContent"]
    assert value["content"] == result["content"][0]["text"]
    if result.get("isError"):
        assert isinstance(value["kind"], str)
    else:
        assert list(value) == ["threadId", "content"]
    return {key: item for key, item in result.items() if key != "structuredContent"}


def _without_details(result: Message) -> Message:
    """The original's refusals have no kind."""
    differs("send-error-details")
    value: Message = result["structuredContent"]
    assert result["content"][0]["text"] == dumps(value)
    original = {key: item for key, item in value.items() if key not in SEND_DETAILS}
    assert list(value)[: len(original)] == list(original), "what is added comes after what the original sends"
    return {
        **result,
        "content": [{**result["content"][0], "text": dumps(original)}],
        "structuredContent": original,
    }


def _numbered(lines: list[str]) -> list[str]:
    names: dict[str, str] = {}
    return [UUID.sub(lambda match: names.setdefault(match[0], f"<id-{len(names) + 1}>"), line) for line in lines]
