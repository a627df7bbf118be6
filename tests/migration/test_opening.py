"""Files of released versions go on; files that cannot be used are refused with a sentence, and left as they were."""

import os
import shutil
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from codexdb.store import revision
from codexdb.testing.model_script import say
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import Message, ServerProcess, StartServer, write_config
from tests.migration.make_release import RELEASED

RELEASES = sorted(RELEASED.glob("*.sqlite3"))
BYTES_MAX = 300_000  # of a fixture in the repository

SOME_ID = "01890a5d-ac96-774b-bcce-b302099a8057"
CALLS: dict[str, Message] = {
    "codex": {"prompt": "hello"},
    "codex-reply": {"threadId": SOME_ID, "prompt": "hello"},
    "send-user-message": {"conversation_id": SOME_ID, "content": [{"type": "text", "text": "hello"}]},
    "conversation_create": {},
    "conversation_read": {"conversation_id": SOME_ID},
    "conversation_stream": {"conversation_id": SOME_ID},
    "conversation_fork": {"conversation_id": SOME_ID},
    "conversation_archive": {"conversation_id": SOME_ID},
    "conversation_compact": {"conversation_id": SOME_ID},
    "conversation_interrupt": {"conversation_id": SOME_ID},
    "approvals_list": {},
    "approval_decide": {"approval_id": SOME_ID, "decision": "denied"},
    "conversations_list": {},
}


# -- released versions -------------------------------------------------------------------------------------------------


def query(path: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return connection.execute(sql).fetchall()


def test_the_newest_schema_has_a_populated_database() -> None:
    assert f"{revision.HEAD}.sqlite3" in {path.name for path in RELEASES}, "run: python -m tests.migration.make_release"


@pytest.mark.parametrize("release", RELEASES, ids=lambda path: path.stem)
def test_a_released_database_holds_turns_and_calls_of_every_outcome(release: Path, tmp_path: Path) -> None:
    path = tmp_path / "copy.sqlite3"  # reading a WAL file needs files beside it
    shutil.copyfile(release, path)
    assert release.stat().st_size < BYTES_MAX
    assert {row[0] for row in query(path, "SELECT state FROM turns")} == {"completed", "failed", "interrupted", "ready"}
    assert {row[0] for row in query(path, "SELECT state FROM tool_calls")} >= {"succeeded", "failed", "unknown"}
    assert {row[0] for row in query(path, "SELECT end_reason FROM turns")} >= {"requested", "server_stopped"}
    assert query(path, "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize("release", RELEASES, ids=lambda path: path.stem)
def test_a_released_database_goes_on(server: StartServer, model: ScriptedModel, release: Path, database: Path) -> None:
    database.parent.mkdir(mode=0o700)
    shutil.copyfile(release, database)
    counted = query(database, "SELECT (SELECT count(*) FROM sessions), (SELECT count(*) FROM items)")
    process = server(wire_api="responses")
    sessions = process.call_tool("conversations_list", {"limit": 100})["structuredContent"]["conversations"]
    assert len(sessions) == counted[0][0]
    model.add(*(say(f"answer {number}") for number in range(len(sessions))))
    for number, session in enumerate(sessions):
        name = session["conversation_id"]
        if session["status"] == "running":  # a suspended turn, which belongs to another CODEX_HOME and so waits for it
            process.call_tool("conversation_interrupt", {"conversation_id": name})
        before = read(process, name)
        assert [event["seq"] for event in before["events"]] == list(range(1, before["next_seq"] + 1))
        result = process.call_tool("codex-reply", {"threadId": name, "prompt": "Go on"})
        assert result["structuredContent"] == {"threadId": name, "content": f"answer {number}"}
        body = model.requests[-1].body
        assert body is not None
        sent = body["input"]
        assert isinstance(sent, list)
        assert len(sent) == len(before["items"]) + 1  # pyright: ignore[reportUnknownArgumentType]
    kept = process.call_tool("codex", {"prompt": "Look around", "message_id": "opening"})["structuredContent"]
    assert kept["content"] == "It is done."  # accepted once, for ever


def read(process: ServerProcess, session: str) -> Message:
    arguments = {"conversation_id": session, "include_items": True, "limit": 1000}
    page: Message = process.call_tool("conversation_read", arguments)["structuredContent"]
    assert not page["more"]
    return page


# -- files that cannot be used -----------------------------------------------------------------------------------------


def newer(path: Path) -> str:
    revision.prepare(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    return "has schema 9999"


def no_database(path: Path) -> str:
    path.write_bytes(b"These are my notes.\n" * 500)
    return "not a database"


def foreign(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
        connection.commit()
    return "some other program"


def cut_short(path: Path) -> str:
    revision.prepare(path)
    os.truncate(path, 8192)
    return "cannot be "


def folder(path: Path) -> str:
    path.mkdir()
    return "is not a file"


REFUSED = [newer, no_database, foreign, cut_short, folder]


def assert_refused(process: ServerProcess, sentence: str) -> None:
    """The client can shake hands and list; every tool tells why nothing works; so does the log; and the exit code."""
    listed = process.wait_response(process.request("tools/list"))["result"]["tools"]
    assert {tool["name"] for tool in listed} <= set(CALLS)
    for tool in listed:
        result = process.call_tool(tool["name"], CALLS[tool["name"]])
        assert result["isError"] is True
        assert result["structuredContent"]["kind"] == "store_refused"
        assert sentence in result["content"][0]["text"]
    assert "result" in process.wait_response(process.request("ping"))
    process.close_stdin()
    assert process.wait_exit() == 1
    assert sentence in process.stderr
    assert "Traceback" not in process.stderr


@pytest.mark.parametrize("make", REFUSED, ids=lambda make: make.__name__)
def test_a_file_that_cannot_be_used_is_refused_with_a_sentence(
    server: StartServer, database: Path, make: Callable[[Path], str]
) -> None:
    database.parent.mkdir()
    sentence = make(database)
    before = None if database.is_dir() else database.read_bytes()
    assert_refused(server(), sentence)
    if before is not None:
        assert database.read_bytes() == before  # not ours to change


def test_a_foreign_database_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "recipes.sqlite3"
    foreign(path)
    before = path.read_bytes()
    with pytest.raises(Exception, match="some other program"):
        revision.prepare(path)
    assert path.read_bytes() == before


def test_a_folder_that_cannot_be_made_is_refused_with_a_sentence(server: StartServer, home: Path) -> None:
    (home / "file").touch()
    assert_refused(server("--db", str(home / "file" / "codexdb.sqlite3")), "cannot be made")


def test_a_folder_that_cannot_be_written_is_refused_with_a_sentence(
    home: Path, server: StartServer, model: ScriptedModel
) -> None:
    closed = home / "closed"
    closed.mkdir(mode=stat.S_IRUSR | stat.S_IXUSR)
    if os.access(closed, os.W_OK):  # nothing is closed to root, but for what the kernel keeps for itself
        closed = Path("/proc")
        if not closed.exists():
            pytest.skip("this user may write everywhere")
    write_config(home, model.base_url, "chat")
    assert_refused(server("--db", str(closed / "codexdb.sqlite3")), str(closed))
