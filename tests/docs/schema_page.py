"""docs/schema.md, made from the tables, their descriptions, the views and the transition table."""

from sqlalchemy import CheckConstraint, Column, Computed, Index, Table, UniqueConstraint
from sqlalchemy.dialects import sqlite

from codexdb.domain.transition import TABLES as TRANSITIONS
from codexdb.store.describe import COLUMNS, TABLES
from codexdb.store.revision import HEAD
from codexdb.store.tables import metadata
from codexdb.store.text_index import EXAMPLE, SEARCH_TRIGGERS, SEARCHED_CHARS
from codexdb.store.triggers import trigger_name
from codexdb.store.views import VIEWS, View

_HEAD = """\
# The schema

Made from the tables, views and descriptions in `codexdb/store` by `python -m tests.docs.generate`; do not edit.

This page describes revision {revision}, which is the content of `alembic_version.version_num`. The file is SQLite in
WAL mode. Every table is STRICT. Read it with any SQLite from 3.37 on that has FTS5, as nearly all have, at any time,
also while servers run:

    sqlite3 'file:codexdb.sqlite3?mode=ro' "SELECT session, state, prompt FROM running_turns"
    codexdb db sql "SELECT session, title, state FROM session_overview ORDER BY updated_at_ms DESC LIMIT 10"

What most people ask is answered by the [views](#views) and by the [index of words](#the-index-of-words). Below them are
the tables, which hold everything.

## What you may rely on

- Views, tables, their columns and what they mean on this page stay. A column may be added by any new revision, so name
  those that you select.
- A view, a table or a column is removed, renamed or given another meaning only by a new revision, and the changelog
  says so. A revision that was released is never changed: who has read `version_num` knows every name in the file.
- Rows of `events` are never changed. Rows of `items` are never changed. `seq` is never given twice.
- Not part of the promise: what integer keys are (use `public_id`; of two of one file the larger is the newer), indexes,
  how a view comes by its columns, the order of columns, the text of `CREATE` statements, the tables that SQLite keeps
  for the index of words, and columns marked "not written in this release".
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

_VIEWS = """\
## Views

In every view `session` and `turn` are the ids that people and programs use, and a time is there twice: `*_at` is text,
ISO 8601 in UTC, `*_at_ms` the integer. Where there may be many rows, `id` sorts them by age. In the examples `:session`
stands for the id of a session.

A view is as fast as what it is asked for: one session, the newest rows by `id` or by a time under a LIMIT, some days of
`token_usage`. Each example takes milliseconds on a database of five million events. A question about everything reads
everything, as in any database.
"""

_SEARCH = """\
## The index of words

`search` finds the messages of users and models and the calls of tools by their words: an FTS5 table without text of its
own. Its `rowid` is the `id` of the item, in `items` and in the view `transcript`; the larger, the newer.

```sql
{example}
```

| after MATCH | finds |
|---|---|
| `'parser line'` | both words, wherever they stand |
| `'"end of line"'` | these words in this order |
| `'pars*'` | every word that begins so; with less than two letters that takes seconds |
| `'parser NOT lexer'`, `'parser OR lexer'`, `'NEAR(parser line, 5)'` | what they say |

Case and accents make no difference. A hyphen, a dot or a slash separates words, so put a name like `"store/views.py"`
between double quotes. Order by `rowid`: `ORDER BY rank` has to look at every hit first. Not in the index: reasoning,
the output of tools, what a session itself tells the model, and what lies behind the first {chars:,} characters of a
text.

- View `searchable`: `id` and `text` of what the index covers; it is how the index reads the text again.
- Trigger `items_found`, after an insert into `items`: puts the item into the index, in the same transaction.
- Trigger `items_lost`, before a delete from `items`: takes it out.
"""


def page() -> str:
    """The whole text of docs/schema.md."""
    tables = sorted(metadata.tables.values(), key=lambda table: list(TABLES).index(table.name))
    sections = [
        _HEAD.format(revision=HEAD),
        _VIEWS,
        *(_view(view) for view in VIEWS),
        _SEARCH.format(chars=SEARCHED_CHARS, example=EXAMPLE.replace(":words", "'parser'")),
        _references(tables),
        *(_section(table) for table in tables),
    ]
    return "\n".join(sections)


def _view(view: View) -> str:
    lines = [f"### {view.name}", "", view.about, "", "| column | holds |", "|---|---|"]
    times = {name for name, *_ in view.columns if f"{name}_ms" in {each for each, *_ in view.columns}}
    for name, _, meaning in view.columns:
        if name in times:
            lines.append(f"| `{name}`, `{name}_ms` | {meaning} |")
        elif name.removesuffix("_ms") not in times:
            lines.append(f"| `{name}` | {meaning} |")
    return "\n".join([*lines, "", "```sql", view.example, "```", ""])


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


def _columns(owner: UniqueConstraint) -> str:
    return ", ".join(f"`{column.name}`" for column in owner.columns)


def _indexes(table: Table) -> list[str]:
    return [_index(index) for index in sorted(table.indexes, key=lambda each: str(each.name))]


def _parts(index: Index) -> str:
    """Its columns; of an index of an expression, that."""
    return ", ".join(f"`{part.name if isinstance(part, Column) else part}`" for part in index.expressions)


def _index(index: Index) -> str:
    where = index.dialect_options["sqlite"]["where"]
    condition = ""
    if where is not None:
        compiled = where.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True})
        condition = f" where `{str(compiled).replace(f'{index.table.name}.' if index.table is not None else '', '')}`"
    return f"- {'UNIQUE index' if index.unique else 'Index'} `{index.name}`: {_parts(index)}{condition}"


def _triggers(table: Table) -> list[str]:
    searched = [f"- Trigger `{name}`: keeps the index of words." for name in SEARCH_TRIGGERS if table.name == "items"]
    return searched + [
        f"- Trigger `{trigger_name(each)}`: refuses every change of `state` that [states.md](states.md) does not list."
        for each in TRANSITIONS
        if each.table == table.name
    ]
