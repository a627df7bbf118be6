"""`kill -9` in the middle of a turn: nothing is half done, nothing runs on or runs twice, and the session goes on."""

import os
import select
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from codexdb.store.calls import UNKNOWN
from codexdb.testing.model_script import Hang, call_tools, say
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import ServerProcess, StartServer, write_config
from tests.crash.invariants import broken, query
from tests.crash.raw_client import RawClient

GONE_S = 5  # the kernel, or the reaper, kills within milliseconds


@contextmanager
def witness(path: Path) -> Generator[int]:
    """A named pipe that commands open for writing: its reading end tells when the last of them is gone."""
    os.mkfifo(path)
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        yield fd
    finally:
        os.close(fd)


def wait_for(fd: int, expected: bytes) -> None:
    """Read `expected`, or for nothing the end: every writer is gone."""
    poll = select.poll()
    poll.register(fd, select.POLLIN | select.POLLHUP)
    assert poll.poll(GONE_S * 1000), "nothing happened at the pipe"
    assert os.read(fd, 100) == expected


def test_a_command_dies_with_the_server_and_its_call_is_unknown(
    server: StartServer, model: ScriptedModel, database: Path, home: Path
) -> None:
    command = (
        "exec 3>witness; (trap '' TERM HUP INT; sleep 600; touch done) & trap '' TERM HUP INT; echo up >&3; "
        "sleep 600; touch done"
    )
    arguments = f'{{"command":["sh","-c","{command}"]}}'
    model.add(call_tools(("call-1", "shell", arguments), ("call-2", "shell", '{"command":["touch","done"]}')))
    first = server("--on-restart=interrupt")
    with witness(home / "witness") as fd:
        call = first.start_tool("codex", {"prompt": "hello"})
        session = first.wait_event("exec_command_begin", call)["_meta"]["conversationId"]
        wait_for(fd, b"up\n")
        first.kill()
        wait_for(fd, b"")
    second = server("--on-restart=interrupt")
    result = second.call_tool("codex-reply", {"threadId": session, "prompt": "go on"})
    assert result["content"][0]["text"] == "ok"
    assert not (home / "done").exists()
    states = dict(query(database, "SELECT call_id, state FROM tool_calls"))
    assert states == {"call-1": "unknown", "call-2": "aborted"}
    told = [message for message in sent(model) if message.get("role") == "tool"]
    assert [message["tool_call_id"] for message in told] == ["call-1", "call-2"]
    assert told[0]["content"] == UNKNOWN
    assert broken(database) == {}


def sent(model: ScriptedModel) -> list[dict[str, str]]:
    """The messages of the newest request."""
    body = model.requests[-1].body
    assert body is not None
    return body["messages"]  # pyright: ignore[reportReturnType]


def test_a_turn_killed_while_the_model_speaks_is_interrupted(
    server: StartServer, model: ScriptedModel, database: Path
) -> None:
    model.add(Hang(before=("one ", "two ", "three")))
    first = server("--on-restart=interrupt")
    call = first.start_tool("codex", {"prompt": "remember this"})
    event = first.wait_event("agent_message_delta", call)
    first.kill()
    session = event["_meta"]["conversationId"]
    second = server("--on-restart=interrupt")
    page = second.call_tool("conversation_read", {"conversation_id": session})["structuredContent"]
    assert page["last_turn"]["end_reason"] == "server_stopped"
    assert second.call_tool("codex-reply", {"threadId": session, "prompt": "go on"})["content"][0]["text"] == "ok"
    said = [message["content"] for message in sent(model) if message["role"] == "user"]
    assert said[-2:] == ["remember this", "go on"]
    assert broken(database) == {}


def test_what_the_model_said_until_the_kill_is_kept(server: StartServer, model: ScriptedModel, database: Path) -> None:
    """But for what was said in the moment before it."""
    model.add(Hang(before=("one ", "two ", "three")))
    first = server("--on-restart=interrupt")
    call = first.start_tool("codex", {"prompt": "hello"})
    first.wait_event("agent_message_delta", call)
    while query(database, "SELECT coalesce(group_concat(text, ''), '') FROM deltas") != [("one two three",)]:
        first.call_tool("conversations_list", {})  # bounded by the test's time-out
    first.kill()
    server("--on-restart=interrupt").call_tool("conversations_list", {})
    assert query(database, "SELECT payload ->> '$.content[0].text' FROM items WHERE partial = 1") == [
        ("one two three",)
    ]


def test_a_kill_after_any_message_to_the_client_leaves_nothing_half_done(home: Path, database: Path) -> None:
    """A whole turn with commands and text, killed once behind each line that the client reads of it."""
    steps = (
        call_tools(("c1", "shell", '{"command":["echo","x"]}'), ("c2", "shell", '{"command":["false"]}'), text="look"),
        say("a", "b"),
    )
    with ScriptedModel() as model:
        write_config(home, model.base_url, "chat")
        lines, complete = 2, False  # the handshake's answer, then one more each time
        while not complete:
            model._steps.clear()  # pyright: ignore[reportPrivateUsage] - what a killed turn did not ask for
            model.add(*steps)
            with RawClient(home) as client:
                client.call("codex", {"prompt": "hello"})
                if complete := _read_to_result(client, lines):
                    assert lines > 8  # there was something to interrupt
                client.kill()
            assert not {name for name in broken(database) if name != "deltas only of open turns"}
            lines += 1
        with ServerProcess(home, "--on-restart=interrupt") as server:
            server.initialize()
            sessions = server.call_tool("conversations_list", {"limit": 100})["structuredContent"]["conversations"]
            assert len(sessions) == lines - 2
            for session in sessions:
                assert session["status"] == "idle"
                arguments = {"threadId": session["conversation_id"], "prompt": "go on"}
                assert server.call_tool("codex-reply", arguments)["content"][0]["text"] == "ok"
        assert broken(database) == {}


def _read_to_result(client: RawClient, lines: int) -> bool:
    """Read so many lines; whether the last of them was the result of the call."""
    for _ in range(lines - 1):
        client.read_lines(1)
    return b'"id":1,' in client.read_until()
