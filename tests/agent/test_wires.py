"""Both wires, pure: items to requests, streams to items."""

import json
from collections.abc import Iterable
from dataclasses import replace

import pytest

from codexdb.agent.model import (
    Finished,
    ItemDone,
    ModelEvent,
    ModelRequest,
    ReasoningDelta,
    RequestFailed,
    TextDelta,
    ToolSpec,
    Usage,
)
from codexdb.agent.wires import chat, responses, shape
from codexdb.domain.item import (
    Item,
    assistant_message,
    developer_message,
    function_call,
    function_call_output,
    input_image,
    input_text,
    user_message,
)
from codexdb.domain.json import JsonObject

HI = user_message([input_text("hi")])
SHELL = ToolSpec("shell", "Runs a command.", {"type": "object"})


def request(*history: Item, tools: Iterable[ToolSpec] = ()) -> ModelRequest:
    return ModelRequest("session-1", "mock", "Be brief.", list(history), list(tools))


def messages(*history: Item) -> list[JsonObject]:
    found = chat.request_body(request(*history))["messages"]
    assert isinstance(found, list)
    return found[1:]  # pyright: ignore[reportUnknownVariableType]


def run(decoder: shape.Decoder, *bodies: object) -> list[ModelEvent]:
    """The events of a whole stream; strings are data as they stand."""
    found: list[ModelEvent] = []
    for body in bodies:
        found += decoder.feed("message", body if isinstance(body, str) else json.dumps(body))
    return found + decoder.end()


def delta(reason: str | None = None, **fields: object) -> JsonObject:
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": reason}]}


def call_delta(**fields: object) -> JsonObject:
    return delta(tool_calls=[fields])


def items_of(events: Iterable[ModelEvent]) -> list[Item]:
    return [event.item for event in events if isinstance(event, ItemDone)]


# -- chat: request ---------------------------------------------------------------------------------------------------


def test_chat_sends_instructions_first_and_asks_for_usage() -> None:
    assert chat.request_body(request(HI, tools=[SHELL])) == {
        "model": "mock",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "shell",
                    "description": "Runs a command.",
                    "parameters": {"type": "object"},
                    "strict": False,
                },
            }
        ],
    }


def test_chat_leaves_out_what_is_empty_or_refused() -> None:
    body = chat.request_body(replace(request(HI), instructions=""), include_usage=False)
    assert body == {"model": "mock", "messages": [{"role": "user", "content": "hi"}], "stream": True}


def test_chat_puts_text_and_calls_of_a_response_into_one_message_and_answers_in_call_order() -> None:
    assert messages(
        assistant_message("Looking."),
        {"type": "reasoning", "summary": []},
        function_call("a", "shell", "{}"),
        function_call("b", "shell", "{}"),
        function_call_output("b", "B"),
        function_call_output("a", "A"),
        assistant_message("Done."),
    ) == [
        {
            "role": "assistant",
            "content": "Looking.",
            "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "shell", "arguments": "{}"}},
                {"id": "b", "type": "function", "function": {"name": "shell", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "tool_call_id": "a", "content": "A"},
        {"role": "tool", "tool_call_id": "b", "content": "B"},
        {"role": "assistant", "content": "Done."},
    ]


def test_chat_answers_every_call_right_after_its_message_however_outputs_were_recorded() -> None:
    found = messages(
        function_call("a", "shell", "{}"),
        function_call("b", "shell", "{}"),
        function_call_output("a", "A"),
        function_call("c", "shell", "{}"),
        function_call_output("b", "B"),
        function_call_output("orphan", "O"),
        HI,
    )
    assert [(m["role"], m.get("tool_call_id"), m["content"]) for m in found] == [
        ("assistant", None, None),
        ("tool", "a", "A"),
        ("tool", "b", "B"),
        ("assistant", None, None),
        ("tool", "c", "aborted"),
        ("user", None, "hi"),
    ]


def test_chat_matches_outputs_of_a_call_id_that_comes_again() -> None:
    again = [function_call("call_0", "shell", "{}"), function_call_output("call_0", "first"), HI]
    again += [function_call("call_0", "shell", "{}"), function_call_output("call_0", "second")]
    assert [m["content"] for m in messages(*again) if m["role"] == "tool"] == ["first", "second"]


def test_chat_sends_images_as_parts_and_developer_text_as_system() -> None:
    assert messages(developer_message("Be kind."), user_message([input_text("this?"), input_image("data:x")])) == [
        {"role": "system", "content": "Be kind."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "this?"}, {"type": "image_url", "image_url": {"url": "data:x"}}],
        },
    ]


# -- chat: answer ----------------------------------------------------------------------------------------------------


def test_chat_gives_text_before_calls_then_usage_then_the_end() -> None:
    counts = {
        "prompt_tokens": 3,
        "completion_tokens": 2,
        "total_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 1},
    }
    assert run(
        chat.ChatDecoder(),
        delta(role="assistant", content=None),
        delta(content="Hel"),
        call_delta(index=0, id="a", function={"name": "shell", "arguments": '{"x"'}),
        delta(content="lo"),
        call_delta(index=0, function={"arguments": ":1}"}),
        delta("tool_calls"),
        {"choices": [], "usage": counts},
        "[DONE]",
    ) == [
        TextDelta("Hel"),
        TextDelta("lo"),
        ItemDone(assistant_message("Hello")),
        ItemDone(function_call("a", "shell", '{"x":1}')),
        Usage(3, 1, 2, None, 5),
        Finished("stop"),
    ]


PARALLEL: dict[str, list[JsonObject]] = {
    "interleaved by index": [
        call_delta(index=0, id="a", function={"name": "f", "arguments": "{"}),
        call_delta(index=1, id="b", function={"name": "g", "arguments": "["}),
        call_delta(index=0, function={"arguments": "}"}),
        call_delta(index=1, function={"arguments": "]"}),
    ],
    "name repeated in every delta": [
        call_delta(index=0, id="a", function={"name": "f", "arguments": "{"}),
        call_delta(index=0, id="a", function={"name": "f", "arguments": "}"}),
        call_delta(index=1, id="b", function={"name": "g", "arguments": "[]"}),
    ],
    "all of index 0": [
        call_delta(index=0, id="a", function={"name": "f", "arguments": "{}"}),
        call_delta(index=0, id="b", function={"name": "g", "arguments": "[]"}),
    ],
    "no index": [
        call_delta(id="a", function={"name": "f", "arguments": "{"}),
        call_delta(function={"arguments": "}"}),
        call_delta(id="b", function={"name": "g", "arguments": "[]"}),
    ],
    "whole message": [
        {
            "choices": [
                {
                    "message": {
                        "content": None,
                        "tool_calls": [
                            {"id": "a", "function": {"name": "f", "arguments": {}}},
                            {"id": "b", "function": {"name": "g", "arguments": []}},
                        ],
                    }
                }
            ]
        }
    ],
}


@pytest.mark.parametrize("deltas", PARALLEL.values(), ids=PARALLEL)
def test_chat_keeps_parallel_calls_apart(deltas: list[JsonObject]) -> None:
    found = items_of(run(chat.ChatDecoder(), *deltas, delta("stop")))
    assert found == [function_call("a", "f", "{}"), function_call("b", "g", "[]")]


def test_chat_makes_call_ids_that_are_missing_or_taken_and_arguments_that_are_empty() -> None:
    bare = {"function": {"name": "f"}}
    found = items_of(
        run(
            chat.ChatDecoder(),
            delta(tool_calls=[bare, bare]),
            call_delta(index=7, id="x", function={"name": "f"}),
            call_delta(index=8, id="x", function={"name": "f"}),
            delta("tool_calls"),
        )
    )
    assert len({str(item["call_id"]) for item in found}) == 4
    assert all(item["call_id"] and item["arguments"] == "{}" for item in found)


def test_chat_takes_arguments_that_arrive_as_an_object() -> None:
    found = items_of(
        run(chat.ChatDecoder(), call_delta(id="a", function={"name": "f", "arguments": {"x": 1}}), "[DONE]")
    )
    assert found == [function_call("a", "f", '{"x":1}')]


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_chat_gives_reasoning_as_raw_and_as_an_item_of_its_own(name: str) -> None:
    found = run(chat.ChatDecoder(), delta(**{name: "hm"}), delta("stop", content="yes"))
    assert found[:2] == [ReasoningDelta("hm", raw=True), TextDelta("yes")]
    assert [item["type"] for item in items_of(found)] == ["reasoning", "message"]


@pytest.mark.parametrize(
    ("given", "told"), [("stop", "stop"), ("length", "length"), ("content_filter", "content_filter"), ("odd", "stop")]
)
def test_chat_tells_why_the_response_ended(given: str, told: str) -> None:
    assert run(chat.ChatDecoder(), delta(given, content="x"))[-1] == Finished(told)


def test_chat_skips_junk_and_puts_split_surrogates_aside() -> None:
    found = run(
        chat.ChatDecoder(), "oops", "[1]", '{"choices":[{"delta":{"content":"a\\ud83d"}}]}', {"choices": None}, "[DONE]"
    )
    assert found == [TextDelta("a?"), ItemDone(assistant_message("a?"), closes=True), Finished()]


def test_chat_without_finish_reason_and_done_is_a_lost_stream() -> None:
    with pytest.raises(RequestFailed, match=r"^stream disconnected before completion: stream closed before") as caught:
        run(chat.ChatDecoder(), delta(content="part"))
    assert caught.value.again


ERRORS = [
    ({"message": "busy", "code": 502}, True, None),
    ({"message": "bad", "code": 400}, False, None),
    ({"message": "no money", "type": "insufficient_quota"}, False, None),
    ({"message": "odd", "code": {"x": 1}}, True, None),
    ("plain", True, None),
    ({"message": "Please try again in 1.5s.", "code": "rate_limit_exceeded"}, True, 1_500),
    ({"message": "try again in 350ms", "code": "429"}, True, 350),
]


@pytest.mark.parametrize(("error", "again", "wait"), ERRORS)
def test_an_error_object_inside_a_stream_fails_the_request(error: object, again: bool, wait: int | None) -> None:
    with pytest.raises(RequestFailed, match=r"^stream disconnected before completion: ") as caught:
        run(chat.ChatDecoder(), delta(content="part"), {"error": error})
    assert (caught.value.again, caught.value.retry_after_ms) == (again, wait)


# -- responses -------------------------------------------------------------------------------------------------------


def test_responses_sends_items_as_they_are_and_asks_for_nothing_to_be_stored() -> None:
    sealed: Item = {"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": "x", "content": None}
    history: list[Item] = [{**HI, "id": None}, {"type": "reasoning", "summary": []}, sealed, {"type": "odd", "x": 1}]
    body = responses.request_body(replace(request(*history, tools=[SHELL]), reasoning={"effort": "low"}))
    assert body == {
        "model": "mock",
        "instructions": "Be brief.",
        "input": [
            HI,
            {"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": "x"},
            {"type": "odd", "x": 1},
        ],
        "tools": [
            {
                "type": "function",
                "name": "shell",
                "description": "Runs a command.",
                "strict": False,
                "parameters": {"type": "object"},
            }
        ],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "reasoning": {"effort": "low"},
        "include": ["reasoning.encrypted_content"],
        "store": False,
        "stream": True,
        "prompt_cache_key": "session-1",
    }


def test_responses_includes_reasoning_only_for_models_that_reason() -> None:
    body = responses.request_body(request(HI))
    assert (body["reasoning"], body["include"]) == (None, [])
    assert "tools" not in body


def done(item: object) -> JsonObject:
    return {"type": "response.output_item.done", "item": item}


def test_responses_gives_deltas_items_usage_and_the_end() -> None:
    item: Item = {"type": "message", "id": "m", "role": "assistant", "content": [{"type": "output_text", "text": "ab"}]}
    usage = {
        "input_tokens": 3,
        "input_tokens_details": {"cached_tokens": 1},
        "output_tokens": 2,
        "output_tokens_details": {"reasoning_tokens": 1},
        "total_tokens": 5,
    }
    assert run(
        responses.ResponsesDecoder(),
        {"type": "response.created"},
        {"type": "response.reasoning_summary_text.delta", "delta": "hm"},
        {"type": "response.reasoning_text.delta", "delta": "raw"},
        {"type": "response.output_text.delta", "delta": "ab"},
        "junk",
        done(item),
        done({"type": "function_call", "name": "f", "arguments": {"x": 1}, "call_id": "c"}),
        {"type": "response.completed", "response": {"output": [item], "usage": usage}},
        {"type": "error", "message": "too late"},
    ) == [
        ReasoningDelta("hm"),
        ReasoningDelta("raw", raw=True),
        TextDelta("ab"),
        ItemDone(item),
        ItemDone(function_call("c", "f", '{"x":1}')),
        Usage(3, 1, 2, 1, 5),
        Finished("stop"),
    ]


def test_responses_takes_items_from_the_end_where_none_came_before() -> None:
    item = assistant_message("x")
    found = run(responses.ResponsesDecoder(), {"type": "response.completed", "response": {"output": [item]}})
    assert found == [ItemDone(item), Finished()]


def test_responses_names_its_events_also_by_the_event_field() -> None:
    decoder = responses.ResponsesDecoder()
    assert decoder.feed("response.output_text.delta", '{"delta":"x"}') == [TextDelta("x")]


@pytest.mark.parametrize(("given", "told"), [("max_output_tokens", "length"), ("content_filter", "content_filter")])
def test_an_incomplete_response_keeps_its_items_and_says_why(given: str, told: str) -> None:
    end = {"type": "response.incomplete", "response": {"incomplete_details": {"reason": given}}}
    found = run(responses.ResponsesDecoder(), done(assistant_message("x")), end)
    assert found == [ItemDone(assistant_message("x")), Finished(told)]


@pytest.mark.parametrize(
    ("code", "again"),
    [
        ("rate_limit_exceeded", True),
        ("server_error", True),
        ("context_length_exceeded", False),
        ("insufficient_quota", False),
        ("invalid_prompt", False),
        ("usage_not_included", False),
    ],
)
def test_a_failed_response_is_tried_again_by_its_code(code: str, again: bool) -> None:
    error = {"code": code, "message": "Try again in 35 seconds."}
    with pytest.raises(RequestFailed, match=r"^stream disconnected before completion: Try again in 35") as caught:
        run(responses.ResponsesDecoder(), {"type": "response.failed", "response": {"error": error}})
    assert (caught.value.again, caught.value.retry_after_ms) == (again, 35_000 if again else None)


def test_responses_without_its_last_event_is_a_lost_stream() -> None:
    with pytest.raises(RequestFailed, match=r"stream closed before response\.completed$"):
        run(responses.ResponsesDecoder(), done(assistant_message("x")))
