"""The inspector's pages: Datasette over the database, read-only, and each session as its transcript."""

# Datasette has no types.
# pyright: reportMissingTypeStubs=false
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false

import re
import secrets
import socket
import sqlite3
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
import anyio.to_thread
import uvicorn
from datasette.app import Datasette
from datasette.database import Database, QueryInterrupted
from datasette.hookspecs import hookimpl
from datasette.plugins import pm
from datasette.utils.asgi import Request, Response
from datasette.views.base import DatasetteError
from markupsafe import Markup

from codexdb.cli import schema_told
from codexdb.cli.transcript_html import as_html
from codexdb.domain.errors import InvalidArgumentsError
from codexdb.service.transcript import read_transcript
from codexdb.store import search, text_index
from codexdb.store.database import Store
from codexdb.store.pragmas import read_only_uri

NAME = "codexdb"
"""What the database is called in addresses, whatever its file is called."""
ENTRANCE = "/-/enter"
_MATCH = "as_match"
_STYLE_AT = "/-/codexdb.css"

_OWNER = {"id": "owner"}
_QUERY_MS = 5_000  # what a query may take: as long as it runs, the WAL cannot be reset
_LAST_PAGES_S = 2  # what is being loaded when the end comes may take this long
_BREAK_OFF_S = 0.02  # between two looks for queries that were about to begin
_SESSION_COLUMNS = {"session", "forked_from"}
_ID = re.compile(r"[0-9a-f-]{36}")
_NEWEST_FIRST = ("id", "updated_at_ms", "ended_at_ms")  # a table or view is sorted by the first of these that it has
_HIDDEN = ("alembic_version", "search", *text_index.SHADOWS)
_STYLE = """\
dl.column-descriptions { display: none; }
td a[href^="/session/"] { white-space: nowrap; }
"""  # rows come first: each column's menu tells what it holds
_SESSIONS = f"/{NAME}/session_overview?" + "&".join(
    f"_col={name}" for name in ("session", "title", "state", "turns", "total_tokens", "cwd", "updated_at")
)
_WELCOME = f"""\
<p><a href="{escape(_SESSIONS)}">Sessions</a>, the last used first · <a href="/{NAME}/running_turns">at work</a> ·
<a href="/{NAME}/pending_approvals">waiting for an answer</a> · <a href="/{NAME}/failed_turns">failed turns</a> ·
<a href="/{NAME}/ask_token_usage">tokens</a> · <a href="/{NAME}/tool_call_log">calls</a></p>
<form action="/{NAME}/ask_search"><p><input type="search" name="words" size="40" aria-label="Words"
placeholder="Words that were said, or called"> <input type="submit" value="Find"></p></form>
<p>The id of a session leads to its transcript. All of this reads only, and servers may be at work meanwhile.</p>"""


def server(store: Store, key: str, cookie: str) -> "Server":
    """What serves the pages to whoever came through `ENTRANCE` with the key: it is then kept in that cookie."""
    datasette = Datasette(
        [],
        metadata=_metadata(),
        settings={"sql_time_limit_ms": _QUERY_MS, "suggest_facets": False, "allow_download": False},
    )
    datasette.remove_database("_memory")
    # Datasette would have rich print each bad query's stack to stdout, with the key among its variables.
    setattr(pm.get_plugin("datasette.handle_exception"), "rich", None)  # noqa: B010 - an attribute of a module
    database = _ReadOnly(datasette, store.path)
    datasette.add_database(database, name=NAME)
    pm.register(_Pages(store, key, cookie))
    return Server(
        uvicorn.Config(datasette.app(), log_level="warning", access_log=False, timeout_graceful_shutdown=_LAST_PAGES_S),
        database,
    )


class Server(uvicorn.Server):
    """uvicorn, which says when it answers, and leaves signals to us: it would end us before the database is closed."""

    def __init__(self, config: uvicorn.Config, database: "_ReadOnly") -> None:
        super().__init__(config)
        self.answers = anyio.Event()
        self._database = database

    async def end(self) -> None:
        """Take no more requests, and break off queries until this is cancelled: the process would wait for them."""
        self.should_exit = True
        while True:
            self._database.interrupt()
            await anyio.sleep(_BREAK_OFF_S)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.answers.set()

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


class _ReadOnly(Database):
    """The file as all our readers open it."""

    def __init__(self, datasette: Datasette, path: Path) -> None:
        super().__init__(datasette, str(path))
        self._uri = read_only_uri(path)
        self._ended = False

    def connect(self, write: bool = False) -> sqlite3.Connection:  # noqa: FBT001, FBT002 - its signature
        if write:
            raise sqlite3.OperationalError("the inspector only reads")
        connection = sqlite3.connect(self._uri, uri=True, check_same_thread=False)
        connection.create_function(_MATCH, 1, _match, deterministic=True)
        self._all_file_connections.append(connection)
        return connection

    def interrupt(self) -> None:
        """Break off what is being asked now, and let nothing more be asked."""
        self._ended = True
        for connection in self._all_file_connections:
            connection.interrupt()

    async def execute_fn(self, fn: Callable[[sqlite3.Connection], object]) -> object:
        """A query that waited for its turn does not begin any more: the event loop would then wait for its connection,
        to free what was broken off on it.
        """

        def unless_ended(connection: sqlite3.Connection) -> object:
            if self._ended:
                raise _closing()
            return fn(connection)

        return await super().execute_fn(unless_ended)

    async def execute(self, *args: Any, log_sql_errors: bool = False, **more: Any) -> object:  # noqa: ARG002 - as declared
        """A query's error is told on its page, and not on the terminal, too."""
        try:
            return await super().execute(*args, log_sql_errors=False, **more)
        except QueryInterrupted:
            if self._ended:
                raise _closing() from None
            raise


def _closing() -> DatasetteError:
    """An error that is told without a stack."""
    return DatasetteError("The inspector is being closed.", status=503)


def _match(words: str | None) -> str:
    """Words that somebody typed as an expression of FTS5, as all our searches take them; none find nothing."""
    try:
        return search.match(words or "")
    except InvalidArgumentsError:
        return '""'


class _Pages:
    """What is ours among Datasette's pages."""

    __name__ = "codexdb"  # of a plugin

    def __init__(self, store: Store, key: str, cookie: str) -> None:
        self._store = store
        self._key = key
        self._cookie = cookie

    @hookimpl
    def register_routes(self) -> list[tuple[str, Callable[..., Awaitable[Response]]]]:
        return [
            (rf"^{ENTRANCE}$", self._enter),
            (rf"^{_STYLE_AT}$", self._style),
            (r"^/$", self._first),
            (r"^/session/(?P<session>[^/]+)$", self._session),
        ]

    @hookimpl
    def actor_from_request(self, request: Request) -> dict[str, str] | None:
        return _OWNER if self._is_key(request.cookies.get(self._cookie)) else None

    @hookimpl
    def forbidden(self) -> Response:
        return Response.html("<p>Open the link that <code>codexdb inspect</code> has printed.</p>", status=403)

    @hookimpl
    def render_cell(self, value: object, column: str, table: str | None) -> Markup | None:
        named = column in _SESSION_COLUMNS or (table == "sessions" and column == "public_id")
        if not named or not isinstance(value, str) or _ID.fullmatch(value) is None:
            return None
        return Markup('<a href="/session/{0}">{0}</a>').format(value)

    def _is_key(self, given: str | None) -> bool:
        return given is not None and secrets.compare_digest(given.encode(), self._key.encode())

    async def _enter(self, request: Request) -> Response:
        if not self._is_key(request.args.get("key")):
            return self.forbidden()
        session = request.args.get("session")
        response = Response.html(_going_on("/" if session is None else f"/session/{quote(session, safe='')}"))
        response.set_cookie(self._cookie, self._key, httponly=True, samesite="strict")
        return response

    async def _style(self) -> Response:
        return Response(_STYLE, content_type="text/css")

    async def _first(self, datasette: Datasette, request: Request) -> Response:
        await datasette.ensure_permissions(request.actor, ["view-instance"])
        return Response.redirect(f"/{NAME}")

    async def _session(self, datasette: Datasette, request: Request) -> Response:
        await datasette.ensure_permissions(request.actor, ["view-instance"])
        session = request.url_vars["session"]
        transcript = await read_transcript(self._store.readers, session)
        if transcript is None:
            return Response.html(f"<p>There is no session {escape(session)}.</p>", status=404)
        return Response.html(await anyio.to_thread.run_sync(as_html, transcript, _way_back(transcript.session_id)))


def _going_on(to: str) -> str:
    """A page that leads there by itself. Behind a redirect the browser would still be on its way from another site, and
    keep the cookie back, which no other site may make it send: a question can take all of the machine.
    """
    return (
        '<!doctype html>\n<meta name="referrer" content="no-referrer">\n'
        f'<meta http-equiv="refresh" content="0; url={escape(to)}">\n<a href="{escape(to)}">Go on</a>\n'
    )


def _way_back(session: str) -> str:
    """Links above a transcript: to the sessions, and to the rows that it is made of."""
    rows = "".join(
        f' <a href="/{NAME}/{view}?session={quote(session)}">{view}</a>'
        for view in ("turn_overview", "tool_call_log", "token_usage")
    )
    return f'<nav><a href="{escape(_SESSIONS)}">All sessions</a>{rows}</nav>\n'


def _metadata() -> dict[str, object]:
    """Names and meanings, and the queries that people ask."""
    told = list(schema_told.every())
    tables: dict[str, object] = {
        each.name: {
            "description": each.about,
            "columns": {name: meaning for name, _, meaning in each.columns},
            **_order([name for name, *_ in each.columns]),
        }
        for each in told
    }
    queries = [(each.name, each.about, each.example) for each in told if each.kind == "view"]
    by_words = text_index.EXAMPLE.replace(":words", f"{_MATCH}(:words)")
    queries.append(("search", "Messages and commands, by their words.", by_words))
    return {
        "title": "codexdb",
        "allow": _OWNER,
        "extra_css_urls": [_STYLE_AT],
        "databases": {
            NAME: {
                "description_html": _WELCOME,
                "tables": tables | {name: {"hidden": True} for name in _HIDDEN},
                "queries": {
                    f"ask_{name}": {"sql": sql, "title": about.rstrip("."), "hide_sql": True}
                    for name, about, sql in queries
                },
            }
        },
    }


def _order(columns: list[str]) -> dict[str, str]:
    found = [name for name in _NEWEST_FIRST if name in columns]
    return {"sort_desc": found[0]} if found else {}
