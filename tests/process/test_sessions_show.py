"""`codexdb sessions list` and `show`: what happened, for people and for programs."""

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest

from codexdb.store.locks import FileLock, beside
from codexdb.testing.model_script import Json, call_tools, say
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import StartServer
from tests.process.command import in_home
from tests.process.scene import ANSWER, FIRST, SECOND, TIMEOUT_S, Scene, argv, on_terminal, playing, sessions
from tests.process.talking import ask, at_rest, compacted, opened, rows, send, shell, until

UNKNOWN = "0199a213-81c0-7800-8aa1-bbab2a035a53"
CONTROLS = "\x1b[2J\x1b]0;owned\x07\x9b31m\r\x08\u202e\u2066"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with playing(tmp_path_factory.mktemp("scene")) as played:
        yield played


def objects(text: str) -> list[Json]:
    return [json.loads(line) for line in text.splitlines()]


# -- list --------------------------------------------------------------------------------------------------------------


def test_a_list_shows_state_and_what_it_is_about(scene: Scene) -> None:
    result = scene.sessions("list")
    assert (result.returncode, result.stderr) == (0, "")
    names, *lines = [line.split("\t") for line in result.stdout.splitlines()]
    assert names == ["session", "state", "turns", "last used (UTC)", "what"]
    assert [(line[0], line[1], line[2]) for line in lines] == [(scene.session, "failed", "2")]
    assert FIRST.startswith(lines[0][4])
    assert "─" in on_terminal(scene.home, "list")


def test_a_list_is_filtered_and_goes_on_where_it_ended(server: StartServer, home: Path, tmp_path: Path) -> None:
    process = server()
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    made = [opened(process, f"number {n}", cwd=str(here if n % 2 else there)) for n in range(5)]
    ask(process, "conversation_archive", made[0])
    listed = objects(sessions(home, "list", "--json").stdout)
    assert [each["session_id"] for each in listed] == made[:0:-1]
    assert {each["state"] for each in listed} == {"completed"}
    everything = objects(sessions(home, "list", "--json", "--all").stdout)
    assert [each["session_id"] for each in everything] == made[::-1]
    assert [each["archived_at_ms"] is not None for each in everything] == [False] * 4 + [True]
    of_here = objects(sessions(home, "list", "--json", "--cwd", str(here)).stdout)
    assert [each["session_id"] for each in of_here] == [made[3], made[1]]
    page = sessions(home, "list", "--limit", "3")
    assert len(page.stdout.splitlines()) == 1 + 3
    cursor = page.stderr.split()[-1]
    rest = objects(sessions(home, "list", "--json", "--after", cursor).stdout)
    assert [each["session_id"] for each in rest] == [made[1]]
    assert sessions(home, "list", "--after", "yesterday").returncode == 2


def test_a_running_turn_is_seen_in_the_list(server: StartServer, home: Path, model: ScriptedModel) -> None:
    process = server("--no-worker")
    made = process.call_tool("conversation_create", {})
    session = made["structuredContent"]["conversation_id"]
    assert objects(sessions(home, "list", "--json").stdout)[0]["state"] == "new"
    send(process, session, "hello")
    assert objects(sessions(home, "list", "--json").stdout)[0]["state"] == "ready"
    assert "waits for a worker" in sessions(home, "show", session).stdout
    assert model.requests == []


# -- show --------------------------------------------------------------------------------------------------------------


def test_a_transcript_tells_everything_that_happened(scene: Scene) -> None:
    result = scene.sessions("show", scene.session)
    assert (result.returncode, result.stderr) == (0, "")
    told = result.stdout
    assert "\x1b" not in told
    order = [
        f"session      {scene.session}",
        "── Turn 1 ─",
        "completed in ",
        "5 model requests · 80 tokens (55 in, 25 out)",
        "You  ",
        FIRST,
        "Agent  ",
        "The split leaves blanks; strip each word.",
        "I look at the parser first.",
        "  $ cat parser.py\n  │ def words(line):\n",
        "  ╰ exit 0 · ",
        "Small enough for one change.\n  ✔ Find out why the test fails\n  ▸ Strip what is split\n  · Run the tests\n",
        "± parser.py  update\n",
        '    -    for word in line.split(","):\n',
        '    +    return [word.strip() for word in line.split(",")]\n',
        "± test_parser.py  add\n    +from parser import words\n",
        "? asked: approved by elicitation",
        "╰ applied · ",
        "  $ python3 -c 'import test_parser' && echo 1 passed; seq 1 60; exit 3\n",
        "  │ 1 passed\n",
        "[… 37 lines …]\n  │ 53\n",
        "  ╰ exit 3 · ",
        ANSWER,
        "── Turn 2 ─",
        "failed in ",
        SECOND,
        "model_error: exceeded retry limit",
    ]
    at = 0
    for piece in order:
        assert piece in told[at:], (piece, told)
        at = told.index(piece, at) + len(piece)


def test_a_terminal_gets_colours_and_lines_that_fit(scene: Scene) -> None:
    shown = on_terminal(scene.home, "show", scene.session, columns=50, PAGER="cat")
    assert "\x1b[1;36mYou\x1b[0m" in shown
    assert '\x1b[32m+    return [word.strip() for word in line.split(",")]\x1b[0m' in shown
    assert "\x1b[31m-    found = []\x1b[0m" in shown
    assert "\x1b[31m╰ exit 3" in shown
    assert "  The words of our parser keep their blanks.\n  Please mend it, and add a test.\n" in shown


def test_what_is_longer_than_the_terminal_goes_through_the_pager(scene: Scene) -> None:
    pager = "sed s/^/paged:/"
    assert "paged:" in on_terminal(scene.home, "show", scene.session, rows=20, PAGER=pager)
    assert "paged:" not in on_terminal(scene.home, "show", scene.session, rows=500, PAGER=pager)


def test_the_beginning_of_an_id_is_enough(scene: Scene) -> None:
    whole = scene.sessions("show", scene.session).stdout
    for name in (scene.session[:6], scene.session.upper(), scene.session.replace("-", "")):
        assert scene.sessions("show", name).stdout == whole
    assert scene.sessions("show", UNKNOWN).returncode == 1
    assert f"There is no session {UNKNOWN}" in scene.sessions("show", UNKNOWN).stderr
    assert "There is no session %" in scene.sessions("show", "%").stderr
    assert "There is no session" in scene.sessions("show", "").stderr


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("show", "\udcff"), 1, "There is no session"),
        (("list", "--cwd", "\udcff"), 0, "No session."),
        (("list", "--after", f"1.{2**63}"), 2, "is not where a list has ended"),
        (("search", "--before", str(2**63), "word"), 2, "--before"),
        (("fork", "{session}", "--after-turn", str(2**63)), 2, "--after-turn"),
        (("fork", "{session}", "--title", "named\udcff"), 0, ""),
    ],
)
def test_what_no_database_takes_is_told(scene: Scene, arguments: tuple[str, ...], code: int, told: str) -> None:
    result = scene.sessions(*(each.replace("{session}", scene.session) for each in arguments))
    assert "Traceback" not in result.stderr
    assert result.returncode == code
    assert told in result.stderr


def test_an_ambiguous_beginning_names_those_that_it_could_be(server: StartServer, home: Path) -> None:
    process = server()
    made = [opened(process, "one"), opened(process, "two")]
    result = sessions(home, "show", made[0][:4])
    assert result.returncode == 1
    assert all(session in result.stderr for session in made)


def test_one_turn_can_be_had(scene: Scene) -> None:
    second = scene.sessions("show", scene.session, "--turn", "2").stdout
    assert SECOND in second
    assert ANSWER not in second
    result = scene.sessions("show", scene.session, "--turn", "3")
    assert result.returncode == 1
    assert "there is no turn 3; the session has 2 turns" in result.stderr


def test_programs_get_an_object_a_line(scene: Scene) -> None:
    session, *lines = objects(scene.sessions("show", scene.session, "--json").stdout)
    assert (session["type"], session["session_id"], session["title"]) == ("session", scene.session, FIRST)
    assert (session["cwd"], session["total_tokens"]) == (str(scene.folder), 80)
    assert [(each["type"], each["turn"]) for each in lines] == [
        *((kind, 1) for kind in ("turn", "message", "reasoning", "message", "command", "plan", "patch", "command")),
        ("message", 1),
        *((kind, 2) for kind in ("turn", "message")),
    ]
    turn, command = lines[0], lines[7]
    assert cast("Json", turn["usage"])["requests"] == 5
    assert (turn["state"], turn["end_reason"]) == ("completed", "answered")
    assert (command["state"], command["exit_code"]) == ("failed", 3)
    assert cast("Json", command["output"])["head"] == "1 passed\n" + "".join(f"{n}\n" for n in range(1, 61))
    assert cast("Json", command["question"])["decision"] == "approved"
    assert {line["turn_id"] for line in lines} == {
        public_id for (public_id,) in rows(scene.home / "codexdb" / "codexdb.sqlite3", "SELECT public_id FROM turns")
    }


def test_what_would_steer_a_terminal_is_left_out(
    server: StartServer, home: Path, model: ScriptedModel, tmp_path: Path
) -> None:
    hostile = json.dumps({"command": ["printf", CONTROLS.replace("%", "%%") + "printed"]})
    model.add(call_tools(("c1", "shell", hostile), text=f"said{CONTROLS}"), say(f"end{CONTROLS}\nof it"))
    session = opened(server(), f"asked{CONTROLS}", cwd=str(tmp_path), title=f"titled{CONTROLS}")
    plain = sessions(home, "show", session).stdout
    assert set("\x1b\x07\x08\r\x9b\u202e\u2066").isdisjoint(plain)
    assert all(word in plain for word in ("titled", "asked", "said", "printed", "end"))
    assert set("\x1b\x07\x08\r\x9b").isdisjoint(sessions(home, "list").stdout)
    seen = on_terminal(home, "show", session, PAGER="cat")
    assert "\x1b[2J" not in seen
    assert "\x1b]" not in seen
    assert "\x9b" not in seen


def test_of_a_long_output_both_ends_are_read(server: StartServer, home: Path, model: ScriptedModel) -> None:
    model.add(call_tools(shell("c1", "sh", "-c", "echo first; yes | head -c 100000; echo last")), say("done"))
    session = opened(server(), "print")
    (command,) = [
        each for each in objects(sessions(home, "show", session, "--json").stdout) if each["type"] == "command"
    ]
    output = cast("Json", command["output"])
    assert str(output["head"]).startswith("first\n")
    assert str(output["tail"]).endswith("last\n")
    assert cast("int", output["left_out_chars"]) > 80_000
    plain = sessions(home, "show", session).stdout
    assert "  │ first\n" in plain
    assert "  │ last\n" in plain


@pytest.mark.parametrize(
    ("script", "head", "tail", "more"),
    [
        (r"printf 'a\0b\0'", "a\0b\0", "", False),
        (r"printf '\0last'", "\0last", "", False),
        (r"printf 'first\0'; yes | head -c 100000; printf '\0last'", "first\0", "\0last", True),
    ],
)
def test_an_output_does_not_end_where_it_has_a_nul(
    server: StartServer, home: Path, model: ScriptedModel, script: str, head: str, tail: str, *, more: bool
) -> None:
    model.add(call_tools(shell("c1", "sh", "-c", script)), say("done"))
    session = opened(server(), "print")
    (command,) = [
        each for each in objects(sessions(home, "show", session, "--json").stdout) if each["type"] == "command"
    ]
    output = cast("Json", command["output"])
    assert str(output["head"]).startswith(head)
    assert str(output["tail"]).endswith(tail)
    assert (cast("int", output["left_out_chars"]) > 80_000) is more
    assert (cast("int", output["left_out_chars"]) == 0) is not more


def test_messages_that_wait_and_such_that_were_taken_back_are_told(
    server: StartServer, home: Path, model: ScriptedModel
) -> None:
    process = server("--no-worker")
    session = process.call_tool("conversation_create", {})["structuredContent"]["conversation_id"]
    send(process, session, "first")
    queued = send(process, session, "second, in line", if_running="queue")
    third = send(process, session, "third, in line", if_running="queue")
    ask(process, "conversation_interrupt", session, turn_id=third["turn_id"])
    lines = objects(sessions(home, "show", session, "--json").stdout)
    messages = [(each["text"], each["note"]) for each in lines if each["type"] == "message"]
    assert messages == [("first", ""), ("second, in line", "waiting"), ("third, in line", "taken back")]
    assert [each["state"] for each in lines if each["type"] == "turn"] == ["ready", "queued", "interrupted"]
    assert queued["turn_id"] == lines[3]["turn_id"]
    assert model.requests == []


def test_a_fork_shows_the_past_that_it_shares(server: StartServer, home: Path, model: ScriptedModel) -> None:
    process = server()
    model.add(call_tools(shell("c1", "sh", "-c", "echo printed; exit 4")), say("one"), say("two"))
    session = opened(process, "first")
    fork = str(ask(process, "conversation_fork", session)["conversation_id"])
    send(process, fork, "on my own")
    at_rest(process, fork)
    lines = objects(sessions(home, "show", fork, "--json").stdout)
    assert lines[0]["forked_from"] == session
    turns = [(each["turn"], each["inherited"], each["state"]) for each in lines if each["type"] == "turn"]
    assert turns == [(1, True, "completed"), (1, False, "completed")]
    (command,) = [each for each in lines if each["type"] == "command"]
    assert (command["exit_code"], cast("Json", command["output"])["head"]) == (4, "printed\n")
    assert "Turn 1 of the session that this one is forked from" in sessions(home, "show", fork).stdout
    assert "on my own" in sessions(home, "show", fork, "--turn", "1").stdout
    assert "first" not in [
        each.get("text") for each in objects(sessions(home, "show", fork, "--turn", "1", "--json").stdout)
    ]


def test_a_summary_is_told(server: StartServer, home: Path, model: ScriptedModel) -> None:
    process = server()
    model.add(say("one"), say("what was done"))
    session = opened(process, "first")
    compacted(process, session)
    plain = sessions(home, "show", session).stdout
    assert "A summary was asked for." in plain
    assert "summary, from which the model goes on\n  what was done\n" in plain


def test_a_turn_whose_server_was_killed_says_what_nobody_knows(
    server: StartServer, home: Path, model: ScriptedModel, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    model.add(call_tools(shell("c1", "sh", "-c", f"echo x > {mark}; sleep 60")), say("looked"))
    first = server()
    first.start_tool("codex", {"prompt": "go"}, id=1)
    session = str(first.wait_event("exec_command_begin", 1)["_meta"]["conversationId"])
    until(mark.exists, "the command")
    first.kill()
    at_rest(server(), session)
    plain = sessions(home, "show", session).stdout
    assert "╰ outcome unknown: its server died" in plain
    assert "· The server that worked on this turn is gone" in plain
    assert "its server died 1 time" in plain


def test_a_missing_database_is_told_and_not_made(home: Path) -> None:
    for arguments in (["list"], ["show", UNKNOWN]):
        result = sessions(home, *arguments)
        assert result.returncode == 1
        assert "There is no database at" in result.stderr
    assert list(home.iterdir()) == []


# -- where it cannot be written ----------------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("arguments", [("list",), ("list", "--json"), ("search", "parser")])
def test_a_disk_that_is_full_is_told_in_a_sentence(scene: Scene, arguments: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            argv(*arguments), env=in_home(scene.home), stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert result.returncode == 1
    assert result.stderr == "Error: the output cannot be written: No space left on device\n"


def test_letters_that_an_encoding_does_not_have_are_shown_by_their_numbers(
    server: StartServer, home: Path, model: ScriptedModel
) -> None:
    model.add(say("naïve \u2713"))
    session = opened(server(), "hello")
    result = subprocess.run(
        argv("show", session), env=in_home(home) | {"PYTHONIOENCODING": "latin-1"}, capture_output=True, check=False
    )
    assert (result.returncode, result.stderr) == (0, b"")
    assert "naïve \\u2713".encode("latin-1") in result.stdout


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="nobody can say here what a process waits for")
@pytest.mark.parametrize("arguments", [("list",), ("show", "0"), ("search", "parser"), ("archive", "0")])
def test_an_interrupt_ends_a_command_without_a_word(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    database = tmp_path / "codexdb" / "codexdb.sqlite3"
    database.parent.mkdir()
    database.touch()
    with closing(FileLock(beside(database, ".schema.lock"))) as lock:
        assert lock.try_lock()
        with subprocess.Popen(
            argv(*arguments), env=in_home(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            opened_files = Path(f"/proc/{process.pid}/fd")
            until(lambda: lock.path.resolve() in map(Path.resolve, opened_files.iterdir()), "it waits")
            process.send_signal(signal.SIGINT)
            assert process.communicate(timeout=TIMEOUT_S) == ("", "")
    assert process.returncode == 130
