"""docs/schema.md, made from the tables, their descriptions and the transition table."""

from sqlalchemy import CheckConstraint, Column, Computed, Index, Table, UniqueConstraint
from sqlalchemy.dialects import sqlite

from codexdb.domain.transition import TABLES as TRANSITIONS
from codexdb.store.describe import COLUMNS, TABLES
from codexdb.store.revision import HEAD
from codexdb.store.tables import metadata
from codexdb.store.triggers import trigger_name

_HEAD = """\
# The schema

Made from `codexdb/store/tables.py` and `codexdb/store/describe.py` by `python -m tests.docs.generate`; do not edit.

This page describes revision {revision}, which is the content of `alembic_version.version_num`. The file is SQLite in
WAL mode. Every table is STRICT. Read it with any SQLite from 3.37 on, at any time, also while servers run:

    sqlite3 'file:codexdb.sqlite3?mode=ro' "SELECT state, count(*) FROM turns GROUP BY state"

## What you may rely on

- Tables, columns and their meaning on this page stay. A column may be added in any release, so name those that you
  select.
- A column or table is removed, renamed or given another meaning only by a new revision, and the changelog says so.
- Rows of `events` are never changed. Rows of `items` are never changed. `seq` is never given twice.
- Not part of the promise: integer keys (use `public_id`), indexes, the order of columns, the text of `CREATE`
  statements, and columns marked "not written in this release".
- Reading is open to everyone. Writing is for codexdb: a program that changes rows can break what the log says, though
  not the rules that the database itself enforces (the constraints and triggers below).

## Conventions

| name | means |
|---|---|
| `id` | integer key, used inside |
| `public_id` | UUIDv7 as text, used outside |
| `<thing>_id` | the `id` of a row of the table `<thing>s`; a foreign key only where it says "References" (ADR 0009) |
| `*_at_ms` | UTC, milliseconds since the epoch |
| `*_at_monotonic_ms` | milliseconds of the machine's monotonic clock; comparable within one boot |
| JSON | compact text, UTF-8 |
"""


def page() -> str:
    """The whole text of docs/schema.md."""
    tables = sorted(metadata.tables.values(), key=lambda table: list(TABLES).index(table.name))
    sections = [_HEAD.format(revision=HEAD), _references(tables), *(_section(table) for table in tables)]
    return "\n".join(sections)


def _references(tables: list[Table]) -> str:
    lines = ["## Who refers to whom", "", "```mermaid", "erDiagram"]
    for table in tables:
        for column in table.columns:
            for key in column.foreign_keys:
                one = "|o" if column.nullable else "||"
                lines.append(f"    {key.column.table.name} {one}--o{{ {table.name} : {column.name}")
    return "\n".join([*lines, "```", ""])


def _section(table: Table) -> str:
    lines = [f"## {table.name}", "", TABLES[table.name], ""]
    lines += ["| column | type | holds |", "|---|---|---|"]
    lines += [f"| `{column.name}` | {_type(column)} | {_meaning(table, column)} |" for column in table.columns]
    rules = [*_constraints(table), *_indexes(table), *_triggers(table)]
    if not table.dialect_options["sqlite"]["with_rowid"]:
        rules.insert(0, "- WITHOUT ROWID: the primary key is the order on the disk.")
    return "\n".join([*lines, "", *rules, ""])


def _type(column: Column[object]) -> str:
    kind = str(column.type)
    return kind if not column.nullable or column.primary_key else f"{kind} or NULL"


def _meaning(table: Table, column: Column[object]) -> str:
    notes = [COLUMNS[table.name][column.name]]
    if column.primary_key:
        notes.append("Primary key." if len(table.primary_key) == 1 else "Part of the primary key.")
    if column.unique:
        notes.append("Unique.")
    notes += [
        f"References `{key.column.table.name}`; on delete: {(key.ondelete or 'refused').lower()}."
        for key in column.foreign_keys
    ]
    if isinstance(column.computed, Computed):
        notes.append(f"Computed: `{column.computed.sqltext}`.")
    return " ".join(notes)


def _constraints(table: Table) -> list[str]:
    """CHECK and UNIQUE rules that have a name of their own."""
    checks = [each for each in table.constraints if isinstance(each, CheckConstraint)]
    uniques = [each for each in table.constraints if isinstance(each, UniqueConstraint) and each.name]
    return [
        *(f"- CHECK `{each.name}`: `{each.sqltext}`" for each in sorted(checks, key=lambda each: str(each.name))),
        *(f"- UNIQUE `{each.name}`: {_columns(each)}" for each in sorted(uniques, key=lambda each: str(each.name))),
    ]


def _columns(owner: UniqueConstraint | Index) -> str:
    return ", ".join(f"`{column.name}`" for column in owner.columns)


def _indexes(table: Table) -> list[str]:
    return [_index(index) for index in sorted(table.indexes, key=lambda each: str(each.name))]


def _index(index: Index) -> str:
    where = index.dialect_options["sqlite"]["where"]
    condition = ""
    if where is not None:
        compiled = where.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True})
        condition = f" where `{str(compiled).replace(f'{index.table.name}.' if index.table is not None else '', '')}`"
    return f"- {'UNIQUE index' if index.unique else 'Index'} `{index.name}`: {_columns(index)}{condition}"


def _triggers(table: Table) -> list[str]:
    return [
        f"- Trigger `{trigger_name(each)}`: refuses every change of `state` that [states.md](states.md) does not list."
        for each in TRANSITIONS
        if each.table == table.name
    ]
