"""Which sessions there are, for people: filters, and what state each is in."""

from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import bindparam, func, select, tuple_

from codexdb.store.pages import FIRST_MESSAGE, TITLE_CHARS
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
_page = (
    select(*_columns)
    .select_from(
        sessions.outerjoin(_active, _active.c.id == sessions.c.active_turn_id).outerjoin(
            _last, (_last.c.session_id == sessions.c.id) & (_last.c.number == sessions.c.turn_count)
        )
    )
    .where(tuple_(sessions.c.updated_at_ms, sessions.c.id) < tuple_(bindparam("before_ms"), bindparam("before_key")))
    .order_by(sessions.c.updated_at_ms.desc(), sessions.c.id.desc())
    .limit(bindparam("limit"))
)
_not_archived = sessions.c.archived_at_ms.is_(None)
_in_directory = sessions.c.cwd == bindparam("directory")
_STATEMENTS = {
    (False, False): Statement(_page.where(_not_archived)),
    (False, True): Statement(_page.where(_not_archived, _in_directory)),
    (True, False): Statement(_page),
    (True, True): Statement(_page.where(_in_directory)),
}


async def listed(
    readers: Reads, *, archived: bool, cwd: str | None, before: tuple[int, int] | None, limit: int
) -> list[ListedSession]:
    """Sessions behind the cursor `before`, last used first. `archived`: also those. `cwd`: of this directory alone."""
    before_ms, before_key = before or (2**62, 2**62)
    rows = await readers.all(
        _STATEMENTS[archived, cwd is not None],
        {"before_ms": before_ms, "before_key": before_key, "directory": cwd, "limit": limit},
    )
    return [ListedSession(*row) for row in cast("list[tuple[Any, ...]]", rows)]
