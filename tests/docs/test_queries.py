"""Every query that the documentation shows runs on a thousand sessions of a real server, and reads no table whole."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from codexdb.store import queries
from codexdb.store.pragmas import read_only_uri
from codexdb.store.views import VIEWS
from codexdb.testing.model_script import USAGE
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import ServerProcess, write_config
from tests.docs import many_sessions as made

ROOT = Path(__file__).resolve().parents[2]
FEW_ROWS = {"turns_one_holds_session", "turns_queued", "turns_ready", "approvals_pending"}
"""Partial indexes of what is going on now: reading all of one is no more than it holds."""

_AGGREGATE = re.compile(r"\b(count|sum|total|avg|min|max|group_concat)\s*\(", re.IGNORECASE)
_ENDS_WITH_LIMIT = re.compile(r"\bLIMIT \d+;?\s*\Z")


@dataclass(frozen=True)
class Made:
    """The database, and a session of several turns in it."""

    database: Path
    session: str

    def plain(self, query: str) -> str:
        return query.replace(":session", f"'{self.session}'")

    def rows(self, query: str) -> list[dict[str, object]]:
        found = queries.ask(self.database, self.plain(query), 2_000)
        return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """Looked at while the server that made it runs."""
    home = tmp_path_factory.mktemp("many")
    with ScriptedModel(responder=made.answer) as model:
        write_config(home, model.base_url, "responses")
        with ServerProcess(home) as server:
            server.initialize()
            database = home / "codexdb" / "codexdb.sqlite3"
            yield Made(database, made.make(server, database))


def shown(page: str) -> list[str]:
    """The queries of a page: whole blocks, and those that are given to a program in quotes."""
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```sql\n(.*?)\n```$", text, re.MULTILINE | re.DOTALL)
    return [*blocks, *re.findall(r'"(SELECT [^"]+)"', text)]


def in_code() -> list[str]:
    return [value for name, value in vars(queries).items() if name.isupper() and str(value).startswith("SELECT ")]


EVERY_QUERY = sorted({*shown("README.md"), *shown("docs/schema.md"), *in_code()})


# -- plans -------------------------------------------------------------------------------------------------------------


def scans(database: Path, query: str) -> list[str]:
    """Where the plan of a query reads a whole table."""
    with closing(sqlite3.connect(read_only_uri(database), uri=True)) as connection:
        plan = connection.execute(f"EXPLAIN QUERY PLAN {query}").fetchall()
    own = {row[3].split()[-1] for row in plan if row[3].startswith(("CO-ROUTINE", "MATERIALIZE"))}
    sorted_below = {row[1] for row in plan if "USE TEMP B-TREE" in row[3]}
    found: list[str] = []
    for _, parent, _, detail in plan:
        if re.fullmatch(r"SEARCH \w+", detail):  # for max() or min(), by no index
            found.append(detail)
        if not detail.startswith("SCAN ") or detail == "SCAN CONSTANT ROW" or detail.split()[1] in own:
            continue
        virtual = re.search(r"VIRTUAL TABLE INDEX (\d+)", detail)
        few = any(f"INDEX {name}" in detail for name in FEW_ROWS)
        in_order = parent not in sorted_below and _ends_early(query, top=parent == 0)
        if not (few or in_order or (virtual and virtual[1] != "0")):
            found.append(detail)
    return found


def _ends_early(query: str, *, top: bool) -> bool:
    """Whether a SELECT takes the first rows it comes by: by LIMIT, and with nothing that is made of all rows."""
    if top:
        return bool(_ENDS_WITH_LIMIT.search(query)) and not _AGGREGATE.search(query.partition("FROM")[0])
    inner = re.findall(r"\(SELECT [^()]+ LIMIT 1\)", query)
    return bool(inner) and not any(_AGGREGATE.search(each) for each in inner)


@pytest.mark.parametrize("query", EVERY_QUERY)
def test_a_query_that_is_shown_runs_and_reads_no_whole_table(many: Made, query: str) -> None:
    many.rows(query)
    assert scans(many.database, many.plain(query)) == []


@pytest.mark.parametrize(
    "query",
    [
        "SELECT count(*) FROM events",
        "SELECT count(*) FROM events LIMIT 1",
        "SELECT (SELECT max(created_at_ms) FROM items) AS latest",
        "SELECT session FROM turn_overview ORDER BY created_at_ms DESC LIMIT 10",
        "SELECT day, sum(total_tokens) FROM token_usage GROUP BY day",
        "SELECT session FROM session_overview WHERE state = 'running'",
        "SELECT text FROM search WHERE text LIKE '%subject7%'",
    ],
)
def test_a_query_that_reads_everything_is_told_from_the_others(many: Made, query: str) -> None:
    assert scans(many.database, query) != []


def test_every_view_is_shown_with_its_example_and_every_query_is_found() -> None:
    assert {view.example for view in VIEWS} <= set(shown("docs/schema.md"))
    assert len(shown("README.md")) >= 8
    assert len(in_code()) >= 12


# -- results -----------------------------------------------------------------------------------------------------------


def counted(many: Made, query: str) -> dict[object, object]:
    return {row["what"]: row["many"] for row in many.rows(query)}


def test_there_are_a_thousand_sessions_in_the_states_that_they_were_left_in(many: Made) -> None:
    states = counted(many, "SELECT state AS what, count(*) AS many FROM session_overview GROUP BY state")
    waiting, archived = made.QUESTIONS, made.ARCHIVED
    assert states == {"waiting": waiting, "archived": archived, "idle": made.SESSIONS - waiting - archived}
    assert made.SESSIONS == 1_000
    ends = counted(many, "SELECT end_reason AS what, count(*) AS many FROM turn_overview GROUP BY end_reason")
    assert ends == {None: waiting, "model_error": made.FAILURES, "answered": made.TURNS - waiting - made.FAILURES}


def test_tokens_add_up_to_what_the_endpoint_counted(many: Made) -> None:
    (day,) = many.rows(queries.TOKENS)
    assert day["requests"] == made.ANSWERED_REQUESTS + made.FAILURES
    assert day["input_tokens"] == made.ANSWERED_REQUESTS * USAGE["input"]
    assert day["output_tokens"] == made.ANSWERED_REQUESTS * USAGE["output"]
    one = many.rows("SELECT * FROM token_usage WHERE session = :session")[0]
    names = ("input_tokens", "cached_input_tokens", "output_tokens", "reasoning_output_tokens", "total_tokens")
    assert [one[name] for name in names] == [made.LONG_TURNS * count for count in USAGE.values()]
    assert (one["requests"], one["failed_requests"]) == (made.LONG_TURNS, 0)
    overview = many.rows("SELECT total_tokens, turns FROM session_overview WHERE session = :session")
    assert overview == [{"total_tokens": made.LONG_TURNS * USAGE["total"], "turns": made.LONG_TURNS}]
    per_turn = many.rows("SELECT requests, total_tokens FROM turn_overview WHERE session = :session")
    assert per_turn == [{"requests": 1, "total_tokens": USAGE["total"]}] * made.LONG_TURNS


def test_the_transcript_is_what_was_said_in_order(many: Made) -> None:
    said = many.rows("SELECT turn_number, kind, text FROM transcript WHERE session = :session ORDER BY seq")
    assert said.pop(0)["kind"] == "context"
    assert [tuple(each.values()) for each in said] == [
        line
        for turn in range(1, made.LONG_TURNS + 1)
        for line in ((turn, "user", f"turn {turn}"), (turn, "assistant", f"You said: turn {turn}"))
    ]
    assert {row["title"] for row in many.rows("SELECT title FROM session_overview WHERE session = :session")} == {
        "turn 1"
    }


def test_the_log_of_calls_has_commands_as_words_with_their_outcome(many: Made) -> None:
    calls = many.rows("SELECT * FROM tool_call_log WHERE command LIKE 'echo%'")
    assert len(calls) == made.COMMANDS
    wanted = {"command": f"echo {made.PRINTED}", "state": "succeeded", "exit_code": 0, "output": f"{made.PRINTED}\n"}
    assert all({name: call[name] for name in wanted} == wanted for call in calls)
    assert counted(many, "SELECT approval AS what, count(*) AS many FROM tool_call_log GROUP BY 1") == {
        None: made.COMMANDS,
        "pending": made.QUESTIONS,
    }


def test_what_waits_and_what_failed_is_listed_with_its_reason(many: Made) -> None:
    asked = many.rows("SELECT kind, asks, age_ms FROM pending_approvals")
    assert [(each["kind"], each["asks"]) for each in asked] == [("exec", "touch asked")] * made.QUESTIONS
    assert all(isinstance(each["age_ms"], int) and 0 <= each["age_ms"] < 600_000 for each in asked)
    running = many.rows("SELECT state, prompt FROM running_turns ORDER BY prompt")
    assert running == [{"state": "waiting", "prompt": f"ask number {number}"} for number in range(made.QUESTIONS)]
    failed = many.rows("SELECT error_kind, error_message, prompt FROM failed_turns ORDER BY prompt")
    assert len(failed) == made.FAILURES
    assert failed[0]["error_kind"] == "model_error"
    assert made.FAILED_WITH in str(failed[0]["error_message"])
    assert failed[0]["prompt"] == "fail number 0"


def test_words_are_found_where_they_were_said(many: Made) -> None:
    query = queries.WORDS.replace("notes durable", "subject7")
    assert [(row["turn_number"], row["kind"], row["found"]) for row in many.rows(query)] == [
        (1, "assistant", "You said: talk about [subject7]"),
        (1, "user", "talk about [subject7]"),
    ]
    commands = many.rows(queries.WORDS.replace("notes durable", made.PRINTED).replace("LIMIT 20", "LIMIT 100"))
    assert [(row["kind"], row["found"]) for row in commands] == [("call", f"echo [{made.PRINTED}]")] * made.COMMANDS
