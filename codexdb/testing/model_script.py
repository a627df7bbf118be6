"""The steps of a scripted model: what it does with one request, and how an answer looks on either wire.

Pure: `scripted_model` owns the sockets. Only the standard library is used.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, cast

Json = dict[str, object]

USAGE = {"input": 11, "cached": 3, "output": 5, "reasoning": 2, "total": 16}
"""Token counts of every answer that tells any."""


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call. An empty `call_id` is left out of the answer."""

    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete response: reasoning, then text, then calls. See `say` and `call_tools`."""

    text: tuple[str, ...] = ()  # one delta each
    calls: tuple[Call, ...] = ()
    reasoning: tuple[str, ...] = ()  # one delta each
    delay_ms: int = 0  # before each delta of text
    usage: bool = True  # chat: only where the request asks for it, as real endpoints do
    finish_in_one_chunk: bool = False  # chat: the last delta carries the finish reason
    one_delta_per_call: bool = True  # False: name first, then the arguments in two pieces


@dataclass(frozen=True, slots=True)
class Status:
    """An HTTP answer that is no stream."""

    code: int
    body: str = ""
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Drop:
    """The connection breaks: once the request was read, after the headers, or after `events` events of `answer`.

    `events` None: everything but what ends the response.
    """

    when: Literal["connect", "headers", "mid"] = "mid"
    answer: Answer = Answer(text=("partial",))
    events: int | None = None


@dataclass(frozen=True, slots=True)
class Truncate:
    """A body that ends cleanly after `events` events (None: everything but what ends the response)."""

    answer: Answer = Answer(text=("partial",))
    events: int | None = None


@dataclass(frozen=True, slots=True)
class Raw:
    """These bytes as the body of a stream."""

    body: str
    content_type: str = "text/event-stream"
    ends: bool = True  # False: the connection stays open until released
    breaks: bool = False  # the connection breaks after them
    delay_ms: int = 0  # before each event or comment; those end with a blank line


@dataclass(frozen=True, slots=True)
class Hang:
    """The deltas of `before`, then silence until released or `ms` passed, then `answer`."""

    ms: int | None = None
    before: tuple[str, ...] = ()
    answer: Answer = Answer(text=("released",))


Step = Answer | Status | Drop | Truncate | Raw | Hang

_KINDS: dict[str, type[Step]] = {
    "answer": Answer,
    "status": Status,
    "drop": Drop,
    "truncate": Truncate,
    "raw": Raw,
    "hang": Hang,
}


def say(*chunks: str, delay_ms: int = 0, usage: bool = True) -> Answer:
    """An answer of text alone."""
    return Answer(text=chunks, delay_ms=delay_ms, usage=usage)


def call_tools(*calls: tuple[str, str, str], text: str = "") -> Answer:
    """An answer that asks for tools: (call_id, name, arguments) each."""
    return Answer(text=(text,) if text else (), calls=tuple(Call(*call) for call in calls))


def step_to_json(step: Step) -> Json:
    """The form that `step_from_json` reads."""
    kind = next(name for name, cls in _KINDS.items() if isinstance(step, cls))
    return {"kind": kind, **dataclasses.asdict(step)}


def step_from_json(value: object) -> Step:
    """A step from its JSON form: `{"kind": "answer" | "status" | …, <the fields of that class>}`.

    Text may be one string instead of a list, a call a list of three strings instead of an object.

    Raises:
        ValueError: unknown kind.
        TypeError: unknown field.
    """
    fields = dict(cast("Json", value))
    kind = fields.pop("kind", None)
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ValueError(f"a step needs a kind, one of {', '.join(_KINDS)}")
    for name in ("text", "reasoning", "before"):
        if name in fields:
            chunks = fields[name]
            fields[name] = (chunks,) if isinstance(chunks, str) else tuple(cast("list[str]", chunks))
    if "calls" in fields:
        fields["calls"] = tuple(_call_from_json(call) for call in cast("list[object]", fields["calls"]))
    if "answer" in fields:
        fields["answer"] = step_from_json({"kind": "answer", **cast("Json", fields["answer"])})
    return cast("type[Answer]", _KINDS[kind])(**fields)  # pyright: ignore[reportArgumentType]


def _call_from_json(value: object) -> Call:
    if isinstance(value, dict):
        return Call(**cast("dict[str, str]", value))
    return Call(*cast("list[str]", value))


# -- wires -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Frame:
    """One server-sent event, encoded."""

    data: bytes
    delta: bool = False  # of text: `delay_ms` goes before it
    final: bool = False  # belongs to the end of the response


def frames(answer: Answer, *, chat: bool, include_usage: bool) -> list[Frame]:
    """The whole stream of an answer. `include_usage`: what a chat request asked for."""
    if chat:
        return list(_chat_frames(answer, usage=answer.usage and include_usage))
    return list(_responses_frames(answer))


def _chat_frames(answer: Answer, *, usage: bool) -> Iterator[Frame]:
    reason = "tool_calls" if answer.calls else "stop"
    in_one = answer.finish_in_one_chunk and not answer.calls
    yield _chunk({"role": "assistant"})
    for piece in answer.reasoning:
        yield _chunk({"reasoning_content": piece})
    for number, piece in enumerate(answer.text, 1):
        last = in_one and number == len(answer.text)
        yield _chunk({"content": piece}, reason if last else None)
    for index, call in enumerate(answer.calls):
        for piece in _call_deltas(call, whole=answer.one_delta_per_call):
            yield _chunk({"tool_calls": [{"index": index, **piece}]})
    if not in_one:
        yield _chunk({}, reason)
    if usage:
        counts = {
            "prompt_tokens": USAGE["input"],
            "completion_tokens": USAGE["output"],
            "total_tokens": USAGE["total"],
            "prompt_tokens_details": {"cached_tokens": USAGE["cached"]},
            "completion_tokens_details": {"reasoning_tokens": USAGE["reasoning"]},
        }
        yield Frame(_data({**_CHUNK, "choices": [], "usage": counts}), final=True)
    yield Frame(b"data: [DONE]\n\n", final=True)


_CHUNK = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 0, "model": "scripted"}


def _chunk(delta: Json, reason: str | None = None) -> Frame:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return Frame(_data({**_CHUNK, "choices": [choice]}), delta="content" in delta, final=reason is not None)


def _call_deltas(call: Call, *, whole: bool) -> Iterator[Json]:
    head: Json = {"id": call.call_id, "type": "function"} if call.call_id else {"type": "function"}
    if whole:
        yield {**head, "function": {"name": call.name, "arguments": call.arguments}}
        return
    middle = len(call.arguments) // 2
    yield {**head, "function": {"name": call.name, "arguments": ""}}
    yield {"function": {"arguments": call.arguments[:middle]}}
    yield {"function": {"arguments": call.arguments[middle:]}}


def _responses_frames(answer: Answer) -> Iterator[Frame]:
    yield _typed("response.created", response={"id": "resp_1", "status": "in_progress"})
    output: list[Json] = []
    if answer.reasoning:
        for piece in answer.reasoning:
            yield _typed("response.reasoning_summary_text.delta", item_id="rs_1", summary_index=0, delta=piece)
        summary = [{"type": "summary_text", "text": "".join(answer.reasoning)}]
        output.append({"type": "reasoning", "id": "rs_1", "summary": summary, "encrypted_content": "sealed"})
        yield _typed("response.output_item.done", output_index=0, item=output[-1])
    if answer.text:
        for piece in answer.text:
            yield _typed("response.output_text.delta", item_id="msg_1", delta=piece)
        part: Json = {"type": "output_text", "text": "".join(answer.text), "annotations": []}
        message: Json = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed"}
        output.append({**message, "content": [part]})
        yield _typed("response.output_item.done", output_index=len(output) - 1, item=output[-1])
    for number, call in enumerate(answer.calls, 1):
        item: Json = {"type": "function_call", "id": f"fc_{number}", "status": "completed"}
        output.append({**item, "call_id": call.call_id, "name": call.name, "arguments": call.arguments})
        yield _typed("response.output_item.done", output_index=len(output) - 1, item=output[-1])
    response: Json = {"id": "resp_1", "status": "completed", "output": output}
    if answer.usage:
        response["usage"] = {
            "input_tokens": USAGE["input"],
            "input_tokens_details": {"cached_tokens": USAGE["cached"]},
            "output_tokens": USAGE["output"],
            "output_tokens_details": {"reasoning_tokens": USAGE["reasoning"]},
            "total_tokens": USAGE["total"],
        }
    yield _typed("response.completed", response=response)


def _typed(kind: str, **fields: object) -> Frame:
    text = f"event: {kind}\n".encode() + _data({"type": kind, **fields})
    return Frame(text, delta=kind == "response.output_text.delta", final=kind == "response.completed")


def _data(value: Json) -> bytes:
    return b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"
