"""How fast a big database is looked at: `python -m tests.bench.inspection FILE [--runs 31]`, FILE by `big_database`.

Everything warm; medians in milliseconds, with the budget where there is one, and how much of it is used. In the store,
then through a real server, which works a turn on the file at the end: it is not left as it was. Views are asked for the
last days that are in the file, whatever today is.
"""

import argparse
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import anyio

from codexdb.cli.transcript_view import as_text
from codexdb.service.transcript import read_transcript
from codexdb.store import listing, queries, search
from codexdb.store.pragmas import read_only_uri
from codexdb.store.readers import Readers
from codexdb.store.views import VIEWS
from codexdb.testing.scripted_model import ScriptedModel
from codexdb.testing.server_process import write_config
from tests.bench.vocabulary import COMMON, RARE, VERY_COMMON
from tests.bench.wire import Pipe

RUNS = 31
STARTS = 7  # of whole processes
LIST_MS, SEARCH_MS, SHOW_MS = 2, 50, 150  # what each may take
NEWEST = 2**62
WORDS = {
    "a rare word": RARE,
    "a common word": COMMON,
    "a very common word": VERY_COMMON,
    "two words, one common": f"{VERY_COMMON} {COMMON}",
    "two very common words": f"{VERY_COMMON} file",
    "rare with very common": f"{VERY_COMMON} {RARE}",
    "a phrase": f'"of {VERY_COMMON}"',
    "the beginning of a word": f"{COMMON[:4]}*",
    "the beginning of very many": "bab*",
    "a word that is nowhere": "nowherewhatsoever",
}


class Table:
    """Lines of what took how long; whether every budget was kept."""

    def __init__(self, runs: int) -> None:
        self.runs = runs
        self.kept = True
        self._write(f"{'ms':54}{'median':>9}{'worst':>9}{'budget':>8}{'used':>7}\n")

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    def head(self, text: str) -> None:
        self._write(f"{text}\n")

    def line(self, name: str, spans: list[float], budget_ms: float | None = None) -> None:
        median = statistics.median(spans) * 1_000
        told = f"  {name:52}{median:9.2f}{max(spans) * 1_000:9.2f}"
        if budget_ms is not None:
            self.kept &= median <= budget_ms
            told += f"{budget_ms:8}{median / budget_ms:7.0%}  {'kept' if median <= budget_ms else 'MISSED'}"
        self._write(f"{told}\n")

    def time(self, name: str, work: Callable[[], object], budget_ms: float | None = None, runs: int = 0) -> None:
        spans: list[float] = []
        for _ in range((runs or self.runs) + 1):
            began = time.perf_counter()
            work()
            spans.append(time.perf_counter() - began)
        self.line(name, spans[1:], budget_ms)  # the first one warms up

    async def time_reads(self, name: str, work: Callable[[], Awaitable[object]], budget_ms: float | None) -> None:
        spans: list[float] = []
        for _ in range(self.runs + 1):
            began = time.perf_counter()
            await work()
            spans.append(time.perf_counter() - began)
        self.line(name, spans[1:], budget_ms)


class File:
    """What of the file is asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sessions = int(self._one("SELECT count(*) FROM sessions"))
        self.long = self._one(
            "SELECT public_id FROM sessions WHERE next_item_seq > 10000 ORDER BY next_item_seq LIMIT 1"
        )
        self.cwd = self._one("SELECT cwd FROM sessions LIMIT 1")
        self.middle_ms = int(self._one(f"SELECT updated_at_ms FROM sessions WHERE id = {self.sessions // 2}"))  # noqa: S608
        self.days = self._one("SELECT date(max(created_at_ms) / 1000, 'unixepoch', '-7 days') FROM turns")

    def _one(self, query: str) -> str:
        with closing(sqlite3.connect(read_only_uri(self.path), uri=True)) as connection:
            return str(connection.execute(query).fetchone()[0])

    def asked(self, query: str) -> str:
        query = query.replace("date('now', '-7 days')", f"'{self.days}'").replace(":session", f"'{self.long}'")
        return query.replace("notes durable", f"{VERY_COMMON} {COMMON}")


async def in_the_store(table: Table, file: File) -> None:
    readers = Readers(file.path)
    before = partial(listing.sessions_before, readers, limit=25)
    newest = partial(before, NEWEST, NEWEST)
    table.head(f"25 of {file.sessions:,} sessions")
    await table.time_reads("the newest", newest, LIST_MS)
    await table.time_reads("archived ones too", partial(newest, archived=True), LIST_MS)
    await table.time_reads("of one directory", partial(newest, cwd=file.cwd), LIST_MS)
    await table.time_reads("of no directory", partial(newest, cwd="/nowhere"), LIST_MS)
    await table.time_reads("from the middle on", partial(before, file.middle_ms, NEWEST), LIST_MS)
    listed = partial(listing.listed, readers, archived=False, cwd=None, before=None, limit=25)
    await table.time_reads("as `sessions list` has them", listed, LIST_MS)
    table.head("search")
    for name, words in WORDS.items():
        found = partial(search.sessions, readers, words, before=None, limit=25, archived=False, cwd=None)
        await table.time_reads(f"hits: {name}", partial(search.hits, readers, words, before=None, limit=25), SEARCH_MS)
        await table.time_reads(f"best: {name}", partial(search.best_hits, readers, words, limit=25), SEARCH_MS)
        await table.time_reads(f"sessions: {name}", found, SEARCH_MS)
    table.head("a session of 10,000 items")
    await table.time_reads("read and built", partial(read_transcript, readers, file.long), SHOW_MS)
    for width in (100, None):
        name = "read, built and shown " + ("as plain text" if width is None else "on a terminal")
        await table.time_reads(name, partial(_show, readers, file.long, width), SHOW_MS)
    await readers.close()


async def _show(readers: Readers, session: str, width: int | None) -> str:
    transcript = await read_transcript(readers, session)
    assert transcript is not None
    return as_text(transcript, transcript.turns, width=width)


def by_sql(table: Table, file: File) -> None:
    shown = {f"view {view.name}": view.example for view in VIEWS}
    shown |= {name: str(value) for name, value in vars(queries).items() if str(value).startswith("SELECT")}
    table.head("queries that are shown, as `db sql` runs them")
    for name, query in shown.items():
        table.time(name, partial(queries.ask, file.path, file.asked(query), 1_000))


def through_a_server(table: Table, file: File) -> None:
    with tempfile.TemporaryDirectory() as folder, ScriptedModel() as model:
        write_config(Path(folder), model.base_url, "responses")
        command = [sys.executable, "-m", "codexdb", "serve", "--db", str(file.path)]
        pipe = Pipe(command, Path(folder))
        pipe.initialize()
        calls = iter(range(1, 1_000_000))

        def call(tool: str, **given: object) -> object:
            return pipe.call(next(calls), tool, **given)

        table.head("through a server")
        table.time("conversations_list", lambda: call("conversations_list"))
        for word in (RARE, COMMON, VERY_COMMON):
            table.time(f"conversations_list, search {word}", lambda word=word: call("conversations_list", search=word))
        read = partial(call, "conversation_read", conversation_id=file.long)
        table.time("conversation_read, 25 events", lambda: read(limit=25))
        table.time("conversation_read, the last 25 events", lambda: read(limit=25, after_seq=15_000))
        table.time("conversation_read, 1,000 events and items", lambda: read(limit=1_000, include_items=True))
        pipe.process.kill()
        pipe.process.wait()
        table.time("start to a turn's first event", partial(_first_event, command, folder), runs=STARTS)
        command[-1] = str(Path(folder) / "new.sqlite3")
        table.time("the same, in a file of its own", partial(_first_event, command, folder), runs=STARTS)


def _first_event(command: list[str], home: str) -> None:
    pipe = Pipe(command, Path(home))
    pipe.initialize()
    pipe.send({"id": 1, "method": "tools/call", "params": {"name": "codex", "arguments": {"prompt": "hi"}}})
    pipe.wait(lambda message: message.get("method") == "codex/event")
    pipe.wait(lambda message: message.get("id") == 1)
    pipe.process.kill()
    pipe.process.wait()


def main() -> None:
    """Measure, print; exit code 1 where a budget was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--runs", type=int, default=RUNS)
    options = parser.parse_args()
    file, table = File(options.file), Table(options.runs)
    anyio.run(in_the_store, table, file)
    by_sql(table, file)
    through_a_server(table, file)
    raise SystemExit(not table.kept)


if __name__ == "__main__":
    main()
