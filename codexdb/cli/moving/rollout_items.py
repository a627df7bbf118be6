"""Items of Codex as items that every endpoint takes.

Tools of Codex that endpoints know by types of their own become function calls. What has no such form is kept as a
record that the model does not see.
"""

import re
from typing import NamedTuple, cast

from codexdb.domain.item import Item, function_call, function_call_output, texts
from codexdb.domain.json import JsonObject, decode, encode

_PARTS = frozenset({"input_text", "output_text", "input_image", "refusal"})
_ROLES = frozenset({"user", "assistant", "developer", "system"})
_CONTEXT = re.compile(
    r"<(environment_context|user_instructions|turn_aborted|permissions|collaboration_mode|user_shell_command"
    r"|subagent_notification|skill)\b|# AGENTS\.md instructions for "
)
_EXITED = re.compile(r"^(?:Process exited with code|Exit code:) (-?\d{1,9})$", re.MULTILINE)


class Outcome(NamedTuple):
    """How a call came out, as far as its output tells."""

    output: str
    exit_code: int | None
    failed: bool


def sendable(payload: JsonObject, number: int) -> Item | None:  # noqa: PLR0911 - one line for each type
    """The item that a payload stands for, in a form that endpoints take; None: there is none. `number`: of its line,
    for calls without a name.
    """
    match payload.get("type"):
        case "message":
            return _message(payload)
        case "reasoning":
            return _reasoning(payload)
        case "function_call":
            return function_call(_call_id(payload, number), _text(payload, "name"), _json(payload.get("arguments")))
        case "local_shell_call":
            return function_call(_call_id(payload, number), "shell", encode(_shell(payload.get("action"))))
        case "custom_tool_call":
            given = encode({"input": payload.get("input")})
            return function_call(_call_id(payload, number), _text(payload, "name"), given)
        case "function_call_output" | "custom_tool_call_output":
            return function_call_output(_text(payload, "call_id"), _output(payload.get("output")))
        case _:
            return None


def is_context(item: Item) -> bool:
    """Whether a message is what a program told the model, and not what somebody said."""
    if item.get("role") in ("developer", "system"):
        return True
    return item.get("role") == "user" and _CONTEXT.match(next(iter(texts(item)), "")) is not None


def outcome(output: str) -> Outcome:
    """What a call's output says of its end."""
    try:
        value = decode(output)
    except ValueError:
        value = None
    if isinstance(value, dict):
        told = cast("JsonObject", value)
        meta, said = told.get("metadata"), told.get("output")
        code = cast("JsonObject", meta).get("exit_code") if isinstance(meta, dict) else None
        if isinstance(code, int) and isinstance(said, str) and abs(code) < 2**31:
            return Outcome(said, code, code != 0)
    exited = _EXITED.search(output)
    code = None if exited is None else int(exited[1])
    return Outcome(output, code, bool(code))


def _message(payload: JsonObject) -> Item | None:
    role, content = _text(payload, "role"), payload.get("content")
    if role not in _ROLES or not isinstance(content, list):
        return None
    return {
        "type": "message",
        "role": role,
        "content": [_part(role, part) for part in cast("list[object]", content)],
    }


def _part(role: str, part: object) -> JsonObject:
    """A part of a message; of what endpoints do not take, its name."""
    fields = cast("JsonObject", part) if isinstance(part, dict) else {}
    kind = _text(fields, "type")
    wanted = "image_url" if kind == "input_image" else "refusal" if kind == "refusal" else "text"
    if kind in _PARTS and isinstance(fields.get(wanted), str):
        return {key: value for key, value in fields.items() if key in ("type", wanted, "detail") and value is not None}
    name = kind[:40] or "something"
    return {"type": "output_text" if role == "assistant" else "input_text", "text": f"[{name} left out]"}


def _reasoning(payload: JsonObject) -> Item | None:
    summary = payload.get("summary")
    if not isinstance(summary, list) or not all(isinstance(each, dict) for each in cast("list[object]", summary)):
        return None
    kept = ("type", "id", "summary", "content", "encrypted_content")
    return {key: payload[key] for key in kept if payload.get(key) is not None}


def _call_id(payload: JsonObject, number: int) -> str:
    """What a call is known by. Some versions named a local command's call by its item."""
    return _text(payload, "call_id") or _text(payload, "id") or f"call_{number}"


def _shell(action: object) -> JsonObject:
    """The arguments of our own `shell`."""
    told = cast("JsonObject", action) if isinstance(action, dict) else {}
    named = {"command": "command", "working_directory": "workdir", "timeout_ms": "timeout_ms"}
    return {ours: told[theirs] for theirs, ours in named.items() if told.get(theirs) is not None}


def _output(output: object) -> str:
    """Outputs as text; of lists of parts, and of objects with a `content`, what they say."""
    if isinstance(output, str):
        return output
    if isinstance(output, dict):
        content = cast("JsonObject", output).get("content")
        told = cast("object", content if isinstance(content, str | list) else encode(cast("object", output)))
        return _output(told)
    if isinstance(output, list):
        return "\n".join(_said(part) for part in cast("list[object]", output))
    return "" if output is None else encode(output)


def _said(part: object) -> str:
    shown = _part("user", part)
    return str(shown.get("text", f"[{shown['type']} left out]"))


def _json(value: object) -> str:
    return value if isinstance(value, str) else encode(value if value is not None else {})


def _text(payload: JsonObject, name: str) -> str:
    value = payload.get(name)
    return value if isinstance(value, str) else ""
