"""`codexdb sessions export`, and the import of what it wrote: the same again, or nothing and the reason."""

import json
import random
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codexdb.cli.moving.exporting import export as write_export
from codexdb.cli.moving.importing import run as import_files
from codexdb.domain.json import encode
from codexdb.domain.limits import IMPORT_LINE_BYTES_MAX
from codexdb.testing.model_script import Json, Status, call_tools, say
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import ServerProcess, StartServer
from tests.process.asked import touch
from tests.process.command import in_home
from tests.process.moving import TIMEOUT_S, argv, dump, exported, sessions, taken_in, unsound
from tests.process.talking import ask, at_rest, compacted, kinds, opened, read, reply, rows, send, shell, until

UNTRUSTED = {"approval_policy": "untrusted"}


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """Another home, with a database of its own."""
    path = tmp_path / "other"
    path.mkdir()
    return path


def database_of(home: Path) -> Path:
    return home / "codexdb" / "codexdb.sqlite3"


def ended(server: ServerProcess, model: ScriptedModel) -> list[str]:
    """Sessions in each state in which nothing is open."""
    model.add(call_tools(shell("c1", "echo", "héllo 😀"), shell("c2", "false")), say("done"))
    one = opened(server, "run something", message_id="opening")
    model.add(Status(400, '{"error": {"message": "no"}}'))
    server.call_tool("codex", {"prompt": "fail"})
    two = opened(server, "long", title="a title")
    model.add(say("a summary"))
    compacted(server, two)
    fork = str(ask(server, "conversation_fork", two)["conversation_id"])
    reply(server, fork, "on its own way")
    ask(server, "conversation_archive", one)
    empty = server.call_tool("conversation_create", {"message_id": "made"})["structuredContent"]["conversation_id"]
    return [one, two, fork, str(empty)]


def left_open(server: ServerProcess, model: ScriptedModel, home: Path) -> tuple[str, str]:
    """A session whose turn waits for an answer, and one with a turn that runs, a steered and a queued message."""
    model.add(touch(home / "touched"))
    waiting = str(server.call_tool("conversation_create", {**UNTRUSTED})["structuredContent"]["conversation_id"])
    send(server, waiting, "touch")
    until(lambda: rows(database_of(home), "SELECT 1 FROM turns WHERE state = 'waiting'") != [], "the question")
    model.add(call_tools(shell("c9", "sleep", "60")))
    running = str(server.call_tool("conversation_create", {})["structuredContent"]["conversation_id"])
    send(server, running, "sleep")
    until(lambda: rows(database_of(home), "SELECT 1 FROM tool_calls WHERE state = 'started'") != [], "the command")
    send(server, running, "steered", if_running="steer")
    send(server, running, "queued", if_running="queue", message_id="behind")
    return waiting, running


def test_what_was_exported_is_imported_and_exported_the_same(
    home: Path, other: Path, server: StartServer, model: ScriptedModel
) -> None:
    ended(server(), model)
    text = exported(home)
    path = home / "all.jsonl"
    assert sessions(home, "export", "--all", "-o", path).returncode == 0
    assert path.read_bytes() == text
    assert path.stat().st_mode & 0o777 == 0o600
    told = taken_in(other, path)
    assert [each["outcome"] for each in told[:-1]] == ["imported"] * 5
    assert exported(other) == text
    assert unsound(database_of(other)) == []
    before = dump(database_of(other))
    assert {each["outcome"] for each in taken_in(other, path)[:-1]} == {"unchanged"}
    assert {each["outcome"] for each in taken_in(home, path)[:-1]} == {"unchanged"}, "where it comes from"
    assert dump(database_of(other)) == before
    (forked,) = rows(
        database_of(other), "SELECT f.title FROM sessions AS s JOIN sessions AS f ON f.id = s.forked_from_id"
    )
    assert forked == ("a title",)


def test_one_session_goes_alone_and_is_gone_on_with(
    home: Path, other: Path, server: StartServer, model: ScriptedModel
) -> None:
    _, source, fork, _ = ended(server(), model)
    path = home / "one.jsonl"
    path.write_bytes(exported(home, fork))
    taken_in(other, path)
    assert exported(other) == path.read_bytes()
    (other / "config.toml").write_bytes((home / "config.toml").read_bytes())
    with ServerProcess(other) as client:
        client.initialize()
        assert reply(client, fork, "go on")["content"] == "ok"
        assert read(client, source)["kind"] == "session_not_found"
    assert "a summary" in json.dumps(model.requests[-1].body)


def test_what_was_open_ends_as_interrupted_and_nothing_runs_twice(
    home: Path, other: Path, server: StartServer, model: ScriptedModel
) -> None:
    client = server(config={"approval_fallback": "wait"}, elicitation=False)
    waiting, running = left_open(client, model, home)
    path = home / "open.jsonl"
    path.write_bytes(exported(home))
    asked = len(model.requests)
    client.kill()
    assert [each["outcome"] for each in taken_in(other, path)[:-1]] == ["imported"] * 2
    there = database_of(other)
    assert rows(there, "SELECT DISTINCT state, end_reason, worker_id FROM turns") == [("interrupted", "imported", None)]
    assert rows(there, "SELECT state FROM approvals") == [("withdrawn",)]
    assert rows(there, "SELECT state FROM tool_calls ORDER BY id") == [("aborted",), ("unknown",)]
    assert rows(
        there,
        "SELECT count(*) FROM inputs WHERE item IS NOT NULL OR (withdrawn_at_ms IS NULL AND delivered_at_ms IS NULL)",
    ) == [(0,)]
    assert unsound(there) == []
    before = dump(there)
    assert {each["outcome"] for each in taken_in(other, path)[:-1]} == {"unchanged"}
    assert dump(there) == before
    (other / "config.toml").write_bytes((home / "config.toml").read_bytes())
    with ServerProcess(other) as again:
        again.initialize()
        for session in (waiting, running):
            assert kinds(at_rest(again, session))[-1] == "error"
        assert len(model.requests) == asked
        assert not (home / "touched").exists()
        assert reply(again, running, "and now")["content"] == "ok"
    text = exported(other)
    third = other / "third"
    third.mkdir()
    (third / "all.jsonl").write_bytes(text)
    taken_in(third, third / "all.jsonl")
    assert exported(third) == text


def test_a_fork_refers_to_no_session_that_it_is_no_fork_of_here(home: Path, other: Path, server: StartServer) -> None:
    client = server()
    source = opened(client, "hello")
    between = str(ask(client, "conversation_fork", source)["conversation_id"])
    fork = str(ask(client, "conversation_fork", between)["conversation_id"])
    (home / "between.jsonl").write_bytes(exported(home, between))
    (home / "all.jsonl").write_bytes(exported(home))
    told = taken_in(other, home / "between.jsonl", home / "all.jsonl")
    assert [each["outcome"] for each in told[:-1]] == ["imported", "imported", "unchanged", "imported"]
    there = database_of(other)
    assert sessions(other, "delete", "--yes", source).returncode == 0
    (other / "config.toml").write_bytes((home / "config.toml").read_bytes())
    with ServerProcess(other) as again:
        again.initialize()
        opened(again, "something else")  # whose turn is given the key of the deleted one
    query = "SELECT i.text FROM items AS i JOIN turns AS t ON t.id = i.turn_id WHERE i.session_id <> t.session_id"
    assert rows(there, query) == []
    assert (fork,) in rows(there, "SELECT s.public_id FROM items AS i JOIN sessions AS s ON s.id = i.session_id")


def test_other_content_under_the_same_id_is_refused(home: Path, other: Path, server: StartServer) -> None:
    client = server()
    session = opened(client, "hello")
    path = home / "one.jsonl"
    path.write_bytes(exported(home, session))
    taken_in(other, path)
    before = dump(database_of(other))
    changed = path.read_bytes().replace(b'"text":"hello"', b'"text":"hallo"')
    reply(client, session, "more")
    for content in (changed, exported(home, session)):
        path.write_bytes(content)
        (result, _) = taken_in(other, path)
        assert (result["outcome"], result["session_id"]) == ("refused", session)
        assert "other content" in str(result["faults"])
        assert dump(database_of(other)) == before


def test_a_message_id_that_made_a_session_here_makes_no_other(home: Path, other: Path, server: StartServer) -> None:
    opened(server(), "hello", message_id="mine")
    path = home / "one.jsonl"
    path.write_bytes(exported(home))
    (other / "config.toml").write_bytes((home / "config.toml").read_bytes())
    with ServerProcess(other) as client:
        client.initialize()
        there = opened(client, "other", message_id="mine")
    before = dump(database_of(other))
    (result, _) = taken_in(other, path)
    assert result["outcome"] == "refused"
    assert "'mine'" in str(result["faults"])
    assert there in str(result["faults"])
    assert dump(database_of(other)) == before


def test_names_that_are_not_there_are_said_and_nothing_is_written(home: Path, server: StartServer) -> None:
    opened(server(), "hello")
    path = home / "out.jsonl"
    path.write_text("earlier")
    for wrong in ("00000000-0000-7000-8000-000000000000", "nonsense"):
        result = sessions(home, "export", wrong, "-o", path)
        assert result.returncode == 1
        assert wrong in result.stderr
    assert sessions(home, "export").returncode == 2
    assert path.read_text() == "earlier"
    assert [each.name for each in home.glob(".out*")] == []


def test_a_reader_that_has_seen_enough_is_no_fault(home: Path, server: StartServer) -> None:
    opened(server(), "x" * 1_000_000)
    with subprocess.Popen(
        argv("export", "--all"), cwd=home, env=in_home(home), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""


# -- hostile files -----------------------------------------------------------------------------------------------------

Change = Callable[[list[Json]], None]


def _set(kind: str, **fields: object) -> Change:
    def change(lines: list[Json]) -> None:
        cast("Json", next(line for line in lines if kind in line)[kind]).update(fields)

    return change


def _drop(kind: str, field: str) -> Change:
    return lambda lines: cast("Json", next(line for line in lines if kind in line)[kind]).__delitem__(field)


def _without(kind: str) -> Change:
    return lambda lines: lines.remove(next(line for line in lines if kind in line))


def _twice(kind: str) -> Change:
    def change(lines: list[Json]) -> None:
        at = next(number for number, line in enumerate(lines) if kind in line)
        lines.insert(at, lines[at])

    return change


HOSTILE: dict[str, tuple[Change, str]] = {
    "a text for a number": (_set("turn", created_at_ms="now"), "wrong type"),
    "a truth for a number": (_set("turn", attempt=True), "wrong type"),
    "a fraction for a number": (_set("turn", attempt=1.5), "wrong type"),
    "a number too large": (_set("turn", attempt=2**63), "out of bounds"),
    "a number for a text": (_set("session", cwd=7), "wrong type"),
    "nothing for a text": (_set("session", cwd=None), "null"),
    "a field that is missing": (_drop("item", "epoch"), "missing field `epoch`"),
    "a field too many": (_set("item", worker_id=1), "unknown field `worker_id`"),
    "an unknown kind": (lambda lines: lines.insert(2, {"worker": {}}), "no kind"),
    "two rows in a line": (lambda lines: lines[2].update({"item": {}}), "no kind"),
    "an unknown state": (_set("turn", state="dreaming"), "state"),
    "a state without its data": (_set("turn", state="failed"), "does not take it"),
    "an end without a reason": (_set("turn", end_reason=None), "does not take it"),
    "a turn that has not ended, ended": (_set("turn", state="running", ended_at_ms=None, end_reason=None), "end it"),
    "a gap in the log": (_without("event"), "`seq` of an event"),
    "a gap in the items": (_without("item"), "`seq` of an item"),
    "an event twice": (_twice("event"), "`seq` of an event"),
    "a turn twice": (_twice("turn"), "`number` of a turn"),
    "a number ahead": (_set("session", next_seq=99), "`next_seq`"),
    "a count ahead": (_set("session", turn_count=9), "`turn_count`"),
    "no turn of that number": (_set("event", turn=7), "`turn` is the number of no turn"),
    "no item of that number": (_set("tool_call", item_seq=999), "`item_seq`"),
    "a call left open": (_set("tool_call", state="started", ended_at_ms=None), "although its turn has ended"),
    "an id that is none": (_set("session", public_id="../../etc"), "`public_id`"),
    "an id in capitals": (_set("turn", public_id="01A21024-4CFF-7DEC-9461-95C9DA73D63E"), "`public_id`"),
    "settings of no session": (_set("session", settings={"hack": 1}), "settings"),
    "a mode of no sandbox": (_set("session", sandbox_mode="none"), "settings"),
    "JSON that is none": (_set("item", payload="{"), "no valid JSON"),
    "JSON of the wrong kind": (_set("event", msg=[]), "no object"),
    "a payload of another type": (_set("item", type="reasoning"), "not that of its payload"),
    "a summary of nothing": (
        _set("item", type="compaction", role=None, payload={"type": "compaction"}),
        "without a `replacement`",
    ),
    "a session without an end": (_without("end"), "stands behind"),
    "fewer rows than were written": (_set("end", rows=1), "does not end the session"),
    "rows before a session": (_without("session"), "before its session"),
    "kinds out of order": (lambda lines: lines.insert(2, lines.pop()), "does not end the session"),
}


@pytest.fixture(scope="module")
def two_sessions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Json, list[list[Json]]]:
    """An export of two sessions, each with a call: its first line, and the lines of each."""
    home = tmp_path_factory.mktemp("home")
    with ScriptedModel() as model:
        from codexdb.testing.server_process import write_config

        write_config(home, model.base_url, "chat")
        with ServerProcess(home) as client:
            client.initialize()
            for number in range(2):
                model.add(call_tools(shell(f"c{number}", "true")), say("done"))
                opened(client, f"message {number}", message_id=f"m{number}")
        head, *lines = [cast("Json", json.loads(line)) for line in exported(home).splitlines()]
    end = next(number for number, line in enumerate(lines) if "end" in line) + 1
    return head, [lines[:end], lines[end:]]


def _file(path: Path, lines: list[Json]) -> Path:
    path.write_bytes(b"".join(encode(line).encode() + b"\n" for line in lines))
    return path


def test_hostile_rows_leave_no_trace_and_no_harm_to_others(
    home: Path, database: Path, two_sessions: tuple[Json, list[list[Json]]]
) -> None:
    head, (one, two) = two_sessions
    path = home / "hostile.jsonl"
    for case, (change, why) in HOSTILE.items():
        broken = cast("list[Json]", json.loads(json.dumps(one)))
        change(broken)
        result = sessions(home, "import", _file(path, [head, *broken, *two]))
        faults = result.stderr.splitlines()
        assert result.returncode == 1, case
        assert len(faults) == 1, (case, faults)
        assert faults[0].startswith(f"{path}:"), case
        line = int(faults[0].removeprefix(f"{path}:").partition(":")[0])
        assert 1 < line <= len(broken) + 2, case
        assert why in faults[0], (case, faults[0])
        (found,) = rows(database, "SELECT count(*), (SELECT count(DISTINCT session_id) FROM items) FROM sessions")
        assert found == (1, 1), case
    assert unsound(database) == []


def test_an_id_that_another_session_has_is_not_taken_twice(
    home: Path, database: Path, two_sessions: tuple[Json, list[list[Json]]]
) -> None:
    head, (one, two) = two_sessions
    for kind in ("turn", "tool_call"):
        broken = cast("list[Json]", json.loads(json.dumps(two)))
        _set(kind, public_id=cast("Json", next(line for line in one if kind in line)[kind])["public_id"])(broken)
        result = sessions(home, "import", _file(home / "both.jsonl", [head, *one, *broken]))
        line = 2 + len(one) + next(number for number, each in enumerate(broken) if kind in each)
        assert result.stderr.startswith(f"{home / 'both.jsonl'}:{line}: ")
        assert "UNIQUE" in result.stderr
        assert len(rows(database, "SELECT 1 FROM sessions")) == 1
    assert unsound(database) == []


TORN: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "torn in a line": (lambda data: data[:-20], "torn"),
    "torn between lines": (lambda data: data[: data.rindex(b'{"end"')], "in the midst"),
    "no UTF-8": (lambda data: data.replace(b"message 1", b"message \xff"), "no valid JSON"),
    "10 MB of nothing": (lambda data: data.replace(b'{"item"', b"[" * 10_000_000 + b'\n{"item"'), "no valid JSON"),
    "longer than any line": (lambda data: data + b"x" * (IMPORT_LINE_BYTES_MAX + 9), "longer than"),
}


@pytest.mark.parametrize("case", TORN)
def test_a_damaged_session_is_named_and_the_others_are_imported(
    case: str, home: Path, database: Path, two_sessions: tuple[Json, list[list[Json]]]
) -> None:
    head, (one, two) = two_sessions
    damage, why = TORN[case]
    if case == "longer than any line":
        two = two[:-1]
    path = _file(home / "torn.jsonl", two)
    data = damage(path.read_bytes())
    path.write_bytes(_file(path, [head, *one]).read_bytes() + data)
    result = sessions(home, "import", path)
    assert result.returncode == 1
    (fault,) = result.stderr.splitlines()
    assert why in fault
    assert str(cast("Json", two[0]["session"])["public_id"]) in fault
    assert len(rows(database, "SELECT 1 FROM sessions")) == 1


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"version": 2}, "Upgrade codexdb"),
        ({"schema": "9999"}, "Upgrade codexdb"),
        ({"schema": "head"}, "Upgrade codexdb"),
        ({"format": "something"}, "no export of codexdb"),
        ({"version": "1"}, "no export of codexdb"),
    ],
)
def test_a_file_of_another_program_is_refused_with_what_to_do(
    change: Json, why: str, home: Path, database: Path, two_sessions: tuple[Json, list[list[Json]]]
) -> None:
    head, (one, _) = two_sessions
    path = _file(home / "newer.jsonl", [{**head, **change}, *one])
    result = sessions(home, "import", path)
    assert result.returncode == 1
    assert result.stderr.startswith(f"{path}:1: ")
    assert why in result.stderr
    assert rows(database, "SELECT 1 FROM sessions") == []


# -- death -------------------------------------------------------------------------------------------------------------


def _copies(folder: Path, two_sessions: tuple[Json, list[list[Json]]], count: int) -> Path:
    """An export of many sessions."""
    head, (one, _) = two_sessions
    text = "".join(f"{json.dumps(line)}\n" for line in one)
    ids = {str(value["public_id"]) for line in one for value in line.values() if "public_id" in cast("Json", value)}  # pyright: ignore[reportIndexIssue, reportUnknownArgumentType]
    path = folder / "many.jsonl"
    with path.open("w", encoding="utf-8") as file:
        file.write(f"{json.dumps(head)}\n")
        for number in range(count):
            copy = text.replace('"m0"', f'"m{number}"')
            for each in ids:
                copy = copy.replace(each, f"{each[:-6]}{number:06x}" if each in copy else each)
            file.write(copy)
    return path


@pytest.mark.slow
def test_an_import_that_is_killed_leaves_whole_sessions_and_goes_on(
    home: Path, tmp_path: Path, two_sessions: tuple[Json, list[list[Json]]]
) -> None:
    path = _copies(tmp_path, two_sessions, 300)
    told = taken_in(home, path)
    assert told[-1]["imported"] == 300
    undisturbed = dump(database_of(home))
    assert exported(home) == b"".join(exported_again(path))
    chance = random.Random(3)  # noqa: S311 - for tests
    within = 0
    for number in range(5):
        other = tmp_path / f"home{number}"
        other.mkdir()
        with subprocess.Popen(
            argv("import", "--json", str(path)), cwd=other, env=in_home(other), stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            timer = threading.Timer(chance.uniform(0.0, 0.3), process.send_signal, [signal.SIGKILL])
            timer.start()
            process.stdout.read()
            process.wait(TIMEOUT_S)
            timer.cancel()
        (here,) = rows(database_of(other), "SELECT count(*) FROM sessions")
        within += 0 < cast("int", here[0]) < 300
        assert unsound(database_of(other)) == []
        assert taken_in(other, path)[-1]["faults"] == 0
        assert dump(database_of(other)) == undisturbed
    assert within, "no kill came in the midst of the import"


def exported_again(path: Path) -> list[bytes]:
    """The lines of a file as an export writes them."""
    return [
        json.dumps(json.loads(line), ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        for line in path.read_bytes().splitlines()
    ]


# -- whatever they hold ------------------------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda each: st.lists(each, max_size=3) | st.dictionaries(TEXT, each, max_size=3),
    max_leaves=6,
)
SPELLINGS = st.sampled_from([encode, json.dumps, lambda value: json.dumps(value, indent=1, ensure_ascii=False)])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_columns_hold_comes_back(
    data: st.DataObject, tmp_path: Path, two_sessions: tuple[Json, list[list[Json]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Texts of any characters, and JSON however it is spelt."""
    monkeypatch.setenv("CODEX_HOME", str(tmp_path))
    head, (one, _) = two_sessions
    lines = cast("list[Json]", json.loads(json.dumps(one)))

    def spelt(value: Json) -> str:
        return data.draw(SPELLINGS)(value)

    for line in lines:
        if "item" in line and data.draw(st.booleans()):
            row = cast("Json", line["item"])
            row["payload"] = spelt({**cast("Json", row["payload"]), "more": data.draw(VALUE)})
        if "event" in line and data.draw(st.booleans()):
            row = cast("Json", line["event"])
            row["msg"] = spelt({**cast("Json", row["msg"]), "more": data.draw(VALUE)})
        if "tool_call" in line:
            cast("Json", line["tool_call"]).update(arguments=data.draw(TEXT), output=data.draw(st.none() | TEXT))
        if "session" in line:
            cast("Json", line["session"]).update(title=data.draw(st.none() | TEXT), cwd=data.draw(TEXT))
    first, second = tmp_path / "first.sqlite3", tmp_path / "second.sqlite3"
    for each in (first, second):
        for path in tmp_path.glob(f"{each.name}*"):
            path.unlink()
    assert import_files(str(first), [_file(tmp_path / "in.jsonl", [head, *lines])], codex=False, as_json=False) == 0
    assert write_export(str(first), None, tmp_path / "one.jsonl") == 0
    assert import_files(str(second), [tmp_path / "one.jsonl"], codex=False, as_json=False) == 0
    assert write_export(str(second), None, tmp_path / "two.jsonl") == 0
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()
    assert dump(first) == dump(second)
    payloads = [cast("Json", line["item"])["payload"] for line in lines if "item" in line]
    stored = [text for (text,) in rows(first, "SELECT payload FROM items ORDER BY seq")]
    for wanted, found in zip(payloads, stored, strict=True):
        assert found == wanted if isinstance(wanted, str) else json.loads(str(found)) == wanted
