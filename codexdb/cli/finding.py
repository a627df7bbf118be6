"""Sessions as people name them: by an id, or by as much of its beginning as no other has."""

from typing import TYPE_CHECKING, cast

from codexdb.cli.given import utf8
from codexdb.cli.screen import harmless
from codexdb.config.database import database_path
from codexdb.domain.errors import CodexDBError, InvalidArgumentsError, SessionNotFoundError
from codexdb.domain.ids import parse_id
from codexdb.store.queries import LATEST_SESSIONS, ask

if TYPE_CHECKING:
    from codexdb.store.readers import Readers

CANDIDATES_SHOWN = 5
COMPLETIONS_READ = 1_000
COMPLETIONS_SHOWN = 50  # more than a terminal shows at once


async def find_id(readers: "Readers", text: str) -> str:
    """The id of the session that is meant.

    Raises:
        SessionNotFoundError: there is none.
        InvalidArgumentsError: there are several.
    """
    from codexdb.store.transcripts import ids_with_prefix  # what completes a word at a shell has no time for it

    try:
        prefix = parse_id(text)
    except ValueError:
        prefix = text.strip().lower()
    found = await ids_with_prefix(readers, prefix, CANDIDATES_SHOWN + 1) if prefix.isascii() and prefix else []
    if not found:
        raise SessionNotFoundError(
            f"There is no session {utf8(text)} in this database; see `codexdb sessions list --all`."
        )
    if len(found) > 1:
        shown = "".join(f"\n  {each}" for each in found[:CANDIDATES_SHOWN])
        more = "\n  …" if len(found) > CANDIDATES_SHOWN else ""
        raise InvalidArgumentsError(f"Several sessions begin with {text}:{shown}{more}")
    return found[0]


def completions(db: str | None, incomplete: str) -> list[tuple[str, str]]:
    """Sessions whose id begins so, last used first, with what each is about. Nothing where that cannot be read at once:
    somebody is typing.
    """
    try:
        found = ask(database_path(db), LATEST_SESSIONS, COMPLETIONS_READ)
    except (CodexDBError, OSError):
        return []
    rows = cast("list[tuple[str, str | None]]", found.rows)
    prefix = incomplete.lower()
    return [
        (session_id, " ".join(harmless(title or "").split()))
        for session_id, title in rows
        if session_id.startswith(prefix)
    ][:COMPLETIONS_SHOWN]
