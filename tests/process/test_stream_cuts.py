"""Answers that break off anywhere: what was complete is kept, nothing is done or said twice, and the turn ends.

The endpoint behaves like a model: cut off, it is asked again, and says what the request does not hold yet.
"""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from codexdb.testing.model_script import Answer, Call, Drop, Json, Raw, Step, Truncate, call_tools, frames, say
from tests.process.unreliable import RETRIES, Turn, Unreliable, assert_backoff, entries, outputs_seen, shell

FOLLOWED_BY = ("message", "function_call")  # what an endpoint wants to see behind reasoning that it is given back


def whole(mark: Path) -> Answer:
    """Everything that an answer can hold. Its commands leave a line each."""
    calls = (shell(f"echo one >> {mark}", "c1"), shell(f"echo two >> {mark}", "c2"))
    return Answer(("Look", "ing."), tuple(Call(*call) for call in calls), reasoning=("hm, ", "so"))


EVENTS = len(frames(whole(Path()), chat=True, include_usage=True))  # of either wire
CHAT_IS_COMPLETE_AFTER = EVENTS - 2  # its usage and its end say nothing that is needed


def test_both_wires_have_as_many_events_to_cut_behind() -> None:
    assert len(frames(whole(Path()), chat=False, include_usage=True)) == EVENTS


def go_on(answer: Answer) -> Callable[[Json], Step]:
    """A model that says what the request does not hold of its answer, and "done" when it holds all of it."""

    def respond(body: Json) -> Step:
        seen = outputs_seen(body)
        missing = tuple(call for call in answer.calls if call.call_id not in seen)
        if not missing:
            return say("done")
        return Answer(calls=missing) if "Looking." in json.dumps(entries(body)[2:]) else answer

    return respond


def complete(endpoint: Unreliable, answer: Answer, number: int) -> list[str]:
    """The types of the items that are complete after so many events."""
    if endpoint.is_chat:
        return ["reasoning", "message", "function_call", "function_call"] if number >= CHAT_IS_COMPLETE_AFTER else []
    seen = [json.loads(frame.data.partition(b"data: ")[2]) for frame in frames(answer, chat=False, include_usage=True)]
    return [body["item"]["type"] for body in seen[:number] if body["type"] == "response.output_item.done"]


def beginning(endpoint: Unreliable, answer: Answer, number: int, *, inside: bool = False) -> str:
    """The body up to the end of that event; `inside`: and half of the data line that follows."""
    found = frames(answer, chat=endpoint.is_chat, include_usage=True)
    body = b"".join(frame.data for frame in found[:number])
    if inside:
        line, colon, data = found[number].data.partition(b"data: ")
        body += line + colon + data[: len(data) // 2]
    return body.decode()


def assert_nothing_lost_or_doubled(turn: Turn, mark: Path, kept: list[str]) -> None:
    assert turn.text == "done"
    assert mark.read_text().split() == ["one", "two"]
    made = [
        item["type"] for item in turn.items if item["type"] != "function_call_output" and item.get("role") != "user"
    ]
    assert made[: len(kept)] == kept
    assert turn.said == turn.told("agent_message") == ["Looking.", "done"]
    assert [item["call_id"] for item in turn.of("function_call")] == ["c1", "c2"]
    assert [item["call_id"] for item in turn.of("function_call_output")] == ["c1", "c2"]
    assert [event["call_id"] for event in turn.events if event["type"] == "exec_command_begin"] == ["c1", "c2"]
    assert_can_be_read(turn)


def assert_can_be_read(turn: Turn) -> None:
    """Each request is one that a strict endpoint takes."""
    for request in turn.requests:
        body = request.body or {}
        assert len(set(outputs_seen(body))) == len(outputs_seen(body))
        kinds = [str(entry.get("type")) for entry in entries(body)]
        for kind, following in pairwise([*kinds, "nothing"]):
            assert kind != "reasoning" or following in FOLLOWED_BY, kinds


# -- every cut ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("drops", [False, True], ids=["ends", "drops"])
@pytest.mark.parametrize("inside", [False, True], ids=["behind", "within"])
@pytest.mark.parametrize("number", range(EVENTS))
def test_an_answer_cut_anywhere_is_gone_on_with(
    endpoint: Unreliable, tmp_path: Path, number: int, *, inside: bool, drops: bool
) -> None:
    mark = tmp_path / "mark"
    answer = whole(mark)
    cut: Step = Drop("mid", answer, number) if drops else Truncate(answer, number)
    if inside:
        cut = Raw(beginning(endpoint, answer, number, inside=True), breaks=drops)
    turn = endpoint.turn(cut, then=go_on(answer))
    kept = complete(endpoint, answer, number)
    assert_nothing_lost_or_doubled(turn, mark, kept)
    assert len(turn.of("reasoning")) == (2 if kept == ["reasoning"] else 1)  # it is asked again: another reasoning
    was_cut = not (endpoint.is_chat and number >= CHAT_IS_COMPLETE_AFTER)
    assert len(turn.naps) == len(turn.told("background_event")) == was_cut


def test_an_answer_that_falls_silent_is_gone_on_with(endpoint: Unreliable, tmp_path: Path) -> None:
    endpoint.configure(stream_idle_timeout_ms=150)
    mark, number = tmp_path / "mark", EVENTS - 3
    answer = whole(mark)
    silent = Raw(beginning(endpoint, answer, number, inside=True), ends=False)
    turn = endpoint.turn(silent, then=go_on(answer))
    assert_nothing_lost_or_doubled(turn, mark, complete(endpoint, answer, number))
    assert "idle timeout waiting for SSE" in turn.told("background_event")[0]


def test_an_answer_cut_again_and_again_is_gone_on_with(endpoint: Unreliable, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    answer = whole(mark)
    turn = endpoint.turn(*[Truncate(answer, number) for number in range(5)], then=go_on(answer))
    assert_nothing_lost_or_doubled(turn, mark, complete(endpoint, answer, 4))
    assert len(turn.naps) == 5
    assert_backoff(turn.naps)


# -- bounds of going on ------------------------------------------------------------------------------------------------

only_responses = pytest.mark.parametrize(
    "endpoint_", ["responses"], indirect=True, scope="module"
)  # items before its end


@only_responses
def test_an_endpoint_that_cuts_every_answer_is_not_asked_for_ever(endpoint: Unreliable) -> None:
    endpoint.configure(request_max_retries=2, stream_max_retries=0)
    steps = [Truncate(call_tools(shell("true", f"c{number}"))) for number in range(3)]
    turn = endpoint.turn(*steps)
    assert turn.told("error") == ["stream disconnected before completion: stream closed before response.completed"]
    assert [item["call_id"] for item in turn.of("function_call_output")] == ["c0", "c1", "c2"]
    assert len(turn.naps) == 2


@only_responses
def test_cuts_with_whole_answers_between_them_do_not_add_up(endpoint: Unreliable) -> None:
    endpoint.configure(request_max_retries=1, stream_max_retries=0)
    answers = [call_tools(shell("true", f"c{number}")) for number in range(6)]
    turn = endpoint.turn(
        *[Truncate(answer) if number % 2 else answer for number, answer in enumerate(answers)], say("x")
    )
    assert turn.text == "x"
    assert [round(nap / 200) for nap in turn.naps] == [1, 1, 1]


@only_responses
def test_cuts_and_failures_of_one_step_share_a_budget(endpoint: Unreliable) -> None:
    endpoint.configure(request_max_retries=2, stream_max_retries=0)
    cut = Truncate(call_tools(shell("true", "c0")))
    turn = endpoint.turn(Truncate(say("x"), 2), cut, Truncate(say("x"), 2))
    assert turn.failed
    assert len(turn.naps) == 2
    assert_backoff(turn.naps)


def report_after_a_call(endpoint: Unreliable, message: str, code: str) -> Raw:
    answer = call_tools(shell("true", "c0"))
    return Raw(beginning(endpoint, answer, 2) + endpoint.reports(message, code).body)


@only_responses
def test_a_failure_that_is_reported_after_an_item_is_waited_out_like_any_other(endpoint: Unreliable) -> None:
    turn = endpoint.turn(report_after_a_call(endpoint, "try again in 35 seconds", "rate_limit_exceeded"), say("x"))
    assert (turn.text, turn.naps) == ("x", [35_000])
    assert f"; retrying 1/{RETRIES} in 35000ms…" in turn.told("background_event")[0]
    assert outputs_seen(turn.requests[1].body or {}) == ["c0"]


@only_responses
def test_a_final_failure_that_is_reported_after_an_item_ends_the_turn(endpoint: Unreliable) -> None:
    turn = endpoint.turn(report_after_a_call(endpoint, "no money", "insufficient_quota"))
    assert turn.told("error") == ["stream disconnected before completion: no money"]
    assert (len(turn.requests), turn.naps) == (1, [])
    assert [item["call_id"] for item in turn.of("function_call_output")] == ["c0"]


@only_responses
def test_what_became_too_long_within_an_answer_is_summarised(endpoint: Unreliable) -> None:
    turn = endpoint.turn(report_after_a_call(endpoint, "too long", "context_length_exceeded"), say("Short."), say("x"))
    assert (turn.text, turn.naps) == ("x", [])
    assert "Short." in json.dumps(turn.requests[2].body)


@only_responses
def test_reasoning_that_a_cut_left_alone_is_not_sent_with_later_turns(endpoint: Unreliable, tmp_path: Path) -> None:
    endpoint.configure(request_max_retries=0, stream_max_retries=0)
    turn = endpoint.turn(Truncate(whole(tmp_path / "mark"), 4))
    assert (turn.failed, len(turn.of("reasoning"))) == (True, 1)
    endpoint.server.call_tool("codex-reply", {"threadId": turn.session, "prompt": "again"})
    kinds = [entry.get("type") for entry in entries(endpoint.model.requests[-1].body or {})]
    assert kinds == ["message", "message", "message"]
