"""How turns go on after their server is gone, is stopped, or goes down in order, and how they do not."""

import json
import signal
import statistics
import sys
import time
from pathlib import Path

import pytest

from codexdb.store.calls import UNKNOWN
from codexdb.testing.crashing import LEASE_VARIABLE, VARIABLE
from codexdb.testing.model_script import Hang, Status, call_tools, say
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import Message, RequestId, ServerProcess, StartServer
from tests.crash.stopping import stop
from tests.process.talking import kinds, pids, read, rows, runs, until

CRASHING = (sys.executable, "-m", "codexdb.testing.crashing", "serve")
WAIT_S = 15.0
EXIT_S = 1.5  # what a server that goes down in order promises
RETRY_AFTER_MS = 2_000
LEASE_MS = 1_200
NEWS_S = 2.0  # a generous bound on what takes 100 ms on a quiet machine
ONE_RETRY: dict[str, object] = {"model_providers": {"scripted": {"request_max_retries": 2}}}
OF_THE_TURN = tuple(f"SELECT * FROM {name}" for name in ("turns", "items", "events", "tool_calls", "deltas"))  # noqa: S608

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc to see what still runs")


def shell(script: str, call_id: str = "c1") -> tuple[str, str, str]:
    return call_id, "shell", json.dumps({"command": ["bash", "-c", script]})


def session_of(server: ServerProcess, request_id: RequestId = 1) -> str:
    found: str = server.wait_event("task_started", request_id)["_meta"]["conversationId"]
    return found


def finished(server: ServerProcess, session_id: str) -> Message:
    """The session's page once no turn holds it; its followers are told, so this needs no rows of our own."""
    deadline, seq = time.monotonic() + WAIT_S, 0
    while (page := read(server, session_id, after_seq=seq, wait_ms=1_000))["status"] != "idle":
        assert time.monotonic() < deadline, f"the turn did not end: {page}"
        seq = page["next_seq"]
    return read(server, session_id, include_items=True)


def said(page: Message) -> list[str]:
    items = [each["item"] for each in page["items"]]
    return [item["content"][0]["text"] for item in items if item.get("role") == "assistant"]


def test_text_cut_off_by_a_kill_can_be_read_and_is_said_again_once(
    server: StartServer, model: ScriptedModel, database: Path
) -> None:
    model.add(Hang(before=("one ", "two ", "three")), say("one two three four"))
    first = server(wire_api="responses")
    first.start_tool("codex", {"prompt": "count"}, id=1)
    session_id = session_of(first)
    kept = "SELECT coalesce(group_concat(text, ''), '') FROM (SELECT text FROM deltas ORDER BY attempt, item, offset)"
    until(lambda: rows(database, kept) != [("",)], "the first stored piece of text")
    first.kill()
    ((text,),) = rows(database, kept)
    assert "one two three".startswith(str(text))
    page = finished(server(), session_id)
    assert said(page) == ["one two three four"]
    assert kinds(page).count("agent_message") == kinds(page).count("task_complete") == 1
    assert rows(database, "SELECT count(*) FROM deltas") == [(0,)]


def test_a_wait_between_retries_outlives_a_kill(server: StartServer, model: ScriptedModel, database: Path) -> None:
    model.add(Status(500, headers={"retry-after": str(RETRY_AFTER_MS // 1000)}), say("at last"))
    first = server(config=ONE_RETRY)
    first.start_tool("codex", {"prompt": "try"}, id=1)
    session_id = session_of(first)
    until(lambda: rows(database, "SELECT retry_at_ms FROM turns") != [(None,)], "the note of the retry")
    first.kill()
    ((retry_at_ms,),) = rows(database, "SELECT retry_at_ms FROM turns")
    page = finished(server(), session_id)
    assert said(page) == ["at last"]
    refused, answered = model.requests
    assert answered.at_ms >= retry_at_ms >= refused.at_ms + RETRY_AFTER_MS  # type: ignore[operator]


def test_a_turn_that_kills_its_server_three_times_is_given_up(
    server: StartServer, model: ScriptedModel, database: Path
) -> None:
    session_id = ""
    for number in range(3):
        victim = server(argv=CRASHING, env={VARIABLE: "request.before"}, initialize=not number)
        if number == 0:
            victim.start_tool("codex", {"prompt": "deadly"}, id=1)
            session_id = session_of(victim)
        else:
            victim.request("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {}})
        assert victim.wait_exit() == -signal.SIGKILL
        assert rows(database, "SELECT state, crashes FROM turns") == [("running", number)]
    last = server()
    page = finished(last, session_id)
    assert page["last_turn"]["state"] == "failed"
    assert page["last_turn"]["error_kind"] == "worker_died"
    assert kinds(page)[-1] == "error"
    assert model.requests == []
    answer = last.call_tool("codex-reply", {"threadId": session_id, "prompt": "and now?"})
    assert answer["structuredContent"]["content"] == "ok"


@pytest.mark.parametrize("option", ["--on-restart=interrupt", "--resume-max-age=0"])
def test_a_server_may_be_told_not_to_go_on(option: str, server: StartServer, model: ScriptedModel, home: Path) -> None:
    mark = home / "mark"
    model.add(call_tools(shell(f"echo $$ >> {mark}; exec sleep 60")))
    first = server()
    first.start_tool("codex", {"prompt": "go"}, id=1)
    session_id = session_of(first)
    until(lambda: bool(pids(mark)), "the command's first line")
    first.kill()
    page = finished(server(option), session_id)
    assert page["last_turn"]["state"] == "interrupted"
    assert page["last_turn"]["end_reason"] == "server_stopped"
    assert page["items"][-1]["item"]["output"] == UNKNOWN
    assert len(model.requests) == len(pids(mark)) == 1


@on_linux
def test_a_stopped_server_is_replaced_and_does_nothing_more_for_the_turn(
    server: StartServer, model: ScriptedModel, home: Path, database: Path
) -> None:
    mark, late = home / "mark", home / "late"
    model.add(Hang(before=("slow",), answer=call_tools(shell(f"echo $$ >> {late}"))))
    model.add(call_tools(shell(f"echo $$ >> {mark}", "c2")), say("by the second"))
    short = {LEASE_VARIABLE: str(LEASE_MS)}
    first = server(argv=CRASHING, env=short, wire_api="responses")
    first.start_tool("codex", {"prompt": "go"}, id=1)
    session_id = session_of(first)
    model.wait_for_requests(1)
    first.signal(signal.SIGSTOP)
    model.release()  # the answer is in its socket when it wakes
    page = finished(server(argv=CRASHING, env=short), session_id)
    assert said(page) == ["by the second"]
    before = [rows(database, query) for query in OF_THE_TURN]
    first.signal(signal.SIGCONT)
    workers = "SELECT count(*) FROM workers WHERE stopped_at_ms IS NULL"
    until(lambda: rows(database, workers) == [(2,)], "the woken server's return as a new worker")
    assert [rows(database, query) for query in OF_THE_TURN] == before
    assert not late.exists()
    assert len(pids(mark)) == 1
    model.add(say("new work"))
    answer = first.call_tool("codex-reply", {"threadId": session_id, "prompt": "again"})
    assert answer["structuredContent"]["content"] == "new work"
    assert not late.exists()


@on_linux
def test_the_command_of_a_stopped_server_is_dead_before_its_turn_goes_on(
    server: StartServer, model: ScriptedModel, home: Path, database: Path
) -> None:
    """The server's reaper sees nothing amiss: its end of the pipe is open. Whoever takes the turn has to kill."""
    mark = home / "mark"
    model.add(call_tools(shell(f"echo $$ >> {mark}; exec sleep 60")), Hang())
    short = {LEASE_VARIABLE: str(LEASE_MS)}
    first = server(argv=CRASHING, env=short)
    first.start_tool("codex", {"prompt": "go"}, id=1)
    until(lambda: bool(pids(mark)), "the command's first line")
    until(lambda: rows(database, "SELECT count(pid) FROM tool_calls") == [(1,)], "the record of its process")
    stop(first, database)
    server(argv=CRASHING, env=short)
    model.wait_for_requests(2)  # which tells the model that nobody knows what became of it
    assert UNKNOWN in json.dumps(model.requests[-1].body)
    assert not runs(pids(mark)[0])
    first.signal(signal.SIGCONT)
    assert len(pids(mark)) == 1


def test_another_process_sees_commits_soon(server: StartServer, model: ScriptedModel) -> None:
    first, second = server(), server()
    created = first.call_tool("conversation_create", {})["structuredContent"]["conversation_id"]
    second.call_tool("conversation_stream", {"conversation_id": created})
    spans: list[float] = []
    for number in range(10):
        model.add(say(f"answer {number}"))
        after = len(second.messages)
        first.call_tool("codex-reply", {"threadId": created, "prompt": f"question {number}"})
        began = time.monotonic()
        second.wait_event("task_complete", after=after, timeout=NEWS_S)
        spans.append((time.monotonic() - began) * 1000)
    print(f"seen by another process after {statistics.median(spans):.0f} ms (median of {len(spans)})")  # noqa: T201
    shown = [event["_meta"]["seq"] for event in second.events(transient=False)]
    assert shown == list(range(1, len(shown) + 1))


@pytest.mark.parametrize("how", ["SIGTERM", "EOF"])
def test_going_down_in_order_suspends_the_turn(
    how: str, server: StartServer, model: ScriptedModel, home: Path, database: Path
) -> None:
    mark = home / "mark"
    model.add(call_tools(shell(f"echo before the end; echo $$ >> {mark}; exec sleep 60")), say("went on"))
    first = server()
    first.start_tool("codex", {"prompt": "go"}, id=1)
    session_id = session_of(first)
    until(lambda: bool(pids(mark)), "the command's first line")
    began = time.monotonic()
    if how == "EOF":
        first.close_stdin()
    else:
        first.signal(signal.SIGTERM)
    assert first.wait_exit() == 0
    took = time.monotonic() - began
    answer = first.wait_response(1)["result"]["structuredContent"]
    assert answer["kind"] == "suspended"
    assert answer["threadId"] == session_id
    if sys.platform == "linux":
        assert not runs(pids(mark)[0])
    assert rows(database, "SELECT state, crashes FROM turns") == [("ready", 0)]
    assert rows(database, "SELECT state FROM tool_calls") == [("aborted",)]
    ((printed,),) = rows(database, "SELECT output FROM tool_calls")
    assert "before the end" in str(printed)
    assert took < EXIT_S, f"it took {took:.2f} s"
    page = finished(server(), session_id)
    assert said(page) == ["went on"]
    assert "before the end" in json.dumps(model.requests[-1].body)
    assert len(pids(mark)) == 1


def test_a_server_that_does_not_work_leaves_its_messages_to_another(
    server: StartServer, model: ScriptedModel, database: Path
) -> None:
    model.add(say("worked elsewhere"))
    desk = server("--no-worker")
    created = desk.call_tool("conversation_create", {})["structuredContent"]["conversation_id"]
    content = [{"type": "text", "text": "for somebody"}]
    sent = desk.call_tool("send-user-message", {"conversation_id": created, "content": content})
    assert sent["structuredContent"] == {"status": "ok"}
    until(lambda: rows(database, "SELECT state FROM turns") == [("ready",)], "the turn is given up")
    assert model.requests == []
    server()
    page = finished(desk, created)
    assert said(page) == ["worked elsewhere"]


def test_a_caller_of_a_server_that_does_not_work_waits_for_another(server: StartServer, model: ScriptedModel) -> None:
    model.add(say("worked elsewhere"), Hang())
    desk = server("--no-worker")
    answered = desk.start_tool("codex", {"prompt": "for somebody"})
    session_id = session_of(desk, answered)
    server()
    answer = desk.wait_response(answered)["result"]["structuredContent"]
    assert answer == {"threadId": session_id, "content": "worked elsewhere"}
    left = desk.start_tool("codex-reply", {"threadId": session_id, "prompt": "and this"})
    model.wait_for_requests(2)
    desk.close_stdin()
    assert desk.wait_response(left)["result"]["structuredContent"]["kind"] == "suspended"
    assert desk.wait_exit() == 0


def test_a_turn_waits_for_a_server_that_has_its_key(server: StartServer, model: ScriptedModel, database: Path) -> None:
    keyed: dict[str, object] = {"model_providers": {"scripted": {"env_key": "SCRIPTED_MODEL_CREDENTIAL"}}}
    desk = server("--no-worker", config=keyed)
    session_id = session_of(desk, desk.start_tool("codex", {"prompt": "for somebody"}))
    until(lambda: rows(database, "SELECT state FROM turns") == [("ready",)], "the turn is given up")
    keyless = server()
    assert read(keyless, session_id)["last_turn"]["state"] == "ready"
    keyless.call_tool("codex", {"prompt": "its own turn is taken, and fails"})
    assert read(keyless, session_id)["last_turn"]["state"] == "ready"
    assert model.requests == []
    server(env={"SCRIPTED_MODEL_CREDENTIAL": "sesame"})
    assert said(finished(desk, session_id)) == ["ok"]


def test_nothing_of_this_reaches_a_normal_server(server: StartServer, database: Path) -> None:
    """The variables of the crashing server mean nothing to the shipped one."""
    process = server(env={VARIABLE: "accept.before", LEASE_VARIABLE: "1"})
    assert process.call_tool("codex", {"prompt": "hi"})["structuredContent"]["content"] == "ok"
    assert rows(database, "SELECT state FROM turns") == [("completed",)]
