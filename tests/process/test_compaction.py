"""Summaries: what the model sees after one, what stays on record, and what happens to turns in which one is made."""

import json
import signal
import sys
from itertools import pairwise
from pathlib import Path
from typing import cast

import pytest

from codexdb.testing.crashing import VARIABLE
from codexdb.testing.http1 import ReceivedRequest
from codexdb.testing.model_script import Answer, Hang, Json, Status, Step, call_tools, say
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import StartServer, write_config
from tests.process.talking import (
    ask,
    at_rest,
    calls_and_outputs,
    compacted,
    for_turns,
    is_summary,
    items,
    kinds,
    opened,
    prefix,
    read,
    reply,
    rows,
    said,
    send,
    shell,
    told,
    until,
)

CRASHING = (sys.executable, "-m", "codexdb.testing.crashing", "serve")
TOO_LONG = Status(400, '{"error": {"code": "context_length_exceeded", "message": "too long"}}')
LIMIT = {"model_auto_compact_token_limit": 16}  # what the scripted model counts for any request
DONE = "The conversation was summarised."
NOTHING = "There is nothing to summarise."

both_wires = pytest.mark.parametrize("wire", ["chat", "responses"])


@both_wires
def test_three_summaries_keep_what_the_user_said_and_all_of_the_record(
    server: StartServer, model: ScriptedModel, wire: str
) -> None:
    process = server(wire_api=wire)
    wishes = ["wish one: äöü 🎉", "wish two", "wish three", "wish four"]
    model.add(call_tools(shell("c0", "echo", "printed 0"), shell("d0", "echo", "again"), text="looking"), say("did 0"))
    session = opened(process, wishes[0])
    for number in (1, 2, 3):
        model.add(say(f"summary no. {number}"))
        compacted(process, session)
        model.add(call_tools(shell(f"c{number}", "echo", f"printed {number}")), say(f"did {number}"))
        reply(process, session, wishes[number])
    *_, first, last = for_turns(model)
    *kept, summary, newest = said(first)
    assert kept == wishes[:3]
    assert newest == wishes[3]
    assert summary.endswith("\n\nsummary no. 3")
    assert "summary no. 2" not in first.raw.decode()
    assert calls_and_outputs(first) == ([], [])
    assert calls_and_outputs(last) == (["c3"], ["c3"])
    for request in model.requests:
        calls, outputs = calls_and_outputs(request)
        assert calls == outputs
    whole = items(read(process, session, include_items=True))
    paged: list[Json] = []
    after = 0
    while page := read(process, session, include_items=True, after_item=after)["items"][:4]:
        paged += [each["item"] for each in page]
        after = page[-1]["seq"]
    assert paged == whole
    record = json.dumps(whole, ensure_ascii=False)
    assert [record.count(f"did {number}") for number in range(4)] == [1] * 4
    assert [item["type"] for item in whole].count("compaction") == 3
    for number in range(4):
        assert f"printed {number}" in record


@both_wires
def test_the_beginning_of_requests_is_the_same_bytes_until_a_summary_and_its_context_also_then(
    server: StartServer, model: ScriptedModel, home: Path, wire: str
) -> None:
    (home / "AGENTS.md").write_text("Be brief.")
    process = server(wire_api=wire)
    model.add(call_tools(shell("c1", "true")), say("one"), say("two"), say("the summary"), say("three"), say("four"))
    session = opened(process, "the wish", **{"developer-instructions": "Say please."})
    reply(process, session, "second")
    compacted(process, session)
    reply(process, session, "third")
    reply(process, session, "fourth")
    before, after = for_turns(model)[:3], for_turns(model)[3:]
    for earlier, later in (*pairwise(before), *pairwise(after)):
        assert prefix(later).startswith(prefix(earlier))
    context, found, _ = prefix(before[0]).partition(b"the wish")
    assert found
    assert b"Be brief." in context
    assert b"Say please." in context
    assert prefix(after[0]).startswith(context + found)
    assert [text for text in said(after[1]) if "Be brief" not in text][:2] == ["the wish", "second"]


@both_wires
def test_a_session_that_reaches_its_limit_is_summarised_before_it_goes_on(
    server: StartServer, model: ScriptedModel, wire: str, database: Path
) -> None:
    model.add(say("much was done"), say("all of it"), say("gone on"))
    process = server(wire_api=wire, config=LIMIT)
    session = opened(process, "first")
    assert reply(process, session, "second")["content"] == "gone on"
    assert [is_summary(request) for request in model.requests] == [False, True, False]
    assert said(model.requests[2])[:2] == ["first", "second"]
    assert said(model.requests[2])[2].endswith("all of it")
    assert "much was done" not in model.requests[2].raw.decode()
    page = at_rest(process, session)
    assert kinds(page).count("background_event") == 1
    assert kinds(page).count("agent_message") == 2
    assert page["usage"]["requests"] == 3
    assert page["usage"]["total_tokens"] == 48
    assert page["last_turn"]["usage"]["requests"] == 2
    assert rows(database, "SELECT epoch FROM items ORDER BY seq") == [(0,)] * 4 + [(1,)] * 2


def test_one_long_turn_is_summarised_between_its_requests(server: StartServer, model: ScriptedModel) -> None:
    model.add(call_tools(shell("c1", "echo", "x" * 400)), say("so far"), say("done"))
    session = opened(server(config=LIMIT), "go")
    assert [is_summary(request) for request in model.requests] == [False, True, False]
    assert session
    assert said(model.requests[2])[0] == "go"
    assert calls_and_outputs(model.requests[1]) == (["c1"], ["c1"])
    assert calls_and_outputs(model.requests[2]) == ([], [])


def test_a_limit_that_no_summary_helps_does_not_cost_one_each_time(server: StartServer, model: ScriptedModel) -> None:
    """What the user said is kept word for word; where that alone is too much, a summary would free nothing."""
    process = server(config={"model_auto_compact_token_limit": 400})
    session = opened(process, "long " * 400)
    for number in range(3):
        reply(process, session, f"and {number}")
    assert not any(map(is_summary, model.requests))


def test_the_wishes_that_are_kept_leave_room_under_a_small_limit(server: StartServer, model: ScriptedModel) -> None:
    process = server(config={"model_auto_compact_token_limit": 2_000})
    session = opened(process, "first")
    for number in range(4):
        reply(process, session, f"{number} " * 500)
    model.add(say("short"))
    compacted(process, session)
    reply(process, session, "last")
    kept = said(model.requests[-1])
    assert kept[0] == "first"
    assert kept[-1] == "last"
    assert sum(map(len, kept)) < 4_000


# -- too long for the model --------------------------------------------------------------------------------------------


def limited(room: int) -> ScriptedModel:
    """A model that refuses what is longer than `room` bytes."""

    def respond(body: Json) -> Step | None:
        sent = len(json.dumps(body.get("input") or body.get("messages"), ensure_ascii=False))
        if sent > room:
            return TOO_LONG
        return None if "tools" in body else say("the summary")

    return ScriptedModel(responder=respond)


@both_wires
def test_what_is_too_long_for_the_model_is_summarised_in_parts_that_are_whole(
    server: StartServer, home: Path, wire: str
) -> None:
    with limited(19_000) as model:
        write_config(home, model.base_url, wire)
        process = server()
        for number in range(12):
            script = ("sh", "-c", f"printf %0700d {number}")
            model.add(call_tools(shell(f"c{number}", *script), shell(f"d{number}", *script)))
        model.add(say("done"))
        session = opened(process, "a long piece of work")
        tries = [request for request in model.requests if is_summary(request)]
        assert len(tries) > 1
        for request in tries:
            calls, outputs = calls_and_outputs(request)
            assert calls == outputs
            assert len(calls) > 2
            assert said(request)[0] == "a long piece of work"
        assert [len(calls_and_outputs(request)[0]) for request in tries] == sorted(
            {len(calls_and_outputs(request)[0]) for request in tries}, reverse=True
        )
        page = at_rest(process, session)
        assert page["last_turn"]["state"] == "completed"
        assert [item["type"] for item in items(page)].count("function_call_output") == 24


def test_a_summary_that_only_one_output_makes_too_long_has_it_cut(server: StartServer, home: Path) -> None:
    with limited(6_000) as model:
        write_config(home, model.base_url, "responses")
        model.add(call_tools(shell("c1", "sh", "-c", "printf begin; printf %08000d 0; printf end")), say("done"))
        session = opened(server(), "go")
        tries = [request for request in model.requests if is_summary(request)]
        assert session
        assert "begin" in tries[-1].raw.decode()
        assert "end" in tries[-1].raw.decode()
        assert calls_and_outputs(tries[-1]) == (["c1"], ["c1"])


def test_an_earlier_summary_is_not_left_out_of_the_next(server: StartServer, home: Path) -> None:
    with limited(1_000_000) as model:
        write_config(home, model.base_url, "responses")
        process = server()
        session = opened(process, "first")
        compacted(process, session)
        for number in range(6):
            model.add(say(f"answer {number} " * 300))
            reply(process, session, f"next {number}")
    with limited(16_000) as model:
        write_config(home, model.base_url, "responses")
        page = compacted(process, session)
        assert page["last_turn"]["last_agent_message"] == DONE
        assert len(model.requests) > 1
        for request in model.requests:
            assert "the summary" in request.raw.decode()
        assert "answer 5" in model.requests[-1].raw.decode()


def test_a_message_that_alone_is_too_long_fails_its_turn(server: StartServer, home: Path) -> None:
    with limited(5_000) as model:
        write_config(home, model.base_url, "responses")
        result = server().call_tool("codex", {"prompt": "x" * 20_000})
    assert result["structuredContent"]["kind"] == "model_error"
    assert "context_length_exceeded" in result["structuredContent"]["content"]
    assert len(model.requests) == 2


# -- killed and interrupted --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_limit", [True, False])
@pytest.mark.parametrize(("at", "summaries"), [("compaction.before", 1), ("compaction.committed", 1), ("hanging", 2)])
def test_a_kill_around_a_summary_makes_it_once(
    server: StartServer, model: ScriptedModel, database: Path, at: str, summaries: int, by_limit: bool
) -> None:
    first = server(config=LIMIT if by_limit else {})
    session = opened(first, "first")
    first.close()
    steps = [Hang()] if at == "hanging" else []
    model.add(*steps, say("the summary"), say("gone on"))
    dying = server(argv=CRASHING, env={} if at == "hanging" else {VARIABLE: at})
    if by_limit:
        dying.start_tool("codex-reply", {"threadId": session, "prompt": "second"})
    else:
        dying.start_tool("conversation_compact", {"conversation_id": session})
    if at == "hanging":
        model.wait_for_requests(2)
        dying.kill()
    else:
        assert dying.wait_exit() == -signal.SIGKILL
    second = server()
    page = at_rest(second, session)
    assert page["last_turn"]["state"] == "completed"
    assert page["last_turn"]["last_agent_message"] == ("gone on" if by_limit else DONE)
    assert sum(map(is_summary, model.requests)) == summaries
    assert rows(database, "SELECT count(*) FROM items WHERE type = 'compaction'") == [(1,)]
    assert rows(database, "SELECT epoch FROM sessions") == [(1,)]
    reply(second, session, "third")
    assert {"first", "third"} <= set(said(model.requests[-1]))
    assert any(text.endswith("the summary") for text in said(model.requests[-1])) or by_limit


def test_an_interrupted_summary_leaves_everything_as_it_was(server: StartServer, model: ScriptedModel) -> None:
    model.add(say("one"), Hang(before=("half a summ",)), say("two"))
    process = server()
    session = opened(process, "first")
    assert ask(process, "conversation_compact", session)["outcome"] == "started"
    model.wait_for_requests(2)
    assert ask(process, "conversation_interrupt", session)["interrupting"] is True
    page = at_rest(process, session)
    assert page["last_turn"]["state"] == "interrupted"
    assert "half a summ" not in json.dumps(page)
    reply(process, session, "second")
    assert said(model.requests[-1]) == ["first", "second"]
    assert "one" in model.requests[-1].raw.decode()


def test_a_failed_summary_fails_its_turn_and_changes_nothing(server: StartServer, model: ScriptedModel) -> None:
    model.add(say("one"), say(" "), say("two"))
    process = server()
    session = opened(process, "first")
    page = compacted(process, session)
    assert page["last_turn"]["error_kind"] == "model_error"
    assert "empty summary" in page["last_turn"]["error_message"]
    reply(process, session, "second")
    assert said(model.requests[-1]) == ["first", "second"]


# -- with other messages -----------------------------------------------------------------------------------------------


def test_messages_that_come_during_a_summary_follow_it(server: StartServer, model: ScriptedModel) -> None:
    model.add(say("one"), Hang(answer=say("the summary")), say("to the steered"), say("to the queued"))
    process = server()
    session = opened(process, "first")
    assert ask(process, "conversation_compact", session)["outcome"] == "started"
    model.wait_for_requests(2)
    assert send(process, session, "queued", if_running="queue")["outcome"] == "queued"
    assert send(process, session, "steered", if_running="steer")["outcome"] == "steered"
    model.release()
    model.wait_for_requests(4)
    at_rest(process, session)
    assert [said(request)[-1] for request in model.requests[2:]] == ["steered", "queued"]
    assert said(model.requests[2])[0] == "first"
    assert said(model.requests[2])[1].endswith("the summary")


def test_a_message_steered_into_the_summary_of_a_turn_is_in_the_next_request(
    server: StartServer, model: ScriptedModel
) -> None:
    model.add(say("one"), Hang(answer=say("the summary")), say("two"))
    process = server(config=LIMIT)
    session = opened(process, "first")
    process.start_tool("codex-reply", {"threadId": session, "prompt": "second"}, id="second")
    model.wait_for_requests(2)
    assert send(process, session, "and so", if_running="steer")["outcome"] == "steered"
    model.release()
    process.wait_response("second")
    assert said(model.requests[2])[-1] == "and so"
    assert [is_summary(request) for request in model.requests] == [False, True, False]


def test_a_busy_session_is_not_summarised_unless_it_is_queued(server: StartServer, model: ScriptedModel) -> None:
    model.add(Hang(answer=say("one")), say("the summary"), say("two"))
    process = server()
    process.start_tool("codex", {"prompt": "first"}, id=1)
    session = process.wait_event("task_started", 1)["_meta"]["conversationId"]
    model.wait_for_requests(1)
    refused = ask(process, "conversation_compact", session)
    assert refused["kind"] == "busy"
    assert ask(process, "conversation_compact", session, queue=True)["outcome"] == "queued"
    (waits,) = read(process, session)["queued"]
    assert waits["content"] == [{"type": "compact"}]
    model.release()
    process.wait_response(1)
    until(lambda: read(process, session)["turns"] == 2 and read(process, session)["status"] == "idle", "the summary")
    assert [is_summary(request) for request in model.requests] == [False, True]


def test_a_repeated_request_for_a_summary_makes_one(server: StartServer, model: ScriptedModel) -> None:
    model.add(say("one"), say("the summary"))
    process = server()
    session = opened(process, "first")
    page = compacted(process, session, message_id="m1")
    again = ask(process, "conversation_compact", session, message_id="m1")
    assert again["outcome"] == "duplicate"
    assert again["turn_id"] == page["last_turn"]["turn_id"]
    assert send(process, session, "other content", message_id="m1")["kind"] == "conflict"
    assert len(model.requests) == 2


def test_nothing_is_not_summarised(server: StartServer, model: ScriptedModel) -> None:
    process = server()
    created = process.call_tool("conversation_create", {})["structuredContent"]
    session = cast("str", created["conversation_id"])
    page = compacted(process, session)
    assert page["last_turn"]["last_agent_message"] == NOTHING
    assert model.requests == []
    reply(process, session, "the first message")
    assert read(process, session)["title"] == "the first message"
    (listed,) = process.call_tool("conversations_list", {})["structuredContent"]["conversations"]
    assert (listed["title"], listed["turns"]) == ("the first message", 2)
    compacted(process, session)
    assert len(model.requests) == 2
    assert compacted(process, session)["last_turn"]["last_agent_message"] == NOTHING
    assert len(model.requests) == 2


# -- what is shown -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "shown"),
    [
        ({}, {"agent_reasoning", "agent_reasoning_delta"}),
        ({"hide_agent_reasoning": True}, set[str]()),
        ({"show_raw_agent_reasoning": True}, {"agent_reasoning", "agent_reasoning_delta"}),
    ],
)
def test_thoughts_are_shown_as_configured_and_never_those_of_a_summary(
    server: StartServer, model: ScriptedModel, config: dict[str, object], shown: set[str]
) -> None:
    thoughtful = Answer(text=("answer",), reasoning=("thought",))
    model.add(thoughtful, Answer(text=("the summary",), reasoning=("secret thought",)))
    process = server(wire_api="responses", config=config)
    session = opened(process, "first")
    seen_kinds = {event["msg"]["type"] for event in process.events()}
    assert {kind for kind in seen_kinds if "reasoning" in kind} == shown
    compacted(process, session)
    assert "secret thought" not in json.dumps(process.messages)


@pytest.mark.parametrize("raw", [True, False])
def test_raw_thoughts_are_shown_where_that_is_configured(server: StartServer, model: ScriptedModel, raw: bool) -> None:
    model.add(Answer(text=("answer",), reasoning=("thought",)))
    process = server(config={"show_raw_agent_reasoning": raw})
    opened(process, "first")
    assert ("thought" in json.dumps(process.events())) is raw


def test_a_prompt_of_the_users_own_asks_for_the_summary(server: StartServer, model: ScriptedModel) -> None:
    process = server(config={"compact_prompt": "Sum it up."})
    for arguments, prompt in (({}, "Sum it up."), ({"compact-prompt": "In verse."}, "In verse.")):
        session = opened(process, "first", **arguments)
        compacted(process, session)
        assert said(model.requests[-1])[-1] == prompt
        assert told(model.requests[-1])
        assert _instructions(model.requests[-1]) == _instructions(model.requests[0])


def _instructions(request: ReceivedRequest) -> object:
    body = request.body or {}
    return body.get("instructions") or [
        each for each in cast("list[Json]", body["messages"]) if each["role"] == "system"
    ]
