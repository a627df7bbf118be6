"""The official SDKs as clients of a real server: a session from its start on, and what giving up a call does to it."""

import json
from uuid import UUID

import pytest
import wire
from foreign import ForeignClient
from reasons import OBSERVED

from codexdb.domain.limits import PROGRESS_HEARTBEAT_MS
from codexdb.testing.model_script import Hang, say
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import Message

TIMEOUT_S = 2

pytestmark = pytest.mark.timeout(60, func_only=True)  # installing a client has bounds of its own

every_client = pytest.mark.parametrize(
    "name",  # the first test of each but this one has to install it
    ["python_sdk_2", *(pytest.param(name, marks=pytest.mark.slow) for name in OBSERVED if name != "python_sdk_2")],
)


@every_client
@pytest.mark.usefixtures("name")
def test_a_client_lists_the_tools_and_holds_a_session(client: ForeignClient, model: ScriptedModel) -> None:
    model.add(say("Hello ", "world"), say("again"))
    assert {"codex", "codex-reply", "send-user-message", "conversation_read"} <= set(client.list_tools())

    first = client.call("codex", {"prompt": "greet me"})
    thread_id = first["result"]["structuredContent"]["threadId"]
    assert UUID(thread_id)
    _check_outcome(first, thread_id, "Hello world")
    second = client.call("codex-reply", {"threadId": thread_id, "prompt": "and again"})
    _check_outcome(second, thread_id, "again")

    assert "greet me" in json.dumps(model.requests[1].body)  # the same session: what was said before is sent again
    wire.check(client.finish())


def _check_outcome(outcome: Message, thread_id: str, text: str) -> None:
    result, progress = outcome["result"], outcome["progress"]
    assert result["structuredContent"] == {"threadId": thread_id, "content": text}
    assert [(part["type"], part["text"]) for part in result["content"]] == [("text", text)]
    assert not result.get("isError")
    assert progress
    assert progress == sorted(set(progress))


@every_client
def test_a_client_that_times_out_leaves_its_turn_running(
    client: ForeignClient, model: ScriptedModel, name: str
) -> None:
    model.add(Hang(), say("and on it goes"))
    call = client.start("codex", {"prompt": "take your time"}, timeout_s=TIMEOUT_S)
    model.wait_for_requests(1)
    assert "timed out" in client.wait(call)["error"].lower()

    assert _only_conversation(client)["status"] == "running"
    model.release()
    turn = _wait_until_idle(client)["last_turn"]
    assert (turn["state"], turn["last_agent_message"]) == ("completed", "released")
    _check_told(client, OBSERVED[name].timed_out)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in OBSERVED if name.startswith("typescript")])
@pytest.mark.usefixtures("name")
def test_progress_keeps_a_call_alive_in_a_client_that_counts_from_it(
    client: ForeignClient, model: ScriptedModel
) -> None:
    timeout_ms = PROGRESS_HEARTBEAT_MS + 1_000
    model.add(Hang(ms=timeout_ms + 500))
    options = {"timeout_s": timeout_ms / 1000, "reset_timeout_on_progress": True}
    outcome = client.wait(client.start("codex", {"prompt": "take your time"}, **options))
    assert outcome["result"]["structuredContent"]["content"] == "released"
    wire.check(client.finish())


@every_client
def test_a_call_that_its_user_gives_up_is_interrupted(client: ForeignClient, model: ScriptedModel, name: str) -> None:
    model.add(Hang())
    call = client.start("codex", {"prompt": "take your time"})
    model.wait_for_requests(1)
    client.give_up()
    assert "error" in client.wait(call)

    told = OBSERVED[name].given_up
    if told is None:  # then the server cannot know, and the turn goes on
        assert _only_conversation(client)["status"] == "running"
        model.release()
    turn = _wait_until_idle(client)["last_turn"]
    assert turn["state"] == ("interrupted" if told else "completed")
    _check_told(client, told)


def _check_told(client: ForeignClient, reason: str | None) -> None:
    lines = client.finish()
    assert wire.cancel_reasons(lines) == ([] if reason is None else [reason])
    wire.check(lines)


def _only_conversation(client: ForeignClient) -> Message:
    [conversation] = client.call("conversations_list", {})["result"]["structuredContent"]["conversations"]
    return conversation


def _wait_until_idle(client: ForeignClient) -> Message:
    """The conversation once its turn has ended. Each read waits for something new, and it ends at some time."""
    arguments = {"conversation_id": _only_conversation(client)["conversation_id"], "wait_ms": 10_000}
    after_seq = 0
    while True:
        page = client.call("conversation_read", {**arguments, "after_seq": after_seq})["result"]["structuredContent"]
        if page["status"] == "idle":
            return page
        assert page["events"], "nothing happened for ten seconds"
        after_seq = page["next_seq"]
