"""Whole sessions as rows that mean the same in every database: integer keys are left out or told by other names.

A row is told by its kind and its fields. Fields are the columns, but for these: `turn` is the number of the turn in its
session, or the id of a turn of another session (of which a fork has items), or 0 where that is not known; `item_seq`
and `output_item_seq` number items; `tool_call` and `forked_from` are ids. Workers and pieces of unfinished items belong
to processes, and stay behind.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, cast

from sqlalchemy import Column, Integer, Select, Table, bindparam, select
from sqlalchemy.sql.elements import ColumnElement

from codexdb.domain.json import JsonObject, decode, encode
from codexdb.store import tables
from codexdb.store.statement import Row, Statement

_LEFT_OUT = frozenset({"id", "session_id", "worker_id", "accepted_by_id", "active_turn_id"})
_RENAMED = {
    "turn_id": "turn",
    "item_id": "item_seq",
    "output_item_id": "output_item_seq",
    "tool_call_id": "tool_call",
    "forked_from_id": "forked_from",
}
_JSON = frozenset(
    {
        ("session", "settings"),
        ("session", "latest_plan"),
        ("turn", "settings"),
        ("input", "content"),
        ("input", "item"),
        ("item", "payload"),
        ("approval", "question"),
        ("event", "msg"),
    }
)
ELSEWHERE = 0  # stands for a turn of another session that is not known here


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a kind of row. `kinds`: the types that its value may have."""

    name: str
    column: str
    types: tuple[type, ...]
    nullable: bool
    json: bool


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of row, and the table that it lies in."""

    name: str
    table: Table
    fields: tuple[Field, ...]


class SessionRow(NamedTuple):
    """A row of a session. `line`: where it stands in its file, from 1; 0: nowhere."""

    kind: str
    fields: JsonObject
    line: int = 0


def _field(kind: str, column: Column[object]) -> Field:
    name = _RENAMED.get(column.name, column.name)
    types: tuple[type, ...] = (int,) if isinstance(column.type, Integer) else (str,)
    if column.name == "turn_id":
        types = (int, str)
    elif column.name in ("tool_call_id", "forked_from_id"):
        types = (str,)
    return Field(name, column.name, types, bool(column.nullable), (kind, column.name) in _JSON)


def _kind(name: str, table: Table) -> Kind:
    columns = [each for each in table.columns if each.name not in _LEFT_OUT and each.computed is None]
    return Kind(name, table, tuple(_field(name, column) for column in columns))


KINDS = {
    name: _kind(name, table)
    for name, table in (
        ("session", tables.sessions),
        ("turn", tables.turns),
        ("input", tables.inputs),
        ("item", tables.items),
        ("tool_call", tables.tool_calls),
        ("approval", tables.approvals),
        ("model_request", tables.model_requests),
        ("event", tables.events),
    )
}
"""In the order in which a session is told: what is referred to comes first."""


# -- reading -----------------------------------------------------------------------------------------------------------

_ORDER = {"turn": "number", "item": "seq", "event": "seq"}


def _reading(kind: Kind) -> Statement:
    """The fields of all rows of a kind; where a turn is told, its number, its session and its id stand for it."""
    table, turn = kind.table, tables.turns.alias()
    found: list[ColumnElement[object]] = [_told(kind, field) for field in kind.fields]
    told_turn = any(field.column == "turn_id" for field in kind.fields)
    source = table.outerjoin(turn, turn.c.id == table.c.turn_id) if told_turn else table
    more = [turn.c.number, turn.c.session_id, turn.c.public_id] if told_turn else []
    query: Select[tuple[object, ...]] = select(*found, *more).select_from(source)
    if kind.name == "session":
        return Statement(query.where(table.c.id == bindparam("session_key")))
    order = table.c[_ORDER.get(kind.name, "id")]
    return Statement(query.where(table.c.session_id == bindparam("session_key")).order_by(order))


def _told(kind: Kind, field: Field) -> ColumnElement[object]:
    column = kind.table.c[field.column]
    if field.column in ("item_id", "output_item_id"):
        of = tables.items.alias()
        return select(of.c.seq).where(of.c.id == column).scalar_subquery()
    if field.column == "tool_call_id":
        return select(tables.tool_calls.c.public_id).where(tables.tool_calls.c.id == column).scalar_subquery()
    if field.column == "forked_from_id":
        of = tables.sessions.alias()
        return select(of.c.public_id).where(of.c.id == column).scalar_subquery()
    return column


READ = {name: _reading(kind) for name, kind in KINDS.items()}


def told(kind: Kind, row: Row, session_key: int) -> JsonObject:
    """The fields of a row that `READ` has found. A turn of another session is told by its id."""
    fields: JsonObject = {field.name: value for field, value in zip(kind.fields, row, strict=False)}
    if "turn" in fields and fields["turn"] is not None:
        number, of_session, turn_id = row[len(kind.fields) :]
        fields["turn"] = ELSEWHERE if number is None else number if of_session == session_key else turn_id
    return fields


# -- as text -----------------------------------------------------------------------------------------------------------


def readable(kind: Kind, fields: Mapping[str, object]) -> JsonObject:
    """JSON texts as what they say, where exactly the same text comes back."""
    return {field.name: _opened(fields[field.name]) if field.json else fields[field.name] for field in kind.fields}


def _opened(text: object) -> object:
    if not isinstance(text, str):
        return text
    try:
        value = decode(text)
    except ValueError:
        return text
    return cast("object", value) if isinstance(value, dict | list) and encode(cast("object", value)) == text else text


def closed(kind: Kind, fields: Mapping[str, object]) -> JsonObject:
    """The other way round: what the columns hold."""
    return {
        field.name: encode(value) if field.json and not isinstance(value, str | None) else value
        for field in kind.fields
        for value in [fields[field.name]]
    }


def fingerprint(rows: Iterable[SessionRow]) -> str:
    """Tells equal sessions from others. Who a session was forked from is no part of it: that may not be known here."""
    digest = hashlib.sha256()
    for row in rows:
        same = {**row.fields, "forked_from": None} if row.kind == "session" else row.fields
        if isinstance(same.get("turn"), str):
            same = {**same, "turn": ELSEWHERE}
        digest.update(encode([row.kind, same]).encode())
    return digest.hexdigest()
