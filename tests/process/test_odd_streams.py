"""Streams that are whole and look odd: each is taken for what it means."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from codexdb.testing.model_script import USAGE, Answer, Call, Hang, Json, Raw, call_tools, frames, say
from tests.process.unreliable import Turn, Unreliable, events, outputs_seen, shell

IDLE_MS = 600
PAUSE_MS = 150  # a quarter of it: enough on a busy machine
LONG = 10 * 1024 * 1024


def stream(endpoint: Unreliable, answer: Answer) -> list[str]:
    """The events of the answer, as text."""
    return [frame.data.decode() for frame in frames(answer, chat=endpoint.is_chat, include_usage=True)]


def finished(endpoint: Unreliable, text: str, reason: str) -> Raw:
    """A stream that says why it ended early, in the chat wire's words."""
    if endpoint.is_chat:
        return Raw(events({"choices": [{"delta": {"content": text}, "finish_reason": reason}]}, "[DONE]"))
    said = stream(endpoint, say(text))[:-1]
    why = {"length": "max_output_tokens"}.get(reason, reason)
    response = {"id": "resp_1", "status": "incomplete", "incomplete_details": {"reason": why}}
    return Raw("".join(said) + events({"type": "response.incomplete", "response": response}))


# -- bytes -------------------------------------------------------------------------------------------------------------

JUNK = "data: {oops\n\ndata: [1]\n\ndata: 7\n\ndata: null\n\ndata: {}\n\nno field\nid: 7\nretry: 1\n: comment\n\n"
ODD_BYTES: dict[str, Callable[[list[str]], str]] = {
    "carriage returns": lambda found: "".join(found).replace("\n", "\r"),
    "both": lambda found: "".join(found).replace("\n", "\r\n"),
    "byte order mark": lambda found: "\ufeff" + "".join(found[1:]),  # before an event that matters
    "junk between events": lambda found: JUNK + JUNK.join(found),
    "no blank line at the end": lambda found: "".join(found).rstrip("\n"),
    "comments within events": lambda found: "".join(found).replace("data: ", ": ping\ndata: "),
}


@pytest.mark.parametrize("odd", ODD_BYTES.values(), ids=ODD_BYTES)
def test_odd_bytes_change_nothing(endpoint: Unreliable, tmp_path: Path, odd: Callable[[list[str]], str]) -> None:
    mark = tmp_path / "mark"
    answer = call_tools(shell(f"echo once >> {mark}", "c1"), text="Looking.")
    turn = endpoint.turn(Raw(odd(stream(endpoint, answer))), Raw(odd(stream(endpoint, say("do", "ne")))))
    assert (turn.text, turn.said, turn.naps) == ("done", ["Looking.", "done"], [])
    assert mark.read_text().split() == ["once"]


def test_comments_alone_keep_a_stream_alive(endpoint: Unreliable) -> None:
    """Upstream counts events; an endpoint that only says that it still works is given up there."""
    endpoint.configure(stream_idle_timeout_ms=IDLE_MS)
    comments = ": still working\n\n" * (2 + IDLE_MS // PAUSE_MS)
    turn = endpoint.turn(Raw(comments + "".join(stream(endpoint, say("done"))), delay_ms=PAUSE_MS))
    assert (turn.text, turn.naps) == ("done", [])


def test_silence_ends_a_stream_and_is_tried_again(endpoint: Unreliable) -> None:
    endpoint.configure(stream_idle_timeout_ms=IDLE_MS // 4)
    turn = endpoint.turn(Hang(), Hang(before=("part",)), say("done"))
    assert (turn.text, turn.said, len(turn.naps)) == ("done", ["done"], 2)
    assert all("idle timeout waiting for SSE" in told for told in turn.told("background_event"))


def test_an_item_of_ten_megabytes_is_taken_whole(endpoint: Unreliable) -> None:
    turn = endpoint.turn(say("x" * LONG))
    assert (turn.failed, turn.naps) == (False, [])
    (stored,) = endpoint.rows(
        "SELECT length(payload) FROM items WHERE role = 'assistant' ORDER BY id DESC LIMIT 1",
    )
    assert isinstance(stored[0], int)
    assert stored[0] > LONG


# -- ends --------------------------------------------------------------------------------------------------------------


def test_an_answer_cut_off_at_its_limit_stands_and_people_are_told(endpoint: Unreliable) -> None:
    turn = endpoint.turn(finished(endpoint, "so far", "length"))
    assert (turn.text, turn.failed, len(turn.requests)) == ("so far", False, 1)
    assert turn.told("background_event") == ["The answer was cut off at the model's output limit."]


def test_an_answer_that_a_content_filter_stopped_fails_the_turn(endpoint: Unreliable) -> None:
    turn = endpoint.turn(finished(endpoint, "so far", "content_filter"))
    assert turn.told("error") == ["the endpoint's content filter stopped the answer"]
    assert (len(turn.requests), turn.naps, turn.said) == (1, [], ["so far"])


def test_usage_that_comes_after_the_end_is_counted(endpoint: Unreliable) -> None:
    turn = endpoint.turn(say("done"))
    (counted,) = [event for event in turn.events if event["type"] == "token_count"]
    assert (counted["input_tokens"], counted["total_tokens"]) == (USAGE["input"], USAGE["total"])
    accounts = "SELECT input_tokens, output_tokens, total_tokens FROM model_requests ORDER BY id DESC LIMIT 1"
    assert endpoint.rows(accounts) == [(USAGE["input"], USAGE["output"], USAGE["total"])]


# -- calls -------------------------------------------------------------------------------------------------------------


def assert_both_ran(turn: Turn, mark: Path) -> None:
    assert (turn.text, turn.naps) == ("done", [])
    assert mark.read_text().split() == ["one", "two"]
    made = [item["call_id"] for item in turn.of("function_call")]
    assert all(made)
    assert len(set(made)) == 2
    assert [item["call_id"] for item in turn.of("function_call_output")] == made
    assert outputs_seen(turn.requests[1].body or {}) == made


def two_calls(mark: Path) -> tuple[Call, Call]:
    return Call(*shell(f"echo one >> {mark}", "c1")), Call(*shell(f"echo two >> {mark}", "c2"))


def test_calls_without_ids_are_given_some(endpoint: Unreliable, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    calls = tuple(dataclasses.replace(call, call_id="") for call in two_calls(mark))
    assert_both_ran(endpoint.turn(Answer(calls=calls), say("done")), mark)


def test_arguments_that_arrive_as_an_object_are_taken(endpoint: Unreliable, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    calls = two_calls(mark)
    body = "".join(stream(endpoint, Answer(calls=calls)))
    for call in calls:
        body = body.replace(json.dumps(call.arguments), call.arguments)
    assert "\\" not in body, "no text in a text is left"
    assert_both_ran(endpoint.turn(Raw(body), say("done")), mark)


def test_calls_of_an_answer_that_says_it_stopped_run_all_the_same(endpoint: Unreliable, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    body = "".join(stream(endpoint, Answer(calls=two_calls(mark)))).replace('"tool_calls"}', '"stop"}')
    assert_both_ran(endpoint.turn(Raw(body), say("done")), mark)


def test_items_of_an_unknown_type_are_kept_and_hurt_nobody(endpoint: Unreliable) -> None:
    odd: Json = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
    body = "" if endpoint.is_chat else events({"type": "response.output_item.done", "item": odd})
    turn = endpoint.turn(Raw(body + "".join(stream(endpoint, say("done")))))
    assert (turn.text, turn.naps) == ("done", [])
    assert turn.of("web_search_call") == ([] if endpoint.is_chat else [odd])
