"""What happens when the ground gives way: each time a clear answer, nothing lost, and work again when it is over."""

import resource
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from codexdb.testing.model_script import Hang, say
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import Message, ServerProcess, StartServer


def send(server: ServerProcess, session: str, text: str = "hello") -> Message:
    arguments = {"conversation_id": session, "content": [{"type": "text", "text": text}]}
    result: Message = server.call_tool("send-user-message", arguments)["structuredContent"]
    return result


def conversation(server: ServerProcess) -> str:
    result = server.call_tool("conversation_create", {})
    session: str = result["structuredContent"]["conversation_id"]
    return session


def test_a_disk_that_refuses_is_told_and_when_it_gives_way_everything_works_again(server: StartServer) -> None:
    process = server()
    session = conversation(process)
    limits = resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
    refused = send(process, session, "x" * 20_000)
    assert (refused["status"], refused["kind"]) == ("error", "store_failed")
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, limits)
    assert send(process, session) == {"status": "ok"}
    process.wait_event("task_complete")


def test_a_turn_whose_record_cannot_be_written_ends_when_the_disk_gives_way(
    server: StartServer, model: ScriptedModel
) -> None:
    model.add(Hang(answer=say("never on record")))
    process = server()
    session = conversation(process)
    assert send(process, session) == {"status": "ok"}
    model.wait_for_requests(1)
    limits = resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
    model.release()
    while "could not be ended" not in process.stderr:  # bounded by the test's time-out
        process.call_tool("conversations_list", {})
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, limits)
    process.wait_event("error")
    read = process.call_tool("conversation_read", {"conversation_id": session})["structuredContent"]
    assert (read["status"], read["last_turn"]["error_kind"]) == ("idle", "store_failed")
    assert send(process, session) == {"status": "ok"}


@pytest.mark.parametrize("what", ["deleted", "replaced"])
def test_a_database_that_is_gone_is_told_and_not_written_into_nowhere(
    server: StartServer, database: Path, what: str
) -> None:
    process = server()
    session = conversation(process)
    database.rename(database.with_suffix(".away"))
    if what == "replaced":
        with closing(sqlite3.connect(database)) as other:
            other.execute("CREATE TABLE theirs (x)")
    refused = send(process, session)
    assert (refused["status"], refused["kind"]) == ("error", "store_failed")
    assert "moved or deleted" in refused["message"]


def test_a_locked_database_is_told_in_bounded_time_and_then_works_again(server: StartServer, database: Path) -> None:
    process = server()
    session = conversation(process)
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        refused = send(process, session)
        assert (refused["status"], refused["kind"], refused["retryable"]) == ("error", "store_busy", True)
        other.execute("ROLLBACK")
    assert send(process, session) == {"status": "ok"}


def test_a_server_goes_down_in_time_although_the_database_is_locked(
    server: StartServer, database: Path, model: ScriptedModel
) -> None:
    model.add(Hang())
    process = server()
    session = conversation(process)
    assert send(process, session) == {"status": "ok"}
    model.wait_for_requests(1)
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        process.close_stdin()
        assert process.wait_exit(3) == 0
        other.execute("ROLLBACK")
    again = server()
    again.call_tool("conversation_stream", {"conversation_id": session})
    again.wait_event("task_complete")


@pytest.mark.parametrize("damage", ["half a frame behind it", "cut in its last frame", "a flipped byte near its end"])
def test_a_torn_write_ahead_log_costs_what_was_torn_and_nothing_before_it(
    server: StartServer, database: Path, damage: str
) -> None:
    """Nobody but a disk that lies tears it after a commit; behind the last commit, a kill may."""
    first = server()
    session = conversation(first)
    for number in range(5):
        assert send(first, session, f"message {number}") == {"status": "ok"}
        first.wait_event("task_complete", event_id=str(number + 2))
    first.kill()
    wal = database.with_name(f"{database.name}-wal")
    written = bytearray(wal.read_bytes())
    if damage.startswith("half"):
        written += written[32 : 32 + 2_000]
    elif damage.startswith("cut"):
        del written[-2_000:]
    else:
        written[-1_000] ^= 0xFF
    wal.write_bytes(written)
    second = server()
    page = second.call_tool("conversation_read", {"conversation_id": session, "limit": 1_000})["structuredContent"]
    assert [event["seq"] for event in page["events"]] == list(range(1, page["next_seq"] + 1))
    kept = [event["msg"]["type"] for event in page["events"]].count("task_started")
    assert kept == 5 if damage.startswith("half") else kept >= 4
    behind = {"threadId": session, "prompt": "go on", "if_running": "queue"}  # the last turn's end may be what was torn
    assert second.call_tool("codex-reply", behind)["structuredContent"] == {"threadId": session, "content": "ok"}
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
