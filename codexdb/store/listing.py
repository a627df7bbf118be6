"""Which sessions there are, last touched first, or by their ids."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import Select, bindparam, func, select, tuple_

from codexdb.domain.json import encode
from codexdb.store.pages import FIRST_MESSAGE, TITLE_CHARS, SessionRow, session_columns
from codexdb.store.readers import Reads
from codexdb.store.statement import Statement
from codexdb.store.tables import sessions, turns


@dataclass(frozen=True, slots=True)
class ListedSession:
    """A session in a list. `state`: of the turn that holds it, else of its last one; "new" without any."""

    session_id: str
    title: str | None
    state: str
    turns: int
    model: str
    cwd: str
    origin: str
    created_at_ms: int
    updated_at_ms: int
    archived_at_ms: int | None
    key: int

    @property
    def cursor(self) -> str:
        """Where a list goes on behind this one; `conversations_list` has the same."""
        return f"{self.updated_at_ms}.{self.key}"


def newest_first(found: Select[*tuple[Any, ...]]) -> dict[tuple[bool, bool], Statement]:
    """Pages of what is `found` of sessions, last touched first, behind the cursor (updated_at_ms, key). A statement for
    each answer to: closed ones too? of one directory alone? For one that leaves it open would be planned for the worst.
    """
    page = (
        found.where(
            tuple_(sessions.c.updated_at_ms, sessions.c.id) < tuple_(bindparam("before_ms"), bindparam("before_key"))
        )
        .order_by(sessions.c.updated_at_ms.desc(), sessions.c.id.desc())
        .limit(bindparam("limit"))
    )
    not_archived = page.where(sessions.c.archived_at_ms.is_(None))
    in_directory = sessions.c.cwd == bindparam("cwd")
    return {
        (False, False): Statement(not_archived),
        (False, True): Statement(not_archived.where(in_directory)),
        (True, False): Statement(page),
        (True, True): Statement(page.where(in_directory)),
    }


_SESSIONS_NAMED = Statement(
    session_columns().where(
        sessions.c.public_id.in_(select(func.json_each(bindparam("names")).table_valued("value").c.value))
    )
)
_SESSIONS = newest_first(session_columns())
_active, _last = turns.alias(), turns.alias()
_columns = (
    sessions.c.public_id,
    func.substr(func.coalesce(sessions.c.title, FIRST_MESSAGE), 1, TITLE_CHARS),
    func.coalesce(_active.c.state, _last.c.state, "new"),
    sessions.c.turn_count,
    sessions.c.model,
    sessions.c.cwd,
    sessions.c.origin,
    sessions.c.created_at_ms,
    sessions.c.updated_at_ms,
    sessions.c.archived_at_ms,
    sessions.c.id,
)
_LISTED = newest_first(
    select(*_columns).select_from(
        sessions.outerjoin(_active, _active.c.id == sessions.c.active_turn_id).outerjoin(
            _last, (_last.c.session_id == sessions.c.id) & (_last.c.number == sessions.c.turn_count)
        )
    )
)


async def sessions_named(readers: Reads, session_ids: Sequence[str]) -> dict[str, SessionRow]:
    """These sessions by their id; those that are not there are left out."""
    rows = await readers.all(_SESSIONS_NAMED, {"names": encode(list(session_ids))})
    found = [SessionRow(*row) for row in rows]  # pyright: ignore[reportArgumentType]
    return {row.session_id: row for row in found}


async def sessions_before(
    readers: Reads, before_ms: int, before_key: int, limit: int, *, archived: bool = False, cwd: str | None = None
) -> list[SessionRow]:
    """Sessions, last touched first, older than the cursor (updated_at_ms, key). `archived`: closed ones too."""
    rows = await readers.all(
        _SESSIONS[archived, cwd is not None],
        {"before_ms": before_ms, "before_key": before_key, "limit": limit, "cwd": cwd},
    )
    return [SessionRow(*row) for row in rows]  # pyright: ignore[reportArgumentType]


async def listed(
    readers: Reads, *, archived: bool, cwd: str | None, before: tuple[int, int] | None, limit: int
) -> list[ListedSession]:
    """Sessions behind the cursor `before`, last used first. `archived`: also those. `cwd`: of this directory alone."""
    before_ms, before_key = before or (2**62, 2**62)
    rows = await readers.all(
        _LISTED[archived, cwd is not None],
        {"before_ms": before_ms, "before_key": before_key, "cwd": cwd, "limit": limit},
    )
    return [ListedSession(*row) for row in cast("list[tuple[Any, ...]]", rows)]
