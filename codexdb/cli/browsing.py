"""Looking at sessions: which there are, and what happened in one."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import click

from codexdb.cli import screen, wording
from codexdb.cli.finding import find_id
from codexdb.cli.given import utf8
from codexdb.cli.opening import run_with_store
from codexdb.cli.target import written
from codexdb.cli.transcript_html import as_html
from codexdb.cli.transcript_markdown import as_markdown
from codexdb.cli.transcript_view import as_json, as_text
from codexdb.config.database import database_path
from codexdb.domain.errors import CodexDBError, SessionNotFoundError
from codexdb.domain.json import encode
from codexdb.domain.transcript import Transcript, Turn
from codexdb.service.transcript import read_transcript
from codexdb.store.database import Store
from codexdb.store.listing import ListedSession, listed

RENDERERS = {"markdown": as_markdown, "html": as_html}
"""The forms of an export that are made for readers."""

TITLE_CHARS = 48  # in a table


def show_list(
    db: str | None, *, archived: bool, cwd: Path | None, after: tuple[int, int] | None, limit: int, in_json: bool
) -> int:
    """Print a page of sessions, the last used first; returns the exit code."""
    directory = utf8(str(cwd.expanduser().resolve())) if cwd is not None else None

    async def read(store: Store) -> list[ListedSession]:
        return await listed(store.readers, archived=archived, cwd=directory, before=after, limit=limit + 1)

    rows = run_with_store(db, read)
    shown, more = rows[:limit], len(rows) > limit
    if in_json:
        names = [field.name for field in fields(ListedSession) if field.name != "key"]
        for row in shown:
            told = {name: getattr(row, name) for name in names} | {"cursor": row.cursor}
            screen.write(f"{encode(told)}\n")
        return 0
    if not shown:
        screen.write("No session.\n", err=True)
        return 0
    _print(shown)
    if more:
        screen.write(f"There are more: --after {shown[-1].cursor}\n", err=True)
    return 0


def _print(rows: Sequence[ListedSession]) -> None:
    console = screen.console()
    columns = ("session", "state", "turns", "last used (UTC)", "what")
    cells = [
        (
            row.session_id,
            row.state if row.archived_at_ms is None else "archived",
            row.turns,
            wording.moment(row.updated_at_ms),
            " ".join((row.title or "").split())[:TITLE_CHARS],
        )
        for row in rows
    ]
    if console.is_terminal:
        console.print(screen.table(columns, cells, ruled=True))
        return
    for line in (columns, *cells):
        screen.write(f"{screen.harmless(screen.tab_separated(line))}\n")


def show(db: str | None, session: str, *, turn: int | None, in_json: bool) -> int:
    """Print a session, or one turn of it; returns the exit code."""
    transcript, turns = read(db, session, turn)
    if in_json:
        screen.write("".join(f"{line}\n" for line in as_json(transcript, turns)))
    else:
        screen.page(as_text(transcript, turns, width=screen.width()))
    return 0


def read(db: str | None, session: str, turn: int | None = None) -> tuple[Transcript, Sequence[Turn]]:
    """A session and those turns of it that are asked for. Refusals are errors of the command."""

    async def find(store: Store) -> Transcript:
        session_id = await find_id(store.readers, session)
        transcript = await read_transcript(store.readers, session_id)
        if transcript is None:
            raise SessionNotFoundError(f"Session {session_id} was deleted just now.")
        return transcript

    transcript = run_with_store(db, find)
    if turn is None:
        return transcript, transcript.turns
    turns = [each for each in transcript.turns if each.number == turn and not each.inherited]
    if not turns:
        own = sum(not each.inherited for each in transcript.turns)
        raise click.ClickException(f"there is no turn {turn}; the session has {wording.count(own, 'turn')}")
    return transcript, turns


def export(db: str | None, session: str, form: str, target: Path | None) -> int:
    """Write a session to a file, or to stdout; returns the exit code."""
    transcript, _ = read(db, session)
    text = RENDERERS[form](transcript)
    if target is None:
        screen.write(text)
        return 0
    try:
        with written(target, database_path(db)) as file:
            file.write(text)
    except CodexDBError as error:
        raise click.ClickException(error.message) from error
    except OSError as error:
        raise click.ClickException(f"{target} cannot be written: {error.strerror}") from error
    screen.write(f"Wrote {target}, {len(text.encode()):,} bytes.\n", err=True)
    return 0
