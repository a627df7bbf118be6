"""Items: what the model sees, in the alphabet of OpenAI's Responses API. Chat endpoints get a mapping of them."""

from collections.abc import Sequence
from typing import cast

from codexdb.domain.json import JsonObject

Item = JsonObject
"""`{"type": "message" | "reasoning" | "function_call" | "function_call_output" | …}`; unknown types are kept as they
came.
"""


def user_message(content: Sequence[JsonObject]) -> Item:
    """`content`: parts as in `input_text` or `input_image`."""
    return {"type": "message", "role": "user", "content": list(content)}


def tool_message(content: Sequence[JsonObject]) -> Item:
    """What a call gives beside its output. No endpoint knows this role: the model sees it as `history.as_sent` says."""
    return {"type": "message", "role": "tool", "content": list(content)}


def developer_message(text: str) -> Item:
    return {"type": "message", "role": "developer", "content": [input_text(text)]}


def assistant_message(text: str) -> Item:
    return {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}


def function_call(call_id: str, name: str, arguments: str) -> Item:
    return {"type": "function_call", "name": name, "arguments": arguments, "call_id": call_id}


def function_call_output(call_id: str, output: str) -> Item:
    return {"type": "function_call_output", "call_id": call_id, "output": output}


def compaction_request() -> Item:
    """The mark of a turn that only summarises; the model does not see it."""
    return {"type": "compaction_request"}


def rollout_record(record: JsonObject) -> Item:
    """Something of an imported session for which the model has no use here. It is kept; the model does not see it."""
    return {"type": "rollout_record", "record": record}


UNSEEN = frozenset({"compaction_request", "rollout_record"})
"""Types of items that the model does not see."""


def input_text(text: str) -> JsonObject:
    return {"type": "input_text", "text": text}


def input_image(image_url: str) -> JsonObject:
    return {"type": "input_image", "image_url": image_url}


def texts(item: Item) -> list[str]:
    """The text parts of a message item, in order; empty for other items."""
    parts = item.get("content")
    if item.get("type") != "message" or not isinstance(parts, list):
        return []
    found = [cast("JsonObject", part).get("text") for part in cast("list[object]", parts) if isinstance(part, dict)]
    return [text for text in found if isinstance(text, str)]


def user_instructions(text: str) -> Item:
    """What the user's AGENTS.md files tell every session. Recorded once, before the environment."""
    return user_message([input_text(f"<user_instructions>\n\n{text}\n\n</user_instructions>")])


_CONTEXT_TAGS = ("environment_context", "user_instructions")


def environment_context(cwd: str, approval_policy: str, sandbox_mode: str, *, network_access: bool) -> Item:
    """Tells the model where it works and what it may do. Recorded once, last of what precedes the first message."""
    network = "enabled" if network_access else "restricted"
    text = (
        "<environment_context>\n"
        f"  <cwd>{cwd}</cwd>\n"
        f"  <approval_policy>{approval_policy}</approval_policy>\n"
        f"  <sandbox_mode>{sandbox_mode}</sandbox_mode>\n"
        f"  <network_access>{network}</network_access>\n"
        "</environment_context>"
    )
    return user_message([input_text(text)])


def is_context(item: Item) -> str:
    """What kind of context an item is, of those that a session begins with or that a change of settings adds; "" for
    everything else.
    """
    if item.get("role") == "developer":
        return "developer"
    text = next(iter(texts(item)), "") if item.get("role") == "user" else ""
    return next((tag for tag in _CONTEXT_TAGS if text.startswith(f"<{tag}>")), "")
