"""Forks: sessions that share the past of another and go their own way. And archives: sessions that are put away."""

import json
from pathlib import Path

import pytest

from codexdb.testing.model_script import Hang, call_tools, say
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import Message, ServerProcess, StartServer
from tests.process.talking import (
    ask,
    at_rest,
    calls_and_outputs,
    compacted,
    items,
    opened,
    prefix,
    read,
    reply,
    rows,
    said,
    send,
    shell,
    stored,
    told,
)

NOWHERE = "00000000-0000-7000-8000-000000000000"
BEARER = "sk-a-very-secret-bearer"


def fork(server: ServerProcess, session: str, **arguments: object) -> str:
    made = ask(server, "conversation_fork", session, **arguments)
    assert made["forked_from"] == session
    return str(made["conversation_id"])


def turn(page: Message) -> str:
    return str(page["last_turn"]["turn_id"])


def begun(server: ServerProcess, session: str, text: str, model: ScriptedModel, **arguments: object) -> None:
    """A turn that runs until the model is released."""
    before = len(model.requests)
    assert send(server, session, text, **arguments)["status"] == "ok"
    model.wait_for_requests(before + 1)


both_wires = pytest.mark.parametrize("wire", ["chat", "responses"])


@both_wires
def test_a_fork_goes_on_from_the_last_turn_and_its_source_is_not_touched(
    server: StartServer, model: ScriptedModel, wire: str, database: Path
) -> None:
    process = server(wire_api=wire)
    model.add(call_tools(shell("c1", "echo", "printed")), say("one"), say("two"))
    session = opened(process, "first", title="named")
    before = read(process, session, include_items=True)
    forked = fork(process, session)
    page = read(process, forked, include_items=True)
    assert items(page) == items(before)
    assert (page["events"], page["turns"], page["title"], page["status"]) == ([], 0, "named", "idle")
    assert page["usage"]["requests"] == 0
    assert reply(process, forked, "another way")["content"] == "two"
    assert prefix(model.requests[2]).startswith(prefix(model.requests[1]))
    assert said(model.requests[2]) == ["first", "another way"]
    assert calls_and_outputs(model.requests[2]) == (["c1"], ["c1"])
    assert read(process, session, include_items=True) == before
    reply(process, session, "the old way")
    assert said(model.requests[3]) == ["first", "the old way"]
    pair = "SELECT f.public_id, s.public_id FROM sessions f JOIN sessions s ON s.id = f.forked_from_id"
    assert rows(database, pair) == [(forked, session)]


def test_a_fork_at_a_named_turn_shares_nothing_that_came_later(server: StartServer, model: ScriptedModel) -> None:
    process = server()
    session = opened(process, "first")
    first = turn(read(process, session))
    reply(process, session, "second")
    forked = fork(process, session, turn_id=first, title="from the first")
    assert read(process, forked)["title"] == "from the first"
    reply(process, forked, "instead")
    assert said(model.requests[2]) == ["first", "instead"]
    assert len(told(model.requests[2])) == 1


def test_a_fork_has_the_present_settings_and_the_model_is_told_of_them(
    server: StartServer, model: ScriptedModel, tmp_path: Path
) -> None:
    process = server()
    session = opened(process, "first")
    first = turn(read(process, session))
    reply(process, session, "second", cwd=str(tmp_path / "other"), model="another-model")
    forked = fork(process, session, turn_id=first)
    late = fork(process, session)
    for each in (forked, late):
        reply(process, each, "third")
        assert (model.requests[-1].body or {})["model"] == "another-model"
        assert [str(tmp_path / "other") in text for text in told(model.requests[-1])] == [False, True]


def test_a_fork_of_a_session_at_work_ends_before_the_turn_that_runs(server: StartServer, model: ScriptedModel) -> None:
    process = server()
    model.add(say("one"), Hang(answer=say("two")))
    session = opened(process, "first")
    begun(process, session, "second", model)
    running = turn(read(process, session))
    forked = fork(process, session)
    assert ask(process, "conversation_fork", session, turn_id=running)["kind"] == "turn_not_found"
    reply(process, forked, "instead")
    assert said(model.requests[-1]) == ["first", "instead"]
    model.release()
    assert at_rest(process, session)["last_turn"]["last_agent_message"] == "two"


def test_a_fork_is_made_although_the_latest_turn_was_withdrawn(server: StartServer, model: ScriptedModel) -> None:
    """A queued turn that was taken back has ended, and nothing of it was ever begun."""
    process = server()
    model.add(say("one"), Hang(answer=say("two")))
    session = opened(process, "first")
    begun(process, session, "second", model)
    queued = send(process, session, "third", if_running="queue")["turn_id"]
    assert ask(process, "conversation_interrupt", session, turn_id=queued)["interrupting"] is True
    forked = fork(process, session)
    assert items(read(process, forked, include_items=True)) == items(read(process, session, include_items=True))[:-1]
    model.release()
    at_rest(process, session)


def test_a_fork_during_the_first_turn_begins_with_the_context_alone(server: StartServer, model: ScriptedModel) -> None:
    process = server()
    model.add(Hang(answer=say("one")))
    process.start_tool("codex", {"prompt": "first"}, id=1)
    session = process.wait_event("task_started", 1)["_meta"]["conversationId"]
    model.wait_for_requests(1)
    forked = fork(process, session)
    reply(process, forked, "instead")
    assert said(model.requests[-1]) == ["instead"]
    assert len(told(model.requests[-1])) == 1
    model.release()
    process.wait_response(1)


def test_a_fork_of_a_fork_shares_both_pasts(server: StartServer, model: ScriptedModel, tmp_path: Path) -> None:
    """Also while its own first turn runs, and with what a message changed of the context in the middle."""
    process = server()
    session = opened(process, "first")
    reply(process, session, "second", cwd=str(tmp_path / "other"))
    once = fork(process, session)
    model.add(Hang(answer=say("late")))
    begun(process, once, "third", model)
    twice = fork(process, once)
    reply(process, twice, "instead")
    assert said(model.requests[-1]) == ["first", "second", "instead"]
    assert len(told(model.requests[-1])) == 2
    assert prefix(model.requests[-1]).startswith(prefix(model.requests[1]))
    model.release()
    at_rest(process, once)
    reply(process, fork(process, once), "fourth")
    assert said(model.requests[-1]) == ["first", "second", "third", "fourth"]


@both_wires
def test_a_fork_of_a_summarised_session_goes_on_from_its_summary(
    server: StartServer, model: ScriptedModel, wire: str
) -> None:
    process = server(wire_api=wire)
    model.add(say("one"), say("two"), say("the summary"))
    session = opened(process, "first")
    first = turn(read(process, session))
    reply(process, session, "second")
    summarised = turn(compacted(process, session))
    reply(process, session, "third")
    for after, shared in ((summarised, ["first", "second"]), (None, ["first", "second"]), (first, ["first"])):
        forked = fork(process, session, **({"turn_id": after} if after else {}))
        reply(process, forked, "on")
        before_summary = after == first
        assert said(model.requests[-1])[: len(shared)] == shared
        assert ("the summary" in model.requests[-1].raw.decode()) is not before_summary
        assert ('"one"' in model.requests[-1].raw.decode()) is before_summary
        record = json.dumps(items(read(process, forked, include_items=True)))
        assert ("compaction" in record) is not before_summary
        reply(process, forked, "again")
        assert prefix(model.requests[-1]).startswith(prefix(model.requests[-2]))


def test_a_repeated_fork_is_made_once(server: StartServer) -> None:
    process = server()
    session = opened(process, "first")
    forked = fork(process, session, message_id="f1")
    assert fork(process, session, message_id="f1") == forked
    assert ask(process, "conversation_fork", session, message_id="f1", title="other")["kind"] == "conflict"
    assert len(process.call_tool("conversations_list", {})["structuredContent"]["conversations"]) == 2


def test_what_is_not_there_cannot_be_forked(server: StartServer) -> None:
    process = server()
    session, other = opened(process, "first"), opened(process, "other")
    assert ask(process, "conversation_fork", NOWHERE)["kind"] == "session_not_found"
    for turn_id in (NOWHERE, "nonsense", turn(read(process, other))):
        assert ask(process, "conversation_fork", session, turn_id=turn_id)["kind"] == "turn_not_found"


def test_a_fork_has_the_secrets_of_its_source(server: StartServer, model: ScriptedModel, database: Path) -> None:
    process = server()
    config = {"model_providers.scripted.experimental_bearer_token": BEARER}
    session = opened(process, "first", config=config)
    forked = fork(process, session)
    assert reply(process, forked, "second")["content"] == "ok"
    assert [request.headers["authorization"] for request in model.requests] == [f"Bearer {BEARER}"] * 2
    assert BEARER.encode() not in stored(database)
    elsewhere = server()
    assert reply(elsewhere, fork(elsewhere, session), "third")["kind"] == "credentials_missing"


# -- archives ----------------------------------------------------------------------------------------------------------


def listed(server: ServerProcess) -> list[str]:
    found = server.call_tool("conversations_list", {})["structuredContent"]["conversations"]
    return [each["conversation_id"] for each in found]


def test_an_archived_session_takes_nothing_and_is_not_listed(server: StartServer, model: ScriptedModel) -> None:
    process = server()
    session, other = opened(process, "first"), opened(process, "other")
    for _ in range(2):
        put = ask(process, "conversation_archive", session)
        assert put == {"conversation_id": session, "archived": True}
    assert listed(process) == [other]
    assert read(process, session)["status"] == "archived"
    assert send(process, session, "second")["kind"] == "archived"
    assert send(process, session, "second", if_running="queue")["kind"] == "archived"
    assert reply(process, session, "second", model="another-model")["kind"] == "archived"
    assert ask(process, "conversation_compact", session)["kind"] == "archived"
    reply(process, fork(process, session), "a fork is open")
    for _ in range(2):
        assert ask(process, "conversation_archive", session, archived=False)["archived"] is False
    assert set(listed(process)) >= {session, other}
    reply(process, session, "second")
    assert (model.requests[-1].body or {})["model"] == "scripted-model"
    assert said(model.requests[-1]) == ["first", "second"]


def test_a_session_at_work_is_not_archived(server: StartServer, model: ScriptedModel) -> None:
    process = server()
    model.add(say("one"), Hang(answer=say("two")))
    session = opened(process, "first")
    begun(process, session, "second", model)
    refused = ask(process, "conversation_archive", session)
    assert (refused["kind"], refused["turn_id"]) == ("busy", turn(read(process, session)))
    model.release()
    at_rest(process, session)
    assert ask(process, "conversation_archive", session)["archived"] is True
    assert ask(process, "conversation_archive", NOWHERE)["kind"] == "session_not_found"
    assert ask(process, "conversation_archive", NOWHERE, archived=False)["kind"] == "session_not_found"


def test_titles_are_the_users_or_the_first_message(server: StartServer) -> None:
    process = server()
    named = opened(process, "a message", title="A name")
    unnamed = opened(process, "another message")
    created = process.call_tool("conversation_create", {"title": "Made"})["structuredContent"]["conversation_id"]
    found = process.call_tool("conversations_list", {})["structuredContent"]["conversations"]
    titles = {each["conversation_id"]: each["title"] for each in found}
    assert titles == {named: "A name", unnamed: "another message", created: "Made"}
    too_long = process.call_tool("codex", {"prompt": "x", "title": "t" * 201})
    assert too_long["structuredContent"]["kind"] == "invalid_arguments"
