"""Checks the record of a server against the protocol: the official models judge every line that it wrote."""

import json
from collections.abc import Sequence
from typing import Any

from mcp_types import JSONRPCError, JSONRPCNotification, JSONRPCResponse
from mcp_types.methods import parse_server_notification, parse_server_result
from recording import Line

RequestId = tuple[type[object], object]  # 5 and "5" are two ids


def check(lines: Sequence[Line]) -> None:
    """Every line is a valid message, every request has one answer, and none that was cancelled has any.

    Raises:
        pydantic.ValidationError: a line is not what the protocol says of its kind, in the version agreed on.
    """
    version = _agreed_version(lines)
    waiting: dict[RequestId, str] = {}
    for way, text in lines:
        message: dict[str, Any] = json.loads(text)
        if way == "in":
            _note_request(waiting, message)
        elif "method" in message:
            _check_notification(message, version)
        else:
            method = waiting.pop(
                _key(message["id"])
            )  # a KeyError: nobody asked, or it was answered or cancelled before
            _check_answer(method, message, version)
    assert waiting == {}


def cancel_reasons(lines: Sequence[Line]) -> list[str | None]:
    """What the client said of each call that it cancelled."""
    sent = [line.message for line in lines if line.way == "in"]
    return [m["params"].get("reason") for m in sent if m.get("method") == "notifications/cancelled"]


def _agreed_version(lines: Sequence[Line]) -> str:
    for line in lines:
        if line.way == "out" and "protocolVersion" in line.message.get("result", {}):
            return line.message["result"]["protocolVersion"]
    raise AssertionError("initialize was never answered")


def _note_request(waiting: dict[RequestId, str], message: dict[str, Any]) -> None:
    if message.get("method") == "notifications/cancelled":
        waiting.pop(_key(message["params"]["requestId"]), None)
    elif "id" in message:
        waiting[_key(message["id"])] = message["method"]


def _check_notification(message: dict[str, Any], version: str) -> None:
    JSONRPCNotification.model_validate(message)
    if message["method"] == "codex/event":  # Codex's own; the protocol allows such and says nothing of them
        assert {"_meta", "id", "msg"} <= message["params"].keys()
    else:
        parse_server_notification(message["method"], version, message["params"])


def _check_answer(method: str, message: dict[str, Any], version: str) -> None:
    if "error" in message:
        JSONRPCError.model_validate(message)
    else:
        JSONRPCResponse.model_validate(message)
        parse_server_result(method, version, message["result"])


def _key(request_id: object) -> RequestId:
    return type(request_id), request_id
