"""`codexdb db backup`, `restore` and `vacuum`: the whole file, while servers work or while nobody does."""

import json
import os
import shutil
import sqlite3
import stat
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from codexdb.domain.errors import StoreRefusedError
from codexdb.store import backup, revision
from codexdb.store.restore import ENDED
from codexdb.testing.model_script import Hang, say
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import StartServer, write_config
from tests.migration.filling import contents
from tests.migration.test_opening import RELEASES
from tests.process.asked import decide, listed
from tests.process.kept import copied, db, fill, fill_large
from tests.process.talking import opened, read, reply, rows, until

OPEN = "SELECT count(*) FROM turns WHERE ended_at_ms IS NULL"
INDEX_BYTES = "SELECT sum(length(block)) FROM search_data"
STAMP = "SELECT version_num FROM alembic_version"


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(tmp_path_factory.mktemp("home"))


@pytest.fixture
def kept(filled: Path, database: Path) -> Path:
    """That database, where a server of `home` finds it."""
    database.parent.mkdir(mode=0o700)
    return copied(filled, database)


def told(path: Path, *arguments: str) -> dict[str, object]:
    result = db(path, *arguments, "--json")
    assert (result.returncode, result.stderr) == (0, "")
    found: dict[str, object] = json.loads(result.stdout)
    return found


def refused(path: Path, *arguments: str, given: str = "") -> str:
    result = db(path, *arguments, given=given)
    assert (result.returncode, result.stdout) == (1, "")
    assert "Traceback" not in result.stderr
    return result.stderr


def assert_sound(path: Path) -> None:
    result = db(path, "check")
    assert result.returncode == 0, result.stdout


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# -- backup ------------------------------------------------------------------------------------------------------------


def test_a_backup_is_made_while_a_server_works(
    server: StartServer, model: ScriptedModel, database: Path, tmp_path: Path
) -> None:
    process = server()
    opened(process, "before")
    model.add(Hang(answer=say("done")))
    begin_at = len(model.requests)
    process.start_tool("codex", {"prompt": "meanwhile"}, id=77)
    model.wait_for_requests(begin_at + 1)
    target = tmp_path / "copy.sqlite3"
    assert told(database, "backup", str(target))["bytes"] == target.stat().st_size
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert rows(target, "SELECT state FROM turns ORDER BY id") == [("completed",), ("running",)]
    assert_sound(target)
    model.release()
    assert process.wait_response(77)["result"]["structuredContent"]["content"] == "done"


def test_a_backup_overwrites_nothing(kept: Path, tmp_path: Path) -> None:
    target = tmp_path / "letter.txt"
    target.write_text("Dear reader")
    assert "exists already" in refused(kept, "backup", str(target))
    assert target.read_text() == "Dear reader"
    for suffix in ("", "-wal", "-shm", "-journal", ".wlock", ".schema.lock"):
        assert "belongs to the database" in refused(kept, "backup", f"{kept}{suffix}")
    assert "There is no folder" in refused(kept, "backup", str(tmp_path / "none" / "copy.sqlite3"))
    assert not list(tmp_path.glob("*.part"))


def test_of_two_that_make_the_same_backup_one_is_refused_and_the_file_is_whole(kept: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy.sqlite3"
    others: list[subprocess.CompletedProcess[str]] = []

    def meanwhile(_what: str, _done: int, _total: int) -> None:
        if not others:
            others.append(db(kept, "backup", str(target)))

    with pytest.raises(StoreRefusedError, match="as well"):
        backup.back_up(kept, meanwhile, target)
    assert others[0].returncode == 0, others[0].stderr
    assert contents(target) == contents(kept)
    assert not list(tmp_path.glob("*.part*"))


def test_a_backup_that_another_has_begun_anew_is_not_called_complete(kept: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy.sqlite3"

    def begun_anew(_what: str, _done: int, _total: int) -> None:
        backup.remove(tmp_path / "copy.sqlite3.part")
        (tmp_path / "copy.sqlite3.part").touch()

    with pytest.raises(StoreRefusedError, match="as well"):
        backup.back_up(kept, begun_anew, target)
    assert list(tmp_path.glob("copy*")) == [tmp_path / "copy.sqlite3.part"], (
        "what the other one has begun is left to it"
    )


def test_a_backup_is_of_one_instant_and_ends_however_much_is_written(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "BACKUP_PAGES_AT_ONCE", 1)
    before = contents(kept)
    steps: list[int] = []
    with closing(sqlite3.connect(kept, isolation_level=None)) as writer:

        def write(_what: str, done: int, total: int) -> None:
            writer.execute("UPDATE sessions SET title = title || 'x', turn_count = turn_count + 1")
            steps.append(done)
            assert len(steps) <= total, "it began anew"

        target = backup.back_up(kept, write, tmp_path / "copy.sqlite3")
    assert contents(target) == before
    assert contents(kept) != before


# -- restore -----------------------------------------------------------------------------------------------------------


def test_what_was_open_in_a_backup_does_not_run_again(
    server: StartServer, model: ScriptedModel, filled: Path, kept: Path, tmp_path: Path
) -> None:
    target = tmp_path / "copy.sqlite3"
    told(kept, "backup", str(target))
    model.add(say("made"), say("and then this"))
    with server() as process:
        ((asked,),) = rows(kept, "SELECT public_id FROM approvals WHERE state = 'pending'")
        assert [each["approval_id"] for each in listed(process)] == [asked]
        ((session,),) = rows(kept, "SELECT public_id FROM sessions WHERE active_turn_id IS NOT NULL")
        with closing(sqlite3.connect(kept)) as connection, connection:
            connection.execute("UPDATE workers SET codex_home = ?", (str(kept.parent.parent),))
        decide(process, str(asked), "approved")
        until(lambda: rows(kept, OPEN) == [(0,)], "the end of both turns")
    made = filled.parent.parent / "made"
    assert made.exists()
    made.unlink()
    later = contents(kept)

    restored = told(kept, "restore", str(target), "--yes")
    assert restored["ended_turns"] == 2
    assert contents(Path(str(restored["kept"]))) == later
    assert_sound(kept)
    assert rows(kept, OPEN) == [(0,)]
    query = (
        "SELECT t.state, e.msg ->> '$.message' FROM turns t JOIN events e ON e.turn_id = t.id "
        "WHERE t.end_reason = 'server_stopped' AND e.type = 'error'"
    )
    ended = rows(kept, query)
    assert ended == [("interrupted", ENDED)] * 2
    model.add(say("answer"))
    process = server()
    assert read(process, str(session))["status"] != "running"
    assert reply(process, str(session), "Go on")["content"] == "answer"
    assert not made.exists()


def test_a_person_is_asked_and_told(kept: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy.sqlite3"
    told(kept, "backup", str(target))
    before = contents(kept)
    assert "Aborted" in refused(kept, "restore", str(target), given="n\n")
    assert (contents(kept), names(kept.parent) & {f"{kept.name}.schema.lock"}) == (before, set())
    result = db(kept, "restore", str(target), given="y\n")
    assert result.returncode == 0
    assert "Turns that were open in it: 2." in result.stdout
    assert "The file as it was before: " in result.stdout


def test_a_server_is_in_the_way_of_restore_and_vacuum_and_is_named(
    server: StartServer, database: Path, tmp_path: Path
) -> None:
    process = server()
    opened(process, "hello")
    target = tmp_path / "copy.sqlite3"
    told(database, "backup", str(target))
    for command in (("restore", "--yes", str(target)), ("vacuum",)):
        assert f"process {process.pid} has it open" in refused(database, *command)
    assert not list(database.parent.glob("*.backup"))
    assert opened(process, "and again")


@pytest.mark.parametrize("release", RELEASES, ids=lambda path: path.stem)
def test_a_backup_of_an_older_schema_stays_what_it_is_until_a_server_starts(
    server: StartServer, kept: Path, release: Path, tmp_path: Path
) -> None:
    alone = tmp_path / "closed" / "old.sqlite3"
    alone.parent.mkdir()
    shutil.copyfile(release, alone)
    alone.parent.chmod(0o500)
    try:
        assert rows(alone, OPEN) != [(0,)] if os.getuid() == 0 else True
        restored = told(kept, "restore", str(alone), "--yes")
    finally:
        alone.parent.chmod(0o700)
    assert restored["schema"] == release.stem
    assert rows(kept, STAMP) == [(release.stem,)]
    assert rows(kept, OPEN) == [(0,)]
    assert_sound(kept)
    process = server()
    assert process.call_tool("conversations_list", {})["structuredContent"]["conversations"]
    assert rows(kept, STAMP) == [(revision.HEAD,)]
    assert_sound(kept)


def stamped(path: Path, number: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (number,))


def newer(path: Path, filled: Path) -> str:
    copied(filled, path)
    stamped(path, "9999")
    return "newer version"


def foreign(path: Path, _filled: Path) -> str:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    return "some other program"


def damaged(path: Path, filled: Path) -> str:
    copied(filled, path)
    with path.open("r+b") as file:
        file.seek(3 * 4096)
        file.write(b"\xff" * 20 * 4096)
    return "malformed"


def no_database(path: Path, _filled: Path) -> str:
    path.write_bytes(b"These are my notes.\n" * 500)
    return "not a database"


def empty(path: Path, _filled: Path) -> str:
    path.touch()
    return "is empty"


def missing(_path: Path, _filled: Path) -> str:
    return "is not a file"


@pytest.mark.parametrize("make", [newer, foreign, damaged, no_database, empty, missing], ids=lambda make: make.__name__)
def test_what_is_no_backup_of_ours_is_refused(
    filled: Path, kept: Path, tmp_path: Path, make: Callable[[Path, Path], str]
) -> None:
    source = tmp_path / "source"
    sentence = make(source, filled)
    before = contents(kept)
    assert sentence in refused(kept, "restore", str(source), "--yes")
    assert contents(kept) == before
    assert not list(kept.parent.glob("*.backup"))


def test_the_database_itself_is_no_backup_of_it(kept: Path) -> None:
    before = contents(kept)
    assert "is the database itself" in refused(kept, "restore", str(kept), "--yes")
    assert contents(kept) == before


def unreadable(path: Path) -> None:
    path.write_bytes(b"\xff" * path.stat().st_size)


def gone(path: Path) -> None:
    path.unlink()


def of_the_future(path: Path) -> None:
    stamped(path, "9999")


@pytest.mark.parametrize("spoil", [unreadable, gone, of_the_future], ids=lambda each: each.__name__)
def test_a_database_that_cannot_be_used_is_replaced_and_kept(
    filled: Path, kept: Path, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    target = copied(filled, tmp_path / "copy.sqlite3")
    spoil(kept)
    before = kept.read_bytes() if kept.exists() else None
    restored = told(kept, "restore", str(target), "--yes")
    assert_sound(kept)
    assert rows(kept, "SELECT count(*) FROM items") >= rows(filled, "SELECT count(*) FROM items")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    if before is None:
        assert restored["kept"] is None
    elif before[:1] == b"\xff":
        assert Path(str(restored["kept"])).read_bytes() == before
    else:
        assert rows(Path(str(restored["kept"])), STAMP) == [("9999",)]


def test_another_programs_file_is_not_replaced(filled: Path, kept: Path, tmp_path: Path) -> None:
    target = copied(filled, tmp_path / "copy.sqlite3")
    kept.unlink()
    foreign(kept, filled)
    before = kept.read_bytes()
    assert "some other program" in refused(kept, "restore", str(target), "--yes")
    assert kept.read_bytes() == before


# -- vacuum ------------------------------------------------------------------------------------------------------------


def test_space_is_returned_and_rows_stay(tmp_path: Path) -> None:
    path = tmp_path / "large.sqlite3"
    fill_large(path, 2.0)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("DELETE FROM sessions WHERE id % 4 <> 0")
    before = contents(path)
    words = rows(path, INDEX_BYTES)[0][0]
    sizes = told(path, "vacuum")
    assert int(str(rows(path, INDEX_BYTES)[0][0])) < int(str(words)) / 2, "the index keeps what it knew of lost items"
    assert int(str(sizes["bytes_after"])) < int(str(sizes["bytes_before"])) / 2
    assert sizes["bytes_after"] == path.stat().st_size
    assert contents(path) == before
    assert_sound(path)
    assert not list(tmp_path.glob("*.part*"))


def test_a_server_finds_a_vacuumed_database_as_it_was(
    server: StartServer, home: Path, model: ScriptedModel, kept: Path
) -> None:
    write_config(home, model.base_url, "chat")
    assert db(kept, "vacuum").returncode == 0
    found = server().call_tool("conversations_list", {"search": "another way"})["structuredContent"]["conversations"]
    assert [each["snippet"] for each in found] == ["Go another way"]


def test_a_program_that_writes_is_in_the_way(kept: Path) -> None:
    with closing(sqlite3.connect(kept, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        assert "close it, then try again" in refused(kept, "vacuum")
        target = kept.with_name("copy.sqlite3")
        told(kept, "backup", str(target))
        assert "close it, then try again" in refused(kept, "restore", "--yes", str(target))
    assert_sound(kept)
