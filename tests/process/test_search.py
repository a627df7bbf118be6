"""Sessions are found by what was said in them and what was called, newest first, whoever writes meanwhile."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest

from codexdb.domain.errors import InvalidArgumentsError
from codexdb.store.search import match
from codexdb.testing.model_script import call_tools, say
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import Message, ServerProcess, StartServer
from tests.process.scene import on_terminal, sessions
from tests.process.talking import ask, opened, reply


def find(server: ServerProcess, words: str, **arguments: object) -> list[Message]:
    found = server.call_tool("conversations_list", {"search": words, **arguments})
    assert not found.get("isError"), found
    return cast("list[Message]", found["structuredContent"]["conversations"])


def names(server: ServerProcess, words: str, **arguments: object) -> list[str]:
    return [each["conversation_id"] for each in find(server, words, **arguments)]


def test_what_was_said_by_either_side_is_found(server: StartServer, model: ScriptedModel) -> None:
    process = server()
    model.add(say("The parser lives in grammar.py."), say("Nothing of interest."))
    first = opened(process, "Where is the Größe of a page computed?")
    second = opened(process, "Unrelated question")
    assert names(process, "größe") == names(process, "GROSSE page") == [] or names(process, "größe page") == [first]
    assert names(process, "grammar.py") == [first]
    assert names(process, "interest") == [second]
    assert names(process, "question parser") == []  # all words, of one message
    assert find(process, "parser lives")[0]["snippet"] == "The parser lives in grammar.py."


def test_commands_and_arguments_are_found_and_outputs_are_not(server: StartServer, model: ScriptedModel) -> None:
    process = server(config={"approval_policy": "never", "sandbox_mode": "danger-full-access"})
    arguments = json.dumps({"command": ["sh", "-c", "echo half; echo moon"], "timeout_ms": 7000})
    plan = json.dumps({"explanation": "orderly", "plan": [{"step": "sharpen pencils", "status": "pending"}]})
    model.add(call_tools(("c1", "shell", arguments), ("c2", "update_plan", plan)), say("Done."))
    session = opened(process, "Go", **{"include-plan-tool": True})
    assert names(process, "echo moon") == [session]
    assert names(process, "pencils") == [session]
    assert names(process, "halfmoon") == []


def test_a_session_is_found_once_with_its_newest_hit_and_the_newest_comes_first(
    server: StartServer, model: ScriptedModel
) -> None:
    process = server()
    model.add(*(say("ok") for _ in range(4)))
    older = opened(process, "apples one")
    newer = opened(process, "apples two")
    assert names(process, "apples") == [newer, older]
    reply(process, older, "apples three")
    assert [(each["conversation_id"], each["snippet"]) for each in find(process, "apples")] == [
        (older, "apples three"),
        (newer, "apples two"),
    ]


def test_pages_of_hits_go_on_behind_the_cursor(server: StartServer, model: ScriptedModel) -> None:
    process = server()
    model.add(*(say("ok") for _ in range(5)))
    made = [opened(process, f"pears {number}") for number in range(5)]
    seen: list[str] = []
    cursor: dict[str, object] = {}
    while True:
        page = process.call_tool("conversations_list", {"search": "pears", "limit": 2, **cursor})["structuredContent"]
        seen += [each["conversation_id"] for each in page["conversations"]]
        if "next_cursor" not in page:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert seen == made[::-1]


def test_folders_and_archived_sessions_are_told_apart(
    server: StartServer, model: ScriptedModel, tmp_path: Path
) -> None:
    process = server()
    model.add(*(say("ok") for _ in range(2)))
    here = opened(process, "plums", cwd=str(tmp_path))
    there = opened(process, "plums")
    assert names(process, "plums", cwd=str(tmp_path)) == [here]
    ask(process, "conversation_archive", there)
    assert names(process, "plums") == [here]
    assert names(process, "plums", include_archived=True) == [there, here]
    listed = process.call_tool("conversations_list", {"cwd": str(tmp_path)})["structuredContent"]["conversations"]
    assert [each["conversation_id"] for each in listed] == [here]
    listed = process.call_tool("conversations_list", {"include_archived": True})["structuredContent"]["conversations"]
    assert [each["conversation_id"] for each in listed] == [there, here]


@pytest.mark.parametrize(
    "words",
    ["", "  ", "-- !?", '""', "*", " ".join("w" * 1 for _ in range(33)), "x" * 1_001, "w*", '"some w"*', "some-w*"],
)
def test_a_search_for_nothing_is_refused(server: StartServer, words: str) -> None:
    refused = server().call_tool("conversations_list", {"search": words})
    assert refused["isError"] is True
    assert refused["structuredContent"]["kind"] == "invalid_arguments"


@pytest.mark.parametrize("cursor", ["x", "-1", "1.2", str(2**63), "9" * 5_000])
def test_a_cursor_of_another_kind_is_refused(server: StartServer, cursor: str) -> None:
    refused = server().call_tool("conversations_list", {"search": "word", "cursor": cursor})
    assert refused["structuredContent"]["kind"] == "invalid_arguments"


@pytest.mark.parametrize(
    "words", ["AND", "a OR b", "NEAR(a b)", "text:a", "a^b", "(a", "an* be*", "\0a", '"a b', "-a", "{a}"]
)
def test_no_text_is_an_error_of_syntax(words: str) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE VIRTUAL TABLE search USING fts5(text)")
        connection.execute("INSERT INTO search VALUES (?)", (words,))
        found = connection.execute("SELECT count(*) FROM search WHERE search MATCH ?", (match(words),)).fetchall()
    assert found == [(1,)]  # what looks like an operator is a word like any other


@pytest.mark.parametrize("words", ['"', "+"])
def test_signs_alone_are_refused(words: str) -> None:
    with pytest.raises(InvalidArgumentsError):
        match(words)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("quick fox", True),
        ('"quick fox"', False),
        ('"quick brown"', True),
        ("qui*", True),
        ("qui", False),
        ("qu*", True),
        ("\u72d0*", True),  # a fox, of which a script of many letters has its own
        ('"the q"', False),
        ('"quick bro"*', True),
        ("QUICK", True),
        ("fox-jumps", True),  # one word for people, a phrase for the index
    ],
)
def test_what_words_mean(words: str, *, found: bool) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE VIRTUAL TABLE search USING fts5(text)")
        connection.execute("INSERT INTO search VALUES ('the quick brown fox jumps \u72d0\u8df3')")
        rows = connection.execute("SELECT * FROM search WHERE search MATCH ?", (match(words),)).fetchall()
    assert bool(rows) is found


# -- at the command line -----------------------------------------------------------------------------------------------


def test_hits_are_shown_with_where_they_are(server: StartServer, model: ScriptedModel, home: Path) -> None:
    process = server()
    model.add(say("Use a hammer."), say("No hammer needed."), say("ok"))
    first = opened(process, "How do I drive a nail?")
    reply(process, first, "And a screw?")
    second = opened(process, "hammer hammer hammer")
    found = [json.loads(line) for line in sessions(home, "search", "HAMMER", "--json").stdout.splitlines()]
    assert [(each["session_id"], each["turn"], each["kind"], each["snippet"]) for each in found] == [
        (second, 1, "user", "hammer hammer hammer"),
        (first, 2, "assistant", "No hammer needed."),
        (first, 1, "assistant", "Use a hammer."),
    ]
    page = sessions(home, "search", "hammer", "--limit", "1")
    assert page.stdout.split("\t")[0] == second
    rest = sessions(home, "search", "hammer", "--before", page.stderr.split()[-1], "--json")
    assert [json.loads(line)["cursor"] for line in rest.stdout.splitlines()] == [found[1]["cursor"], found[2]["cursor"]]
    best = sessions(home, "search", "--best", "hammer", "--limit", "1", "--json")
    assert json.loads(best.stdout)["session_id"] == second
    lines = sessions(home, "search", "--best", "hammer", "--limit", "2", "--json").stdout.splitlines()
    assert [each["snippet"] for each in map(json.loads, lines)] == [
        "hammer hammer hammer",
        "Use a hammer.",
    ]  # newest first, among the best
    assert "\x1b[1;33mhammer" in on_terminal(home, "search", "hammer", "needed")


def test_that_nothing_is_found_is_exit_code_1(server: StartServer, home: Path) -> None:
    server().call_tool("conversation_create", {})
    nothing = sessions(home, "search", "unheard-of")
    assert (nothing.returncode, nothing.stdout, nothing.stderr) == (1, "", "Nothing was found.\n")
    refused = sessions(home, "search", "--", "--")
    assert (refused.returncode, "there is no word to search for" in refused.stderr) == (1, True)


def test_the_index_follows_rows_that_go(server: StartServer, model: ScriptedModel, database: Path) -> None:
    process = server()
    model.add(say("ok"))
    opened(process, "cherries")
    process.close_stdin()
    process.wait_exit()
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("PRAGMA foreign_keys=ON")
        assert connection.execute("SELECT count(*) FROM search WHERE search MATCH 'cherries'").fetchone() == (1,)
        connection.execute("DELETE FROM sessions")
        assert connection.execute("SELECT count(*) FROM search WHERE search MATCH 'cherries'").fetchone() == (0,)
        connection.execute("INSERT INTO search (search) VALUES ('integrity-check')")
