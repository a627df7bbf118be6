"""Writing whole sessions: all rows of one or none, and once however often it is repeated."""

import itertools
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import cast

from sqlalchemy import bindparam, delete, select, text, update

from codexdb.domain.json import JsonObject, decode
from codexdb.domain.transition import HOLDS_SESSION, TurnState
from codexdb.store.endings import LEFT_OPEN, end_open
from codexdb.store.exchange import ELSEWHERE, KINDS, READ, Field, Kind, SessionRow, fingerprint, told
from codexdb.store.statement import Statement, insert_into
from codexdb.store.tables import inputs, items, quoted, sessions, tool_calls, turns
from codexdb.store.transaction import Transaction


class Became(StrEnum):
    """What became of a session that was to be imported."""

    IMPORTED = "imported"
    UNCHANGED = "unchanged"  # it is here already
    GROWN = "grown"  # it was here, and what its file has got since was added
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Nothing was written where `became` is not `imported` or `grown`. `line`: of the file, where one is to blame."""

    became: Became
    session_id: str
    reason: str = ""
    line: int = 0


@dataclass(frozen=True, slots=True)
class Whole:
    """A session of an export. `rows` may be asked for again and again, and gives the same each time."""

    session_id: str
    rows: Callable[[], Iterable[SessionRow]]
    openings: tuple[str, ...]  # message ids that made it
    is_open: bool  # some turn of it has not ended
    ends_at_ms: int  # the last instant that is known of it


@dataclass(frozen=True, slots=True)
class Rollout:
    """A session of Codex. `name`: of its file, by which it is known again."""

    name: str
    session_id: str  # that it gets, if it is free
    instead: str  # that it gets, if not
    digest: str  # of the whole file
    digest_of: Callable[[int], str]  # of so many bytes of the file
    rows: Callable[[str], Iterable[SessionRow]]  # of a session of this id


class _RowRefusedError(Exception):
    """A row that the database does not take."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line


def _sources(kind: Kind) -> dict[str, object]:
    """How references become keys, where the database itself can find them."""
    item = select(items.c.id).where(items.c.session_id == bindparam("session_id"))
    found: dict[str, object] = {
        "item_id": item.where(items.c.seq == bindparam("item_id")).scalar_subquery(),
        "output_item_id": item.where(items.c.seq == bindparam("output_item_id")).scalar_subquery(),
        "tool_call_id": select(tool_calls.c.id)
        .where(tool_calls.c.public_id == bindparam("tool_call_id"))
        .scalar_subquery(),
        "forked_from_id": select(sessions.c.id)
        .where(sessions.c.public_id == bindparam("forked_from_id"))
        .scalar_subquery(),
    }
    return {field.column: found[field.column] for field in kind.fields if field.column in found}


def _inserting(kind: Kind) -> Statement:
    columns = [field.column for field in kind.fields]
    more = [] if kind.name == "session" else ["session_id"]
    return Statement(insert_into(kind.table, *columns, *more).values(_sources(kind)))


_INSERT = {name: _inserting(kind) for name, kind in KINDS.items()}
_KEY = Statement(select(sessions.c.id).where(sessions.c.public_id == bindparam("session")))
_line = select(sessions.c.forked_from_id.label("id")).where(sessions.c.id == bindparam("session_key"))
_forks_of = _line.cte("line", recursive=True)
_line_of = _forks_of.union(select(sessions.c.forked_from_id).where(sessions.c.id == _forks_of.c.id))
# Of those that it was forked from alone: when they are deleted, what was shared is disowned, and in no other session.
_TURN_KEY = Statement(
    select(turns.c.id).where(turns.c.public_id == bindparam("turn"), turns.c.session_id.in_(select(_line_of.c.id)))
)
_HOLD = Statement(
    update(sessions).where(sessions.c.id == bindparam("session_key")).values(active_turn_id=bindparam("turn_key"))
)
_OPENED_BY = Statement(
    select(sessions.c.public_id)
    .select_from(inputs.join(sessions, sessions.c.id == inputs.c.session_id))
    .where(inputs.c.message_id == bindparam("message_id"), inputs.c.opens_session == 1)
)
_ROLLOUT = (
    select(
        sessions.c.id,
        sessions.c.public_id,
        inputs.c.content_hash,
        inputs.c.content,
        sessions.c.turn_count,
        sessions.c.archived_at_ms,
        select(text("1")).select_from(sessions.alias("f")).where(text("f.forked_from_id = sessions.id")).exists(),
    )
    .select_from(inputs.join(sessions, sessions.c.id == inputs.c.session_id))
    .where(inputs.c.opens_session == 1)
)
_ROLLOUT_OF_NAME = Statement(_ROLLOUT.where(inputs.c.message_id == bindparam("name")))
_ROLLOUT_OF_SESSION = Statement(_ROLLOUT.where(sessions.c.public_id == bindparam("session")))
_DELETE = Statement(delete(sessions).where(sessions.c.id == bindparam("session_key")))
_HOLDS = quoted(HOLDS_SESSION)
_HOLDER = Statement(
    select(turns.c.id).where(turns.c.session_id == bindparam("session_key"), text(f"turns.state IN ({_HOLDS})"))
)


def import_whole(transaction: Transaction, whole: Whole) -> Outcome:
    """Write a session of an export, unless it is here. What was open in it ends as interrupted."""
    key = transaction.one(_KEY, session=whole.session_id)
    if key is not None:
        same = _is_same(transaction, cast("int", key[0]), whole)
        why = "" if same else "there is a session of this id with other content; it was left as it is"
        return Outcome(Became.UNCHANGED if same else Became.REFUSED, whole.session_id, why)
    for message_id in whole.openings:
        taken = transaction.one(_OPENED_BY, message_id=message_id)
        if taken is not None:
            why = f"its message_id {message_id!r} has made the session {taken[0]} here"
            return Outcome(Became.REFUSED, whole.session_id, why)
    try:
        with transaction.savepoint():
            _write(transaction, whole)
    except _RowRefusedError as refused:
        return Outcome(Became.REFUSED, whole.session_id, str(refused), refused.line)
    return Outcome(Became.IMPORTED, whole.session_id)


def import_rollout(transaction: Transaction, rollout: Rollout) -> Outcome:
    """Write a session of Codex, unless it is here. If its file has grown since, it is written anew, but only where
    nobody has gone on with it here.
    """
    row = transaction.one(_ROLLOUT_OF_NAME, name=rollout.name)
    if row is None:
        return _import_new(transaction, rollout)
    key, session_id, digest, content, turn_count, archived_at_ms, forked = cast(
        "tuple[int, str, str, str, int, int | None, int]", row
    )
    if digest == rollout.digest:
        return Outcome(Became.UNCHANGED, session_id)
    about = _about(content)
    size, its_turns = about.get("bytes"), about.get("turns")
    if not isinstance(size, int) or not isinstance(its_turns, int) or rollout.digest_of(size) != digest:
        why = "the file is another than the one that was imported, which it does not begin with; nothing was changed"
        return Outcome(Became.REFUSED, session_id, why)
    if turn_count > its_turns or archived_at_ms is not None or forked:
        why = "the file has grown, but its session was gone on with, forked or archived here; nothing was changed"
        return Outcome(Became.REFUSED, session_id, why)
    try:
        with transaction.savepoint():
            transaction.run(_DELETE, session_key=key)
            insert(transaction, rollout.rows(session_id))
    except _RowRefusedError as refused:
        return Outcome(Became.REFUSED, session_id, str(refused), refused.line)
    return Outcome(Became.GROWN, session_id)


def _import_new(transaction: Transaction, rollout: Rollout) -> Outcome:
    session_id = rollout.session_id
    if transaction.one(_KEY, session=session_id):
        there = transaction.one(_ROLLOUT_OF_SESSION, session=session_id)
        if there is not None and there[2] == rollout.digest:
            return Outcome(Became.UNCHANGED, session_id)  # the same under another name
        session_id = rollout.instead
    try:
        with transaction.savepoint():
            insert(transaction, rollout.rows(session_id))
    except _RowRefusedError as refused:
        return Outcome(Became.REFUSED, session_id, str(refused), refused.line)
    return Outcome(Became.IMPORTED, session_id)


def _about(content: str) -> JsonObject:
    """What an opening input says of the file that it stands for; empty where it stands for none."""
    parts = decode(content)
    first = cast("list[object]", parts)[0] if isinstance(parts, list) and parts else None
    return cast("JsonObject", first) if isinstance(first, dict) else {}


# -- whether it is here ------------------------------------------------------------------------------------------------


def _is_same(transaction: Transaction, key: int, whole: Whole) -> bool:
    here = fingerprint(rows_here(transaction, key))
    if not whole.is_open:
        return here == fingerprint(whole.rows())
    try:
        with transaction.savepoint() as attempt:  # what it would be if it were imported now, tried and taken back
            attempt.undone = True
            transaction.run(_DELETE, session_key=key)
            return fingerprint(rows_here(transaction, _write(transaction, whole))) == here
    except _RowRefusedError:
        return False


def rows_here(transaction: Transaction, key: int) -> Iterator[SessionRow]:
    """A session's rows as they are told in an export."""
    for name, kind in KINDS.items():
        for row in transaction.each(READ[name], session_key=key):
            yield SessionRow(name, told(kind, row, key))


# -- writing -----------------------------------------------------------------------------------------------------------


def _write(transaction: Transaction, whole: Whole) -> int:
    key = insert(transaction, whole.rows())
    if whole.is_open:
        end_open(transaction, key, whole.session_id, LEFT_OPEN, whole.ends_at_ms)
    return key


def insert(transaction: Transaction, rows: Iterable[SessionRow]) -> int:
    """Write the rows of one session, in the order of `KINDS`; returns its key. A turn that a worker held waits for one.

    Raises:
        _RowRefusedError: the database does not take a row. What was written before it is still there.
    """
    keys = _Keys(transaction)
    line = [0]

    def bound(group: Iterable[SessionRow], kind: Kind) -> Iterator[Mapping[str, object]]:
        for row in group:
            line[0] = row.line
            yield keys.columns(kind, row.fields)

    try:
        for name, group in itertools.groupby(rows, key=lambda row: row.kind):
            kind = KINDS[name]
            if name == "session":
                keys.session = transaction.insert(_INSERT[name], **next(iter(bound(group, kind))))
            elif name == "turn":
                for columns in bound(group, kind):
                    keys.turns[cast("int", columns["number"])] = transaction.insert(_INSERT[name], **columns)
            else:
                transaction.many(_INSERT[name], bound(group, kind))
        holder = transaction.one(_HOLDER, session_key=keys.session)
        if holder is not None:
            transaction.run(_HOLD, session_key=keys.session, turn_key=holder[0])
    except sqlite3.Error as error:
        if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_TOOBIG):
            raise _RowRefusedError(line[0], f"the database does not take it: {error}") from error
        raise
    return keys.session


class _Keys:
    """The integer keys of a session's parts, as they are given."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        self.session = 0
        self.turns: dict[int, int] = {ELSEWHERE: ELSEWHERE}
        self._shared: dict[str, int] = {}  # turns of those that it was forked from

    def columns(self, kind: Kind, fields: Mapping[str, object]) -> dict[str, object]:
        """The values of a row's columns."""
        columns = {field.column: self._value(field, fields[field.name]) for field in kind.fields}
        columns["session_id"] = self.session
        if kind.name == "turn" and columns["state"] == TurnState.RUNNING:
            columns["state"] = TurnState.READY.value
        return columns

    def _value(self, field: Field, value: object) -> object:
        if field.column != "turn_id" or value is None:
            return value
        if isinstance(value, int):
            return self.turns[value]
        turn = str(value)
        if turn not in self._shared:
            found = self._transaction.one(_TURN_KEY, turn=turn, session_key=self.session)
            self._shared[turn] = ELSEWHERE if found is None else cast("int", found[0])
        return self._shared[turn]
