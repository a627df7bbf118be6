"""Clocks that are set back, and laptops that sleep: nothing is lost, doubled or stuck."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from codexdb.testing.model_script import Hang, Status, call_tools, say
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import ServerProcess, StartServer
from tests.process.skewed_server import FILE_VARIABLE
from tests.process.talking import read

SKEWED = (sys.executable, "-m", "tests.process.skewed_server", "serve")
ROOT = Path(__file__).parents[2]
HOUR_MS = 3_600_000
RETRY_AFTER_MS = 2_000

Skewed = Callable[[int], ServerProcess]


@pytest.fixture
def skew(tmp_path: Path) -> Path:
    file = tmp_path / "skew"
    file.write_text("0")
    return file


def set_clock(skew: Path, milliseconds: int) -> None:
    """In one step: the server reads it at any moment."""
    (other := skew.with_suffix(".new")).write_text(str(milliseconds))
    os.replace(other, skew)  # noqa: PTH105 - the same


@pytest.fixture
def skewed(server: StartServer, skew: Path) -> Skewed:
    def start(milliseconds: int) -> ServerProcess:
        set_clock(skew, milliseconds)
        return server(argv=SKEWED, env={FILE_VARIABLE: str(skew), "PYTHONPATH": str(ROOT)}, config=RETRIES)

    return start


RETRIES: dict[str, object] = {"model_providers": {"scripted": {"request_max_retries": 2}}}


def test_a_clock_that_goes_back_changes_no_order(skewed: Skewed, skew: Path) -> None:
    process = skewed(0)
    session = process.call_tool("codex", {"prompt": "first"})["structuredContent"]["threadId"]
    set_clock(skew, -HOUR_MS)
    for number, prompt in enumerate(("second", "third"), 2):
        newest = read(process, session)["last_turn"]
        assert newest["number"] == number - 1
        process.call_tool("codex-reply", {"threadId": session, "prompt": prompt})
    page = read(process, session, include_items=True)
    assert [event["seq"] for event in page["events"]] == list(range(1, page["next_seq"] + 1))
    said = [item["item"]["content"][0]["text"] for item in page["items"] if item["item"].get("role") == "user"]
    assert said[-3:] == ["first", "second", "third"]
    listed = process.call_tool("conversations_list", {})["structuredContent"]["conversations"]
    assert [each["conversation_id"] for each in listed] == [session]


def test_a_turn_goes_on_although_the_clock_went_back_between_two_servers(skewed: Skewed, model: ScriptedModel) -> None:
    """What it had said before its call is not taken for its answer."""
    model.add(call_tools(("c1", "shell", '{"command":["true"]}'), text="I look first."), Hang(), say("looked"))
    first = skewed(0)
    first.start_tool("codex", {"prompt": "go"})
    session = first.wait_event("task_started")["_meta"]["conversationId"]
    model.wait_for_requests(2)
    first.kill()
    second = skewed(-HOUR_MS)
    second.call_tool("conversation_stream", {"conversation_id": session})
    assert second.wait_event("task_complete")["msg"]["last_agent_message"] == "looked"


def test_a_wait_for_a_retry_does_not_grow_when_the_clock_goes_back(skewed: Skewed, model: ScriptedModel) -> None:
    """It had two seconds to wait by a clock that is set back by a day then: nobody waits for a day."""
    model.add(Status(503, headers={"retry-after-ms": str(RETRY_AFTER_MS)}), say("after the wait"))
    first = skewed(24 * HOUR_MS)
    first.start_tool("codex", {"prompt": "go"})
    session = first.wait_event("background_event")["_meta"]["conversationId"]
    first.kill()
    second = skewed(24 * HOUR_MS - RETRY_AFTER_MS)
    second.call_tool("conversation_stream", {"conversation_id": session})
    assert second.wait_event("task_complete")["msg"]["last_agent_message"] == "after the wait"


def test_a_laptop_that_slept_takes_nobody_for_dead(skewed: Skewed, model: ScriptedModel) -> None:
    """Asleep, the wall clock runs on and the monotonic one does not: the lease of a worker has not passed."""
    model.add(Hang(answer=say("good morning")))
    first = skewed(0)
    call = first.start_tool("codex", {"prompt": "good night"})
    session = first.wait_event("task_started")["_meta"]["conversationId"]
    model.wait_for_requests(1)
    second = skewed(8 * HOUR_MS)
    page = read(second, session)
    assert (page["status"], page["last_turn"]["state"]) == ("running", "running")
    model.release()
    assert first.wait_response(call)["result"]["structuredContent"]["content"] == "good morning"
    assert len(model.requests) == 1


def test_a_turn_left_overnight_does_not_go_on_unattended(skewed: Skewed, model: ScriptedModel) -> None:
    model.add(Hang())
    first = skewed(0)
    first.start_tool("codex", {"prompt": "go"})
    session = first.wait_event("task_started")["_meta"]["conversationId"]
    model.wait_for_requests(1)
    first.kill()
    second = skewed(8 * HOUR_MS)
    page = read(second, session, after_seq=2, wait_ms=10_000)
    assert page["last_turn"]["end_reason"] == "server_stopped"
    assert len(model.requests) == 1
