"""A call that timed out loses its answer, one that was given up its turn: told apart by what real libraries say."""

import pytest
from reasons import NOTED, OBSERVED

from codexdb.testing.model_script import Hang
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import Message, ServerProcess, StartServer

ALL = [*OBSERVED.values(), *NOTED.values()]


@pytest.mark.parametrize("reason", sorted({each.timed_out for each in ALL if each.timed_out}))
def test_a_time_out_leaves_the_turn_running(server: StartServer, model: ScriptedModel, reason: str) -> None:
    process = _cancelled(server, model, reason)
    assert _read(process, 0)["status"] == "running"
    model.release()
    process.wait_event("task_complete")
    assert _read(process, 0)["last_turn"]["state"] == "completed"


@pytest.mark.parametrize("reason", sorted({each.given_up for each in ALL if each.given_up}))
def test_giving_up_interrupts_the_turn(server: StartServer, model: ScriptedModel, reason: str) -> None:
    process = _cancelled(server, model, reason)
    page = _read(process, 0)
    while page["status"] != "idle":
        assert page["events"], "nothing happened for ten seconds"
        page = _read(process, page["next_seq"])
    assert page["last_turn"]["state"] == "interrupted"


def _cancelled(server: StartServer, model: ScriptedModel, reason: str) -> ServerProcess:
    """A server with one turn, whose call was cancelled with that reason while the model hangs."""
    model.add(Hang())
    process = server()
    call = process.start_tool("codex", {"prompt": "take your time"})
    model.wait_for_requests(1)
    process.notify("notifications/cancelled", {"requestId": call, "reason": reason})
    return process


def _read(process: ServerProcess, after_seq: int) -> Message:
    [conversation] = process.call_tool("conversations_list")["structuredContent"]["conversations"]
    arguments = {"conversation_id": conversation["conversation_id"], "after_seq": after_seq, "wait_ms": 10_000}
    page: Message = process.call_tool("conversation_read", arguments)["structuredContent"]
    return page
