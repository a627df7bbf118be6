"""`codexdb inspect`: the database in a browser, for nobody else, and read-only."""

import json
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from importlib.util import find_spec
from pathlib import Path

import httpx2
import pytest

from codexdb.cli import schema_told
from codexdb.store.tables import metadata
from codexdb.store.views import VIEWS
from codexdb.testing.model_script import say
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import StartServer
from tests.process.browser import dom
from tests.process.command import argv, in_home, on_file, run
from tests.process.scene import ANSWER, FIRST, Scene, playing
from tests.process.talking import opened, reply, rows, until

# Not imported here: it changes how sqlite3 treats exceptions in the whole process.
pytestmark = pytest.mark.skipif(find_spec("datasette") is None, reason="the extra `inspect` is not installed")

HOSTILE = '<script>document.title="owned"</script>'
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
START_S = 30
SOON_S = 10
FRONT = "/codexdb"


@dataclass(frozen=True, slots=True)
class Inspector:
    """One that serves."""

    process: subprocess.Popen[str]
    address: str
    base: str

    def client(self) -> httpx2.Client:
        """A browser that has not come through the printed address."""
        return httpx2.Client(base_url=self.base, timeout=SOON_S, trust_env=False)

    @contextmanager
    def inside(self) -> Generator[httpx2.Client]:
        """One that has."""
        with self.client() as client:
            client.get(self.address).raise_for_status()
            yield client


@contextmanager
def inspecting(env: dict[str, str], *arguments: str) -> Generator[Inspector]:
    """`codexdb inspect --json …`, ended as a person ends it; that it takes that well is part of every test."""
    with subprocess.Popen(
        argv("inspect", "--json", *arguments), env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            address = str(json.loads(line)["address"])
            assert address.startswith("http://127.0.0.1:")
            yield Inspector(process, address, address.partition("/-/")[0])
            process.send_signal(signal.SIGINT)
            assert process.wait(START_S) == 0
            assert process.stderr.read() == ""
        finally:
            process.kill()


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with playing(tmp_path_factory.mktemp("scene")) as played:
        yield played


@pytest.fixture(scope="module")
def inspector(scene: Scene) -> Iterator[Inspector]:
    with inspecting(in_home(scene.home)) as found:
        yield found


# -- who is let in -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/", FRONT, f"{FRONT}.json", f"{FRONT}/sessions", f"{FRONT}?sql=select+1", "/-/databases"]
)
def test_nobody_comes_in_without_the_key(inspector: Inspector, path: str) -> None:
    with inspector.client() as client:
        for cookie in ("", "x", "%80"):
            shown = client.get(path, headers={"Cookie": f"{_cookie(inspector)}={cookie}"})
            assert shown.status_code == 403
            assert "codexdb inspect" in shown.text
        assert client.get("/-/enter?key=x").status_code == 403


def test_a_transcript_is_not_shown_without_the_key(inspector: Inspector, scene: Scene) -> None:
    with inspector.client() as client:
        shown = client.get(f"/session/{scene.session}")
    assert shown.status_code == 403
    assert FIRST not in shown.text


def test_the_key_is_kept_from_scripts_and_from_the_addresses_of_pages(inspector: Inspector) -> None:
    with inspector.client() as client:
        for _ in range(2):  # the printed address serves as often as it is opened
            entered = client.get(inspector.address)
            assert 'content="0; url=/"' in entered.text
            assert "httponly" in entered.headers["set-cookie"].lower()
            assert "samesite=strict" in entered.headers["set-cookie"].lower()


def _cookie(inspector: Inspector) -> str:
    return f"codexdb-inspect-{inspector.base.rpartition(':')[2]}"


# -- what is shown -----------------------------------------------------------------------------------------------------


def test_the_front_page_leads_to_everything(inspector: Inspector) -> None:
    with inspector.inside() as client:
        page = client.get("/", follow_redirects=True)
        assert page.url.path == FRONT
        for view in VIEWS:
            assert f'href="{FRONT}/{view.name}"' in page.text
            assert escape(view.about.rstrip(".")) in page.text
        for table in metadata.tables:
            assert f'href="{FRONT}/{table}"' in page.text
        for name in ("search_data", "search_idx", "alembic_version"):
            assert f'href="{FRONT}/{name}"' not in page.text
        links = set(re.findall(r'href="(/[^"]*)"', page.text))
        assert len(links) > 25
        for link in links:
            shown = client.get(link.replace("&amp;", "&"), follow_redirects=True)
            assert shown.status_code == 200, link


@pytest.mark.parametrize("told", list(schema_told.every()), ids=lambda told: told.name)
def test_each_table_and_view_says_what_it_is_and_sorts_the_newest_first(
    inspector: Inspector, told: schema_told.Told
) -> None:
    with inspector.inside() as client:
        page = client.get(f"{FRONT}/{told.name}").text
        data = client.get(f"{FRONT}/{told.name}.json?_shape=array&_size=50").json()
    assert escape(told.about).replace("&#x27;", "&#39;") in page
    for by in ("id", "updated_at_ms"):
        if data and by in data[0]:
            assert [row[by] for row in data] == sorted((row[by] for row in data), reverse=True)
            break


def test_the_queries_answer(inspector: Inspector, scene: Scene) -> None:
    with inspector.inside() as client:
        for view in VIEWS:
            asked = client.get(f"{FRONT}/ask_{view.name}.json", params={"session": scene.session, "_shape": "objects"})
            assert asked.json()["ok"] is True, view.name
        found = client.get(f"{FRONT}/ask_search.json", params={"words": "parser", "_shape": "array"}).json()
    assert {row["session"] for row in found} == {scene.session}
    assert "[parser]" in found[0]["found"]


@pytest.mark.parametrize("words", ["strip-each", "don't", '"', "AND", "test_parser.py (NEAR", "*", "", "a*"])
def test_words_are_words_and_no_syntax(inspector: Inspector, words: str) -> None:
    with inspector.inside() as client:
        found = client.get(f"{FRONT}/ask_search.json", params={"words": words, "_shape": "array"})
    assert found.status_code == 200, found.text


def test_a_session_leads_to_its_transcript(inspector: Inspector, scene: Scene) -> None:
    with inspector.inside() as client:
        for page in ("/codexdb/session_overview", "/codexdb/sessions", "/codexdb/ask_session_overview"):
            assert f'<a href="/session/{scene.session}">' in client.get(page).text
        shown = client.get(f"/session/{scene.session}")
        for piece in (FIRST, ANSWER.partition("`")[0], "cat parser.py", 'class="chart"'):
            assert piece in shown.text
        nav = re.findall(r'href="(/[^"]*)"', shown.text)
        assert len(nav) == 4
        for link in nav:
            assert client.get(link.replace("&amp;", "&")).status_code == 200
        missing = client.get("/session/<script>")
    assert missing.status_code == 404
    assert "<script>" not in missing.text


def test_what_a_server_commits_is_seen_at_once(
    server: StartServer, home: Path, model: ScriptedModel, database: Path
) -> None:
    model.add(say("one"), say("two"))
    process = server()
    session = opened(process, "first words")
    with inspecting(in_home(home)) as inspector, inspector.inside() as client:
        assert "second words" not in client.get(f"/session/{session}").text
        reply(process, session, "second words")
        assert "second words" in client.get(f"/session/{session}").text
        turns = client.get(f"{FRONT}/turn_overview.json?_shape=array").json()
        assert [turn["turn_number"] for turn in turns] == [2, 1]
    assert rows(database, "SELECT count(*) FROM turns") == [(2,)]


def test_nothing_that_a_session_holds_becomes_part_of_a_page(
    server: StartServer, home: Path, model: ScriptedModel
) -> None:
    model.add(say(HOSTILE))
    session = opened(server(), HOSTILE, title=HOSTILE)
    with inspecting(in_home(home)) as inspector, inspector.inside() as client:
        for page in ("session_overview", "turn_overview", "transcript", "items", "events", "ask_search?words=owned"):
            shown = client.get(f"{FRONT}/{page}")
            assert shown.status_code == 200
            assert HOSTILE not in shown.text
            assert "owned" in shown.text
        assert HOSTILE not in client.get(f"/session/{session}").text


# -- what is not to be done --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    ["DELETE FROM items", "PRAGMA query_only=0", "ATTACH 'x' AS y", "INSERT INTO search(search) VALUES('rebuild')"],
)
def test_nothing_can_be_written(inspector: Inspector, query: str) -> None:
    with inspector.inside() as client:
        refused = client.get(f"{FRONT}.json", params={"sql": query})
    assert refused.status_code == 400
    assert refused.json()["ok"] is False


def test_the_file_itself_is_not_handed_out(inspector: Inspector) -> None:
    with inspector.inside() as client:
        assert client.get("/codexdb.db").status_code == 403
        assert client.get("/_internal").status_code == 403


def test_a_query_that_takes_too_long_is_ended(inspector: Inspector) -> None:
    with inspector.inside() as client:
        refused = client.get(f"{FRONT}.json", params={"sql": ENDLESS, "_timelimit": 20})
    assert refused.status_code == 400
    assert "Interrupted" in refused.json()["title"]


# -- the command -------------------------------------------------------------------------------------------------------


def test_a_session_can_be_named(scene: Scene) -> None:
    with inspecting(in_home(scene.home), scene.session[:24]) as inspector, inspector.client() as client:
        assert f'content="0; url=/session/{scene.session}"' in client.get(inspector.address).text


def test_a_file_of_any_name_can_be_looked_at(scene: Scene, tmp_path: Path) -> None:
    copy = tmp_path / "a?b#c%20d 'e'.sqlite3"
    assert run(argv("db", "backup", copy), in_home(scene.home)).returncode == 0
    with inspecting(on_file(copy)) as inspector, inspector.inside() as client:
        assert scene.session in client.get(f"{FRONT}/sessions").text


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGHUP])
def test_every_ending_is_an_orderly_one(scene: Scene, end: signal.Signals) -> None:
    with inspecting(in_home(scene.home)) as inspector:
        inspector.process.send_signal(end)
        assert inspector.process.wait(START_S) == 0


def test_queries_under_way_do_not_hold_up_the_end(scene: Scene) -> None:
    askers, told = 5, list[int]()  # more than are worked on at once
    entered = threading.Barrier(askers + 1)

    def ask(inspector: Inspector) -> None:
        with inspector.inside() as client:
            entered.wait(START_S)
            told.append(client.get(f"{FRONT}.json", params={"sql": ENDLESS}).status_code)

    with inspecting(in_home(scene.home)) as inspector:
        threads = [threading.Thread(target=ask, args=(inspector,)) for _ in range(askers)]
        for each in threads:
            each.start()
        entered.wait(START_S)
        before = _computed(inspector)
        until(lambda: _computed(inspector) > before + 100, "a second of computing")
        inspector.process.send_signal(signal.SIGTERM)
        assert inspector.process.wait(3) == 0
        for each in threads:
            each.join()
    assert told == [503] * askers


def _computed(inspector: Inspector) -> int:
    """Hundredths of a second."""
    fields = Path(f"/proc/{inspector.process.pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11])


def test_the_key_is_no_argument_of_the_browser(scene: Scene, tmp_path: Path) -> None:
    browser, seen = tmp_path / "browser", tmp_path / "seen"
    browser.write_text(
        '#!/bin/sh\nfile="${1#file://}"\n'
        f'{{ echo "$1"; stat -c %a "$file"; cat "$file"; }} > {seen}.part\nmv {seen}.part {seen}\n'
    )
    browser.chmod(0o700)
    with inspecting(in_home(scene.home) | {"BROWSER": f"{browser} %s"}, "--open") as inspector:
        until(seen.exists, "the browser")
        argument, mode, page = seen.read_text().split("\n", 2)
        assert argument.startswith("file:///")
        assert mode == "600"
        assert f"url={escape(inspector.address)}" in page
        opened_page = Path(argument.removeprefix("file://"))
        assert opened_page.exists()
    assert not opened_page.exists()


def test_a_person_is_told_where_to_look(scene: Scene) -> None:
    with subprocess.Popen(
        argv("inspect"), env=in_home(scene.home), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            assert re.fullmatch(r"http://127\.0\.0\.1:\d+/-/enter\?key=\S+\n", process.stdout.readline())
            assert "Ctrl-C ends it" in process.stderr.readline()
        finally:
            process.kill()


def test_a_port_that_is_taken_is_told(scene: Scene) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = run(argv("inspect", "--port", str(port)), in_home(scene.home))
    assert refused.returncode == 1
    assert f"port {port} cannot be used: Address already in use; name another by --port" in refused.stderr


def test_what_cannot_be_shown_is_told(scene: Scene, tmp_path: Path) -> None:
    assert "There is no session 9" in run(argv("inspect", "9"), in_home(scene.home)).stderr
    missing = run(argv("inspect"), on_file(tmp_path / "none.sqlite3"))
    assert (missing.returncode, missing.stdout) == (1, "")
    assert "There is no database at" in missing.stderr


def test_without_datasette_the_way_to_it_is_told(scene: Scene) -> None:
    code = "import sys; sys.modules['datasette'] = None; from codexdb.__main__ import main; main()"
    refused = run([sys.executable, "-c", code, "inspect"], in_home(scene.home))
    assert refused.returncode == 1
    assert "pip install 'codexdb[inspect]'" in refused.stderr


# -- in a browser ------------------------------------------------------------------------------------------------------


def test_a_browser_shows_the_front_page(inspector: Inspector, tmp_path: Path) -> None:
    shown = dom(inspector.address, tmp_path / "profile")
    assert "<title>codexdb</title>" in shown
    assert "CodeMirror-line" in shown, "the field for SQL has come to life"
    assert "Every session, with how it stands" in shown


def test_a_browser_shows_a_transcript(scene: Scene, tmp_path: Path) -> None:
    with inspecting(in_home(scene.home), scene.session) as inspector:
        shown = dom(inspector.address, tmp_path / "profile")
    assert f"<h1>{FIRST}</h1>" in shown
    assert 'class="chart"' in shown
