"""The Chat Completions wire: `POST {base_url}/chat/completions`. Items are mapped to messages and back."""

from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from codexdb.agent import failure
from codexdb.agent.model import Finished, ItemDone, ModelEvent, ModelRequest, ReasoningDelta, TextDelta, ToolSpec, Usage
from codexdb.agent.wires import shape
from codexdb.domain import item as items
from codexdb.domain.ids import new_id
from codexdb.domain.item import Item
from codexdb.domain.json import JsonObject

_NO_OUTPUT = "aborted"  # of a call that ended without one: strict endpoints refuse a call that has no answer


def request_body(request: ModelRequest, *, include_usage: bool = True) -> JsonObject:
    """`include_usage` False is for endpoints that refuse `stream_options`."""
    body: JsonObject = {
        "model": request.model,
        "messages": _messages(request.instructions, request.items),
        "stream": True,
    }
    if include_usage:
        body["stream_options"] = {"include_usage": True}
    if request.max_output_tokens is not None:
        name = "max_completion_tokens" if request.reasoning is not None else "max_tokens"  # reasoning models ask for it
        body[name] = request.max_output_tokens
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
    return body


def _tool(tool: ToolSpec) -> JsonObject:
    function: JsonObject = {
        "parameters": tool.parameters,
        "name": tool.name,
        "description": tool.description,
        "strict": False,
    }
    return {"type": "function", "function": function}


# -- history ---------------------------------------------------------------------------------------------------------


def _messages(instructions: str, history: Sequence[Item]) -> list[JsonObject]:
    """One assistant message per response, its text and all its calls in it, then an answer to each call in their order.

    Outputs are looked up by call, because they may have been recorded while later calls of the response still came in.
    """
    outputs: dict[str, deque[str]] = defaultdict(deque)
    for item in history:
        if item.get("type") == "function_call_output":
            outputs[shape.string(item.get("call_id"))].append(_output_text(item.get("output")))
    messages: list[JsonObject] = [{"role": "system", "content": instructions}] if instructions else []
    response: list[Item] = []
    answered = False
    for item in history:
        match item.get("type"), item.get("role"):
            case ("function_call", _) | ("message", "assistant"):
                if answered:
                    messages += _assistant(response, outputs)
                    response, answered = [], False
                response.append(item)
            case "function_call_output", _:
                answered = True
            case "message", role:
                messages += _assistant(response, outputs)
                response, answered = [], False
                messages.append({"role": "system" if role == "developer" else role, "content": _content(item)})
            case _:
                pass  # reasoning, and what this wire has no word for
    return messages + _assistant(response, outputs)


def _assistant(response: Sequence[Item], outputs: dict[str, deque[str]]) -> list[JsonObject]:
    text = "\n\n".join("\n".join(items.texts(item)) for item in response if item.get("type") == "message")
    calls = [item for item in response if item.get("type") == "function_call"]
    if not calls:
        return [{"role": "assistant", "content": text}] if text else []
    message: JsonObject = {"role": "assistant", "content": text or None, "tool_calls": [_call(call) for call in calls]}
    answers: list[JsonObject] = []
    for call in calls:
        call_id = shape.string(call.get("call_id"))
        output = outputs[call_id].popleft() if outputs[call_id] else _NO_OUTPUT
        answers.append({"role": "tool", "tool_call_id": call_id, "content": output})
    return [message, *answers]


def _call(call: Item) -> JsonObject:
    function: JsonObject = {"name": call.get("name"), "arguments": call.get("arguments")}
    return {"id": call.get("call_id"), "type": "function", "function": function}


def _content(item: Item) -> str | list[JsonObject]:
    parts = [shape.obj(part) for part in shape.array(item.get("content"))]
    if not any(part.get("type") == "input_image" for part in parts):
        return "\n".join(items.texts(item))
    return [_part(part) for part in parts]


def _part(part: JsonObject) -> JsonObject:
    if part.get("type") == "input_image":
        return {"type": "image_url", "image_url": {"url": part.get("image_url")}}
    return {"type": "text", "text": shape.string(part.get("text"))}


def _output_text(output: object) -> str:
    """Outputs are text, or parts of which this wire can show only the text."""
    if parts := shape.array(output):
        return "\n".join(shape.string(shape.obj(part).get("text")) for part in parts)
    return shape.arguments(output)


# -- answer ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Call:
    id: str = ""
    name: str = ""
    arguments: str = ""


class ChatDecoder:
    """Reads one response of this wire (see `shape.Decoder`). Its items are complete when the response is."""

    def __init__(self) -> None:
        self.complete = False
        self.done = False
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}
        self._reason = "stop"
        self._usage: Usage | None = None

    def feed(self, event: str, data: str) -> list[ModelEvent]:  # noqa: ARG002 - this wire names no events
        """See `shape.Decoder`."""
        if data.strip() == "[DONE]":
            self.done = True
            return self._complete()
        body = shape.parse(data)
        if (error := body.get("error")) and not self.complete:
            raise _reported(error)
        self._usage = shape.usage(shape.obj(body.get("usage")), "prompt", "completion") or self._usage
        choice = shape.obj(next(iter(shape.array(body.get("choices"))), None))
        if self.complete or not choice:
            return []
        found = self._read(shape.obj(choice.get("delta")) or shape.obj(choice.get("message")))
        if reason := shape.string(choice.get("finish_reason")):
            self._reason = reason if reason in ("length", "content_filter") else "stop"
            found += self._complete()
        return found

    def end(self) -> list[ModelEvent]:
        """See `shape.Decoder`."""
        if not self.complete:
            raise failure.closed_early()
        closing: list[ModelEvent] = [self._usage] if self._usage else []
        return [*closing, Finished(self._reason)]

    def _read(self, delta: JsonObject) -> list[ModelEvent]:
        found: list[ModelEvent] = []
        if reasoning := shape.string(delta.get("reasoning")) or shape.string(delta.get("reasoning_content")):
            self._reasoning.append(reasoning)
            found.append(ReasoningDelta(reasoning, raw=True))
        if text := _text(delta.get("content")):
            self._text.append(text)
            found.append(TextDelta(text))
        for part in shape.array(delta.get("tool_calls")):
            self._read_call(shape.obj(part))
        return found

    def _read_call(self, part: JsonObject) -> None:
        function = shape.obj(part.get("function"))
        call = self._call_of(part, shape.string(function.get("name")))
        call.id = call.id or shape.string(part.get("id"))
        call.name = call.name or shape.string(function.get("name"))  # once: some endpoints repeat it in every delta
        call.arguments += shape.arguments(function.get("arguments"))

    def _call_of(self, part: JsonObject, name: str) -> _Call:
        """The call that a delta belongs to: by `index`, but some endpoints leave that out, or count none of them up."""
        index = shape.integer(part.get("index"))
        call_id = shape.string(part.get("id"))
        known = self._by_index.get(index) if index is not None else next(reversed(self._calls), None)
        if known is None or (name and known.name and _is_another(known.id, call_id, counted=index is not None)):
            known = _Call()
            self._calls.append(known)
        if index is not None:
            self._by_index[index] = known
        return known

    def _complete(self) -> list[ModelEvent]:
        """The items of the response, once, all at its end: reasoning, text, calls."""
        if self.complete:
            return []
        self.complete = True
        found: list[Item] = []
        if self._reasoning:
            part: JsonObject = {"type": "reasoning_text", "text": "".join(self._reasoning)}
            found.append({"type": "reasoning", "summary": [], "content": [part]})
        if self._text:
            found.append(items.assistant_message("".join(self._text)))
        found += _call_items(self._calls)
        closed = not self._calls and self._reason != "content_filter"  # which is no end that an answer could stand for
        return [ItemDone(item, closes=closed and number == len(found)) for number, item in enumerate(found, 1)]


def _is_another(known_id: str, call_id: str, *, counted: bool) -> bool:
    """Whether a delta with a name begins a new call although a call of its place is known."""
    if counted:
        return bool(known_id and call_id) and call_id != known_id
    return not call_id or call_id != known_id


def _call_items(calls: Iterable[_Call]) -> list[Item]:
    """Call ids are made where they are missing or not unique: outputs are matched by them."""
    found: dict[str, Item] = {}
    for call in calls:
        call_id = call.id if call.id and call.id not in found else f"call_{new_id()}"
        found[call_id] = items.function_call(call_id, call.name, call.arguments or "{}")
    return list(found.values())


def _text(content: object) -> str:
    if parts := shape.array(content):
        return "".join(shape.string(shape.obj(part).get("text")) for part in parts)
    return shape.string(content)


def _reported(error: object) -> failure.RequestFailed:
    if isinstance(error, str):
        return failure.reported(error)
    fields = shape.obj(error)
    message = shape.string(fields.get("message")) or "the endpoint reported an error"
    return failure.reported(message, fields.get("code"), fields.get("type"))
