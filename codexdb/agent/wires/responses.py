"""The Responses wire: `POST {base_url}/responses`. Items travel as they are."""

from collections.abc import Sequence

from codexdb.agent import failure
from codexdb.agent.model import (
    Finished,
    ItemDone,
    ModelEvent,
    ModelRequest,
    ReasoningDelta,
    SectionBreak,
    TextDelta,
    ToolSpec,
)
from codexdb.agent.wires import shape
from codexdb.domain.ids import new_id
from codexdb.domain.item import Item
from codexdb.domain.json import JsonObject


def request_body(request: ModelRequest) -> JsonObject:
    """The whole history with every request: nothing is stored at the endpoint. Keys in the order of the original."""
    reasoning = request.reasoning
    body: JsonObject = {
        "model": request.model,
        "instructions": request.instructions,
        "input": [_sent(item) for item in _readable_without_store(request.items)],
        "tools": [_tool(tool) for tool in request.tools],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "reasoning": reasoning,
        "store": False,
        "stream": True,
        "include": [] if reasoning is None else ["reasoning.encrypted_content"],
        "prompt_cache_key": request.session_id,
    }
    if not request.tools:
        del body["tools"], body["tool_choice"], body["parallel_tool_calls"]
    if request.verbosity is not None:
        body["text"] = {"verbosity": request.verbosity}
    if request.max_output_tokens is not None:
        body["max_output_tokens"] = request.max_output_tokens
    return body


def _readable_without_store(history: Sequence[Item]) -> list[Item]:
    """Without the reasoning that endpoints refuse: what is not sealed into the item itself, which they would have to
    look up although they kept nothing, and what nothing of its response follows, because it was cut off there.
    """
    kept: list[Item] = []
    followed = False
    for item in reversed(history):
        if item.get("type") != "reasoning":
            followed = item.get("type") != "function_call_output" and item.get("role") in (None, "assistant")
        elif not (followed and item.get("encrypted_content")):
            continue
        kept.append(item)
    return kept[::-1]


_SENT_KEYS = {
    "message": ("type", "id", "role", "content"),
    "reasoning": ("type", "id", "summary", "content", "encrypted_content"),
    "function_call": ("type", "id", "name", "arguments", "call_id"),
    "function_call_output": ("type", "call_id", "output"),
}


def _sent(item: Item) -> Item:
    """An item as it goes back: what endpoints add to those that they send means nothing to them, and some refuse it."""
    keys = _SENT_KEYS.get(shape.string(item.get("type")))
    sent = {key: item[key] for key in keys or item if item.get(key) is not None}
    if item.get("type") == "message":
        sent["content"] = [_part(shape.obj(part)) for part in shape.array(item.get("content"))]
    return sent


def _part(part: JsonObject) -> JsonObject:
    known = ("type", "text", "image_url", "detail", "refusal")
    return {key: part[key] for key in known if part.get(key) is not None}


def _tool(tool: ToolSpec) -> JsonObject:
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "strict": False,
        "parameters": tool.parameters,
    }


class ResponsesDecoder:
    """Reads one response of this wire (see `shape.Decoder`)."""

    def __init__(self) -> None:
        self.complete = False
        self.done = False
        self._items = 0
        self._parts = 0  # of the reasoning summary that is coming in
        self._closing: list[ModelEvent] = []

    def feed(self, event: str, data: str) -> list[ModelEvent]:
        """See `shape.Decoder`."""
        body = {} if self.done else shape.parse(data)
        match shape.string(body.get("type")) or (event if body else ""):
            case "response.output_text.delta":
                return _delta(TextDelta(shape.string(body.get("delta"))))
            case "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" as kind:
                raw = kind == "response.reasoning_text.delta"
                return _delta(ReasoningDelta(shape.string(body.get("delta")), raw=raw))
            case "response.reasoning_summary_part.added":
                self._parts += 1
                return [SectionBreak()] if self._parts > 1 else []
            case "response.output_item.done":
                return self._item(body.get("item"))
            case "response.completed" | "response.incomplete":
                return self._close(shape.obj(body.get("response")))
            case "response.failed":
                raise _reported(shape.obj(shape.obj(body.get("response")).get("error")))
            case "error":
                raise _reported(shape.obj(body.get("error")) or body)
            case _:
                return []

    def end(self) -> list[ModelEvent]:
        """See `shape.Decoder`."""
        if not self.complete:
            raise failure.closed_early()
        return self._closing

    def _item(self, value: object) -> list[ModelEvent]:
        item = dict(shape.obj(value))
        if not item:
            return []
        self._items += 1
        self._parts = 0
        if item.get("type") == "function_call":
            item["arguments"] = shape.arguments(item.get("arguments")) or "{}"
            item["call_id"] = shape.string(item.get("call_id")) or f"call_{new_id()}"
        return [ItemDone(item)]

    def _close(self, response: JsonObject) -> list[ModelEvent]:
        self.complete = self.done = True
        output = [] if self._items else shape.array(response.get("output"))  # some endpoints tell their items only here
        items = [event for value in output for event in self._item(value)]
        counts = shape.usage(shape.obj(response.get("usage")), "input", "output")
        self._closing = [counts] if counts else []
        self._closing.append(Finished(_reason(response)))
        return items


def _delta(event: TextDelta | ReasoningDelta) -> list[ModelEvent]:
    return [event] if event.text else []


def _reason(response: JsonObject) -> str:
    reason = shape.obj(response.get("incomplete_details")).get("reason")
    if reason == "content_filter":
        return "content_filter"
    return "length" if reason == "max_output_tokens" or response.get("status") == "incomplete" else "stop"


def _reported(error: JsonObject) -> failure.RequestFailed:
    message = shape.string(error.get("message")) or "response.failed event received"
    return failure.reported(message, error.get("code"), error.get("type"))
