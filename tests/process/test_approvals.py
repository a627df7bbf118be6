"""Questions to a person: who answers, from where, and what becomes of an answer that comes second or never."""

import json
import signal
from pathlib import Path

import pytest

from codexdb.agent.calls.command import REJECTED
from codexdb.agent.calls.context import NOBODY_TO_ASK
from codexdb.testing.model_script import Json, say
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import StartServer
from tests.process.asked import (
    UNTRUSTED,
    approvals,
    decide,
    listed,
    outputs,
    question,
    questions,
    refuse,
    result,
    start,
    touch,
    wait_taken_back,
)
from tests.process.talking import at_rest, kinds, reply, rows, send, until

STATES = "SELECT state, decision, decided_by FROM approvals ORDER BY id"


def form(decision: str) -> Json:
    """An answer as clients of MCP give it."""
    return {"action": "accept", "content": {"decision": decision}}


@pytest.mark.parametrize("answer", [{"decision": "approved"}, form("approved"), {"action": "accept"}], ids=str)
def test_what_is_approved_runs_once(
    server: StartServer, model: ScriptedModel, database: Path, tmp_path: Path, answer: Json
) -> None:
    model.add(touch(tmp_path / "made"), say("made"))
    client = server(config=UNTRUSTED)
    session = start(client)
    asked = question(client)
    until(lambda: rows(database, "SELECT state, worker_id FROM turns") == [("waiting", None)], "the wait")
    assert not (tmp_path / "made").exists()
    assert asked["params"]["codex_command"] == ["touch", str(tmp_path / "made")]
    assert asked["params"]["codex_elicitation"] == "exec-approval"
    assert asked["params"]["threadId"] == session
    assert asked["params"]["codex_mcp_tool_call_id"] == "1"
    client.respond(asked["id"], answer)
    assert result(client)["content"] == "made"
    assert (tmp_path / "made").exists()
    assert '"exit_code":0' in outputs(model)["c1"]
    assert len(questions(client)) == 1
    assert rows(database, STATES) == [("approved", "approved", "elicitation")]
    told = [event["msg"]["type"] for event in client.events(1)]
    assert told.index("exec_approval_request") < told.index("exec_command_begin")


@pytest.mark.parametrize(
    "answer",
    [
        {"decision": "denied"},
        form("denied"),
        {"action": "decline"},
        {"action": "decline", "decision": "approved"},
        {"action": "decline", "content": {"decision": "approved"}},
        {"decision": "perhaps"},
        {},
        form(""),
    ],
    ids=str,
)
def test_what_is_denied_does_not_run_and_the_model_goes_on(
    server: StartServer, model: ScriptedModel, database: Path, tmp_path: Path, answer: Json
) -> None:
    model.add(touch(tmp_path / "made"), say("as you like"))
    client = server(config=UNTRUSTED)
    start(client)
    client.respond(question(client)["id"], answer)
    assert result(client)["content"] == "as you like"
    assert outputs(model) == {"c1": REJECTED}
    assert not (tmp_path / "made").exists()
    assert rows(database, STATES) == [("denied", "denied", "elicitation")]


@pytest.mark.parametrize("answer", [{"decision": "abort"}, form("abort"), {"action": "cancel"}], ids=str)
def test_an_abort_ends_the_turn(
    server: StartServer, model: ScriptedModel, database: Path, tmp_path: Path, answer: Json
) -> None:
    model.add(touch(tmp_path / "made"))
    client = server(config=UNTRUSTED)
    start(client)
    client.respond(question(client)["id"], answer)
    assert result(client)["kind"] == "interrupted"
    assert len(model.requests) == 1
    assert not (tmp_path / "made").exists()
    assert rows(database, STATES) == [("denied", "abort", "elicitation")]
    assert rows(database, "SELECT active_turn_id FROM sessions") == [(None,)]


def test_an_error_for_an_answer_is_a_no(server: StartServer, model: ScriptedModel, tmp_path: Path) -> None:
    model.add(touch(tmp_path / "made"), say("on"))
    client = server(config=UNTRUSTED)
    start(client)
    refuse(client, question(client))
    assert result(client)["content"] == "on"
    assert outputs(model) == {"c1": REJECTED}


def test_what_is_approved_for_the_session_is_not_asked_again_in_it(
    server: StartServer, model: ScriptedModel, tmp_path: Path
) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    client = server(config=UNTRUSTED)
    model.add(touch(one), say("first"))
    session = start(client)
    client.respond(question(client)["id"], {"decision": "approved_for_session"})
    assert result(client)["content"] == "first"
    one.unlink()
    model.add(touch(one), say("again"))
    assert reply(client, session, "once more")["content"] == "again"
    assert one.exists()
    assert len(questions(client)) == 1
    for prompt in ({"threadId": session}, {}):  # another command, and the same one in another session
        asked = len(client.messages)
        model.add(touch(one if not prompt else other), say("fine"))
        client.start_tool("codex-reply" if prompt else "codex", {"prompt": "more", **prompt}, id=7)
        client.respond(question(client, after=asked)["id"], {"decision": "denied"})
        assert result(client, 7)["content"] == "fine"
    assert len(questions(client)) == 3


def test_what_is_approved_always_holds_for_sessions_of_the_same_directory(
    server: StartServer, model: ScriptedModel, tmp_path: Path
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    client = server(config=UNTRUSTED)
    model.add(touch(tmp_path / "made"), say("first"))
    start(client, cwd=str(here))
    client.respond(question(client)["id"], {"decision": "approved_always"})
    assert result(client)["content"] == "first"
    model.add(touch(tmp_path / "made"), say("same"))
    answer = client.call_tool("codex", {"prompt": "again", "cwd": str(here)})
    assert answer["structuredContent"]["content"] == "same"
    assert len(questions(client)) == 1
    asked = len(client.messages)
    model.add(touch(tmp_path / "made"), say("elsewhere"))
    client.start_tool("codex", {"prompt": "again", "cwd": str(there)}, id=7)
    client.respond(question(client, after=asked)["id"], {"decision": "approved"})
    assert result(client, 7)["content"] == "elsewhere"


# -- from elsewhere ----------------------------------------------------------------------------------------------------


def test_the_first_answer_counts_wherever_it_comes_from(
    server: StartServer, model: ScriptedModel, database: Path, tmp_path: Path
) -> None:
    model.add(touch(tmp_path / "made"), say("made"))
    client, other = server(config=UNTRUSTED), server()
    session = start(client)
    asked = question(client)
    (open_,) = listed(other, conversation_id=session)
    assert (open_["kind"], open_["state"], open_["call_id"]) == ("exec", "pending", "c1")
    assert decide(other, open_["approval_id"], "approved")["decision"] == "approved"
    late = decide(other, open_["approval_id"], "denied")
    assert (late["kind"], late["state"], late["decision"]) == ("already_decided", "approved", "approved")
    wait_taken_back(client, asked)
    client.respond(asked["id"], {"decision": "denied"})  # too late, and of no effect
    assert result(client)["content"] == "made"
    assert (tmp_path / "made").exists()
    assert listed(other) == []
    assert [each["state"] for each in listed(other, conversation_id=session, include_closed=True)] == ["approved"]
    assert rows(database, STATES) == [("approved", "approved", "approval_decide")]
    assert decide(other, session, "denied")["kind"] == "approval_not_found"


def test_a_person_answers_at_the_command_line(
    server: StartServer, model: ScriptedModel, home: Path, tmp_path: Path
) -> None:
    model.add(touch(tmp_path / "made"), say("made"))
    client = server(config=UNTRUSTED)
    start(client)
    asked = question(client)
    shown = approvals(home, "list", "--json")
    approval = json.loads(shown.stdout)["approval_id"]
    given = approvals(home, "decide", approval, "approved")
    assert (given.returncode, given.stderr) == (0, "")
    wait_taken_back(client, asked)
    assert result(client)["content"] == "made"
    late = approvals(home, "decide", approval, "denied")
    assert late.returncode == 1
    assert "approved already" in late.stderr
    assert "No question waits" in approvals(home, "list").stdout
    assert approval in approvals(home, "list", "--all", "--json").stdout


def test_where_nobody_can_be_asked_the_model_is_told(
    server: StartServer, model: ScriptedModel, database: Path, tmp_path: Path
) -> None:
    model.add(touch(tmp_path / "made"), say("then not"))
    client = server(config=UNTRUSTED, elicitation=False)
    start(client)
    assert result(client)["content"] == "then not"
    assert outputs(model) == {"c1": NOBODY_TO_ASK}
    assert questions(client) == []
    assert rows(database, STATES) == [("denied", "denied", "nobody")]


def test_where_nobody_can_be_asked_a_turn_may_wait_all_the_same(
    server: StartServer, model: ScriptedModel, tmp_path: Path
) -> None:
    model.add(touch(tmp_path / "made"), say("made"))
    client = server(config={**UNTRUSTED, "approval_fallback": "wait"}, elicitation=False)
    session = start(client)
    until(lambda: bool(listed(client)), "the question")
    (open_,) = listed(client, conversation_id=session)
    assert decide(client, open_["approval_id"], "approved")["turn_id"] == open_["turn_id"]
    assert result(client)["content"] == "made"
    assert questions(client) == []


# -- ended meanwhile ---------------------------------------------------------------------------------------------------


def test_a_cancelled_call_takes_its_question_back(
    server: StartServer, model: ScriptedModel, database: Path, tmp_path: Path
) -> None:
    model.add(touch(tmp_path / "made"))
    client = server(config=UNTRUSTED)
    session = start(client)
    asked = question(client)
    client.notify("notifications/cancelled", {"requestId": 1, "reason": "enough"})
    wait_taken_back(client, asked)
    client.respond(asked["id"], {"decision": "approved"})
    assert kinds(at_rest(client, session))[-1] == "error"
    assert rows(database, "SELECT state, end_reason FROM turns") == [("interrupted", "requested")]
    assert rows(database, STATES) == [("withdrawn", None, None)]
    assert rows(database, "SELECT state FROM tool_calls") == [("aborted",)]
    assert not (tmp_path / "made").exists()


def test_an_interrupt_from_another_process_takes_the_question_back(
    server: StartServer, model: ScriptedModel, database: Path, tmp_path: Path
) -> None:
    model.add(touch(tmp_path / "made"))
    client, other = server(config=UNTRUSTED), server()
    session = start(client)
    asked = question(client)
    until(lambda: rows(database, "SELECT state FROM turns") == [("waiting",)], "the wait")
    other.call_tool("conversation_interrupt", {"conversation_id": session})
    wait_taken_back(client, asked)
    assert result(client)["kind"] == "interrupted"
    assert rows(database, STATES) == [("withdrawn", None, None)]


def test_a_message_that_is_queued_waits_behind_a_turn_that_waits(
    server: StartServer, model: ScriptedModel, tmp_path: Path
) -> None:
    model.add(touch(tmp_path / "made"), say("made"), say("next"))
    client = server(config=UNTRUSTED)
    session = start(client)
    asked = question(client)
    assert send(client, session, "and then?", if_running="reject")["kind"] == "busy"
    assert send(client, session, "and then?", if_running="queue")["outcome"] == "queued"
    client.respond(asked["id"], {"decision": "approved"})
    assert result(client)["content"] == "made"
    page = at_rest(client, session)
    assert kinds(page).count("task_complete") == 2


def test_a_turn_that_began_too_late_to_be_steered_into_is_asked_about_too(
    server: StartServer, model: ScriptedModel, tmp_path: Path
) -> None:
    model.add(touch(tmp_path / "one"), touch(tmp_path / "two"), say("both"))
    client = server(config=UNTRUSTED)
    session = start(client)
    asked = question(client)
    assert send(client, session, "two as well", if_running="steer")["outcome"] == "steered"
    decide(client, listed(client)[0]["approval_id"], "abort")
    wait_taken_back(client, asked)
    until(lambda: bool(listed(client)), "the question of the second turn")
    seen = len(client.messages)
    client.call_tool("conversation_stream", {"conversation_id": session})
    client.respond(question(client, after=seen)["id"], {"decision": "approved"})
    assert kinds(at_rest(client, session))[-1] == "task_complete"
    assert (tmp_path / "two").exists()


@pytest.mark.parametrize("option", ["--no-worker", "--on-restart=interrupt"])
def test_an_answer_moves_the_turn_in_whatever_server_works(
    server: StartServer, model: ScriptedModel, tmp_path: Path, option: str
) -> None:
    model.add(touch(tmp_path / "made"), say("made"))
    client = server(option, config=UNTRUSTED)
    if option == "--no-worker":
        server()
    start(client)
    client.respond(question(client)["id"], {"decision": "approved"})
    assert result(client)["content"] == "made"


def test_a_server_goes_down_in_order_while_a_turn_waits(
    server: StartServer, model: ScriptedModel, tmp_path: Path, database: Path
) -> None:
    model.add(touch(tmp_path / "made"), say("made"))
    client = server(config=UNTRUSTED)
    session = start(client)
    question(client)
    until(lambda: rows(database, "SELECT state FROM turns") == [("waiting",)], "the wait")
    client.signal(signal.SIGTERM)
    assert client.wait_exit() == 0
    assert rows(database, STATES) == [("pending", None, None)]
    after = server()
    decide(after, listed(after)[0]["approval_id"], "approved")
    assert kinds(at_rest(after, session))[-1] == "task_complete"
    assert (tmp_path / "made").exists()
