"""`codexdb db`: the commands; `database` does the work."""

import sys

import click

from codexdb.cli.page import DATABASE, INTERRUPTED, JSON, Option, Page


@click.group()
def db() -> None:
    """Look into the database, and bring it from schema to schema."""


@db.command(
    cls=Page,
    examples=(
        'codexdb db sql "SELECT public_id, cwd, turn_count FROM sessions ORDER BY updated_at_ms DESC LIMIT 5"',
        "codexdb db sql --json \"SELECT * FROM turns WHERE state = 'failed'\" | jq -r .error_message",
        'codexdb db sql "PRAGMA table_list"',
    ),
)
@click.argument("query")
@click.option(
    "--json", "as_json", cls=Option, section="Rows", is_flag=True, help="One JSON object per row, one row per line."
)
@DATABASE
def sql(query: str, db: str | None, as_json: bool) -> None:  # noqa: FBT001 - click calls by name
    """Run one reading QUERY and print its rows.

    They come as a table on a terminal, else as lines with tabs between the values, the first one with the names.
    Nothing can be written, and servers at work are not held up. Tables and columns are described in docs/schema.md.
    """
    from codexdb.cli import database
    from codexdb.config.database import database_path

    try:
        sys.exit(database.sql(database_path(db), query, as_json=as_json))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


@db.command(
    cls=Page,
    examples=("codexdb db current", "codexdb db current --json | jq -r .schema"),
)
@JSON
@DATABASE
def current(db: str | None, as_json: bool) -> None:  # noqa: FBT001 - a flag
    """Say which schema the database has, and which is wanted.

    Changes nothing. Exit code 1 if they differ, or if the file cannot be used.
    """
    from codexdb.cli.schema import current

    sys.exit(current(db, as_json=as_json))


@db.command(
    cls=Page,
    examples=("codexdb db upgrade", "codexdb db upgrade --db team.sqlite3"),
)
@JSON
@DATABASE
def upgrade(db: str | None, as_json: bool) -> None:  # noqa: FBT001 - a flag
    """Bring the database to the schema of this codexdb.

    Servers do the same at their start. A backup is written beside the file first; then all of the upgrade happens, or
    nothing of it. Nobody may have the file open meanwhile: servers that start wait until it is done.
    """
    from codexdb.cli.schema import upgrade

    sys.exit(upgrade(db, as_json=as_json))


@db.command(
    cls=Page,
    examples=("codexdb db downgrade",),
)
@JSON
@DATABASE
def downgrade(db: str | None, as_json: bool) -> None:  # noqa: FBT001 - a flag
    """Take the newest revision of the schema back.

    For an older codexdb: the next server of this version upgrades the file again. A backup is written beside the file
    first. What only the newest revision knows is given up; sessions are not.
    """
    from codexdb.cli.schema import downgrade

    sys.exit(downgrade(db, as_json=as_json))
