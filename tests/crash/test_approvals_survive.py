"""Questions that were asked before a `kill -9` are there after it, and their answers move the turn."""

from pathlib import Path

import pytest

from codexdb.domain.clock import SystemClock
from codexdb.testing.model_script import say
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import StartServer
from tests.process.asked import UNTRUSTED, approvals, decide, listed, question, questions, result, start, touch
from tests.process.talking import at_rest, kinds, rows, until

WAITING = "SELECT state, worker_id FROM turns"


@pytest.mark.parametrize("how", ["by command", "by tool"])
def test_a_question_asked_before_a_kill_is_answered_after_it(
    server: StartServer, model: ScriptedModel, home: Path, database: Path, tmp_path: Path, how: str
) -> None:
    model.add(touch(tmp_path / "made"), say("made"))
    client = server(config=UNTRUSTED)
    session = start(client)
    question(client)
    until(lambda: rows(database, WAITING) == [("waiting", None)], "the wait")
    client.kill()
    after = server()
    (open_,) = listed(after, conversation_id=session)
    assert open_["question"]["command"] == ["touch", str(tmp_path / "made")]
    if how == "by command":
        assert open_["approval_id"] in approvals(home, "list", "--json").stdout
        assert approvals(home, "decide", open_["approval_id"], "approved").returncode == 0
    else:
        decide(after, open_["approval_id"], "approved")
    assert kinds(at_rest(after, session))[-1] == "task_complete"
    assert (tmp_path / "made").exists()
    assert rows(database, "SELECT state, crashes, last_agent_message FROM turns") == [("completed", 0, "made")]


def test_a_question_asked_before_a_kill_is_put_to_the_next_client_once(
    server: StartServer, model: ScriptedModel, tmp_path: Path, database: Path
) -> None:
    model.add(touch(tmp_path / "made"), say("made"))
    client = server(config=UNTRUSTED)
    session = start(client)
    question(client)
    until(lambda: rows(database, WAITING) == [("waiting", None)], "the wait")
    client.kill()
    after = server()
    assert questions(after) == []
    after.call_tool("conversation_stream", {"conversation_id": session})
    asked = question(after)
    after.call_tool("conversation_stream", {"conversation_id": session})  # again, and by what others do
    after.call_tool("approvals_list", {})
    assert len(questions(after)) == 1
    after.respond(asked["id"], {"action": "accept", "content": {"decision": "approved"}})
    assert kinds(at_rest(after, session))[-1] == "task_complete"
    assert (tmp_path / "made").exists()
    assert len(questions(after)) == 1
    assert len(questions(client)) == 1


def test_a_repeated_call_is_asked_what_the_first_one_was(
    server: StartServer, model: ScriptedModel, tmp_path: Path
) -> None:
    model.add(touch(tmp_path / "made"), say("made"))
    client = server(config=UNTRUSTED)
    start(client, message_id="m1")
    question(client)
    client.kill()
    after = server()
    after.start_tool("codex", {"prompt": "work", "message_id": "m1"}, id=1)
    after.respond(question(after)["id"], {"decision": "approved"})
    assert result(after)["content"] == "made"


def test_an_answer_moves_a_turn_that_was_left_for_longer_than_turns_go_on_by_themselves(
    server: StartServer, model: ScriptedModel, tmp_path: Path, database: Path
) -> None:
    model.add(touch(tmp_path / "made"), say("made"))
    client = server(config=UNTRUSTED)
    session = start(client)
    question(client)
    until(lambda: rows(database, WAITING) == [("waiting", None)], "the wait")
    client.kill()
    asked_at_ms = int(str(rows(database, "SELECT max(created_at_ms) FROM events")[0][0]))
    after = server("--resume-max-age", "1")
    until(lambda: SystemClock().now_ms() > asked_at_ms + 1_500, "the turn's old age")
    decide(after, listed(after)[0]["approval_id"], "approved")
    assert kinds(at_rest(after, session))[-1] == "task_complete"
    assert (tmp_path / "made").exists()
