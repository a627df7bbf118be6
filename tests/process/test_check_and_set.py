"""One turn holds a session, across processes; a message with an id is accepted once; the log is what clients saw."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import pytest

from codexdb.testing.model_script import Answer, Drop, Hang, Status, call_tools, say
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import (
    Message,
    RequestId,
    ServerProcess,
    StartServer,
    write_config,
)
from tests.crash.invariants import broken, query

OK: Message = {
    "content": [{"text": '{"status":"ok"}', "type": "text"}],
    "isError": False,
    "structuredContent": {"status": "ok"},
}
PROCESSES, SENDS, ROUNDS = 4, 25, 3


def send(session: str, text: str = "hello", **more: object) -> Message:
    return {"conversation_id": session, "content": [{"type": "text", "text": text}], **more}


def conversation(server: ServerProcess) -> str:
    return cast("str", server.call_tool("conversation_create", {})["structuredContent"]["conversation_id"])


def told(server: ServerProcess, name: str, arguments: Message) -> Message:
    return cast("Message", server.call_tool(name, arguments)["structuredContent"])


def log(server: ServerProcess, session: str, limit: int = 7) -> list[Message]:
    """The whole log, in small pages."""
    events: list[Message] = []
    page: Message = {"next_seq": 0, "more": True}
    while page["more"]:
        arguments = {"conversation_id": session, "after_seq": page["next_seq"], "limit": limit}
        page = told(server, "conversation_read", arguments)
        events += page["events"]
    return events


def wait_idle(server: ServerProcess, session: str) -> Message:
    """Read until the last turn has ended; each call waits on the server's side for something new."""
    seq = 0
    for _ in range(100):
        page = told(server, "conversation_read", {"conversation_id": session, "after_seq": seq, "wait_ms": 5_000})
        seq = page["next_seq"]
        if page["last_turn"]["state"] in ("completed", "failed", "interrupted"):
            return page
    raise AssertionError("the session did not become idle")


# -- one turn holds a session ------------------------------------------------------------------------------------------


@pytest.fixture
def crowd(server: StartServer) -> list[ServerProcess]:
    """Servers of their own on one file."""
    first = server()
    conversation(first)  # its database is there
    return [first, *(server() for _ in range(PROCESSES - 1))]


def test_of_a_hundred_concurrent_sends_from_four_processes_exactly_one_wins(
    crowd: list[ServerProcess], model: ScriptedModel
) -> None:
    session = conversation(crowd[0])
    for process in crowd:
        process.call_tool("conversations_list", {})  # everything is loaded
    for round_ in range(1, ROUNDS + 1):
        model.add(Hang())
        sent: list[tuple[ServerProcess, RequestId]] = [
            (process, process.start_tool("send-user-message", send(session, f"{round_}.{n}")))
            for n in range(SENDS)
            for process in crowd
        ]
        results = [process.wait_response(request)["result"] for process, request in sent]
        winners = [result for result in results if not result["isError"]]
        losers = [result["structuredContent"] for result in results if result["isError"]]
        assert winners == [OK]
        assert len(losers) == PROCESSES * SENDS - 1
        assert {loser["message"] for loser in losers} == {"Session is already running"}
        assert {loser["kind"] for loser in losers} == {"busy"}
        assert len({loser["turn_id"] for loser in losers}) == 1
        model.wait_for_requests(round_)
        model.release()
        page = wait_idle(crowd[round_ % PROCESSES], session)
        assert page["turns"] == round_
        assert page["last_turn"]["turn_id"] == losers[0]["turn_id"]
        assert page["last_turn"]["state"] == "completed"
    assert len(model.requests) == ROUNDS
    assert crowd[-1].call_tool("send-user-message", send(session)) == OK


def test_a_reply_is_told_that_another_process_holds_the_session(server: StartServer, model: ScriptedModel) -> None:
    model.add(Hang())
    one, other = server(), server()
    request = one.start_tool("codex", {"prompt": "hello"})
    session = one.wait_event("task_started", request)["_meta"]["conversationId"]
    result = other.call_tool("codex-reply", {"threadId": session, "prompt": "now"})
    assert result["isError"] is True
    assert result["structuredContent"]["kind"] == "busy"
    model.wait_for_requests(1)
    model.release()
    assert "isError" not in one.wait_response(request)["result"]
    assert told(other, "codex-reply", {"threadId": session, "prompt": "now"})["content"] == "ok"


def test_an_interrupt_from_another_process_ends_the_turn(server: StartServer, model: ScriptedModel) -> None:
    model.add(Hang())
    one, other = server(), server()
    request = one.start_tool("codex", {"prompt": "hello"})
    session = one.wait_event("task_started", request)["_meta"]["conversationId"]
    model.wait_for_requests(1)
    assert told(other, "conversation_interrupt", {"conversation_id": session})["interrupting"] is True
    assert one.wait_response(request, timeout=5)["result"]["structuredContent"]["kind"] == "interrupted"


# -- accepted once -----------------------------------------------------------------------------------------------------


def test_a_repeated_message_is_accepted_once_also_after_a_restart(server: StartServer, model: ScriptedModel) -> None:
    first = server()
    session = conversation(first)
    accepted = told(first, "send-user-message", send(session, message_id="m"))
    assert accepted["outcome"] == "started"
    wait_idle(first, session)
    for process in (first, server()):
        repeated = told(process, "send-user-message", send(session, message_id="m"))
        assert repeated == {"status": "ok", "outcome": "duplicate", "turn_id": accepted["turn_id"]}
        other = process.call_tool("send-user-message", send(session, "other", message_id="m"))
        assert other["isError"] is True
        assert other["structuredContent"]["kind"] == "conflict"
        process.kill()
    assert len(model.requests) == 1
    assert told(server(), "send-user-message", send(session, message_id="m2"))["outcome"] == "started"


def test_a_repeat_while_the_first_runs_is_a_duplicate_and_not_busy(server: StartServer, model: ScriptedModel) -> None:
    model.add(Hang())
    one, other = server(), server()
    session = conversation(one)
    turn = told(one, "send-user-message", send(session, message_id="m"))["turn_id"]
    for process in (one, other):
        repeated = told(process, "send-user-message", send(session, message_id="m"))
        assert repeated == {"status": "ok", "outcome": "duplicate", "turn_id": turn}


def test_a_refused_message_is_not_remembered(server: StartServer, model: ScriptedModel) -> None:
    model.add(Hang())
    process = server()
    session = conversation(process)
    process.call_tool("send-user-message", send(session))
    refused = told(process, "send-user-message", send(session, message_id="m"))
    assert refused["kind"] == "busy"
    model.wait_for_requests(1)
    model.release()
    wait_idle(process, session)
    assert told(process, "send-user-message", send(session, message_id="m"))["outcome"] == "started"


def test_one_message_id_names_a_message_in_each_session(server: StartServer) -> None:
    process = server()
    turns = {
        told(process, "send-user-message", send(conversation(process), message_id="m"))["turn_id"] for _ in range(3)
    }
    assert len(turns) == 3


def test_a_repeated_codex_call_joins_the_first_and_gets_the_same_answer(
    server: StartServer, model: ScriptedModel
) -> None:
    model.add(Hang(answer=say("the answer")))
    one, other = server(), server()
    arguments = {"prompt": "hello", "message_id": "m"}
    first = one.start_tool("codex", arguments)
    model.wait_for_requests(1)
    joined = [(process, process.start_tool("codex", arguments)) for process in (one, other)]
    different = one.call_tool("codex", {**arguments, "prompt": "other"})
    assert different["structuredContent"]["kind"] == "conflict"
    model.release()
    answer = one.wait_response(first)["result"]
    assert answer["structuredContent"]["content"] == "the answer"
    assert [process.wait_response(request)["result"] for process, request in joined] == [answer, answer]
    one.kill()
    assert server().call_tool("codex", arguments) == answer
    assert len(model.requests) == 1


def test_a_repeated_reply_is_answered_again_and_not_worked_again(server: StartServer, model: ScriptedModel) -> None:
    model.add(say("hi"), Status(400, "no"))
    process = server()
    session = told(process, "codex", {"prompt": "hello"})["threadId"]
    arguments = {"threadId": session, "prompt": "go on", "message_id": "m"}
    failed = process.call_tool("codex-reply", arguments)
    assert failed["isError"] is True
    repeated = process.call_tool("codex-reply", arguments)
    assert repeated["structuredContent"]["kind"] == failed["structuredContent"]["kind"]
    assert repeated["content"] == failed["content"]
    assert len(model.requests) == 2


# -- the log is the truth ----------------------------------------------------------------------------------------------


@pytest.fixture
def busy_run(tmp_path: Path) -> Iterator[tuple[ServerProcess, ServerProcess, dict[str, list[Message]]]]:
    """Sessions with every kind of turn, worked at the same time; what the client saw of each; and a second server."""
    home = tmp_path / "home"
    home.mkdir()
    seen: dict[str, list[Message]] = {}
    with ScriptedModel(responder=_by_prompt) as model, ExitStack() as stack:
        write_config(home, model.base_url, "responses")
        one, other = (stack.enter_context(ServerProcess(home)) for _ in range(2))
        for process in (one, other):
            process.initialize()
        for _ in range(2):
            work_all(one, model, seen)
        yield one, other, seen


PROMPTS = ("say", "tools", "fail", "drop", "hang", "say", "tools")


def _by_prompt(body: dict[str, object]) -> Any:
    items = cast("list[Message]", body["input"])
    if items[-1].get("type") == "function_call_output":
        return say("done")
    return {
        "say": Answer(text=("a", "b"), reasoning=("thinking",)),
        "tools": call_tools(("c1", "shell", '{"command":["echo","x"]}'), ("c2", "shell", '{"command":["false"]}')),
        "fail": Status(400, "no"),
        "drop": Drop("mid"),
        "hang": Hang(before=("partial",)),
    }[items[-1]["content"][0]["text"]]


def work_all(server: ServerProcess, model: ScriptedModel, seen: dict[str, list[Message]]) -> None:
    """A turn of each kind, at the same time: new sessions first, later turns in those."""
    asked = len(model.requests)
    sessions = list(seen)
    calls = [
        server.start_tool("codex-reply", {"threadId": sessions[n], "prompt": prompt})
        if sessions
        else server.start_tool("codex", {"prompt": prompt})
        for n, prompt in enumerate(PROMPTS)
    ]
    started = [server.wait_event("task_started", call)["_meta"]["conversationId"] for call in calls]
    hanging = started[PROMPTS.index("hang")]
    server.wait_event("agent_message_delta", calls[PROMPTS.index("hang")])
    assert len(model.requests) > asked
    server.call_tool("conversation_interrupt", {"conversation_id": hanging})
    for call, session in zip(calls, started, strict=True):
        server.wait_response(call)
        seen.setdefault(session, []).extend(server.events(call, transient=False))


def test_what_a_client_saw_live_is_what_any_process_reads_back(
    busy_run: tuple[ServerProcess, ServerProcess, dict[str, list[Message]]],
) -> None:
    one, other, seen = busy_run
    kinds: set[str] = set()
    for session, live in seen.items():
        shown = [(event["_meta"]["seq"], event["id"], event["msg"]) for event in live]
        for process in (one, other):
            assert [(event["seq"], event["id"], event["msg"]) for event in log(process, session)] == shown
        assert [seq for seq, _, _ in shown] == list(range(1, len(shown) + 1))
        kinds |= {msg["type"] for _, _, msg in shown}
    assert {"task_complete", "error", "exec_command_begin", "exec_command_end", "agent_reasoning"} <= kinds


def test_a_page_is_of_one_moment(server: StartServer) -> None:
    process = server()
    session = conversation(process)
    seq = 0
    for _ in range(40):
        process.call_tool("send-user-message", send(session))
        ended = False
        while not ended:
            arguments = {"conversation_id": session, "after_seq": seq, "wait_ms": 5_000}
            page = told(process, "conversation_read", arguments)
            seq = page["next_seq"]
            ended = any(event["msg"]["type"] == "task_complete" for event in page["events"])
            assert (page["status"], page["last_turn"]["state"]) in (("idle", "completed"), ("running", "running"))
            assert ended == (page["status"] == "idle") or page["more"]


def test_the_log_has_no_gaps_and_every_turn_one_end(
    busy_run: tuple[ServerProcess, ServerProcess, dict[str, list[Message]]], tmp_path: Path
) -> None:
    _, other, seen = busy_run
    database = tmp_path / "home" / "codexdb" / "codexdb.sqlite3"
    assert broken(database) == {}
    assert query(database, "SELECT count(*) FROM turns") == [(2 * len(PROMPTS),)]
    for session in seen:
        arguments = {"conversation_id": session, "include_items": True}
        items = told(other, "conversation_read", arguments)["items"]
        assert [item["seq"] for item in items] == list(range(1, len(items) + 1))
        calls = [item["item"]["call_id"] for item in items if item["item"]["type"] == "function_call"]
        outputs = [item["item"]["call_id"] for item in items if item["item"]["type"] == "function_call_output"]
        assert sorted(calls) == sorted(outputs)
