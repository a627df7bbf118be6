"""What one turn may take: model requests, tokens and seconds, and what becomes of a turn that has taken them."""

from collections.abc import Callable
from typing import cast

import pytest

from codexdb.testing.model_script import Hang, Status, call_tools, say
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import Message, ServerProcess, StartServer
from tests.process.talking import at_rest, calls_and_outputs, is_summary, kinds, opened, read, reply, said, send, shell

CALLS = [call_tools(shell(f"c{number}", "true")) for number in range(4)]
TOKENS = 16  # that the scripted model counts for each request

Start = Callable[..., ServerProcess]


def exhausted(result: Message, allowed: str) -> None:
    assert result["kind"] == "budget_exhausted"
    assert f"its budget of {allowed}" in result["content"]


@pytest.mark.parametrize("wire", ["chat", "responses"])
@pytest.mark.parametrize(
    ("budget", "allowed"), [({"requests": 2}, "2 model requests"), ({"tokens": 2 * TOKENS}, "32 tokens")]
)
def test_a_turn_that_has_used_up_its_budget_ends_and_another_message_goes_on(
    server: StartServer, model: ScriptedModel, wire: str, budget: dict[str, object], allowed: str
) -> None:
    process = server(wire_api=wire, config={"turn_budget": budget})
    model.add(*CALLS[:2], say("done"))
    result = process.call_tool("codex", {"prompt": "first"})
    assert result["isError"] is True
    exhausted(result["structuredContent"], allowed)
    session = cast("str", result["structuredContent"]["threadId"])
    page = read(process, session)
    assert (page["last_turn"]["state"], page["last_turn"]["error_kind"]) == ("failed", "budget_exhausted")
    assert page["last_turn"]["usage"]["requests"] == 2
    assert page["last_turn"]["usage"]["total_tokens"] == 2 * TOKENS
    assert kinds(page)[-1] == "error"
    assert reply(process, session, "go on")["content"] == "done"
    assert said(model.requests[2]) == ["first", "go on"]
    assert calls_and_outputs(model.requests[2]) == (["c0", "c1"], ["c0", "c1"])
    page = read(process, session)
    assert (page["usage"]["requests"], page["last_turn"]["usage"]["requests"]) == (3, 1)


def test_an_answer_within_the_budget_is_an_answer(server: StartServer, model: ScriptedModel) -> None:
    model.add(CALLS[0], say("done"))
    process = server(config={"turn_budget": {"requests": 2, "tokens": 2 * TOKENS, "seconds": 3600}})
    assert read(process, opened(process, "first"))["last_turn"]["last_agent_message"] == "done"


def test_seconds_are_counted_too(server: StartServer, model: ScriptedModel) -> None:
    model.add(Hang(ms=1_100, answer=CALLS[0]), say("too late"))
    process = server(config={"turn_budget": {"seconds": 1}})
    result = process.call_tool("codex", {"prompt": "first"})
    exhausted(result["structuredContent"], "1 seconds")
    assert len(model.requests) == 1


def test_requests_that_failed_are_counted(server: StartServer, model: ScriptedModel) -> None:
    retries = {"scripted": {"stream_max_retries": 5}}
    model.add(Status(500, headers={"retry-after": "0"}), Status(500, headers={"retry-after": "0"}), say("too late"))
    process = server(config={"turn_budget": {"requests": 2}, "model_providers": retries})
    result = process.call_tool("codex", {"prompt": "first"})
    exhausted(result["structuredContent"], "2 model requests")
    assert len(model.requests) == 2


@pytest.mark.parametrize(
    ("budget", "allowed"), [({"requests": 3}, "3 model requests"), ({"tokens": 3 * TOKENS}, "48 tokens")]
)
def test_what_was_used_before_a_kill_counts(
    server: StartServer, model: ScriptedModel, budget: dict[str, object], allowed: str
) -> None:
    """What the request was to cost in which the server was killed, nobody knows."""
    model.add(*CALLS[:2], Hang(), CALLS[2], say("too late"))
    first = server(config={"turn_budget": budget})
    first.start_tool("codex", {"prompt": "first"}, id=1)
    session = first.wait_event("task_started", 1)["_meta"]["conversationId"]
    model.wait_for_requests(3)
    first.kill()
    second = server()
    page = at_rest(second, session)
    assert page["last_turn"]["error_kind"] == "budget_exhausted"
    assert f"its budget of {allowed}" in page["last_turn"]["error_message"]
    assert len(model.requests) == 4
    assert page["usage"]["requests"] == 3


def test_summaries_count_and_are_not_begun_beyond_the_budget(server: StartServer, model: ScriptedModel) -> None:
    process = server(config={"turn_budget": {"requests": 2}, "model_auto_compact_token_limit": TOKENS})
    session = opened(process, "first")
    model.add(say("the summary"), CALLS[0], say("too late"))
    exhausted(reply(process, session, "second"), "2 model requests")
    assert len(model.requests) == 3


def test_what_a_turn_that_was_cut_short_left_behind_counts_towards_the_limit(
    server: StartServer, model: ScriptedModel
) -> None:
    """Its output came after the endpoint had counted for the last time."""
    process = server(config={"turn_budget": {"requests": 2}, "model_auto_compact_token_limit": 500})
    long = call_tools(shell("c1", "sh", "-c", "printf %05000d 0"))
    model.add(CALLS[0], long, say("the summary"), say("done"))
    result = process.call_tool("codex", {"prompt": "first"})["structuredContent"]
    exhausted(result, "2 model requests")
    assert reply(process, result["threadId"], "go on")["content"] == "done"
    assert [is_summary(request) for request in model.requests] == [False, False, True, False]


def test_a_message_may_change_the_budget(server: StartServer, model: ScriptedModel) -> None:
    process = server()
    session = opened(process, "first")
    model.add(CALLS[0], say("too late"))
    assert send(process, session, "second", config={"turn_budget.requests": 1})["status"] == "ok"
    assert at_rest(process, session)["last_turn"]["error_kind"] == "budget_exhausted"
