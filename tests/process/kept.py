"""A database of a real server with something of everything in it, and `codexdb db` on it."""

import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

from codexdb.store import revision
from codexdb.testing.model_script import call_tools, say
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import ServerProcess, write_config
from tests.migration.filling import fill as fill_old
from tests.migration.snapshot import migrated
from tests.process import command
from tests.process.asked import question, start, touch
from tests.process.command import on_file
from tests.process.talking import ask, at_rest, opened, reply, send, shell

TIMEOUT_S = 60


def db(database: Path, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    """`codexdb db …` on this file."""
    return command.run(argv(*arguments), on_file(database), given=given, timeout_s=TIMEOUT_S)


def argv(*arguments: str) -> list[str]:
    return command.argv("db", *arguments)


def fill(home: Path) -> Path:
    """Make a database: a turn with a command, a fork, an archived session, a turn that waits for an answer, and one
    that waits behind it. Returns its path; no server has it open any more.
    """
    with ScriptedModel() as model:
        write_config(home, model.base_url, "chat")
        model.add(call_tools(shell("c1", "echo", "printed")), say("done"), say("of the fork"), say("put away"))
        with ServerProcess(home) as server:
            server.initialize()
            session = opened(server, "Look around")
            fork = str(ask(server, "conversation_fork", session)["conversation_id"])
            reply(server, fork, "Go another way")
            ask(server, "conversation_archive", opened(server, "Put this away"))
            at_rest(server, session)
        model.add(touch(home / "made"))
        with ServerProcess(home) as server:
            server.initialize()
            waiting = start(server, **{"cwd": str(home), "approval-policy": "untrusted"})
            question(server)
            sent = send(server, waiting, "Then this", if_running="queue")
            assert sent["outcome"] == "queued", sent
            server.close_stdin()
            server.wait_exit()
    return home / "codexdb" / "codexdb.sqlite3"


def fill_large(path: Path, megabytes: float) -> None:
    """Make a sound database of about that size of archived sessions."""
    fill_old(path, megabytes)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE events SET type = 'task_complete' WHERE seq = (SELECT next_seq - 1 FROM sessions)")
        connection.execute("UPDATE sessions SET archived_at_ms = updated_at_ms")
    migrated(path, revision.HEAD)


def copied(database: Path, target: Path) -> Path:
    """A copy of it, as of one instant."""
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(target)) as copy:
        source.backup(copy)
    target.chmod(0o600)
    return target
