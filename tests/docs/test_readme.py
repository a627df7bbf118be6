"""The README is exercised: its commands, configurations, queries and transcript are those of the program."""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import click
import pytest

from codexdb.cli.commands import codexdb
from codexdb.protocol.tools import TOOLS
from codexdb.store import queries
from codexdb.testing.model_script import call_tools, say
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import ENVIRONMENT_KEPT, ServerProcess

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
TIMEOUT_S = 20


def blocks(language: str) -> list[str]:
    found = re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert found, f"the README has no {language} block"
    return found


def environment(**more: str) -> dict[str, str]:
    return {name: os.environ[name] for name in ENVIRONMENT_KEPT if name in os.environ} | more


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What the demo prints, and the database that it leaves."""
    folder = tmp_path_factory.mktemp("readme") / "codexdb-demo-readme"
    result = subprocess.run(
        [sys.executable, "-m", "codexdb", "demo", "--dir", str(folder)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout, folder / "codexdb.sqlite3"


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder for PATH with a `codexdb` in it that is this one."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "codexdb"
    script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m codexdb "$@"\n')
    script.chmod(0o755)
    return folder


# -- commands --------------------------------------------------------------------------------------------------------


def test_two_commands_set_everything_up() -> None:
    install, tests = [block.strip() for block in blocks("sh") if "pip install" in block]
    assert install == "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/codexdb demo"
    assert tests == ".venv/bin/pip install '.[test]' && .venv/bin/pytest -n auto"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "test" in project["optional-dependencies"]
    assert "codexdb" in project["scripts"]
    assert "demo" in codexdb.commands


def test_the_other_commands_run(home: Path, model: ScriptedModel, programs: Path, tmp_path: Path) -> None:
    (home / "config.toml").write_text(blocks("toml")[0])
    given = environment(
        CODEX_HOME=str(home),
        CODEXDB_DB=str(tmp_path / "mine.sqlite3"),
        OPENAI_BASE_URL=model.base_url,
        OPENAI_API_KEY="a key",
    )
    given["PATH"] = f"{programs}:{given['PATH']}"
    lines = [line for block in blocks("sh") if "pip install" not in block for line in block.splitlines()]
    assert lines
    for line in lines:
        result = subprocess.run(
            ["sh", "-c", line], cwd=tmp_path, env=given, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
        assert result.returncode == 0, (line, result.stderr)
        assert result.stdout, line


def test_every_command_that_it_names_exists() -> None:
    for name, below in re.findall(
        r"\bcodexdb ([a-z][a-z-]*)(?: ([a-z]+))?", " ".join(re.findall(r"`([^`\n]+)`", README))
    ):
        command = codexdb.commands.get(name)
        assert command is not None, name
        if below and isinstance(command, click.Group):
            assert below in command.commands


# -- configuration ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", blocks("json"), ids=["any client", "swap"])
def test_a_client_configuration_starts_a_server(text: str, home: Path, programs: Path, model: ScriptedModel) -> None:
    (server,) = json.loads(text)["mcpServers"].values()
    command = programs / Path(server["command"]).name
    (home / "config.toml").write_text(blocks("toml")[0])
    model.add(say("hello"))
    given = cast("dict[str, str]", server.get("env", {"OPENAI_API_KEY": "a key"})) | {"OPENAI_BASE_URL": model.base_url}
    with ServerProcess(home, argv=[str(command), *server["args"]], env=given) as process:
        assert process.initialize()["serverInfo"]["name"] == "codexdb"
        assert process.call_tool("codex", {"prompt": "Hi"})["structuredContent"]["content"] == "hello"


def test_commands_run_with_the_settings_that_it_gives_and_are_refused_without_them(
    home: Path, model: ScriptedModel
) -> None:
    call = call_tools(("c1", "shell", json.dumps({"command": ["touch", "ran"]})))
    given = {"OPENAI_API_KEY": "a key", "OPENAI_BASE_URL": model.base_url}
    elsewhere = call_tools(("c2", "shell", json.dumps({"command": ["touch", str(Path.home() / "elsewhere")]})))
    model.add(call, say("no"), call, elsewhere, say("yes"))
    with ServerProcess(home, env=given) as process:
        process.initialize(elicitation=False)
        process.call_tool("codex", {"prompt": "Touch it"})
        assert not (home / "ran").exists()
        (home / "config.toml").write_text(blocks("toml")[0])
        process.call_tool("codex", {"prompt": "Touch it"})
        assert (home / "ran").exists()
        assert not (Path.home() / "elsewhere").exists()


def test_another_endpoint_is_reached_with_the_settings_that_it_gives(home: Path, model: ScriptedModel) -> None:
    text = blocks("toml")[1]
    address = tomllib.loads(text)["model_providers"]["local"]["base_url"]
    (home / "config.toml").write_text(text.replace(address, model.base_url))
    model.add(say("hello from here"))
    with ServerProcess(home) as process:
        process.initialize()
        result = process.call_tool("codex", {"prompt": "Hi"})
    assert result["structuredContent"]["content"] == "hello from here"
    assert model.requests[0].path == "/v1/chat/completions"
    assert (model.requests[0].body or {})["model"] == tomllib.loads(text)["model"]


# -- transcript ------------------------------------------------------------------------------------------------------

_VOLATILE = (
    (r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", "ID"),
    (r"<cwd>.*", "<cwd>…"),  # cut at a length that depends on the folder's name
    (r"\S*/codexdb-demo-\w+", "FOLDER"),
    (r"pid \d+", "pid N"),
    (r"\d+\.\d\d s", "N s"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d", "TIME"),
    (r"(completed\s+|unknown\s+|succeeded\s+0\s+)\d+", r"\1MS"),
    (r"^\s*\S.*codexdb db sql", "codexdb db sql"),
    (r"\s+", " "),
)


def stable(text: str) -> Iterator[str]:
    for line in text.splitlines():
        for pattern, replacement in _VOLATILE:
            line = re.sub(pattern, replacement, line)  # noqa: PLW2901 - one line, step by step
        if line.strip():
            yield line.strip()


def test_the_transcript_is_what_the_demo_prints(demo: tuple[str, Path]) -> None:
    (transcript,) = blocks("text")
    command, shown = transcript.split("\n", 1)
    assert command == "$ .venv/bin/codexdb demo"
    assert list(stable(shown)) == list(stable(demo[0]))


# -- queries ---------------------------------------------------------------------------------------------------------


def asked(demo: tuple[str, Path], query: str) -> list[dict[str, Any]]:
    assert f"{query}\n" in blocks("sql"), "the README shows another query"
    answer = queries.ask(demo[1], query, 100)
    assert not answer.more
    return [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]


def test_it_shows_these_queries_and_all_are_tried_here() -> None:
    """On a thousand sessions they are tried in `test_queries`."""
    tried = (
        queries.SESSIONS,
        queries.TURNS,
        queries.TRANSCRIPT,
        queries.CALLS,
        queries.FAILURES,
        queries.TOKENS,
        queries.WORDS,
    )
    assert [block.rstrip("\n") for block in blocks("sql")] == list(tried)


def test_the_query_of_sessions_returns_them_with_their_state(demo: tuple[str, Path]) -> None:
    (session,) = asked(demo, queries.SESSIONS)
    assert session["session"] in demo[0]
    assert (session["turns"], session["state"], session["title"]) == (2, "idle", "Write the word durable t")


def test_the_query_of_turns_returns_how_they_ended_and_what_they_took(demo: tuple[str, Path]) -> None:
    first, second = asked(demo, queries.TURNS)
    assert [(turn["turn_number"], turn["state"], turn["total_tokens"]) for turn in (first, second)] == [
        (1, "completed", 32),
        (2, "completed", 16),
    ]
    assert first["duration_ms"] > 0
    assert first["answer"] == "notes.txt holds the word durable, once."


def test_the_query_of_the_transcript_returns_what_was_said_and_done(demo: tuple[str, Path]) -> None:
    items = asked(demo, queries.TRANSCRIPT)
    assert [item["seq"] for item in items] == list(range(1, 11))
    assert [item["kind"] for item in items[:5]] == ["context", "user", "call", "output", "assistant"]
    assert items[3]["text"].startswith("The server stopped while this call was running.")
    assert items[1]["text"] == "Write the word durable to notes.txt."


def test_the_query_of_calls_returns_commands_with_their_exit_codes(demo: tuple[str, Path]) -> None:
    calls = asked(demo, queries.CALLS)
    assert all(call.pop("duration_ms") >= 0 for call in calls)
    command = "sh -c (echo durable; sleep 20; echo late) >> notes.txt"
    assert calls == [
        {"turn_number": 1, "state": "unknown", "exit_code": None, "command": command},
        {"turn_number": 1, "state": "succeeded", "exit_code": 0, "command": "sh -c cat notes.txt"},
    ]


def test_the_query_of_failures_finds_none_here(demo: tuple[str, Path]) -> None:
    assert asked(demo, queries.FAILURES) == []


def test_the_query_of_tokens_returns_what_was_counted(demo: tuple[str, Path]) -> None:
    counted = asked(demo, queries.TOKENS)  # of two days, where midnight came between
    assert {each["model"] for each in counted} == {"scripted-model"}
    sums = {name: sum(each[name] for each in counted) for name in ("requests", "input_tokens", "output_tokens")}
    assert sums == {"requests": 3, "input_tokens": 33, "output_tokens": 15}


def test_the_query_of_words_returns_where_they_were_said(demo: tuple[str, Path]) -> None:
    found = asked(demo, queries.WORDS)
    assert [(each["turn_number"], each["kind"]) for each in found] == [
        (2, "assistant"),
        (1, "assistant"),
        (1, "call"),
        (1, "user"),
    ]
    assert found[-1]["found"] == "Write the word [durable] to [notes].txt."


# -- what it says ----------------------------------------------------------------------------------------------------


def test_its_table_has_every_tool() -> None:
    section = README.split("## Tools", 1)[1].split("\n## ", 1)[0]
    assert re.findall(r"^\| `([\w-]+)` \|", section, re.MULTILINE) == [tool.name for tool in TOOLS]


def test_its_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).is_file()] == []
