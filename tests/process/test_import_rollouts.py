"""`codexdb sessions import` of rollouts: what becomes of their lines, repeats, damage, death."""

import contextlib
import json
import os
import pty
import random
import signal
import subprocess
import threading
from pathlib import Path
from typing import cast

import pytest

from codexdb.testing.model_script import Json
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import StartServer, write_config
from tests.process import rollouts
from tests.process.command import in_home
from tests.process.moving import TIMEOUT_S, argv, dump, sessions, taken_in, unsound
from tests.process.rollouts import Today, call, message, old, output, reasoning, session_id, written
from tests.process.talking import calls_and_outputs, kinds, read, reply, rows, said, seen

MANY = 2_000
TORN_EVERY = 20


def every(database: Path, query: str) -> list[object]:
    return [row[0] for row in rows(database, query)]


# -- what becomes of lines ---------------------------------------------------------------------------------------------


def test_a_session_of_2025_is_read_as_turns(home: Path, database: Path) -> None:
    items = (
        message("user", "list the folder"),
        call("a", "shell", {"command": ["ls"]}),
        output("a", "hello\n"),
        message("assistant", "One file."),
        message("user", "run exit 3"),
        call("b", "shell", {"command": ["exit"]}),
        output("b", "", 3),
        message("assistant", "It failed."),
        message("user", "never answered"),
    )
    path = written(home, 1, old(1, *items, instructions="Be brief.", git={"branch": "main"}))
    told = taken_in(home, path)
    assert told[0] == {
        "file": str(path),
        "session_id": session_id(1),
        "outcome": "imported",
        "faults": [],
        "unseen": {},
    }
    assert rows(database, "SELECT number, state, end_reason, last_agent_message FROM turns") == [
        (1, "completed", "answered", "One file."),
        (2, "completed", "answered", "It failed."),
        (3, "interrupted", "imported", None),
    ]
    assert rows(database, "SELECT call_id, name, state, exit_code, output FROM tool_calls") == [
        ("a", "shell", "succeeded", 0, "hello\n"),
        ("b", "shell", "failed", 3, ""),
    ]
    assert rows(database, "SELECT origin, title, cwd FROM sessions") == [("import", "list the folder", str(home))]
    assert "Be brief." in str(every(database, "SELECT text FROM items ORDER BY seq")[0])
    assert every(database, "SELECT type FROM events WHERE turn_id = 1 ORDER BY seq") == [
        "task_started",
        "user_message",
        "agent_message",
        "task_complete",
    ]
    (content,) = every(database, "SELECT content FROM inputs WHERE opens_session = 1")
    assert json.loads(str(content))[0]["git"] == {"branch": "main"}
    assert unsound(database) == []


def test_a_session_of_today_is_read_with_its_settings_times_and_tokens(home: Path, database: Path) -> None:
    told = Today(2).begin("first").user("hello").agent("hi").tokens(15).end("first", "hi")
    told.begin("second", cwd="/srv", approval_policy="on-request", sandbox_policy={"type": "read-only"}, model="other")
    told.user("slow").user("and this").tokens(15).event("turn_aborted", turn_id="second", reason="interrupted")
    told.begin("third").user("fail").event("error", message="no quota").end("third", None)
    taken_in(home, written(home, 2, told.lines))
    assert rows(database, "SELECT submission_id, state, end_reason, error_message FROM turns") == [
        ("first", "completed", "answered", None),
        ("second", "interrupted", "requested", None),
        ("third", "failed", "model_error", "no quota"),
    ]
    assert rows(database, "SELECT mode, turn_id FROM inputs WHERE opens_session = 0") == [
        ("start", 1),
        ("start", 2),
        ("steer", 2),
        ("start", 3),
    ]
    assert rows(database, "SELECT turn_id, total_tokens, model, model_provider FROM model_requests") == [
        (1, 15, "local-model", "local")
    ], "a count that is told once more is no request"
    settings = "SELECT model, model_provider, cwd, approval_policy, sandbox_mode FROM sessions"
    assert rows(database, settings) == [("local-model", "local", "/home/dev/project", "never", "danger-full-access")]
    assert rows(database, "SELECT (updated_at_ms - created_at_ms) / 1000 FROM sessions") == [(len(told.lines) - 1,)]
    assert unsound(database) == []


def test_what_is_not_known_of_settings_is_taken_for_the_strictest(home: Path, database: Path) -> None:
    told = Today(3).begin("t", approval_policy={"granular": {}}, sandbox_policy={"type": "external"}).user("hello")
    taken_in(home, written(home, 3, told.lines))
    assert rows(database, "SELECT approval_policy, sandbox_mode FROM sessions") == [("untrusted", "read-only")]


def test_what_the_model_has_no_use_for_is_kept_and_told(home: Path, database: Path) -> None:
    told = Today(4).begin("t").user("search")
    told.items({"type": "web_search_call", "status": "completed", "action": {"type": "search", "query": "q"}})
    told.items({"type": "compaction", "encrypted_content": "sealed"}, output("nobody-called", "x"))
    told.add("hologram", {"of": "something new"}).event("novelty", value=1).agent("found").end("t", "found")
    path = written(home, 4, told.lines)
    assert taken_in(home, path)[0]["unseen"] == {
        "web_search_call": 1,
        "compaction": 1,
        "function_call_output": 1,
        "hologram": 1,
        "novelty": 1,
    }
    kept = every(database, "SELECT payload ->> '$.record.type' FROM items WHERE type = 'rollout_record' ORDER BY seq")
    assert kept == ["web_search_call", "compaction", "function_call_output", "hologram", "novelty"]
    shown = sessions(home, "import", path).stdout
    assert "hologram (1)" in shown


def test_a_rollout_that_was_forked_tells_its_own_session(home: Path, database: Path) -> None:
    told = Today(5, forked_from_id=session_id(4))
    told.add("session_meta", {"id": session_id(4), "cwd": "/elsewhere"}).begin("t").user("go on").agent("yes")
    result = taken_in(home, written(home, 5, told.lines))[0]
    assert (result["session_id"], result["unseen"]) == (session_id(5), {"session_meta": 1})
    assert every(database, "SELECT cwd FROM sessions") == ["/home/dev/project"]


def test_another_file_of_the_same_session_becomes_one_of_its_own(home: Path, database: Path) -> None:
    one = written(home / "a", 6, Today(6).begin("t").user("one").agent("1").lines)
    other = one.with_name("rollout-resumed.jsonl")
    other.write_text("".join(f"{json.dumps(line)}\n" for line in Today(6).begin("t").user("two").agent("2").lines))
    copy = one.with_name("rollout-z-copy.jsonl")
    copy.write_bytes(one.read_bytes())
    ids = [each["session_id"] for each in taken_in(home, one, other, copy)[:-1]]
    assert ids[0] == session_id(6) == ids[2]
    assert ids[1] != ids[0]
    before = dump(database)
    assert [each["outcome"] for each in taken_in(home, home / "a")[:-1]] == ["unchanged"] * 3
    assert dump(database) == before


# -- going on ----------------------------------------------------------------------------------------------------------


def everything(number: int) -> list[Json]:
    """A session with each kind of item that Codex knows, some of them broken off."""
    told = Today(number, model_provider="scripted").items(message("developer", "<permissions instructions>"))
    told.begin("1", model="test-model").user("first").items(reasoning("thought", "sealed"))
    told.items(call("c1", "exec_command", {"cmd": "ls"}))
    told.items({"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "a"}]})
    action: Json = {"type": "exec", "command": ["ls"], "timeout_ms": 1000, "working_directory": "/", "env": None}
    told.items({"type": "local_shell_call", "id": "lsh", "call_id": "c2", "status": "completed", "action": action})
    told.items(
        output("c2", "b"), {"type": "custom_tool_call", "call_id": "c3", "name": "apply_patch", "input": "*** P"}
    )
    told.items({"type": "custom_tool_call_output", "call_id": "c3", "output": {"content": "done", "success": True}})
    told.items({"type": "web_search_call", "status": "completed"}, output("c9", "of no call"))
    told.agent("done").tokens(15).end("1", "done")
    told.begin("2", model="test-model").user("second").items(call("c4", "exec_command", {"cmd": "sleep"}))
    return told.lines


@pytest.mark.parametrize("wire", ["chat", "responses"])
def test_an_imported_session_is_gone_on_with(wire: str, home: Path, server: StartServer, model: ScriptedModel) -> None:
    write_config(home, model.base_url, wire)
    taken_in(home, written(home, 7, everything(7)))
    client = server(wire_api=wire)
    page = read(client, session_id(7), include_items=True)
    assert [each for each in kinds(page) if each.endswith("_message")] == [
        "user_message",
        "agent_message",
        "user_message",
    ]
    assert reply(client, session_id(7), "third")["content"] == "ok"
    request = model.requests[-1]
    assert said(request)[-3:] == ["first", "second", "third"]
    assert calls_and_outputs(request) == (["c1", "c2", "c3", "c4"], ["c1", "c2", "c3", "c4"])
    known = {"message", "reasoning", "function_call", "function_call_output", None}
    assert {each.get("type") for each in seen(request)} <= known
    assert "Whether it took effect" in json.dumps(seen(request)), "the call that was broken off"
    if wire == "responses":
        assert not any("id" in each for each in seen(request) if each["type"] != "reasoning")
        assert [each["encrypted_content"] for each in seen(request) if each["type"] == "reasoning"] == ["sealed"]


@pytest.mark.parametrize("wire", ["chat", "responses"])
def test_the_model_sees_what_codex_had_put_in_the_place_of_the_rest(
    wire: str, home: Path, server: StartServer, model: ScriptedModel
) -> None:
    write_config(home, model.base_url, wire)
    told = Today(8, model_provider="scripted").begin("1").user("long ago").agent("yes").end("1", "yes")
    history = [message("user", "the gist"), call("c1", "x", {}), {"type": "ghost"}, output("c2", "of no call")]
    told.add("compacted", {"message": "gist", "replacement_history": history})
    told.begin("2").user("kept").agent("kept answer").end("2", "kept answer")
    told.begin("3").user("taken back").agent("taken back answer").end("3", "taken back answer")
    told.event("thread_rolled_back", num_turns=1)
    result = taken_in(home, written(home, 8, told.lines))[0]
    assert result["unseen"] == {"ghost": 1, "function_call_output": 1}
    client = server(wire_api=wire)
    assert reply(client, session_id(8), "now")["content"] == "ok"
    assert said(model.requests[-1]) == ["the gist", "kept", "now"]
    assert calls_and_outputs(model.requests[-1]) == (["c1"], ["c1"])
    assert "taken back" not in json.dumps(seen(model.requests[-1]))


def test_a_summary_without_its_history_stands_for_what_was_before(
    home: Path, server: StartServer, model: ScriptedModel
) -> None:
    write_config(home, model.base_url, "chat")
    told = Today(9, model_provider="scripted").begin("1").user("first").agent("secret detail").end("1", None)
    told.add("compacted", {"message": "all is well"})
    taken_in(home, written(home, 9, told.lines))
    reply(server(), session_id(9), "now")
    text = json.dumps(seen(model.requests[-1]))
    assert "all is well" in text
    assert "secret detail" not in text


# -- again -------------------------------------------------------------------------------------------------------------


def test_a_file_that_has_grown_is_taken_in_anew_until_somebody_goes_on_here(
    home: Path, database: Path, server: StartServer, model: ScriptedModel
) -> None:
    write_config(home, model.base_url, "chat")
    told = Today(10, model_provider="scripted").begin("1").user("first").items(call("c1", "exec_command", {}))
    path = written(home, 10, told.lines)
    assert taken_in(home, path)[0]["outcome"] == "imported"
    told.items(output("c1", "a")).agent("done").end("1", "done")
    written(home, 10, told.lines)
    assert taken_in(home, path)[0]["outcome"] == "grown"
    assert rows(database, "SELECT state FROM turns") == [("completed",)]
    assert taken_in(home, path)[0]["outcome"] == "unchanged"
    reply(server(), session_id(10), "and now here")
    before = dump(database)
    assert taken_in(home, path)[0]["outcome"] == "unchanged"
    told.begin("2").user("in Codex")
    written(home, 10, told.lines)
    (result, _) = taken_in(home, path)
    assert result["outcome"] == "refused"
    assert "gone on with" in str(result["faults"])
    assert dump(database) == before


def test_a_file_that_was_rewritten_is_refused(home: Path, database: Path) -> None:
    path = written(home, 11, Today(11).begin("1").user("first").agent("one").lines)
    taken_in(home, path)
    before = dump(database)
    written(home, 11, Today(11).begin("1").user("other").agent("two").agent("three").lines)
    (result, _) = taken_in(home, path)
    assert (result["outcome"], "another" in str(result["faults"])) == ("refused", True)
    assert dump(database) == before


# -- damage ------------------------------------------------------------------------------------------------------------

SOUND = b'{"id": "%s", "timestamp": "2026-11-01T10:00:00Z"}\n' % session_id(12).encode()
DAMAGE = {
    "empty": (b"", 0, "empty"),
    "first line torn": (SOUND[:30], 1, "torn"),
    "no object": (b"[1, 2]\n" + SOUND, 1, "no JSON object"),
    "no rollout": (b'{"hello": "world"}\n', 1, "not what it is"),
    "items alone": (b'{"type": "message", "role": "user", "content": []}\n', 1, "no rollout"),
    "no UTF-8": (SOUND + b'{"type": "message", "role": "\xff\xfe"}\n', 2, "no valid JSON"),
    "half a character": (SOUND + b'{"type": "message", "role": "\\ud800"}\n', 2, "no valid JSON"),
    "not JSON": (SOUND + b"{]\n", 2, "no valid JSON"),
    "deep": (SOUND + b'{"a":' * 100_000 + b"\n", 2, "no valid JSON"),
    "10 MB of nothing": (SOUND + b"x" * 10_000_000 + b"\n", 2, "no valid JSON"),
    "a number beyond all columns": (
        SOUND + b'{"timestamp": "", "type": "event_msg", "payload": {"type": "task_started"}}\n'
        b'{"timestamp": "", "type": "event_msg", "payload": {"type": "token_count", "info": {"last_token_usage": '
        b'{"input_tokens": 9999999999999999999999, "output_tokens": 1}}}}\n',
        0,
        "out of bounds",
    ),
    "newer export": (b'{"format": "codexdb-sessions", "version": 9, "program": "9", "schema": "0001"}\n', 1, "Upgrade"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_told_with_its_place(case: str, home: Path) -> None:
    data, line, why = DAMAGE[case]
    path = home / "rollout-broken.jsonl"
    path.write_bytes(data)
    sound = written(home, 13, old(13, message("user", "sound")))
    result = sessions(home, "import", path, sound)
    assert result.returncode == 1
    (fault,) = result.stderr.splitlines()
    assert fault.startswith(f"{path}:{line}: " if line else f"{path}: ")
    assert why in fault
    assert "1 faults" in result.stdout
    assert taken_in(home, sound)[0]["outcome"] == "unchanged", "the sound one is in"


def test_lines_of_every_shape_leave_sound_rows(home: Path, database: Path) -> None:
    """Whatever stands where something else was meant."""
    odd: list[object] = [None, True, 7, -1.5, "text", [], [1], {}, {"type": "text"}, [{"type": 3}], [None]]
    types = ["message", "reasoning", "function_call", "function_call_output", "local_shell_call", "custom_tool_call"]
    fields = ["role", "content", "summary", "name", "arguments", "call_id", "output", "action", "input", "id"]
    told = Today(14).begin("1")
    for kind in types:
        for field in fields:
            for value in odd:
                told.items({"type": kind, "role": "user", "call_id": "c", field: value})
    for kind in ("session_meta", "turn_context", "compacted", "token_usage_record", "event_msg", "response_item"):
        for value in odd:
            told.add(
                kind, {"type": value, "message": value, "usage": value, "cwd": value, "replacement_history": value}
            )
    for event in ("task_started", "task_complete", "turn_aborted", "error", "token_count", "thread_rolled_back"):
        for value in odd:
            told.event(event, turn_id=value, last_agent_message=value, info=value, num_turns=value, message=value)
    result = taken_in(home, written(home, 14, told.lines))[0]
    assert (result["outcome"], result["faults"]) == ("imported", [])
    assert unsound(database) == []


def test_paths_that_lead_nowhere_are_faults(home: Path) -> None:
    result = sessions(home, "import", home / "nothing.jsonl", home)
    assert result.returncode == 1
    assert f"{home / 'nothing.jsonl'}: " in result.stderr


def test_the_database_itself_is_not_opened_as_a_file(home: Path, database: Path) -> None:
    """Closing it would drop the locks that SQLite has on it."""
    taken_in(home, written(home / "kept", 1, old(1, message("user", "first"))))
    result = sessions(home, "import", database)
    assert result.returncode == 1
    assert "it belongs to this server's database" in result.stderr


def test_linked_folders_are_followed_and_each_is_read_once(home: Path, database: Path) -> None:
    written(home / "kept", 1, old(1, message("user", "first")))
    written(home / "elsewhere" / "deeper", 2, old(2, message("user", "second")))
    (home / "kept" / "linked").symlink_to(home / "elsewhere")
    (home / "elsewhere" / "deeper" / "back").symlink_to(home / "kept")
    (home / "kept" / "broken").symlink_to(home / "nowhere")
    told = taken_in(home, home / "kept")
    assert told[-1]["files"] == 2
    assert rows(database, "SELECT count(*) FROM sessions") == [(2,)]


def test_a_name_that_is_no_text_is_a_fault_and_the_others_are_imported(home: Path, database: Path) -> None:
    folder = home / "kept"
    written(folder, 1, old(1, message("user", "first")))
    os.rename(written(folder, 2, old(2, message("user", "second"))), os.fsencode(folder) + b"/rollout-\xff.jsonl")  # noqa: PTH104 - bytes
    written(folder, 3, old(3, message("user", "third")))
    result = sessions(home, "import", folder)
    assert (result.returncode, "Traceback" in result.stderr) == (1, False)
    assert "is no UTF-8" in result.stderr
    assert rows(database, "SELECT count(*) FROM sessions") == [(2,)]
    assert [each["faults"] == [] for each in taken_in(home, folder)[:-1]] == [True, True, False]


def test_a_full_disk_is_told_in_a_sentence(home: Path, database: Path) -> None:
    sound = written(home / "kept", 1, old(1, message("user", "first")))
    large = written(home / "large", 2, old(2, *(message("user", "x" * 2_000_000) for _ in range(20))))
    taken_in(home, sound)
    result = subprocess.run(
        ["prlimit", f"--fsize={8_000_000}", *argv("import", large)],
        cwd=home,
        env=in_home(home),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert (result.returncode, "Traceback" in result.stderr) == (1, False), result.stderr
    assert f"{large}: " in result.stderr
    assert unsound(database) == []
    assert taken_in(home, sound, large)[-1]["imported"] == 1


# -- many --------------------------------------------------------------------------------------------------------------


def many(folder: Path, count: int) -> list[Path]:
    """Files by the hundred in the folders of their days, every twentieth torn; the torn ones."""
    chance = random.Random(7)  # noqa: S311 - for tests
    torn: list[Path] = []
    for number in range(count):
        is_torn = number % TORN_EVERY == 0
        day = folder / "2026" / "11" / f"{1 + number % 28:02}"
        path = written(day, number, rollouts.made(number, chance), torn=is_torn)
        torn += [path] if is_torn else []
    return torn


@pytest.mark.slow
def test_two_thousand_files_are_taken_in_and_every_fault_is_named(home: Path, database: Path) -> None:
    torn = many(home / "sessions", MANY)
    told = taken_in(home, "--codex")
    assert told[-1] == {"files": MANY, "imported": MANY, "unchanged": 0, "grown": 0, "refused": 0, "faults": len(torn)}
    broken = {str(each["file"]): cast("list[Json]", each["faults"]) for each in told[:-1] if each["faults"]}
    assert broken.keys() == {str(path) for path in torn}
    for path, faults in broken.items():
        assert [fault["line"] for fault in faults] == [len(Path(path).read_bytes().splitlines())]
        assert "torn" in str(faults[0]["reason"])
    assert unsound(database) == []
    before = dump(database)
    again = taken_in(home, "--codex")
    assert again[-1] == {"files": MANY, "imported": 0, "unchanged": MANY, "grown": 0, "refused": 0, "faults": len(torn)}
    assert dump(database) == before


def test_a_person_is_shown_how_far_it_has_come(home: Path) -> None:
    many(home / "sessions", 40)
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        argv("import", "--codex"), cwd=home, env=in_home(home), stdout=subprocess.PIPE, stderr=theirs
    ) as process:
        os.close(theirs)
        told = b""
        with contextlib.suppress(OSError):  # the end of a terminal
            while piece := os.read(ours, 65_536):
                told += piece
        assert process.wait(TIMEOUT_S) == 1
        assert process.stdout is not None
        assert process.stdout.read().startswith(b"40 files: 40 sessions imported")
    os.close(ours)
    assert b"40 sessions" in told
    assert b"torn" in told


@pytest.mark.slow
def test_an_import_that_is_killed_goes_on_where_it_was(home: Path, database: Path, tmp_path: Path) -> None:
    many(tmp_path / "files", 300)
    taken_in(home, tmp_path / "files")
    undisturbed = dump(database)
    chance = random.Random(11)  # noqa: S311 - for tests
    killed_within = 0
    for number in range(5):
        other = tmp_path / f"home{number}"
        other.mkdir()
        count = killed(other, tmp_path / "files", chance.uniform(0.0, 0.5))
        killed_within += 0 < count < 300
        taken_in(other, tmp_path / "files")
        found = dump(other / "codexdb" / "codexdb.sqlite3")
        assert without_cwd(found) == without_cwd(undisturbed)
    assert killed_within, "no kill came in the midst of the import"


def without_cwd(rows: dict[str, list[tuple[object, ...]]]) -> dict[str, list[tuple[object, ...]]]:
    """The rows without the folder that they were imported in, which old files do not tell."""
    shown = {table: [tuple(str(value) for value in row) for row in found] for table, found in rows.items()}
    folders = {row[6] for row in shown["sessions"]} - {"/home/dev/project"}
    (folder,) = folders
    return {
        table: [tuple(each.replace(folder, "CWD") for each in row) for row in found] for table, found in shown.items()
    }


def killed(home: Path, files: Path, after_s: float) -> int:
    """Kill an import this long after its first session was told; how many it had told of."""
    with subprocess.Popen(
        argv("import", "--json", str(files)), cwd=home, env=in_home(home), stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline()]
        timer = threading.Timer(after_s, process.send_signal, [signal.SIGKILL])
        timer.start()
        lines += process.stdout.readlines()
        process.wait(TIMEOUT_S)
        timer.cancel()
    told = [each for each in lines if each.endswith(b"\n") and b'"files"' not in each]
    here = every(home / "codexdb" / "codexdb.sqlite3", "SELECT public_id FROM sessions")
    assert {json.loads(line)["session_id"] for line in told} <= set(here), "told before it was there"
    assert unsound(home / "codexdb" / "codexdb.sqlite3") == []
    return len(told)
