"""Serving the inspector's pages on this machine, until a signal."""

import secrets
import signal
import socket
import sys
import tempfile
import webbrowser
from collections.abc import Generator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import anyio
import anyio.to_thread
import click

from codexdb.cli import screen
from codexdb.cli.finding import find_id
from codexdb.cli.opening import run_with_store
from codexdb.domain.json import encode
from codexdb.store.database import Store

if TYPE_CHECKING:
    from codexdb.cli.inspector import Server

LOOPBACK = "127.0.0.1"  # nobody else is let near: from elsewhere, a tunnel is the way


def run(db: str | None, session: str | None, *, port: int, browse: bool, as_json: bool) -> int:
    """Serve, and tell the address, of a session's page if one is named, once it answers; returns the exit code."""
    # Datasette would take pysqlite3 where it is installed: two SQLite libraries in a process drop each other's locks.
    sys.modules["pysqlite3"] = None  # pyright: ignore[reportArgumentType]
    try:
        from codexdb.cli import inspector
    except ImportError as error:
        raise click.ClickException("the inspector needs Datasette: pip install 'codexdb[inspect]'") from error

    async def serve(store: Store) -> None:
        key = secrets.token_urlsafe()
        query = {"key": key} if session is None else {"key": key, "session": await find_id(store.readers, session)}
        with _listening(port) as listener:
            at = listener.getsockname()[1]
            address = f"http://{LOOPBACK}:{at}{inspector.ENTRANCE}?{urlencode(query)}"
            server = inspector.server(store, key, cookie=f"codexdb-inspect-{at}")
            async with anyio.create_task_group() as group:
                group.start_soon(_end_on_signal, server)
                group.start_soon(_tell, server, address, browse, as_json)
                await server.serve(sockets=[listener])
                group.cancel_scope.cancel()

    run_with_store(db, serve)
    return 0


@contextmanager
def _listening(port: int) -> Generator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((LOOPBACK, port))
        except OSError as error:
            raise click.ClickException(
                f"port {port} cannot be used: {error.strerror}; name another by --port"
            ) from error
        yield listener


async def _end_on_signal(server: "Server") -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        await anext(signals)
        await server.end()  # further signals have nothing to add


async def _tell(server: "Server", address: str, browse: bool, as_json: bool) -> None:  # noqa: FBT001 - a task's arguments
    await server.answers.wait()
    if as_json:
        screen.write(f"{encode({'address': address})}\n")
    else:
        screen.write(f"{address}\n")
        screen.write("Open it in a browser of this machine. Ctrl-C ends it.\n", err=True)
    sys.stdout.flush()
    if browse:
        with _leading_to(address) as page:
            await anyio.to_thread.run_sync(webbrowser.open, page.as_uri())
            await anyio.sleep_forever()


@contextmanager
def _leading_to(address: str) -> Generator[Path]:
    """A page for nobody else that leads there: a browser's arguments, and the key in them, can be read by all users."""
    with tempfile.NamedTemporaryFile("w", prefix="codexdb-inspect-", suffix=".html", encoding="utf-8") as page:
        page.write(f'<!doctype html>\n<meta http-equiv="refresh" content="0; url={escape(address)}">\n')
        page.flush()
        yield Path(page.name)
