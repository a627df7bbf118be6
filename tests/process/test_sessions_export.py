"""`codexdb sessions export`: Markdown and HTML for readers, whatever a session holds."""

import json
import os
import re
import stat
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from codexdb.cli.transcript_chart import nice
from codexdb.testing.model_script import call_tools, say
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import StartServer
from tests.process.browser import dom
from tests.process.scene import ANSWER, FIRST, Scene, playing, sessions
from tests.process.talking import opened, reply, shell

TIMEOUT_S = 60
HOSTILE = '</pre></code><script>document.title="owned"</script><img src=x onerror="owned()">\x1b[2J\x07&amp;"\'```'
VOID = frozenset({"meta", "rect", "line"})


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with playing(tmp_path_factory.mktemp("scene")) as played:
        yield played


class Page(HTMLParser):
    """What a browser would see; every element is closed by its own end."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002 - as declared
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_page_has_everything_and_stands_alone(scene: Scene, tmp_path: Path) -> None:
    target = tmp_path / "session.html"
    result = scene.sessions("export", scene.session[:20], "--format", "html", "-o", str(target))
    assert (result.returncode, result.stdout) == (0, "")
    assert f"Wrote {target}" in result.stderr
    text = target.read_text()
    page = Page(text)
    assert page.open == []
    for piece in (
        FIRST,
        ANSWER.partition("`")[0],
        "cat parser.py",
        "exit 3 · ",
        "approved by elicitation",
        "model_error",
    ):
        assert piece in page.text
    assert '<span class="del">-    found = []\n</span>' in text
    assert {"details", "summary", "svg", "rect"} <= page.tags
    assert "80" in page.text
    assert page.tags.isdisjoint({"script", "link", "img", "iframe", "object", "form"})
    assert page.attributes.isdisjoint({"src", "onload", "onerror", "onclick", "style"})
    assert "url(" not in text
    assert re.findall(r"https?:", text) == []
    assert re.findall(r'href="([^#][^"]*)"', text) == []


def test_markdown_has_everything(scene: Scene) -> None:
    text = scene.sessions("export", scene.session, "--format", "markdown").stdout
    for piece in (
        f"# {FIRST}\n",
        "### User\n",
        ANSWER,
        "```sh\ncat parser.py\n```",
        "- [x] Find out",
        "-    found = []",
    ):
        assert piece in text
    assert text.count("```diff") == 2
    assert len(re.findall(r"^```", text, re.MULTILINE)) % 2 == 0


@pytest.fixture
def hostile(server: StartServer, model: ScriptedModel, tmp_path: Path) -> str:
    """A session that holds it wherever somebody else decides."""
    command = json.dumps({"command": ["printf", "%s", HOSTILE]})
    patch = f"*** Begin Patch\n*** Add File: new.txt\n+{HOSTILE}\n*** End Patch\n"
    model.add(
        call_tools(("c1", "shell", command), text=HOSTILE),
        call_tools(("c2", "apply_patch", json.dumps({"input": patch}))),
        call_tools(("c3", HOSTILE, HOSTILE)),
        say(f"{HOSTILE}\n\n```\n{HOSTILE}\n```\n"),
    )
    return opened(server(), HOSTILE, title=HOSTILE, cwd=str(tmp_path))


def test_nothing_that_a_session_holds_becomes_part_of_the_page(home: Path, hostile: str) -> None:
    text = sessions(home, "export", hostile, "--format", "html").stdout
    page = Page(text)
    assert page.open == []
    assert page.tags.isdisjoint({"script", "img"})
    assert page.text.count('<script>document.title="owned"</script>') >= 6
    assert set("\x1b\x07").isdisjoint(text)
    assert "Content-Security-Policy" in text


def test_nothing_that_a_session_holds_becomes_html_of_the_markdown(home: Path, hostile: str) -> None:
    text = sessions(home, "export", hostile, "--format", "markdown").stdout
    outside = re.sub(r"^(`{3,})\w*\n.*?^\1$", "", text, flags=re.MULTILINE | re.DOTALL)
    assert "owned" in outside
    assert re.findall(r"(?<!\\)<\w", outside) == []
    assert set("\x1b\x07").isdisjoint(text)


def test_what_is_written_to_hold_up_an_export_does_not(
    server: StartServer, home: Path, model: ScriptedModel, tmp_path: Path
) -> None:
    model.add(say("```open\n" * 150_000), say("\n" * 600_000 + "end"), say("```py\nblock\n```\nafter"))
    session = opened(server(), "many fences", cwd=str(tmp_path))
    process = server()
    reply(process, session, "many lines")
    reply(process, session, "code")
    page = sessions(home, "export", session, "--format", "html").stdout
    assert '<pre class="given">block\n</pre>\n<p class="said">after</p>' in page
    assert "after" in sessions(home, "export", session, "--format", "markdown").stdout


def test_a_browser_shows_the_page_and_runs_nothing(home: Path, hostile: str, tmp_path: Path) -> None:
    target = tmp_path / "page.html"
    sessions(home, "export", hostile, "--format", "html", "-o", str(target))
    shown = dom(target.as_uri(), tmp_path / "profile")
    assert "<title>owned" not in shown
    assert "<script" not in shown
    assert 'class="chart"' in shown


def test_a_file_that_cannot_be_written_is_told(scene: Scene, tmp_path: Path) -> None:
    target = tmp_path / "missing" / "session.html"
    result = scene.sessions("export", scene.session, "--format", "html", "-o", str(target))
    assert result.returncode == 1
    assert f"{target} cannot be written: No such file or directory" in result.stderr


@pytest.mark.parametrize("form", ["jsonl", "markdown", "html"])
def test_no_export_takes_the_place_of_the_database_or_of_a_device(scene: Scene, tmp_path: Path, form: str) -> None:
    database = scene.home / "codexdb" / "codexdb.sqlite3"
    link, pipe = tmp_path / "link", tmp_path / "pipe"
    link.symlink_to(database)
    for own in (database, link, database.with_name(f"{database.name}-wal")):
        refused = scene.sessions("export", scene.session, "--format", form, "-o", str(own))
        assert refused.returncode == 1
        assert f"{own} belongs to the database" in refused.stderr
    assert scene.sessions("show", scene.session).returncode == 0
    os.mkfifo(pipe)
    with subprocess.Popen(["/bin/cat", pipe], stdout=subprocess.PIPE, text=True) as reader:
        assert scene.sessions("export", scene.session, "--format", form, "-o", str(pipe)).returncode == 0
        read, _ = reader.communicate(timeout=TIMEOUT_S)
    assert FIRST in read
    assert pipe.is_fifo()


@pytest.mark.parametrize("form", ["jsonl", "markdown", "html"])
def test_an_exported_file_is_for_its_owner_alone(scene: Scene, tmp_path: Path, form: str) -> None:
    target = tmp_path / "session"
    assert scene.sessions("export", scene.session, "--format", form, "-o", str(target)).returncode == 0
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_a_session_without_turns_is_a_page_too(server: StartServer, home: Path) -> None:
    made = server().call_tool("conversation_create", {})["structuredContent"]["conversation_id"]
    for form in ("html", "markdown"):
        assert "A session without a message" in sessions(home, "export", made, "--format", form).stdout


def test_the_top_of_a_scale_reads_well() -> None:
    assert [nice(each) for each in (1, 16, 99, 101, 17_537)] == [2, 20, 100, 200, 20_000]


def test_commands_are_shown_as_they_would_be_typed(server: StartServer, home: Path, model: ScriptedModel) -> None:
    model.add(call_tools(shell("c1", "echo", "two words")), say("ok"))
    session = opened(server(), "go")
    assert "<code>echo &#x27;two words&#x27;</code>" in sessions(home, "export", session, "--format", "html").stdout
