"""Reading whole sessions, row by row, as of one instant."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import cast

from sqlalchemy import select

from codexdb.domain.json import JsonObject
from codexdb.store.exchange import ELSEWHERE, KINDS, READ, SessionRow, told
from codexdb.store.readers import Snapshot
from codexdb.store.statement import Statement
from codexdb.store.tables import sessions

_SESSIONS = Statement(select(sessions.c.id, sessions.c.public_id, sessions.c.forked_from_id).order_by(sessions.c.id))


@dataclass(frozen=True, slots=True)
class Exported:
    """A session that is to be read."""

    key: int
    session_id: str


async def chosen(snapshot: Snapshot, wanted: Sequence[str] | None) -> list[Exported]:
    """The sessions of these ids, or all; none before the one that it was forked from."""
    rows = cast("list[tuple[int, str, int | None]]", await snapshot.all(_SESSIONS, {}))
    ids = None if wanted is None else set(wanted)
    known = {key: (session_id, source) for key, session_id, source in rows if ids is None or session_id in ids}
    ordered: dict[int, Exported] = {}
    for key in known:
        line: list[int] = []  # from the fork back to what is first of its line
        at: int | None = key
        while at is not None and at in known and at not in ordered and at not in line:
            line.append(at)
            at = known[at][1]
        for each in reversed(line):
            ordered[each] = Exported(each, known[each][0])
    return list(ordered.values())


async def rows_of(snapshot: Snapshot, session: Exported, together: frozenset[str] | None) -> AsyncGenerator[SessionRow]:
    """Everything that belongs to a session. `together`: those that are exported with it, None for all; turns of others
    are told by nothing.
    """
    for name, kind in KINDS.items():
        async with aclosing(snapshot.each(READ[name], {"session_key": session.key})) as rows:
            async for row in rows:
                fields = told(kind, row, session.key)
                if together is not None:
                    _cut_off(fields, together)
                yield SessionRow(name, fields)


def _cut_off(fields: JsonObject, together: frozenset[str]) -> None:
    """Leave out what refers to sessions that stay behind."""
    if isinstance(fields.get("turn"), str):
        fields["turn"] = ELSEWHERE
    if fields.get("forked_from") not in together and "forked_from" in fields:
        fields["forked_from"] = None
